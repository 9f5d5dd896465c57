"""Whatever path a run takes, the tables are the same.

A story is a random sequence of moves: files arrive, and builds of every kind run, are killed, or fail. After each whole
build the tables have to be those of reference.py, at the end those of a fresh warehouse too. A story that ends
otherwise is told again, as short as Hypothesis finds it.
"""

import contextlib
import copy
import csv
import io
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import BUILD, JOB, ROOT, SEED, SOAK_MINUTES, Platform, Run, copied, differences, keyed
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from random_deliveries import Change, Shop, Step
from reference import Reference, feed_of
from test_same_tables import personal_values

MODELS = sorted(
    {file.stem for folder in ("transform", "cleanup_models") for file in (ROOT / folder / "models").glob("**/*.sql")}
    | {"products_snapshot"}
)
EDITS = {  # a change of logic: file, old, new
    "what a valid payment is": ("transform/models/staging/stg_payments.sql", "or amount <= 0", "or amount <= 20"),
    "what a valid order is": ("transform/models/staging/stg_orders.sql", "between 1 and 999999", "between 1 and 3"),
    "how numbers are read": ("transform/macros/casts.sql", "'-?[0-9]{1,18}'", "'-?[0-9]{1,2}'"),
    "which statuses are revenue": ("seeds/order_statuses.csv", "placed,false", "placed,true"),
    "which payment of several counts": (
        "cleanup_models/models/duplicates/unique_payments.sql",
        "order by paid_at desc",
        "order by paid_at asc",
    ),
    "which change is the latest": (
        "cleanup_models/models/out_of_order_changes/latest_order_changes.sql",
        "changed_at desc, change_no desc",
        "changed_at asc, change_no asc",
    ),
    "which row of a customer counts": (
        "cleanup_models/models/history_from_full_extracts/customer_changes.sql",
        "coalesce(delivered.name, '') desc",
        "coalesce(delivered.name, '') asc",
    ),
    "what a version is": (
        "transform/models/marts/dim_customers_history.sql",
        "or email is distinct from previous_email",
        "",
    ),
}
# Feeds of which a build keeps what it once saw: what a killed build may have seen is not rewritten before a whole one.
KEPT = ("products", "erasures")
DBT = ("dbt", *BUILD)
FAULT = "create or replace temporary table drill as select error('a drill') from glob('%s/%s.{{ this.identifier }}')"
RECORD = '"{{ record_build() }}", "{{ record_table() }}"'  # the post-hooks of models and snapshots

zones = st.sampled_from(["UTC", "Asia/Kathmandu", "America/Los_Angeles", "Pacific/Kiritimati"])
chances = st.integers(0, 2**16)
moments = st.sampled_from(range(70))  # percent of a usual build; of integers and floats Hypothesis likes the ends best
MOVES = {  # how often each is made, and with what
    "deliver": (6, {"chance": chances, "files": st.sampled_from([1, 3, 5]), "rows": st.sampled_from([1, 3, 30])}),
    "archive": (1, {"chance": chances}),
    "build": (2, {"threads": st.sampled_from([2, 1, 4]), "zone": zones}),
    "run_the_job": (2, {"zone": zones}),
    "kill_a_build": (10, {"moment": moments, "threads": st.sampled_from([2, 1, 4])}),
    "kill_a_job": (3, {"moment": moments}),
    "build_a_selection": (
        1,
        {
            "models": st.lists(st.sampled_from(MODELS), min_size=1, max_size=3),
            "form": st.sampled_from(["{}", "{}+", "+{}"]),
        },
    ),
    "retry": (1, {}),
    "let_a_model_fail": (1, {"model": st.sampled_from(MODELS), "when": st.sampled_from(["before", "after"])}),
    "mend": (2, {}),
    "change_logic": (1, {"what": st.sampled_from(sorted(EDITS))}),
    "change_it_back": (2, {}),
}
if shutil.which("faketime"):
    MOVES["wait_and_build"] = (1, {"days": st.sampled_from([1, 40, 4000, -400])})
moves = st.sampled_from([name for name, (weight, _) in MOVES.items() for _ in range(weight)]).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(MOVES[name][1]))
)


