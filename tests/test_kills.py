"""SIGKILL to dbt, to a run, to the daemon, and a run that hangs: what comes next makes up for it."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from conftest import ROOT, SEED, SOAK_MINUTES, Tables, keyed
from drill import Drill, running
from random_deliveries import deliveries
from reference import Reference

CHANCE = random.Random(SEED)
MOMENTS = [round(CHANCE.random(), 3) for _ in range(20 if SOAK_MINUTES else 1)]


class Busy(Drill):
    """Its runs may take no more than a minute and a half, and every time something else has been delivered."""

    def __init__(self, home: Path):
        super().__init__(
            home,
            {
                "max_runtime_seconds: 14400": "max_runtime_seconds: 90",
                "poll_interval_seconds: 30": "poll_interval_seconds: 1",
            },
        )
        self.reference, self.steps = Reference(ROOT / "seeds"), deliveries(SEED, 1000, unreadable=False)
        self.states: list[Tables] = []  # at the end of each run
        self.deliver()

    def deliver(self) -> None:
        next(self.steps)(self.platform.landing)
        expected = self.reference.build(self.platform.landing)
        self.states.append(keyed(expected))

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


VICTIMS = {  # what is killed, and how many seconds it is there for
    "dbt": 10,
    "the run": 18,
    "the daemon": 22,
}


@pytest.mark.parametrize("moment", MOMENTS)
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
    assert "Exceeded maximum runtime of 90 seconds" in busy.error(root)
    busy.wait(lambda: busy.commands()[started].pid not in busy.processes(), 20)
    busy.wait(lambda: busy.statuses(root)[-1] == "SUCCESS")
    busy.make_up()
