"""How fast it is: `make bench`, `make bench-quick`. A function for each row of the table.

Every ratio is of two things that were measured in turn in the same run, each the median of its runs.
"""

import argparse
import os
import platform as machine
import re
import shutil
import signal
import sys
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import duckdb

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from conftest import KEYS, ROOT, Platform, copied
from drill import Dagster
from running import (
    GIB,
    JOB,
    Failure,
    Finished,
    Line,
    alternately,
    build,
    compared,
    deliver,
    medians,
    progress,
    run,
    seconds_by_kind,
    synthetic,
    with_sample,
    without_warehouse,
)

EVENTS = """
    query($id: ID!) {runOrError(runId: $id) {... on Run {eventConnection {events {
        ... on MessageEvent {timestamp eventType}
    }}}}}
"""


class Sizes(NamedTuple):
    runs: int
    disk: int  # GiB
    histories: tuple[int, ...]  # order changes before the day
    day: int  # order changes of the day
    day_customers: int
    changes: int  # of the first build, and of the rebuild
    customers: int
    projects: tuple[int, ...]  # models
    chain: int  # models
    definitions: tuple[int, int]  # models


SIZES = {
    "quick": Sizes(2, 2, (10_000, 100_000), 1_000, 1_000, 200_000, 2_000, (10, 50), 20, (100, 500)),
    "full": Sizes(
        3, 20, (100_000, 1_000_000, 10_000_000), 10_000, 10_000, 10_000_000, 100_000, (10, 100, 500), 100, (500, 2_000)
    ),
}


def cost_of_a_day(home: Path, sizes: Sizes) -> list[Line]:
    """The same day's deliveries on histories of several sizes: what it costs should follow what arrived."""

    class Day(NamedTuple):
        seconds: float
        model_seconds: float

    day = deliver(home / "day", sizes.day, sizes.day_customers, days=1, start="2026-01-15")
    batches = [path for path in day.glob("*/*/*.csv")]
    rows = sum(len(path.read_bytes().splitlines()) - 1 for path in batches)

    def measure(platform: Platform) -> Day:
        for file in (platform.home / "built").iterdir():
            shutil.copy(file, platform.home)
        os.sync()  # the copy is not to be written out while the build is measured
        seconds = build(platform).seconds
        loaded = "select count(*), sum(delivered_rows) from marts.landing_audit where batch_id like '%/2026-01-15/%'"
        if platform.query(loaded) != [(len(batches), rows)]:
            raise Failure("The day was not loaded.")
        kinds = seconds_by_kind(platform)
        return Day(seconds, kinds["model"] + kinds["snapshot"] + kinds["seed"])

    measures = {}
    for changes in sizes.histories:
        platform = Platform(home / str(changes))
        deliver(platform.landing, changes, sizes.day_customers)
        progress(f"  building a history of {changes:,}: {build(platform).seconds:.1f} s")
        (platform.home / "built").mkdir()
        for file in platform.home.glob("*.duckdb"):
            file.rename(platform.home / "built" / file.name)
        shutil.copytree(day, platform.landing, dirs_exist_ok=True)
        measures[f"{changes:,}"] = lambda platform=platform: measure(platform)
    results = alternately(sizes.runs, measures)
    lines = []
    for field, what, most in (("seconds", "wall time", 1.3), ("model_seconds", "sum of model times", 3)):
        smallest, *others = zip(results, medians(results, field), strict=True)
        for name, seconds in others:
            label = f"a day of {sizes.day:,} changes on a history of {name}, {what}"
            is_largest = name == others[-1][0]
            lines.append(compared(label, seconds, f"on {smallest[0]}", smallest[1], most if is_largest else None))
    return lines


def large_deliveries(home: Path, sizes: Sizes) -> Path:
    """Those of the first build and of the rebuild, made once."""
    folder = home.parent / "large"
    return folder if folder.exists() else deliver(folder, sizes.changes, sizes.customers)


