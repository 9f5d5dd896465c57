"""What the tests run: dbt as a process of its own, on a landing folder and a warehouse that are the test's alone."""

import multiprocessing
import os
import shutil
import sys
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

# Each dbt is a fresh process; the fork server has imported dbt once for all of them, which saves four seconds each.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["dbt.cli.main", "dbt.task.build", "dbt.adapters.duckdb"])


class Run(NamedTuple):
    code: int
    output: str


def dbt_process(arguments, folder, environment, log):
    """Be the command `dbt` with these arguments."""
    os.chdir(folder)
    os.environ.update(environment)
    with open(log, "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    from dbt.cli.main import cli

    sys.argv = ["dbt", *arguments]
    cli(arguments)


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
        }

    def start(self, *arguments: str) -> multiprocessing.Process:
        process = processes.Process(
            target=dbt_process, args=(list(arguments), self.project, self.environment, self.home / "output.txt")
        )
        process.start()
        return process

    def dbt(self, *arguments: str) -> Run:
        process = self.start(*arguments)
        process.join(600)
        return Run(process.exitcode, (self.home / "output.txt").read_text())

    def build(self) -> str:
        """The output of a build that has to work; without dbt's unit tests, which have no data to differ by."""
        run = self.dbt("build", "--exclude-resource-type", "unit_test")
        assert run.code == 0, run.output
        return run.output

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def tables(self) -> dict[str, dict[tuple, dict]]:
        """The marts: for each the rows by key, with the columns of the contract."""
        tables = {}
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
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


def by_key(name: str, rows: list[dict]) -> dict[tuple, dict]:
    keyed = {tuple(row[column] for column in KEYS[name]): row for row in rows}
    assert len(keyed) == len(rows), f"a key of {name} repeats"
    return keyed


def differences(tables: dict[str, dict[tuple, dict]], expected: dict[str, list[dict]]) -> list[tuple]:
    """(table, key, got, expected) of each row that is not the same."""
    found = []
    for name in KEYS:
        wanted = by_key(name, expected[name])
        for key in sorted(tables[name].keys() | wanted.keys(), key=str):
            if tables[name].get(key) != wanted.get(key):
                found.append((name, key, tables[name].get(key), wanted.get(key)))
    return found


@pytest.fixture
def platform(tmp_path) -> Platform:
    return Platform(tmp_path / "platform")


def copied(home: Path) -> Platform:
    """A platform with the sample deliveries and a copy of the project, to be edited."""
    project = home / "project"
    for folder in ("transform", "cleanup_models", "seeds", "orchestration", "tests/data"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dbt_project.yml", "profiles.yml", ".dbtignore"):
        shutil.copy(ROOT / file, project)
    shutil.copytree(ROOT / "seeds" / "landing", home / "platform" / "landing")
    return Platform(home / "platform", project)


@pytest.fixture
def copied_platform(tmp_path) -> Platform:
    return copied(tmp_path)
