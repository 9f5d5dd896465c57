"""The tables are what the contract says, however they were built: held against reference.py, which is plain Python."""

import random
import shutil

import duckdb
import pytest
from conftest import BUILD, ROOT, SEED, SOAK_MINUTES, Platform, differences
from random_deliveries import PERSONAL, STRANGER, deliveries
from reference import Reference


def personal_values(platform: Platform, customers: set[str]) -> list[tuple]:
    """Where in the warehouse, in any relation, a name or email of these customers stands, or one that nobody owns."""
    tokens = [token for customer in customers for token in PERSONAL.get(customer, ())] + list(STRANGER)
    found = []
    with duckdb.connect(str(platform.warehouse), read_only=True) as connection:
        columns = connection.execute(
            "select table_schema, table_name, column_name from information_schema.columns where data_type = 'VARCHAR'"
        ).fetchall()
        for schema, table, column in columns:
            values = connection.execute(f'select distinct "{column}" from "{schema}"."{table}"').fetchall()
            found += [
                (schema, table, column, value)
                for (value,) in values
                if value and any(token in value for token in tokens)
            ]
    return found


def build_and_compare(platform: Platform, reference: Reference, story: list[str]) -> None:
    expected = reference.build(platform.landing)
    run = platform.dbt(*BUILD)
    assert (run.code == 0) == (not reference.unreadable), run.output
    assert all(f"{batch_id} cannot be read" in run.output for batch_id in reference.unreadable), run.output
    assert ("was not applied" in run.output) == bool(reference.products_not_applied), run.output
    assert not differences(platform.tables(), expected), "\n".join(story)
    assert not personal_values(platform, reference.erased), "\n".join(story)


def test_the_sample_deliveries_give_what_the_contract_says(platform):
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    build_and_compare(platform, Reference(ROOT / "seeds"), ["the sample deliveries at once"])


def test_one_build_after_missed_days_gives_what_daily_builds_would_have_given(platform, tmp_path):
    reference = Reference(ROOT / "seeds")
    samples = ROOT / "seeds" / "landing"
    for day in sorted({folder.name for folder in samples.glob("*/2*")}):
        for folder in samples.glob(f"*/{day}"):
            shutil.copytree(folder, platform.landing / folder.relative_to(samples))
        build_and_compare(platform, reference, [f"the sample deliveries up to {day}"])
    shutil.copytree(samples, platform.landing, dirs_exist_ok=True)
    build_and_compare(platform, reference, ["all the sample deliveries"])
    late = Platform(tmp_path / "late")
    shutil.copytree(samples, late.landing, dirs_exist_ok=True)
    late.build()
    assert platform.tables() == late.tables()


@pytest.mark.parametrize("seed", range(SEED, SEED + (20 if SOAK_MINUTES else 2)))
def test_random_deliveries_give_what_the_contract_says(seed, platform, tmp_path):
    """Built after some of the steps, and once more at the end into a fresh warehouse."""
    reference = Reference(ROOT / "seeds")
    chance, story = random.Random(seed), []
    steps = list(deliveries(seed, steps=9))
    for step in steps:
        story.append(step(platform.landing))
        if step is steps[-1] or chance.random() < 0.5:
            build_and_compare(platform, reference, story)
    fresh = Platform(tmp_path / "fresh")
    shutil.copytree(platform.landing, fresh.landing, dirs_exist_ok=True)
    build_and_compare(fresh, Reference(ROOT / "seeds"), story)


def test_a_build_with_nothing_new_changes_nothing(platform):
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    platform.build()
    tables = platform.tables()
    platform.build()
    assert platform.tables() == tables
    assert platform.query("select count(*) from change_feed._builds where build_no = 2 and is_rebuild") == [(0,)]
