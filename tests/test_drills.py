"""Failure drills: what `make dev` runs (daemon, code server, webserver) is started, hurt, and has to come right."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, SEED, SOAK_MINUTES, Platform, Tables, by_key, copied, differences
from random_deliveries import deliveries
from reference import Reference
from test_bad_input import MOMENT, ORDER, damaged_parquet, hold

REPOSITORY = {"repositoryLocationName": "definitions.py", "repositoryName": "__repository__"}
JOB = {**REPOSITORY, "jobName": "refresh"}
BUILD = ("dbt", "build")
FILE = ["-f", "orchestration/definitions.py"]
LAUNCH = "mutation($run: ExecutionParams!) {launchRun(executionParams: $run) {... on LaunchRunSuccess {run {runId}}}}"
RUNS = "{runsOrError {... on Runs {results {runId status parentRunId startTime endTime tags {key value}}}}}"
START = {
    "schedule": (
        "mutation($entry: ScheduleSelector!)"
        " {started: startSchedule(scheduleSelector: $entry) {... on ScheduleStateResult {scheduleState {id}}}}"
    ),
    "sensor": (
        "mutation($entry: SensorSelector!)"
        " {started: startSensor(sensorSelector: $entry) {... on Sensor {sensorState {id}}}}"
    ),
}
STOP = {
    "schedule": "mutation($id: String!) {stopRunningSchedule(id: $id) {__typename}}",
    "sensor": "mutation($id: String!) {stopSensor(id: $id) {__typename}}",
}
PATHS = ["schedule", "sensor", "ui", "cli", "dbt"]


class Command(NamedTuple):
    """A dbt command that was started: which process, for which other process, where, and what."""

    pid: int
    parent: int
    folder: str
    indirect_selection: str
    arguments: tuple[str, ...]

    @property
    def selected(self) -> set[str]:
        """The names of the models and tests selected; a retry selects by dbt's `fqn`."""
        return {name.split(".")[-1] for name in self.arguments[-1].split()}


