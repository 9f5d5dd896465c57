"""What the README says of adding is enough: a new feed is kept, judged and corrected like the others."""

import shutil

from conftest import ROOT, Platform

STAGING = """{{ config(unique_key='batch_id', change_feed=['review_id']) }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('live_batches')) }}
{% endcall %}

with cast_rows as (
    select
        landing._batch_id as batch_id,
        landing._row_no as row_no,
        landing._is_malformed as is_malformed,
        landing.review_id,
        {{ to_whole_number('landing.stars') }} as stars
    from {{ ref('landing_reviews') }} as landing
    inner join {{ ref('live_batches') }} as live
        on landing._load_no = live.load_no and landing._batch_id = live.batch_id
    where live.feed = 'reviews' and landing._row_no > 0 and {{ is_affected('batch_id') }}
)

select
    batch_id,
    row_no,
    review_id,
    stars,
    {{ reasons({'bad_stars': 'stars is null or stars > 5', 'missing_key': 'review_id is null'}) }} as reasons
from cast_rows
"""


def reviews(platform: Platform) -> list[tuple]:
    return platform.query("select review_id, stars, reasons from staging.stg_reviews order by 1")


def test_a_feed_is_added_to_a_warehouse_that_is_in_use(shop):
    models = shop.project / "transform/models"
    (models / "landing/landing_reviews.sql").write_text("{{ land('reviews', ['review_id', 'stars']) }}\n")
    (models / "staging/stg_reviews.sql").write_text(STAGING)
    shop.edit(
        "transform/macros/landing.sql",
        "'erasures', 'retractions'",
        "'erasures', 'retractions', 'reviews'",
    )
    shop.edit(
        "transform/models/landing/deliveries.yml",
        "    tables:\n",
        "    tables:\n      - {name: reviews, description: What people think of products.}\n",
    )
    for file, upstream in (("redeliveries/newest_contents", "landing_"), ("quarantine/quarantine", "stg_")):
        given = f"      - input: ref('{upstream}retractions')\n"
        new = f"      - {{input: ref('{upstream}reviews'), rows: []}}\n"
        shop.edit(f"cleanup_models/models/{file}.yml", given, new + given)

    shop.deliver("reviews/2026-01-01/a.csv", "review_id,stars\n1,5\n2,9\n")
    run = shop.dbt("build")
    assert run.code == 0, run.output
    assert reviews(shop) == [("1", 5, None), ("2", 9, "bad_stars")]
    assert shop.query("select batch_id, row_no from marts.quarantine where feed = 'reviews'") == [
        ("reviews/2026-01-01/a.csv", 2)
    ]

    shop.deliver("reviews/2026-01-01/a.csv", "review_id,stars\n3,4\n")
    shop.build()
    assert reviews(shop) == [("3", 4, None)]
    assert shop.query("from marts.quarantine where feed = 'reviews'") == []


def test_a_landing_table_keeps_its_rows_when_its_change_feed_gets_a_column(shop, tmp_path):
    shop.edit(
        "transform/macros/landing.sql",
        "change_feed=['_batch_id']",
        "change_feed=['_batch_id', '_row_no']",
    )
    shop.deliver("payments/2026-01-20/a.csv", "payment_id,order_id,kind,amount,paid_at\nX,Y,charge,1,-\n")
    shutil.rmtree(shop.landing / "orders")  # archived
    shop.build()
    shop.deliver("payments/2026-01-20/a.csv", "payment_id,order_id,kind,amount,paid_at\n")
    shop.build()

    fresh = Platform(tmp_path / "fresh", shop.project)
    shutil.copytree(ROOT / "seeds" / "landing", fresh.landing, dirs_exist_ok=True)
    shutil.copytree(shop.landing, fresh.landing, dirs_exist_ok=True)
    fresh.build()
    assert shop.tables() == fresh.tables()


def test_a_model_that_keeps_no_change_feed_is_named_when_its_changes_are_asked_for(shop):
    shop.edit("transform/models/marts/fct_orders.sql", "'order_id', change_feed=", "'order_id', other=")
    run = shop.dbt("build")
    assert run.code != 0
    assert (
        "fct_orders keeps no change feed: list in its config, as change_feed, the columns by which fct_" in run.output
    )
