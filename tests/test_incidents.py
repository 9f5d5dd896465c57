"""On a running Dagster: people are told once of an incident and once of its end, and what a retry did wrong is seen."""

import http.server
import json
import threading
from typing import ClassVar

import pytest
from drill import REPOSITORY, START, STOP, Drill, running
from test_bad_input import ORDER, hold
from test_why import incidents

NO_RETRIES = {"dagster/max_retries": "0"}


class Receiver(http.server.BaseHTTPRequestHandler):
    messages: ClassVar[list[dict]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.messages.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        drill = Drill(tmp_path_factory.mktemp("incidents"))
        drill.environment["ALERT_URL"] = f"json://127.0.0.1:{server.server_port}/"
        with running(drill):
            yield drill
        server.shutdown()


def test_an_incident_with_its_retries_is_told_once_and_its_end_once(drill):
    drill.model_fails.touch()
    root = drill.launch()
    drill.wait(lambda: drill.statuses(root) == ["FAILURE"] * 3)
    drill.wait(lambda: Receiver.messages)
    again = drill.launch(tags=NO_RETRIES)
    drill.wait(lambda: drill.statuses(again) == ["FAILURE"])
    drill.model_fails.unlink()
    last = drill.launch()
    drill.wait(lambda: drill.statuses(last) == ["SUCCESS"])
    drill.wait(lambda: len(Receiver.messages) > 1)
    for sensor in ("failing", "working_again"):
        drill.look(sensor)
    first, second = Receiver.messages
    assert first["title"] == "refresh: failing"
    assert "unique_payments failed at " in first["message"] and "Why:   bad_data" in first["message"]
    assert second["title"] == "refresh: working_again"

    # What the UI shows of the failed run is the same text.
    assert "unique_payments failed at " in drill.error(root)
    [incident] = incidents(drill.platform)
    assert incident["builds"] == 4 and incident["over_at"] and root in incident["runs"]


@pytest.mark.parametrize(
    ("cause", "models", "evidence"),
    [
        ("bad_data", None, "that had not failed"),
        ("model_change", ["dim_customers"], "left out"),
        ("bad_data", ["unique_payments"], "left out"),
    ],
    ids=["everything", "something else", "a part"],
)
def test_a_retry_that_did_other_work_than_what_had_failed_is_told(drill, cause, models, evidence):
    """What it was that failed is told as well, of each cause."""
    model = "cleanup_models/models/duplicates/unique_payments.sql"
    if cause == "model_change":
        drill.platform.edit(model, "where rank = 1", "where place = 1")
    else:
        drill.model_fails.touch()
    root = drill.launch(tags=NO_RETRIES)
    drill.wait(lambda: drill.statuses(root) == ["FAILURE"])
    if cause == "model_change":
        drill.platform.edit(model, "where place = 1", "where rank = 1")
    else:
        drill.model_fails.unlink()
    selection = [{"path": key} for key in drill.asset_keys() if models is None or key[-1] in models]
    selected = {} if models is None else {"assetSelection": selection}
    again = drill.launch(NO_RETRIES, root, **selected)
    drill.wait(lambda: drill.statuses(root) == ["FAILURE", "SUCCESS"])
    newest = incidents(drill.platform)[0]
    assert "wrong_retry: this retry " in newest["explanation"] and evidence in newest["explanation"]
    assert f"unique_payments failed at {newest['began_at'][:19]}".replace("T", " ") in newest["explanation"]
    assert f"Why:   {cause}: " in newest["explanation"]
    assert (newest["node"], newest["cause"]) == ("unique_payments", cause) and again in newest["runs"]
    if models is not None:
        assert f"{min(drill.downstream('unique_payments') - {*models})} was dealt with wrongly" in newest["explanation"]
    assert bool(newest["over_at"]) == (models is None)
    if models is not None:
        whole = drill.launch()
        drill.wait(lambda: drill.statuses(whole) == ["SUCCESS"])
        assert incidents(drill.platform)[0]["over_at"]


def open_to(drill, runs: int) -> None:
    """How many runs at a time may have the warehouse: none, for maintenance."""
    assert drill.command("dagster", "instance", "concurrency", "set", "warehouse", str(runs)).wait(120) == 0


def test_while_the_warehouse_is_kept_for_maintenance_what_runs_ends_what_comes_waits_and_the_sensor_is_quiet(drill):
    """And then the sensor asks for one run."""
    drill.settle()
    holder = hold(drill.platform, 600)
    first, second = drill.launch(), drill.launch()
    drill.wait(lambda: drill.statuses(first) == ["STARTED"] and drill.statuses(second) == ["QUEUED"])
    open_to(drill, 0)
    for name in ("a", "b"):
        drill.platform.deliver(f"orders/2026-01-21/{name}.csv", ORDER)
    sensor = {"entry": {**REPOSITORY, "sensorName": "deliveries"}}
    state = drill.ask(START["sensor"], **sensor)["started"]["sensorState"]["id"]
    tick = drill.look("deliveries")
    assert tick["status"] == "SKIPPED" and "about to start" in tick["skipReason"]
    known = len(drill.runs())
    holder.kill()
    holder.wait()
    drill.wait(lambda: drill.statuses(first) == ["SUCCESS"])
    # Meanwhile the queue is looked at as well, several times.
    assert drill.look("deliveries")["status"] == "SKIPPED"
    assert drill.statuses(second) == ["QUEUED"] and len(drill.runs()) == known
    open_to(drill, 1)
    drill.wait(lambda: drill.statuses(second) == ["SUCCESS"])
    drill.wait(lambda: len(drill.runs()) > known)
    drill.settle()
    drill.look("deliveries")
    drill.ask(STOP["sensor"], id=state)
    assert len(drill.runs()) == known + 1
    assert drill.runs()[-1]["tags"]["dagster/priority"] == "-1"
