"""A change of logic makes the next ordinary build a full one, where it matters and nowhere else."""

import duckdb
import pytest
from conftest import Platform

EDITS = {
    "a model's code": (
        "transform/models/staging/stg_payments.sql",
        "amount is null or amount <= 0",
        "amount is null or amount <= 20",
    ),
    "a macro that models use": ("transform/macros/casts.sql", "{1,10}([.][0-9]{1,2})?", "{1,10}([.][0-9]{2})?"),
    "a macro of a macro": ("transform/macros/engine/duckdb_statements.sql", "[0-9]{2}[T ](", "[0-9]{2}T("),
    "a reference seed": ("seeds/order_statuses.csv", "placed,false", "placed,true"),
}


def rebuilt(platform: Platform) -> set[str]:
    """The models whose last build made their table anew."""
    query = "select model from change_feed._builds group by model having max_by(is_rebuild, build_no)"
    return {model for (model,) in platform.query(query)}


def everything(platform: Platform) -> dict[str, list[tuple]]:
    names = platform.query(
        "select table_schema || '.' || table_name from information_schema.tables"
        " where table_schema in ('staging', 'cleanup', 'marts') and table_name <> 'products_snapshot'"
    )
    return {name: platform.query(f"select * from {name} order by all") for (name,) in names}


@pytest.mark.parametrize("what", EDITS)
def test_after_a_change_of(what, shop, tmp_path):
    before = everything(shop)

    shop.edit(*EDITS[what])
    shop.build()
    assert "fct_daily_revenue" in rebuilt(shop)
    assert "landing_orders" not in rebuilt(shop) or "macro" in what

    fresh = Platform(tmp_path / "fresh", shop.project)
    fresh.landing = shop.landing
    fresh.build()
    assert everything(shop) == everything(fresh)
    assert everything(fresh) != before


def test_after_a_change_of_comments_and_white_space_nothing_is_rebuilt(shop):
    for folder in ("transform", "cleanup_models"):
        for file in (shop.project / folder).glob("**/*.sql"):
            text = file.read_text().replace("    ", "      ").replace("\nfrom ", "\n-- it's a comment\n\n\nfrom ")
            file.write_text(text + "\n{# another's one #}\n")
    shop.build()
    assert rebuilt(shop) == set()


def test_a_table_that_somebody_dropped_is_made_anew_with_what_depends_on_it(platform):
    platform.deliver("erasures/2026-01-01/1.csv", "customer_id,requested_at\n1,2026-01-01T00:00:00Z\n")
    platform.build()
    with duckdb.connect(str(platform.warehouse)) as connection:
        connection.execute("drop table staging.stg_payments")
    platform.build()
    assert {"stg_payments", "unique_payments", "fct_orders", "fct_payments", "landing_audit"} <= rebuilt(platform)
    assert not {"stg_orders", "latest_order_changes", "landing_payments"} & rebuilt(platform)