class Dagster:
    """An instance with the shipped dagster.yaml, and all that `make dev` starts for it."""

    def __init__(self, platform: Platform, settings: dict[str, str] | None = None):
        self.platform, self.home, self.groups = platform, platform.home / "dagster", []
        (platform.home / "bin").mkdir()
        self.home.mkdir()
        text = (platform.project / "orchestration" / "dagster.yaml").read_text()
        for old, new in (settings or {}).items():
            assert old in text
            text = text.replace(old, new)
        (self.home / "dagster.yaml").write_text(text)
        self.record = platform.home / "commands"
        self.record.touch()
        self.handicap = platform.home / "handicap"  # shell code that each dbt starts with
        self.handicap.touch()
        shim = platform.home / "bin" / "dbt"
        fields = '"$$" "$PPID" "$PWD" "$DBT_INDIRECT_SELECTION" "$@"'
        folder = Path(sys.executable).parent
        shim.write_text(
            f"#!/bin/sh\necho \"$(printf '%s\\037' {fields})\" >>'{self.record}'\n"
            f"set -- '{folder}/dbt' \"$@\"\n. '{self.handicap}'\nexec \"$@\"\n"
        )
        shim.chmod(0o755)
        path = f"{platform.home / 'bin'}:{folder}:{os.environ['PATH']}"
        self.environment = {**os.environ, **platform.environment, "DAGSTER_HOME": str(self.home), "PATH": path}
        self.environment["DBT_EXCLUDE_RESOURCE_TYPES"] = "unit_test"  # they have no data to differ by

    def command(self, *arguments: str) -> subprocess.Popen:
        """A command in the project's folder, in a group of its own: its children can be ended with it."""
        with open(self.platform.home / f"{arguments[0]}-{arguments[1]}.log", "a") as log:
            return subprocess.Popen(
                arguments,
                cwd=self.platform.project,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = self.command("dagster", "dev", "-h", "127.0.0.1", "-p", str(self.port), *FILE)
        self.groups.append(self.process.pid)
        self.wait(lambda: self.ask("{workspaceOrError {... on Workspace {locationEntries {loadStatus}}}}"), 120)

    def stop(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()

    def processes(self, pattern: str = "") -> list[int]:
        """Ids of the processes started by `start`, or of those whose command line has the pattern."""
        lines = subprocess.run(["ps", "-Ao", "pid=,pgid=,args="], capture_output=True, text=True).stdout.splitlines()
        rows = [line.split(None, 2) for line in lines]
        return [int(pid) for pid, group, line in rows if int(group) in self.groups and pattern in line]

    def ask(self, query: str, **variables) -> dict:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = json.load(answer)
        assert "errors" not in content, content
        return content["data"]

    def launch(self, **selection) -> str:
        """Launches as the UI does."""
        answer = self.ask(LAUNCH, run={"selector": {**JOB, **selection}})
        return answer["launchRun"]["run"]["runId"]

    def launch_by(self, path: str) -> Callable[[], bool | None]:
        """Launches by an entry point. The function that it gives says whether that ended well; None before the end."""
        if path in ("cli", "dbt"):
            process = self.command(*{"cli": ("dagster", "job", "execute", *FILE, "-j", "refresh"), "dbt": BUILD}[path])
            self.launched.append(process)
            return lambda: None if process.poll() is None else process.returncode == 0
        known = {run["runId"] for run in self.runs()}
        if path == "ui":
            run = self.launch()
        else:
            name = {"schedule": "nightly", "sensor": "deliveries"}[path]
            if path == "sensor":
                (self.platform.landing / "orders/2026-01-20").mkdir(parents=True, exist_ok=True)
                (self.platform.landing / f"orders/2026-01-20/{len(known)}.csv").touch()
            switched = self.ask(START[path], entry={**REPOSITORY, f"{path}Name": name})["started"]
            state = switched["scheduleState" if path == "schedule" else "sensorState"]
            run = self.wait(
                lambda: next(
                    (
                        r["runId"]
                        for r in self.runs()
                        if f"dagster/{path}_name" in r["tags"] and r["runId"] not in known
                    ),
                    None,
                )
            )
            self.ask(STOP[path], id=state["id"])
        return lambda: {"SUCCESS": True, "FAILURE": False, "CANCELED": False}.get(self.statuses(run)[0])

    def runs(self) -> list[dict]:
        """Every run, oldest first."""
        runs = self.ask(RUNS)["runsOrError"]["results"][::-1]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]

    def statuses(self, root: str) -> list[str]:
        """Those of a run and of its retries, in order."""
        return [run["status"] for run in self.runs() if root in (run["runId"], run["tags"].get("dagster/root_run_id"))]

    def output(self, run: str) -> str:
        """What the UI shows as the run's output."""
        query = """
            query($id: ID!) {runOrError(runId: $id) {... on Run {eventConnection {events {
                ... on LogsCapturedEvent {fileKey}
            }}}}}
        """
        events = self.ask(query, id=run)["runOrError"]["eventConnection"]["events"]
        key = [run, "compute_logs", next(event["fileKey"] for event in events if event)]
        logs = self.ask("query($key: [String!]!) {capturedLogs(logKey: $key) {stdout}}", key=key)["capturedLogs"]
        return logs["stdout"] or ""  # None as long as nothing is written

    def settle(self) -> None:
        """Waits until no run is under way, and none is about to be tried again."""

        def is_quiet():
            runs = self.runs()
            tried_again = {run["parentRunId"] for run in runs}
            return all(
                run["status"] in ("SUCCESS", "CANCELED")
                or run["runId"] in tried_again
                or run["tags"].get("dagster/retry_number") == "2"
                for run in runs
            )

        self.wait(is_quiet)

    def asset_keys(self) -> list[list[str]]:
        return [node["assetKey"]["path"] for node in self.ask("{assetNodes {assetKey {path}}}")["assetNodes"]]

    def error(self, run: str) -> str:
        """What the UI shows of a failed run."""
        query = """
            query($id: ID!) {runOrError(runId: $id) {... on Run {eventConnection {events {
                ... on MessageEvent {message eventType}
                ... on ErrorEvent {error {message causes {message}}}
            }}}}}
        """
        events = self.ask(query, id=run)["runOrError"]["eventConnection"]["events"]
        return json.dumps([event for event in events if event.get("error") or event.get("eventType") == "RUN_FAILURE"])

    def commands(self) -> list[Command]:
        """The builds that were started."""
        found = []
        for line in self.record.read_text().splitlines():
            pid, parent, folder, indirect_selection, *arguments = line.split("\037")[:-1]
            if arguments[0] == "build":
                found.append(Command(int(pid), int(parent), folder, indirect_selection, tuple(arguments)))
        return found

    def wait(self, condition, seconds: float = 600):
        """What the condition gives once it holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except OSError:
                pass  # the webserver is not there yet
            time.sleep(0.5)
        raise AssertionError(f"in {seconds} seconds it did not happen; runs: {self.runs()}")


class Drill(Dagster):
    """Its nightly schedule is due every minute, and a model and a test fail as long as a file is there."""

    def __init__(self, home: Path, settings: dict[str, str] | None = None):
        platform = copied(home)
        shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
        self.model_fails, self.test_fails, self.model_hangs = (home / name for name in ("fails", "test", "hangs"))
        self.launched: list[subprocess.Popen] = []
        definitions = platform.project / "orchestration" / "definitions.py"
        assert '"0 3 * * *"' in definitions.read_text()
        definitions.write_text(definitions.read_text().replace('"0 3 * * *"', '"* * * * *"'))
        model = platform.project / "cleanup_models" / "models" / "duplicates" / "unique_payments.sql"
        failing = f"select error('drill') from glob('{self.model_fails}')"
        hanging = f"select count(*) from glob('{self.model_hangs}'), range({10**13})"
        hooks = [f"create or replace temporary table drill as {query}" for query in (failing, hanging)]
        model.write_text(f"{{{{ config(pre_hook={json.dumps(hooks)}) }}}}\n{model.read_text()}")
        (platform.project / "tests" / "data" / "drill.sql").write_text(
            f"select * from glob('{self.test_fails}') where exists (from {{{{ ref('customer_changes') }}}})"
        )
        super().__init__(platform, settings)

    def builds(self) -> dict[str, int]:
        return dict(self.platform.query("select model, max(build_no) from change_feed._builds group by model"))

    def results(self) -> set[tuple[str, str]]:
        """What the last build of a run made or tested, and how it went."""
        results = json.loads((self.platform.home / "target" / "dagster" / "run_results.json").read_text())["results"]
        return {(result["unique_id"].split(".")[2], result["status"]) for result in results}

    def downstream(self, *models: str) -> set[str]:
        """The models, and all that are built from them."""
        manifest = json.loads((self.platform.home / "target" / "manifest.json").read_text())
        found, waiting = set(), [f"model.shop.{model}" for model in models]
        while waiting:
            node = waiting.pop()
            if node.split(".")[0] in ("model", "snapshot") and node not in found:
                found.add(node)
                waiting += manifest["child_map"][node]
        return {node.split(".")[-1] for node in found}


@pytest.fixture(autouse=True)
def counted(record_property):
    record_property("covered", {"drills": 1})


@contextlib.contextmanager
def running(drill: Drill) -> Iterator[Drill]:
    try:
        drill.start()
        first = drill.launch()
        drill.wait(lambda: drill.statuses(first) == ["SUCCESS"])
        yield drill
    finally:
        drill.stop()


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    with running(Drill(tmp_path_factory.mktemp("drill"))) as drill:
        yield drill


class Busy(Drill):
    """Its runs may take no more than a minute or so, and every time something else has been delivered."""

    def __init__(self, home: Path):
        super().__init__(
            home,
            {
                "max_runtime_seconds: 14400": "max_runtime_seconds: 75",
                "poll_interval_seconds: 30": "poll_interval_seconds: 1",
            },
        )
        self.reference, self.steps = Reference(ROOT / "seeds"), deliveries(SEED, 1000, unreadable=False)
        self.states: list[Tables] = []  # at the end of each run
        self.deliver()

    def deliver(self) -> None:
        next(self.steps)(self.platform.landing)
        expected = self.reference.build(self.platform.landing)
        self.states.append({name: by_key(name, rows) for name, rows in expected.items()})

    def make_up(self) -> None:
        """The next ordinary run; then the tables, and those that people read, are what they have to be."""
        run = self.launch()
        self.wait(lambda: self.statuses(run)[-1:] == ["SUCCESS"])
        self.settle()
        assert self.platform.tables() == self.states[-1]
        assert self.platform.tables(self.platform.published) == self.states[-1]


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    with running(Busy(tmp_path_factory.mktemp("busy"))) as drill:
        yield drill


def models_of(command: Command, drill: Drill) -> set[str]:
    return command.selected & set(drill.builds())


def test_a_model_that_fails_is_tried_twice_more_with_what_depends_on_it_and_nothing_else(drill):
    before, started = drill.builds(), len(drill.commands())

    drill.model_fails.touch()
    root = drill.launch()
    drill.wait(lambda: drill.statuses(root)[:2] == ["FAILURE", "FAILURE"])
    drill.model_fails.unlink()
    drill.wait(lambda: drill.statuses(root) == ["FAILURE", "FAILURE", "SUCCESS"])

    whole, *retries = drill.commands()[started:]
    assert whole.arguments == ("build", "--select", "fqn:*")
    assert len(retries) == 2
    for retry in retries:
        assert retry.arguments[:2] == whole.arguments[:2] and retry.folder == whole.folder
        assert models_of(retry, drill) == drill.downstream("unique_payments")
    assert drill.builds() == {model: build_no + 1 for model, build_no in before.items()}


def test_a_retry_after_a_failed_test_builds_what_was_tested_and_what_it_held_up(drill):
    """In the same run a file is corrupt: its feed waits, the run says so, and another feed is built all the same."""
    platform = drill.platform
    customers = (platform.landing / "customers/2026-01-10/0002.csv").read_text().splitlines()
    platform.deliver("customers/2026-01-20/a.csv", f"{customers[0]}\nNEW,New,new@example.org,DE,2026-01-20T10:00:00Z\n")
    platform.deliver("orders/2026-01-20/a.csv", f"{ORDER}I,NEW,NEW,P1,paid,1,5,{MOMENT},{MOMENT},1\n")
    damaged_parquet(platform, "payments/2026-01-20/damaged.parquet")
    before, started = drill.builds(), len(drill.commands())

    drill.test_fails.touch()
    root = drill.launch()
    drill.wait(lambda: drill.statuses(root)[:1] == ["FAILURE"])
    drill.test_fails.unlink()
    (platform.landing / "payments/2026-01-20/damaged.parquet").unlink()
    error = drill.error(root)
    assert "payments/2026-01-20/damaged.parquet cannot be read: " in error
    assert "Got 1 result, configured to fail if != 0" in error
    drill.wait(lambda: drill.statuses(root) == ["FAILURE", "SUCCESS"])

    _, retry = drill.commands()[started:]
    held_up = drill.downstream("customer_changes") | {"unread_files"}
    assert models_of(retry, drill) == held_up
    assert ("drill", "pass") in drill.results()
    assert drill.builds() == {
        model: build_no + (2 if model in ("customer_changes", "unread_files") else 1)
        for model, build_no in before.items()
    }
    assert platform.query("select is_customer_known from marts.fct_orders where order_id = 'NEW'") == [(True,)]


def pytest_generate_tests(metafunc):
    """All at once; `make soak` goes through them one by one as well."""
    if "paths" in metafunc.fixturenames:
        pairs = [*itertools.combinations_with_replacement(PATHS, 2)] if SOAK_MINUTES else []
        groups = [PATHS, *pairs]
        metafunc.parametrize("paths", groups, ids=map(" and ".join, groups))
    if "moment" in metafunc.fixturenames:
        chance = random.Random(SEED)
        metafunc.parametrize("moment", [round(chance.random(), 3) for _ in range(20 if SOAK_MINUTES else 1)])


def test_launched_at_once_all_wait_and_do_the_same(drill, paths):
    """While somebody reads the warehouse, too: who it is stands in the run's output."""
    holder = hold(drill.platform, 600)
    started = len(drill.commands())
    ended = [drill.launch_by(path) for path in paths]
    drill.wait(lambda: len(drill.commands()) > started)
    if by_dagster := [run for run in drill.runs() if run["status"] == "STARTED"]:
        sentence = f"(PID {holder.pid}), which has {drill.platform.warehouse} open: let it finish, or close it."
        drill.wait(lambda: sentence in drill.output(by_dagster[0]["runId"]))
    assert all(has_ended() is None for has_ended in ended)
    holder.kill()
    holder.wait()
    drill.wait(lambda: all(has_ended() is not None for has_ended in ended))
    assert all(has_ended() for has_ended in ended)

    commands = drill.commands()[started:]
    assert len(commands) == len(paths)
    plain = [command for command in commands if command.arguments == ("build",)]
    assert len(plain) == paths.count("dbt")
    by_dagster = [(c.folder, c.indirect_selection, c.arguments) for c in commands if c not in plain]
    assert set(by_dagster) <= {(str(drill.platform.project), "", ("build", "--select", "fqn:*"))}
    assert not differences(drill.platform.tables(), Reference(ROOT / "seeds").build(drill.platform.landing))


FAULTS = {
    "the landing folder is gone": "{landing} cannot be read: there is no such folder; LANDING_DIR names it",
    "the warehouse is read-only": "The warehouse {warehouse} cannot be opened: ",
    "the disk is full": "Could not write file",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_machine_is_named_and_the_next_run_makes_up_for_it(drill, fault):
    platform = drill.platform
    moved = platform.home / "moved"
    lines = (f"I,{fault}{n},C1,P{n * n},paid,1,{n}.5,{MOMENT},{MOMENT},{n}\n" for n in range(100_000))
    platform.deliver(f"orders/2026-01-21/{fault}.csv", ORDER + "".join(lines))
    if "landing" in fault:
        platform.landing.rename(moved)
    elif "read-only" in fault:
        platform.warehouse.chmod(0o444)
        # Root may write to it all the same, unless it gives that up.
        drill.handicap.write_text(
            '[ "$(id -u)" != 0 ] || set -- setpriv --bounding-set=-dac_override,-dac_read_search "$@"\n'
        )
    else:
        limit = platform.warehouse.stat().st_size + 500_000
        drill.handicap.write_text(f"ulimit -f {limit // 512}\n")  # stands in for it

    root = drill.launch()
    drill.wait(lambda: drill.statuses(root)[:1] == ["FAILURE"])
    if moved.exists():
        moved.rename(platform.landing)
    platform.warehouse.chmod(0o644)
    drill.handicap.write_text("")
    sentence = FAULTS[fault].format(landing=platform.landing, warehouse=platform.warehouse)
    assert sentence in drill.error(root)
    assert "Traceback" not in drill.output(root)

    drill.settle()
    run = drill.launch()
    drill.wait(lambda: drill.statuses(run) == ["SUCCESS"])
    assert not differences(platform.tables(), Reference(ROOT / "seeds").build(platform.landing))


@pytest.mark.parametrize("checks", [["drill"], [], None], ids=["the one that fails", "none", "all"])
def test_with_some_checks_left_out_no_run_is_green_whose_models_were_not_built(drill, checks):
    models = {"customer_changes", "current_customers", "dim_customers_history"}
    drill.test_fails.touch()
    before = drill.builds()
    keys = {key[-1]: {"path": key} for key in drill.asset_keys()}
    selected = (
        [{"assetKey": keys["customer_changes"], "name": check} for check in checks] if checks is not None else None
    )
    run = drill.launch(
        jobName="__ASSET_JOB", assetSelection=[keys[model] for model in models], assetCheckSelection=selected
    )
    drill.wait(lambda: drill.statuses(run)[:1] in (["SUCCESS"], ["FAILURE"]))
    drill.test_fails.unlink()
    built = {model for model, build_no in drill.builds().items() if build_no > before[model]}
    if checks == []:
        assert drill.statuses(run) == ["SUCCESS"]
        assert built == models
    else:
        assert drill.statuses(run) == ["FAILURE"]
        assert built == {"customer_changes"}


VICTIMS = {  # what is killed, and how many seconds it is there for
    "dbt": 10,
    "the run": 18,
    "the daemon": 22,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_after_a_kill_the_next_ordinary_run_makes_up_for_it(busy, victim, moment, record_property):
    busy.deliver()
    started = len(busy.commands())
    busy.launch()
    if victim == "dbt":
        busy.wait(lambda: len(busy.commands()) > started)
    time.sleep(moment * VICTIMS[victim])
    if victim == "dbt":
        killed = [busy.commands()[-1].pid]
    else:
        killed = busy.processes({"the run": "multiprocessing.spawn", "the daemon": "dagster._daemon"}[victim])
    killed = [process for process in killed if process in busy.processes()]
    for process in killed:
        os.kill(process, signal.SIGKILL)
    record_property("covered", {"kills": 1, f"kills of {victim}": 1, "crashes survived": len(killed)})
    assert busy.platform.tables(busy.platform.published) in busy.states[-2:]
    if victim == "the daemon":
        busy.process.wait(120)
        busy.start()
    busy.make_up()


def test_a_run_that_hangs_is_stopped_and_tried_again(busy):
    busy.deliver()
    busy.model_hangs.touch()
    started = len(busy.commands())
    root = busy.launch()
    busy.wait(lambda: busy.statuses(root)[:1] == ["FAILURE"])
    busy.model_hangs.unlink()
    assert "Exceeded maximum runtime of 75 seconds" in busy.error(root)
    busy.wait(lambda: busy.commands()[started].pid not in busy.processes(), 20)
    busy.wait(lambda: busy.statuses(root)[-1] == "SUCCESS")
    busy.make_up()
