"""Failure drills: what `make dev` runs (daemon, code server, webserver) is started, and can be hurt."""

import contextlib
import json
import os
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

from conftest import BUILD, DEFINITIONS, JOB, ROOT, Platform, copied

REPOSITORY = {"repositoryLocationName": "definitions.py", "repositoryName": "__repository__"}
REFRESH = {**REPOSITORY, "jobName": "refresh"}
LAUNCH = (
    "mutation($run: ExecutionParams!) {launched: launchRun(executionParams: $run)"
    " {... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"
)
LAUNCH_AGAIN = LAUNCH.replace("launchRun(", "launchRunReexecution(")
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
STATE = {
    "schedule": (
        "query($entry: ScheduleSelector!)"
        " {found: scheduleOrError(scheduleSelector: $entry) {... on Schedule {state: scheduleState {status}}}}"
    ),
    "sensor": (
        "query($entry: SensorSelector!)"
        " {found: sensorOrError(sensorSelector: $entry) {... on Sensor {state: sensorState {status}}}}"
    ),
}
TICKS = (
    "query($entry: SensorSelector!) {found: sensorOrError(sensorSelector: $entry)"
    " {... on Sensor {sensorState {ticks {timestamp status skipReason}}}}}"
)
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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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
        self.environment = {
            **os.environ,
            **platform.environment,
            "DAGSTER_HOME": str(self.home),
            "PATH": path,
            "AUTOMATIC_RUNS": "on",
        }

    def command(self, *arguments: str) -> subprocess.Popen:
        """A command in the project's folder, in a group of its own: its children can be ended with it."""
        with open(self.platform.home / f"{arguments[0]}-{arguments[1]}.log", "a") as log:
            process = subprocess.Popen(
                arguments,
                cwd=self.platform.project,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.groups.append(process.pid)
        return process

    def start(self) -> None:
        self.port = free_port()
        self.process = self.command("dagster", "dev", "-h", "127.0.0.1", "-p", str(self.port), *DEFINITIONS)
        self.wait(lambda: self.ask("{workspaceOrError {... on Workspace {locationEntries {loadStatus}}}}"), 120)

    def stop(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()

    def processes(self, pattern: str = "") -> list[int]:
        """Ids of the processes that were started, or of those whose command line has the pattern."""
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

    def launch(self, tags: dict[str, str] | None = None, parent: str | None = None, **selection) -> str:
        """Launches as the UI does; a run that has a parent tries that one again."""
        tags, metadata = dict(tags or {}), {}
        if parent:
            tags |= {"dagster/parent_run_id": parent, "dagster/root_run_id": parent}
            metadata = {"parentRunId": parent, "rootRunId": parent}
        metadata["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
        run = {"selector": {**REFRESH, **selection}, "executionMetadata": metadata}
        launched = self.ask(LAUNCH_AGAIN if parent else LAUNCH, run=run)["launched"]
        assert "run" in launched, launched
        return launched["run"]["runId"]

    def launch_by(self, path: str) -> Callable[[], bool | None]:
        """Launches by an entry point. The function that it gives says whether that ended well; None before the end."""
        if path in ("cli", "dbt"):
            by_hand = {"cli": JOB, "dbt": ("dbt", *BUILD)}
            process = self.command(*by_hand[path])
            return lambda: None if process.poll() is None else process.returncode == 0
        known = {run["runId"] for run in self.runs()}
        if path == "ui":
            run = self.launch()
        else:
            name = {"schedule": "nightly", "sensor": "deliveries"}[path]
            if path == "sensor":
                (self.platform.landing / "orders/2026-01-20").mkdir(parents=True, exist_ok=True)
                (self.platform.landing / f"orders/2026-01-20/{len(known)}.csv").touch()
            entry = {**REPOSITORY, f"{path}Name": name}
            switched = self.ask(START[path], entry=entry)["started"]
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

            def stays_off():
                # A tick that is under way when it is switched off writes back that it is on.
                self.ask(STOP[path], id=state["id"])
                time.sleep(5)
                return self.ask(STATE[path], entry=entry)["found"]["state"]["status"] == "STOPPED"

            self.wait(stays_off)
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

    def look(self, sensor: str) -> dict:
        """The next look of a sensor, when it is over."""
        began, entry = time.time(), {**REPOSITORY, "sensorName": sensor}

        def found():
            ticks = self.ask(TICKS, entry=entry)["found"]["sensorState"]["ticks"]
            return [tick for tick in ticks if tick["timestamp"] > began and tick["status"] != "STARTED"]

        return self.wait(found)[-1]

    def settle(self) -> None:
        """Waits until no run is under way, and none is about to be tried again."""

        def has_ended(run: dict, tried_again: set[str]) -> bool:
            retries, most = (run["tags"].get(f"dagster/{tag}", "0") for tag in ("retry_number", "max_retries"))
            is_left = run["runId"] in tried_again or retries == most
            return run["status"] in ("SUCCESS", "CANCELED") or (run["status"] == "FAILURE" and is_left)

        def is_quiet():
            runs = self.runs()
            tried_again = {run["parentRunId"] for run in runs}
            return all(has_ended(run, tried_again) for run in runs)

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
        definitions = platform.project / "orchestration" / "definitions.py"
        text = definitions.read_text()
        for old, new in {
            '"0 3 * * *"': '"* * * * *"',
            # A drill switches them on when it needs them.
            "DefaultScheduleStatus.RUNNING": "DefaultScheduleStatus.STOPPED",
            "DefaultSensorStatus.RUNNING": "DefaultSensorStatus.STOPPED",
            # Sensors look as often as the daemon does, every five seconds.
            "minimum_interval_seconds=30": "minimum_interval_seconds=1",
            "        name=name,": "        name=name, minimum_interval_seconds=1,",
        }.items():
            assert old in text
            text = text.replace(old, new, 1)
        definitions.write_text(text)
        model = platform.project / "cleanup_models" / "models" / "duplicates" / "unique_payments.sql"
        failing = f"select error('drill') from glob('{self.model_fails}')"
        hanging = f"select count(*) from glob('{self.model_hangs}'), range({10**13})"
        hooks = [f"create or replace temporary table drill as {query}" for query in (failing, hanging)]
        model.write_text(f"{{{{ config(pre_hook={json.dumps(hooks)}) }}}}\n{model.read_text()}")
        (platform.project / "tests" / "data" / "drill.sql").write_text(
            f"select * from glob('{self.test_fails}') where exists (from {{{{ ref('customer_changes') }}}})"
        )
        super().__init__(platform, settings)
        # How often the daemon looks for runs to try again; by default five.
        self.environment["DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS"] = "1"

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


@contextlib.contextmanager
def running(drill: Drill) -> Iterator[Drill]:
    try:
        drill.start()
        first = drill.launch()
        drill.wait(lambda: drill.statuses(first) == ["SUCCESS"])
        yield drill
    finally:
        drill.stop()
