"""What a person reads at the end of `make run`."""

import shutil

from conftest import ROOT


def test_the_summary_says_what_came_and_what_is_there(platform):
    assert "Nothing is built yet." in platform.dbt("--quiet", "run-operation", "summary").output

    samples = ROOT / "seeds" / "landing"
    shutil.copytree(samples / "orders" / "2026-01-01", platform.landing / "orders" / "2026-01-01")
    platform.build()
    first = platform.dbt("--quiet", "run-operation", "summary").output
    files = len(list(platform.landing.glob("orders/2026-01-01/*")))
    assert f"Deliveries: {files} new, {files} landed in all." in first

    shutil.copytree(samples, platform.landing, dirs_exist_ok=True)
    platform.build()
    second = platform.dbt("--quiet", "run-operation", "summary").output
    total = platform.query("select count(*) from marts.landing_audit")[0][0]
    assert (
        f"Deliveries: {total + 4 - files} new, {total + 4} landed in all." in second
    )  # erasures, retractions, products
    for table in platform.tables():
        rows = len(platform.tables()[table])
        assert f"  {table:24} {rows:10d}\n" in second
    assert "  orders       malformed_line          5\n" in second

    platform.build()
    assert f"Deliveries: none new, {total + 4} landed in all." in platform.dbt("-q", "run-operation", "summary").output
