"""People read the marts of the last whole build, while the next one runs, fails or is killed."""

import os
import shutil
import subprocess
import threading
import time

import duckdb
import pytest
from conftest import BUILD, ROOT, Platform

SAMPLES = ROOT / "seeds" / "landing"


def ask(platform: Platform, sql: str) -> list[tuple]:
    with duckdb.connect(str(platform.published), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def deliver_days(platform: Platform, days: list[str]) -> None:
    for folder in (folder for day in days for folder in SAMPLES.glob(f"*/{day}")):
        shutil.copytree(folder, platform.landing / folder.relative_to(SAMPLES))


def test_a_reader_always_sees_one_whole_build(platform):
    """Orders, revenue and audit are built one after the other, so that half a build would not add up."""
    wholes: set[tuple] = set()
    faults: list[str] = []
    over = threading.Event()

    def read():
        while not over.is_set():
            try:
                orders, of_revenue, lines, judged = ask(
                    platform,
                    "select (select count(*) from marts.fct_orders), (select sum(orders) from marts.fct_daily_revenue),"
                    " (select sum(delivered_rows) from marts.landing_audit where status = 'live'),"
                    " (select sum(valid_rows + quarantined_rows) from marts.landing_audit)",
                )[0]
                wholes.add((orders, lines))
                if orders != of_revenue or lines != judged:
                    faults.append(f"{orders} orders, {of_revenue} in revenue; {lines} lines, {judged} judged")
            except duckdb.Error as error:
                faults.append(str(error))

    days = sorted({folder.name for folder in SAMPLES.glob("*/20*")})
    deliver_days(platform, days[:2])
    platform.build()
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for day, moment in zip(days[2:5], (2.5, 3.5, 4.5), strict=True):
            deliver_days(platform, [day])
            build = platform.start("dbt", *BUILD)
            time.sleep(moment)
            build.kill()
            build.join()
            platform.build()
    finally:
        over.set()
        reader.join()
    assert not faults, faults[:3]
    assert len(wholes) == 4
    assert ask(platform, "from marts.fct_orders order by all") == platform.query("from marts.fct_orders order by all")


@pytest.mark.parametrize("fault", ["{{ exceptions.raise_compiler_error('a drill') if execute }}", "limit 0"])
def test_a_build_with_a_failed_model_or_test_is_not_published(platform, fault):
    """Without its rows the daily revenue is no longer the sum of its orders, which a test finds."""
    shutil.copytree(SAMPLES, platform.landing, dirs_exist_ok=True)
    deliveries = platform.landing / "payments" / "2026-01-09"
    deliveries.rename(platform.home / "later")
    platform.build()
    before = platform.published.stat().st_mtime_ns
    (platform.home / "later").rename(deliveries)
    model = platform.project / "transform/models/marts/fct_daily_revenue.sql"
    code = model.read_text()
    model.write_text(f"{code}\n{fault}\n")
    run = platform.dbt(*BUILD)
    assert run.code != 0
    assert "Readers still see the last whole build: " in run.output
    assert platform.published.stat().st_mtime_ns == before
    assert platform.dbt(*BUILD, "--select", "quarantine").code == 0
    assert platform.published.stat().st_mtime_ns == before

    model.write_text(code)
    platform.build()
    for mart in platform.tables():
        assert ask(platform, f"from marts.{mart} order by all") == platform.query(f"from marts.{mart} order by all")


def test_a_build_without_news_publishes_nothing_and_a_lost_copy_is_made_again(platform):
    deliver_days(platform, ["2026-01-01"])
    platform.build()
    before = platform.published.stat().st_mtime_ns
    platform.build()
    assert platform.published.stat().st_mtime_ns == before
    platform.published.unlink()
    platform.deliver("orders/2026-01-02/broken.csv.gz", b"no gzip")
    assert platform.dbt(*BUILD).code == 1
    assert len(ask(platform, "from marts.fct_orders")) == len(platform.query("from marts.fct_orders"))


def test_a_copy_is_brought_up_to_date_only_from_the_state_that_it_is_of(platform):
    """An older copy that somebody put back is made anew, and one of a mart that has been removed is dropped."""
    later = platform.home / "later"
    later.mkdir()
    shutil.copytree(SAMPLES, platform.landing, dirs_exist_ok=True)
    for feed in ("orders", "payments"):
        for folder in sorted((platform.landing / feed).iterdir())[5:]:
            folder.rename(later / f"{feed} {folder.name}")
    platform.build()
    older = platform.published.read_bytes()
    for day in ("01-06", "01-08"):
        for feed in ("orders", "payments"):
            (later / f"{feed} 2026-{day}").rename(platform.landing / feed / f"2026-{day}")
        if day == "01-08":
            platform.published.write_bytes(older)
            model = "cleanup_models/models/orphans/orphaned_payments.sql"
            platform.edit(model, "materialized='view'", "materialized='table', schema='marts'")
        platform.build()
        assert platform.tables(platform.published) == platform.tables()
    assert ask(platform, "from marts.orphaned_payments")
    for file in ("orphaned_payments.sql", "orphaned_payments.yml"):
        (platform.project / "cleanup_models/models/orphans" / file).unlink()
    (platform.project / "tests/data/payments_without_an_order.sql").unlink()
    (later / "orders 2026-01-09").rename(platform.landing / "orders/2026-01-09")
    platform.build()
    names = {name for name, *_ in ask(platform, "select table_name from duckdb_tables()")}
    assert names == {*platform.tables(), "_version"}


def test_make_query_answers_while_the_warehouse_is_taken(platform):
    def query(sql: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, **platform.environment}
        return subprocess.run(
            ["make", "query", f"SQL={sql}"], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    missing = query("select 1")
    assert missing.returncode != 0
    assert f"{platform.published} is not there yet" in missing.stderr
    deliver_days(platform, ["2026-01-01"])
    platform.build()
    with duckdb.connect(str(platform.warehouse)):
        assert "fct_orders" in query("").stdout
        assert "O0001" in query("select order_id from marts.fct_orders order by 1").stdout
    wrong = query("select nothing")
    assert wrong.returncode != 0
    assert 'column "nothing"' in wrong.stderr
    assert "Traceback" not in wrong.stderr