class Story(RuleBasedStateMachine):
    covered: ClassVar[Counter] = Counter()
    over_at: ClassVar[float] = math.inf  # when the time is up, a story goes to its end

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="story-"))
        self.platform = copied(self.home)
        self.faults = self.home / "faults"
        self.faults.mkdir()
        project = self.platform.project / "dbt_project.yml"
        before, after = (json.dumps(FAULT % (self.faults, when)) for when in ("before", "after"))
        config = project.read_text()
        hooks = f"+post-hook: [{RECORD}]"
        assert config.count(hooks) == 2
        config = config.replace(hooks, f"+pre-hook: {before}\n    +post-hook: [{RECORD}, {after}]")
        project.write_text(config)

        self.reference = Reference(ROOT / "seeds")
        self.seen = self.home / "seen"  # the newest content of each file that was landed, as one delivery
        self.seen.mkdir()
        self.unsure: set[str] = set()  # files whose content a build that was no whole one may have landed, or not
        self.states: list | None = []  # what readers may see; None where nobody can say
        self.edited: set[str] = set()
        self.usual_seconds = {"dbt": 8.0, "dagster": 16.0}

    # --- moves --------------------------------------------------------------------------------------------------------

    @initialize(chance=chances, days=st.integers(0, 9))
    def a_shop_opens(self, chance, days):
        self.shop = Shop(random.Random(chance))
        for _ in range(days):
            self.apply(self.shop.step(may_break=False, repair_all=False).changes)
        self.whole_build()

    # One rule, because of several Hypothesis leaves some out of each story.
    @rule(move=moves)
    def move(self, move):
        if time.monotonic() > self.over_at:
            return
        name, details = move
        getattr(self, name)(**details)
        self.covered.update({"moves": 1, f"moves: {name.replace('_', ' ')}": 1})

    def deliver(self, chance, files, rows):
        self.shop.chance.seed(chance)
        self.shop.most_rows = rows
        self.apply(self.shop.step(may_break=True, repair_all=False, most_files=files).changes)

    def archive(self, chance):
        """Removes some of the files that were loaded."""
        chance = random.Random(chance)
        for path in sorted(self.reference.batches):
            if self.is_loaded(path) and path not in self.unsure and chance.random() < 0.5:
                (self.platform.landing / path).unlink()

    def build(self, threads, zone):
        self.whole_build("--threads", str(threads), TZ=zone)

    def run_the_job(self, zone):
        self.whole_build(command=JOB, TZ=zone)

    def wait_and_build(self, days):
        # Of time, only what the clock says is another: not when files were modified, nor how long things take.
        other_clock = ("faketime", "-f", f"{days:+}d", *DBT)
        self.whole_build(command=other_clock, NO_FAKE_STAT="1", DONT_FAKE_MONOTONIC="1")

    def kill_a_build(self, moment, threads):
        self.kill(moment, *DBT, "--threads", str(threads))

    def kill_a_job(self, moment):
        self.kill(moment, *JOB)

    def build_a_selection(self, models, form):
        self.attempt(is_whole=False)
        self.finish(*DBT, "--select", *map(form.format, models))
        self.look()

    def retry(self):
        """Builds what the last build left undone, as Dagster does it."""
        self.attempt(is_whole=False)
        self.finish(*DBT, "--indirect-selection", "empty", "--select", *self.undone())
        self.look()

    def let_a_model_fail(self, model, when):
        (self.faults / f"{when}.{model}").touch()

    def mend(self):
        for fault in self.faults.iterdir():
            fault.unlink()

    def change_logic(self, what):
        self.edited ^= {what}
        file = EDITS[what][0]
        code = (ROOT / file).read_text()
        for edited_file, old, new in (EDITS[change] for change in sorted(self.edited)):
            if edited_file == file:
                assert old in code
                code = code.replace(old, new)
        (self.platform.project / file).write_text(code)

    def change_it_back(self):
        for what in sorted(self.edited):
            self.change_logic(what)

    # --- what the moves do --------------------------------------------------------------------------------------------

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            if change.path in self.unsure and (change.content is None or feed_of(change.path) in KEPT):
                continue
            note("    " + Step([change])(self.platform.landing))
            self.covered["bad files"] += change.note.startswith(("write half", "write no", "write an unreadable"))

    def kill(self, moment: int, *command: str) -> None:
        self.attempt()
        process = self.platform.start(*command)
        process.join(moment / 100 * self.usual_seconds[command[0]])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        crashed = process.exitcode == -signal.SIGKILL
        note(f"    killed at {moment} % of a usual build" if crashed else "    it had ended before it could be killed")
        self.covered.update({"kills": 1, "crashes survived": int(crashed)})
        self.look()

    def whole_build(self, *options: str, command: Sequence[str] = DBT, **environment: str) -> None:
        if any(self.faults.iterdir()):
            self.attempt(is_whole=False)
            run = self.finish(*command, *options, **environment)
            assert run.code != 0, run.output
            self.look()
            return
        expected = self.reference.build(self.platform.landing)
        began = time.monotonic()
        run = self.finish(*command, *options, **environment)
        self.usual_seconds[command[0]] = time.monotonic() - began
        assert (run.code == 0) == (not self.reference.unreadable), run.output
        assert all(f"{file} cannot be read" in run.output for file in self.reference.unreadable), run.output
        self.unsure = {path for path in self.unsure if not self.is_loaded(path)}
        for path in filter(self.is_loaded, self.reference.batches):
            (self.seen / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.platform.landing / path, self.seen / path)
        if self.edited:
            self.states = None
        else:
            self.compare(self.platform, expected)
            self.states = [keyed(expected)]
        self.look()

    def finish(self, *command: str, **environment: str) -> Run:
        process = self.platform.start(*command, **environment)
        process.join(600)
        return Run(process.exitcode, self.platform.output.read_text())

    def is_loaded(self, path: str) -> bool:
        """Whether the last whole build has the present content of the file."""
        file = self.platform.landing / path
        return file.exists() and self.reference.batches[path][0] == (file.stat().st_size, file.stat().st_mtime_ns)

    def attempt(self, is_whole: bool = True) -> None:
        """Remembers what a build may do that is not known to end, or (not `is_whole`) does not even try it all."""
        trial = copy.deepcopy(self.reference)
        expected = trial.build(self.platform.landing)
        self.unsure |= {
            path
            for path, (stamp, _) in trial.batches.items()
            if path not in self.reference.batches or self.reference.batches[path][0] != stamp
        }
        if not is_whole or self.edited or any(self.faults.iterdir()):
            self.states = None
        elif self.states is not None:
            self.states.append(keyed(expected))

    def undone(self) -> list[str]:
        """How Dagster selects what failed or was skipped in the last build, and the tests of it."""
        target = self.platform.home / "target"
        manifest = json.loads((target / "manifest.json").read_text())
        results = max(target.glob("**/run_results.json"), key=lambda file: file.stat().st_mtime)
        undone = set()
        for result in json.loads(results.read_text())["results"]:
            node = manifest["nodes"].get(result["unique_id"])
            if node and result["status"] in ("error", "skipped", "fail"):
                is_test = node["resource_type"] == "test"
                undone |= set(node["depends_on"]["nodes"]) if is_test else {result["unique_id"]}
        tests = [
            node["unique_id"]
            for node in manifest["nodes"].values()
            if node["resource_type"] == "test" and undone & set(node["depends_on"]["nodes"])
        ]
        return [".".join(manifest["nodes"][name]["fqn"]) for name in sorted(undone) + tests] or ["fqn:*"]

    def compare(self, platform: Platform, expected: dict[str, list[dict]]) -> None:
        found = differences(platform.tables(), expected)
        lost = sum(got is None for _, _, got, _ in found)
        self.covered.update({"rows compared": sum(map(len, expected.values())), "rows lost": lost})
        assert not found
        assert not personal_values(platform, self.reference.erased)

    def look(self) -> None:
        """What readers see is one whole build."""
        tables = self.platform.tables(self.platform.published)
        orders = sum(row["orders"] for row in tables["fct_daily_revenue"].values())
        assert orders == len(tables["fct_orders"])
        for row in tables["landing_audit"].values():
            is_live = row["status"] == "live"
            assert row["valid_rows"] + row["quarantined_rows"] == (row["delivered_rows"] if is_live else 0)
        if self.states is not None:
            assert tables in self.states

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        has_failed = bool(sys.exc_info()[1])
        try:
            if not has_failed:
                has_failed = True
                self.end()
                has_failed = False
        finally:
            if has_failed:
                Story.over_at = math.inf  # it will be told again, and shortened
            shutil.rmtree(self.home)

    def end(self) -> None:
        note("    in the end all is mended, and built once more, and once into a fresh warehouse")
        self.mend()
        self.change_it_back()
        trial = copy.deepcopy(self.reference)
        trial.build(self.platform.landing)
        self.apply([self.shop.deliver(path) for path in trial.unreadable])
        self.whole_build()
        assert not self.reference.unreadable
        self.covered["bad rows"] += len(self.platform.tables()["quarantine"])

        fresh = Platform(self.home / "fresh", self.platform.project)
        shutil.copytree(self.seen, fresh.landing, dirs_exist_ok=True)
        # A request that a build saw counts for good, also when its file has been rewritten since.
        requests = io.StringIO()
        csv.writer(requests).writerows([["customer_id"], *([customer] for customer in self.reference.erased)])
        fresh.deliver("erasures/2026-01-01/seen before.csv", requests.getvalue())
        fresh.build()
        self.compare(fresh, Reference(ROOT / "seeds").build(fresh.landing))
        grown, built_once = self.platform.tables(), fresh.tables()
        del grown["dim_products_history"], built_once["dim_products_history"]  # what builds saw, and one saw the last
        assert grown == built_once
        self.covered["stories"] += 1


@pytest.mark.parametrize("worker", range(2))
def test_a_random_story_ends_with_the_tables_of_a_fresh_warehouse(worker, record_property):
    if SOAK_MINUTES:
        # Hypothesis gives up shortening after five minutes, in which it can tell a story a few times only.
        engine.MAX_SHRINKING_SECONDS = 1800
    health_checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    profile = settings(
        max_examples=3 if SOAK_MINUTES else 2,  # the first is the simplest one, in which little happens
        stateful_step_count=60 if SOAK_MINUTES else 12,
        deadline=None,
        suppress_health_check=health_checks,
        report_multiple_bugs=False,
        print_blob=True,
    )
    Story.over_at = time.monotonic() + 60 * (SOAK_MINUTES or 1.5)
    try:
        for chapter in itertools.count():
            run_state_machine_as_test(seed(f"{SEED} {worker} {chapter}")(Story), settings=profile)
            if not SOAK_MINUTES or time.monotonic() > Story.over_at:
                break
    finally:
        record_property("covered", dict(Story.covered))