def compare_marts(*files: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '4GB'; set temp_directory = '{files[0]}.tmp'")
        for name, file in zip("ab", files, strict=True):
            connection.execute(f"attach '{file}' as {name} (read_only)")
        for table in KEYS:
            names = connection.execute(f"select name from pragma_table_info('a.marts.{table}')").fetchall()
            columns = ", ".join(name for (name,) in names if name[0] != "_")
            a, b = (f"select {columns} from {name}.marts.{table}" for name in "ab")
            if connection.execute(f"(({a}) except all ({b})) union all (({b}) except all ({a})) limit 1").fetchall():
                raise Failure(f"{table} is not the same by hand, so there is nothing to compare.")


def first_build(home: Path, sizes: Sizes) -> list[Line]:
    """Against the same marts by hand, which have to be the same."""
    platform = Platform(home)
    platform.landing = large_deliveries(home, sizes)
    made = home / "by_hand.db"

    def by_hand() -> Finished:
        made.unlink(missing_ok=True)
        script = ROOT / "bench" / "by_hand.py"
        return run(platform, sys.executable, str(script), str(platform.landing), str(made), str(ROOT))

    measures = {"dbt build": lambda: build(without_warehouse(platform)), "by hand": by_hand}
    results = alternately(sizes.runs, measures)
    seconds, other_seconds = medians(results)
    peak, other_peak = (max(result.peak for result in found) / GIB for found in results.values())
    compare_marts(platform.warehouse, made)
    kinds = ", ".join(f"{kind} {taken:.1f} s" for kind, taken in seconds_by_kind(platform).most_common())
    what = f"first build of {sizes.changes:,} changes, {sizes.customers:,} customers, 10 extracts"
    return [
        compared(what, seconds, "by hand", other_seconds, 1.5),
        Line("of it, by kind of node (two at a time)", kinds),
        Line("its peak memory", f"{peak:.1f} GiB", f"by hand: {other_peak:.1f} GiB", "", "under 4 GiB", peak < 4),
    ]


def nothing_new(home: Path, sizes: Sizes) -> list[Line]:
    """Against what dbt itself takes."""
    platform, empty = with_sample(home / "sample"), synthetic(home / "empty", 0)
    measures = {"dbt build": lambda: build(platform), "empty project": lambda: build(empty)}
    seconds, other_seconds = medians(alternately(sizes.runs, measures, is_warm=False))
    return [compared("nothing new arrived", seconds, "empty project", other_seconds, 1.5)]


def through_dagster(home: Path, sizes: Sizes) -> list[Line]:
    """The job as `make run` executes it, on the shipped platform and on synthetic ones."""
    lines = []

    def measure(what: str, platform: Platform, most: float | None, prepare=lambda platform: platform) -> float:
        run(platform, "dbt", "parse")
        measures = {
            f"{what}, job": lambda: run(prepare(platform), *JOB),
            f"{what}, dbt build": lambda: build(prepare(platform)),
        }
        seconds, other_seconds = medians(alternately(sizes.runs, measures, is_warm=False))
        lines.append(compared(f"through the job: {what}", seconds, "dbt build", other_seconds, most))
        return seconds - other_seconds

    sample = with_sample(home / "sample")
    measure("sample, nothing new", sample, None)
    measure("sample, first build", sample, None, without_warehouse)
    differences = []
    for models in sizes.projects:
        most = 1.25 if models == sizes.projects[-1] else None
        differences.append(measure(f"{models} models", synthetic(home / str(models), models), most))
    fixed = differences[0]
    what = f"through the job: fixed part (difference at {sizes.projects[0]} models)"
    return [*lines, Line(what, f"{fixed:.1f} s", "", "", "at most 6 s", fixed <= 6)]


def from_a_trigger(home: Path, sizes: Sizes) -> list[Line]:
    """Under `dagster dev`, from the click to the end of the run."""

    class Triggered(NamedTuple):
        seconds: float
        queued: float

    platform = with_sample(home)
    dagster = Dagster(platform)

    def measure() -> Triggered:
        clicked = time.time()
        root = dagster.launch()
        dagster.wait(lambda: dagster.statuses(root)[0] in ("SUCCESS", "FAILURE"))
        found = dagster.ask(EVENTS, id=root)["runOrError"]["eventConnection"]["events"]
        times = {event["eventType"]: float(event["timestamp"]) / 1000 for event in found if event}
        if "RUN_SUCCESS" not in times:
            raise Failure("The run that was triggered failed.")
        return Triggered(times["RUN_SUCCESS"] - clicked, times["RUN_STARTING"] - times["RUN_ENQUEUED"])

    try:
        dagster.start()
        measures = {"trigger to end": measure, "dbt build": lambda: build(platform)}
        results = alternately(sizes.runs, measures, is_warm=False)
    finally:
        dagster.stop()
    seconds, other_seconds = medians(results)
    queued = medians({"trigger": results["trigger to end"]}, "queued")[0]
    return [
        compared("from a trigger to the end, sample, nothing new", seconds, "dbt build", other_seconds, 4),
        Line("of it, in the queue", f"{queued:.1f} s", "", "", "at most 5 s", queued <= 5),
    ]


def retry(home: Path, sizes: Sizes) -> list[Line]:
    """A chain of models of which number k fails once: the daemon's own retry, from its start to its end."""
    places = [max(sizes.chain * percent // 100, 1) for percent in (25, 50, 90, 100)]
    platform = synthetic(home, sizes.chain, depth=sizes.chain, failing=tuple(places))
    dagster = Dagster(platform)

    def measure(place: int | None = None) -> Finished:
        guard = home / f"fails-{place}"
        if place:
            guard.touch()
        root = dagster.launch()
        if place:
            dagster.wait(lambda: dagster.statuses(root)[0] == "FAILURE")
            guard.unlink()
        dagster.wait(lambda: dagster.statuses(root)[-1] == "SUCCESS")
        if place:
            tried = {name for name in dagster.commands()[-1].selected if name.startswith("model_")}
            if tried != {f"model_{number}" for number in range(place, sizes.chain + 1)}:
                raise Failure(f"The retry after model {place} of {sizes.chain} failed built {len(tried)} models.")
        last = dagster.runs()[-1]
        return Finished(last["endTime"] - last["startTime"], 0)

    try:
        dagster.start()
        measures = {"whole build": measure}
        for place in places:
            measures[f"after {place} of {sizes.chain}"] = lambda place=place: measure(place)
        results = alternately(sizes.runs, measures)
    finally:
        dagster.stop()
    whole, *retries = medians(results)
    fixed = retries.pop()  # of the last model alone
    lines = []
    for place, seconds in zip(places, retries, strict=False):
        # The model that failed is itself left.
        left = (sizes.chain - place + 1) / sizes.chain
        most = left + fixed / whole
        what = f"retry after model {place} of {sizes.chain} failed"
        target = f"at most {most:.2f} ({left:.2f} of the models, {fixed:.1f} s fixed)"
        against = f"whole build: {whole:.1f} s"
        lines.append(Line(what, f"{seconds:.1f} s", against, f"{seconds / whole:.2f}", target, seconds <= most * whole))
    return lines


def loading(home: Path, sizes: Sizes) -> list[Line]:
    """What each process of Dagster does first, against the import that it cannot do without."""
    load = "import runpy; runpy.run_path('orchestration/definitions.py')['defs'].get_repository_def()"
    platforms = {models: synthetic(home / str(models), models) for models in sizes.definitions}
    measures = {}
    for models, platform in platforms.items():
        run(platform, "dbt", "parse")
        measures[f"{models} models"] = lambda platform=platform: run(platform, sys.executable, "-c", load)
    measures["import dagster_dbt"] = lambda: run(platforms[models], sys.executable, "-c", "import dagster_dbt")
    small, large, alone = medians(alternately(sizes.runs, measures, is_warm=False))
    few, many = (f"loading the definitions, {models:,} models" for models in sizes.definitions)
    line = compared(many, large, "import dagster_dbt", alone)
    return [
        compared(few, small, "import dagster_dbt", alone, 1.5),
        line._replace(target="under 10 s", is_met=large < 10),
    ]


def rebuild(home: Path, sizes: Sizes) -> list[Line]:
    """Every staging model gets other logic, and an ordinary build makes all tables anew."""
    platform = copied(home)
    platform.landing = large_deliveries(home, sizes)

    def measure() -> Finished:
        for model in platform.project.glob("transform/models/staging/*.sql"):
            model.write_text(model.read_text() + "{% set revision = 1 %}\n")
        finished = build(platform)
        kept = "select model from change_feed._builds group by model having count(*) filter (where is_rebuild) < 2"
        tables = {name for (name,) in platform.query(kept)} & set(KEYS)
        # The history of products is the snapshot's, and a change of logic leaves the record as it is.
        if tables - {"dim_products_history"}:
            raise Failure(f"Not rebuilt after a change of logic: {', '.join(sorted(tables))}.")
        return finished

    measures = {"fresh build": lambda: build(without_warehouse(platform)), "after a change of logic": measure}
    fresh, rebuilt = medians(alternately(sizes.runs, measures))
    what = f"rebuild of {sizes.changes:,} changes after a change of logic"
    return [compared(what, rebuilt, "fresh build", fresh, 1.1)]


ROWS = {
    row.__name__: row
    for row in (cost_of_a_day, first_build, nothing_new, through_dagster, from_a_trigger, retry, loading, rebuild)
}


def header(sizes: Sizes) -> list[str]:
    cpu = machine.processor() or machine.machine()
    if (listed := Path("/proc/cpuinfo")).exists():
        names = re.findall(r"^model name\s*: (.*)$", listed.read_text(), re.MULTILINE)
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    packages = ("dbt-core", "dbt-duckdb", "dagster", "duckdb")
    return [
        f"- {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, by `{os.environ.get('BENCH_COMMAND', sys.argv[0])}`",
        f"- {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB of memory, {machine.system()}",
        f"- Python {machine.python_version()}, {', '.join(f'{name} {version(name)}' for name in packages)}",
        f"- each time is the median of {sizes.runs} runs, taken in turn with those of what it is measured against",
    ]


def table(lines: list[Line]) -> list[str]:
    met = {True: "yes", False: "no", None: ""}
    rows = [["what", "measured", "against", "ratio", "target", "met?"]]
    rows += [[*line[:-1], met[line.is_met]] for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    rows.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", choices=SIZES)
    parser.add_argument("--rows", nargs="*", choices=ROWS, metavar="ROW", help=f"only these of {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, help="a Markdown file for the table")
    arguments = parser.parse_args()
    sizes = SIZES[arguments.sizes]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The benchmark was stopped."))
    lines, failures = [], []
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        free = shutil.disk_usage(folder).free / GIB
        if free < sizes.disk:
            sys.exit(f"{folder} has {free:.0f} GiB free and needs {sizes.disk}: point TMPDIR at a larger disk.")
        for name in arguments.rows or ROWS:
            progress(name)
            home = Path(folder).resolve() / name
            home.mkdir()
            try:
                lines += ROWS[name](home, sizes)
            except (Failure, OSError, AssertionError, duckdb.Error) as error:
                failures.append(f"{name} was not measured. {str(error).splitlines()[0]}")
                progress(failures[-1])
            shutil.rmtree(home, ignore_errors=True)
    text = "\n".join([*header(sizes), "", *table(lines), *failures])
    print(text)
    if arguments.out:
        arguments.out.write_text(f"# How fast it is\n\n{text}\n")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("The benchmark was stopped.")
