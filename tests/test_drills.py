"""Failure drills: what `make dev` runs (daemon, code server, webserver) is started, hurt, and has to come right."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, Platform, copied
from test_bad_input import MOMENT, ORDER, damaged_parquet

JOB = {"repositoryLocationName": "definitions.py", "repositoryName": "__repository__", "jobName": "refresh"}
FILE = ["-f", "orchestration/definitions.py"]
LAUNCH = "mutation($run: ExecutionParams!) {launchRun(executionParams: $run) {... on LaunchRunSuccess {run {runId}}}}"
RUNS = "{runsOrError {... on Runs {results {runId status parentRunId startTime endTime tags {key value}}}}}"
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}


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
        self.platform, self.home, self.process = platform, platform.home / "dagster", None
        (platform.home / "bin").mkdir()
        self.home.mkdir()
        text = (platform.project / "orchestration" / "dagster.yaml").read_text()
        for old, new in (settings or {}).items():
            assert old in text
            text = text.replace(old, new)
        (self.home / "dagster.yaml").write_text(text)
        self.record = platform.home / "commands"
        self.record.touch()
        shim = platform.home / "bin" / "dbt"
        fields = '"$$" "$PPID" "$PWD" "$DBT_INDIRECT_SELECTION" "$@"'
        folder = Path(sys.executable).parent
        shim.write_text(
            f"#!/bin/sh\necho \"$(printf '%s\\037' {fields})\" >>'{self.record}'\nexec '{folder}/dbt' \"$@\"\n"
        )
        shim.chmod(0o755)
        path = f"{platform.home / 'bin'}:{folder}:{os.environ['PATH']}"
        self.environment = {**os.environ, **platform.environment, "DAGSTER_HOME": str(self.home), "PATH": path}

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
        self.wait(lambda: self.ask("{workspaceOrError {... on Workspace {locationEntries {loadStatus}}}}"), 120)

    def stop(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()

    def processes(self, pattern: str = "") -> list[int]:
        """Ids of the processes started by `start`, or of those whose command line has the pattern."""
        lines = subprocess.run(["ps", "-Ao", "pid=,pgid=,args="], capture_output=True, text=True).stdout.splitlines()
        rows = [line.split(None, 2) for line in lines]
        return [int(pid) for pid, group, line in rows if int(group) == self.process.pid and pattern in line]

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

    def runs(self) -> list[dict]:
        """Every run, oldest first."""
        runs = self.ask(RUNS)["runsOrError"]["results"][::-1]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]

    def statuses(self, root: str) -> list[str]:
        """Those of a run and of its retries, in order."""
        return [run["status"] for run in self.runs() if root in (run["runId"], run["tags"].get("dagster/root_run_id"))]

    def error(self, run: str) -> str:
        """What the UI shows of a failed run."""
        query = (
            "query($id: ID!) {runOrError(runId: $id) {... on Run {eventConnection"
            " {events {... on ErrorEvent {error {message causes {message}}}}}}}}"
        )
        events = self.ask(query, id=run)["runOrError"]["eventConnection"]["events"]
        return json.dumps([event["error"] for event in events if event])

    def commands(self) -> list[Command]:
        """The builds that were started."""
        found = []
        for line in self.record.read_text().splitlines():
            pid, parent, folder, indirect_selection, *arguments = line.split("\037")[:-1]
            if arguments[0] == "build":
                found.append(Command(int(pid), int(parent), folder, indirect_selection, tuple(arguments)))
        return found

    def wait(self, condition, seconds: float = 300):
        """What the condition gives once it holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except OSError:
                pass  # the webserver is not there yet
            time.sleep(0.2)
        raise AssertionError(f"in {seconds} seconds it did not happen; runs: {self.runs()}")


class Drill(Dagster):
    """Its nightly schedule is due every minute, and a model and a test fail as long as a file is there."""

    def __init__(self, home: Path, settings: dict[str, str] | None = None):
        platform = copied(home)
        shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
        self.model_fails, self.test_fails = home / "model_fails", home / "test_fails"
        definitions = platform.project / "orchestration" / "definitions.py"
        assert '"0 3 * * *"' in definitions.read_text()
        definitions.write_text(definitions.read_text().replace('"0 3 * * *"', '"* * * * *"'))
        model = platform.project / "cleanup_models" / "models" / "duplicates" / "unique_payments.sql"
        failing = f"create or replace temporary table drill as select error('drill') from glob('{self.model_fails}')"
        model.write_text(f'{{{{ config(pre_hook="{failing}") }}}}\n{model.read_text()}')
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


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    drill = Drill(tmp_path_factory.mktemp("drill"))
    try:
        drill.start()
        yield drill
    finally:
        drill.stop()


def models_of(command: Command, drill: Drill) -> set[str]:
    return command.selected & set(drill.builds())


def test_a_model_that_fails_is_tried_twice_more_with_what_depends_on_it_and_nothing_else(drill):
    first = drill.launch()
    drill.wait(lambda: drill.statuses(first) == ["SUCCESS"])
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
