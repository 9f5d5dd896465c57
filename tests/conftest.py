"""What the tests run: dbt as a process of its own, on a landing folder and a warehouse that are the test's alone."""

import multiprocessing
import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

ROOT = Path(__file__).parents[1]
KEYS = {
    "dim_customers": ["customer_id"],
    "dim_customers_history": ["customer_id", "valid_from"],
    "dim_products_history": ["product_id", "valid_from"],
    "fct_orders": ["order_id"],
    "fct_payments": ["payment_id"],
    "fct_daily_revenue": ["ordered_on", "country_code"],
    "quarantine": ["feed", "batch_id", "row_no"],
    "landing_audit": ["batch_id"],
}
# How long the random tests go on at least, in minutes (0: a short while), and what they start from. `make soak` sets
# both; the workers that tests run in inherit them.
SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", 0))
SEED = int(os.environ.setdefault("SOAK_SEED", str(random.randrange(10**6))))

# Each dbt or Dagster is a fresh process; the fork server has imported both once for all of them, which saves four
# seconds of each dbt, and two of each Dagster.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["dbt.cli.main", "dbt.task.build", "dbt.adapters.duckdb", "dagster._cli", "dagster_dbt"]
)


Tables = dict[str, dict[tuple, dict]]


# What orchestration runs, without the selection: unit tests are for changes of code.
BUILD = ("build", "--exclude-resource-type", "unit_test")
# A run of the one job, without the daemon.
DEFINITIONS = ("-f", "orchestration/definitions.py")
JOB = ("dagster", "job", "execute", *DEFINITIONS, "-j", "refresh")


class Run(NamedTuple):
    code: int
    output: str


def command_process(command, folder, environment, log):
    """Be the command, as the leader of a process group: dbt and Dagster as they are loaded, others as a new program."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    time.tzset()
    with open(log, "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv = command
    if command[0] == "dbt":
        from dbt.cli.main import cli as main
    elif command[0] == "dagster":
        from dagster._cli import main
    else:
        os.execvp(command[0], command)
    main()


@dataclass
class Platform:
    """A landing folder and a warehouse, and the project that builds the one from the other."""

    home: Path
    project: Path = ROOT

    def __post_init__(self):
        self.landing = self.home / "landing"
        self.warehouse = self.home / "warehouse.duckdb"
        self.landing.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LANDING_DIR": str(self.landing),
            "WAREHOUSE_PATH": str(self.warehouse),
            "DBT_TARGET_PATH": str(self.home / "target"),
            "DBT_LOG_PATH": str(self.home / "logs"),
            "DBT_USE_COLORS": "0",
            "DBT_LOG_LEVEL_FILE": "none",
        }

    def instance(self) -> dict[str, str]:
        """The environment for a Dagster instance of its own, with the shipped dagster.yaml."""
        home = self.home / "dagster"
        if not home.exists():
            home.mkdir()
            (home / "dagster.yaml").symlink_to(self.project / "orchestration" / "dagster.yaml")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**self.environment, "DAGSTER_HOME": str(home), "PATH": path}

    @property
    def output(self) -> Path:
        return self.home / "output.txt"

    def start(self, *command: str, **environment: str) -> multiprocessing.Process:
        process = processes.Process(
            target=command_process, args=(list(command), self.project, {**self.instance(), **environment}, self.output)
        )
        process.start()
        return process

    def dbt(self, *arguments: str) -> Run:
        process = self.start("dbt", *arguments)
        process.join(600)
        return Run(process.exitcode, self.output.read_text())

    def build(self) -> str:
        """The output of a build that has to work."""
        run = self.dbt(*BUILD)
        assert run.code == 0, run.output
        return run.output

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    @property
    def published(self) -> Path:
        """The file that people read."""
        return self.home / "warehouse_marts.duckdb"

    def tables(self, file: Path | None = None) -> Tables:
        """The marts of the warehouse, or of the file: for each the rows by key, with the columns of the contract."""
        tables = {}
        with duckdb.connect(str(file or self.warehouse), read_only=True) as connection:
            for name in KEYS:
                cursor = connection.execute(f"select * from marts.{name}")
                columns = [column for column, *_ in cursor.description]
                rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
                tables[name] = by_key(name, [{c: v for c, v in row.items() if c[0] != "_"} for row in rows])
        return tables

    def deliver(self, path: str, content: str | bytes) -> None:
        file = self.landing / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replaces what stands once in a file of the project."""
        code = (self.project / file).read_text()
        assert code.count(old) == 1
        (self.project / file).write_text(code.replace(old, new))


def by_key(name: str, rows: list[dict]) -> dict[tuple, dict]:
    keyed = {tuple(row[column] for column in KEYS[name]): row for row in rows}
    assert len(keyed) == len(rows), f"a key of {name} repeats"
    return keyed


def keyed(expected: dict[str, list[dict]]) -> Tables:
    return {name: by_key(name, rows) for name, rows in expected.items()}


def differences(tables: Tables, expected: dict[str, list[dict]]) -> list[tuple]:
    """(table, key, got, expected) of each row that is not the same."""
    found = []
    for name in KEYS:  # not those of `expected`: a table that it lacked would go unseen
        wanted = by_key(name, expected[name])
        for key in sorted(tables[name].keys() | wanted.keys(), key=str):
            if tables[name].get(key) != wanted.get(key):
                found.append((name, key, tables[name].get(key), wanted.get(key)))
    return found


def copied(home: Path) -> Platform:
    """A platform with a copy of the project, to be edited."""
    project = home / "project"
    for folder in ("transform", "cleanup_models", "seeds", "orchestration", "tests/data"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dbt_project.yml", "profiles.yml", ".dbtignore"):
        shutil.copy(ROOT / file, project)
    return Platform(home / "platform", project)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """Where the sample was built; it is moved to `kept`, for each test to have a copy in its place."""
    home = tmp_path_factory.mktemp("built")
    platform = copied(home / "shop")
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    platform.build()
    (home / "shop").rename(home / "kept")
    return home


@pytest.fixture
def shop(built) -> Platform:
    """The sample, built. In the place where it was built: elsewhere dbt would parse all of it again."""
    shutil.copytree(built / "kept", built / "shop", symlinks=True)
    yield Platform(built / "shop" / "platform", built / "shop" / "project")
    shutil.rmtree(built / "shop")


@pytest.fixture
def platform(shop) -> Platform:
    """Nothing delivered, and nothing built."""
    shutil.rmtree(shop.landing)
    for file in shop.home.glob("warehouse*"):
        file.unlink()
    return Platform(shop.home, shop.project)


@pytest.fixture(autouse=True)
def counted(request, record_property):
    if request.module.__name__ in ("test_drills", "test_kills"):
        record_property("covered", {"drills": 1})


def pytest_terminal_summary(terminalreporter):
    """What was covered: the counts that tests recorded, added up."""
    covered = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, counts in getattr(report, "user_properties", ()):
                if name == "covered" and report.when == "call":
                    covered.update(counts)
    if covered:
        terminalreporter.section(f"random paths and drills, seed {SEED}")
        for name, count in sorted(covered.items()):
            terminalreporter.write_line(f"{name:32} {count:10d}")
