"""What the rows of the benchmark are measured with: processes, platforms, and synthetic projects."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from conftest import BUILD, ROOT, Platform

GIB = 1 << 30
JOB = ("dagster", "job", "execute", "-f", "orchestration/definitions.py", "-j", "refresh")
STARTED = time.monotonic()


class Failure(Exception):
    """One sentence about what kept something from being measured."""


class Finished(NamedTuple):
    seconds: float
    peak: int  # bytes of memory that the largest process had


class Line(NamedTuple):
    """A line of the table."""

    what: str
    measured: str
    against: str = ""
    ratio: str = ""
    target: str = ""
    is_met: bool | None = None


def compared(what: str, seconds: float, against: str, other_seconds: float, most: float | None = None) -> Line:
    """A line that is a ratio, with the target if there is one."""
    ratio = seconds / other_seconds
    return Line(
        what,
        f"{seconds:.1f} s",
        f"{against}: {other_seconds:.1f} s",
        f"{ratio:.2f}",
        f"at most {most:g}" if most else "",
        ratio <= most if most else None,
    )


def progress(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
    print(f"{minutes:3}:{seconds:02} {text}", file=sys.stderr, flush=True)


def run(platform: Platform, *command: str, **environment: str) -> Finished:
    """A command in the project's folder that has to work."""
    log = platform.home / "output.txt"
    began = time.perf_counter()
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            cwd=platform.project,
            env={**os.environ, **platform.instance(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["nothing"]
        raise Failure(f"`{' '.join(command)[:80]}` ended with {process.returncode}; it says: {said[-1][:300]}")
    # Linux counts in KiB.
    return Finished(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def alternately(runs: int, measures: dict[str, Callable[[], Finished]], is_warm: bool = True) -> dict[str, list]:
    """Each in turn, several times, so that what else the machine does meets all of them alike. Unless everything is
    warm, a first round does not count: it fills caches of files and of parsed projects."""
    results = {name: [] for name in measures}
    for number in range(1 if is_warm else 0, runs + 1):
        for name, measure in measures.items():
            result = measure()
            progress(f"  {name}, {f'run {number} of {runs}' if number else 'to warm up'}: {result.seconds:.1f} s")
            if number:
                results[name].append(result)
    return results


def medians(results: dict[str, list], field: str = "seconds") -> list[float]:
    return [median(getattr(result, field) for result in found) for found in results.values()]


def build(platform: Platform) -> Finished:
    return run(platform, "dbt", *BUILD)


def seconds_by_kind(platform: Platform) -> Counter:
    """What the nodes of the last build took, added up by dbt's own clock."""
    kinds = Counter()
    for result in json.loads((platform.home / "target" / "run_results.json").read_text())["results"]:
        kinds[result["unique_id"].split(".")[0]] += result["execution_time"]
    return kinds


def without_warehouse(platform: Platform) -> Platform:
    for file in platform.home.glob("*.duckdb*"):
        file.unlink()
    return platform


def deliver(out: Path, changes: int, customers: int, days: int = 10, start: str = "2026-01-01") -> Path:
    """A landing folder with order changes, a fifth as many payments, and an extract of the customers each day."""
    progress(f"  making deliveries with {changes:,} order changes and {customers:,} customers on {days} days")
    options = {"days": days, "orders": changes // days, "customers": customers, "start": start, "out": out}
    command = [sys.executable, ROOT / "seeds" / "make_deliveries.py"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise Failure(made.stderr.strip().splitlines()[-1])
    return out


def with_sample(home: Path) -> Platform:
    """The shipped platform with the sample deliveries."""
    platform = Platform(home)
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    return platform


def synthetic(home: Path, models: int, depth: int = 5, failing: tuple[int, ...] = ()) -> Platform:
    """A project of so many tables of one row, with one test each, under the shipped orchestration. Of those that are
    `failing`, number k fails as long as the file `fails-k` is there."""
    platform = Platform(home, home / "project")
    folder = platform.project / "models"
    folder.mkdir(parents=True)
    (platform.project / "dbt_project.yml").write_text(
        "{name: synthetic, profile: synthetic, flags: {send_anonymous_usage_stats: false},"
        " models: {+materialized: table}}\n"
    )
    path = "{{ env_var('WAREHOUSE_PATH') }}"
    (platform.project / "profiles.yml").write_text(
        f'synthetic: {{target: duckdb, outputs: {{duckdb: {{type: duckdb, threads: 2, path: "{path}"}}}}}}\n'
    )
    described = []
    width = max(models // depth, 1)
    for number in range(1, models + 1):
        sql = f"select id from {{{{ ref('model_{number - width}') }}}}" if number > width else "select 1 as id"
        if number in failing:
            hook = f"create or replace temp table k as select error('on purpose') from glob('{home}/fails-{number}')"
            sql = f'{{{{ config(pre_hook="{hook}") }}}}\n{sql}'
        (folder / f"model_{number}.sql").write_text(sql)
        described.append({"name": f"model_{number}", "columns": [{"name": "id", "data_tests": ["not_null"]}]})
    (folder / "models.yml").write_text(json.dumps({"models": described}))
    shutil.copytree(ROOT / "orchestration", platform.project / "orchestration")
    return platform
