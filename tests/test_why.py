"""An incident is provoked for real, and `make why` has to name its cause and its node."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BUILD, JOB, ROOT, Platform, copied
from test_bad_input import MOMENT, ORDER, damaged_parquet, hold

CUSTOMERS = "customer_id,name,email,country_code,signed_up_at\n"


def why(platform: Platform, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "transform/macros/engine/why.py"), *arguments]
    ran = subprocess.run(command, env=platform.instance(), cwd=platform.project, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def incidents(platform: Platform) -> list[dict]:
    return json.loads(why(platform, "--json"))["incidents"]


def run(platform: Platform, *before: str, **environment: str) -> int:
    """As `make run`: a run of the job, on an instance with the shipped dagster.yaml."""
    process = platform.start(*before, *JOB, **environment)
    process.join(600)
    return process.exitcode


def change(platform: Platform, file: str, old: str, new: str) -> None:
    """A change of code, with the manifest that `make run` would make of it."""
    platform.edit(file, old, new)
    assert platform.dbt("--quiet", "parse").code == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The sample, built; with tests of its data that a shop might have."""
    home = tmp_path_factory.mktemp("built")
    platform = copied(home / "shop")
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    for name, query in {
        "orders_are_not_huge": "from {{ ref('fct_orders') }} where quantity > 5000",
        "nobody_is_called_nobody": "from {{ ref('current_customers') }} where name = 'Nobody'",
        "no_new_order_lacks_a_customer": (
            "from {{ ref('fct_orders') }} where not is_customer_known and order_id like 'NEW%'"
        ),
        "no_new_order_lacks_a_product": (
            "from {{ ref('fct_orders') }} where order_id like 'NEW%' and product_id not in"
            " (select product_id from {{ ref('dim_products_history') }})"
        ),
        "no_new_payment_lacks_its_order": (
            "from {{ ref('fct_payments') }} where not is_order_known and payment_id like 'NEW%'"
        ),
    }.items():
        (platform.project / "tests" / "data" / f"{name}.sql").write_text(f"select * {query}\n")
    assert platform.dbt("--quiet", "parse").code == 0
    assert run(platform) == 0, platform.output.read_text()[-3000:]
    assert why(platform) == "Nothing has failed.\n"
    (home / "shop").rename(home / "kept")
    return home


def order(number: int | str, customer: str = "C001", product: str = "P01", quantity: int = 1, price: str = "1") -> str:
    return f"I,NEW{number},{customer},{product},paid,{quantity},{price},{MOMENT},{MOMENT},1\n"


def many_orders(number: int) -> str:
    return ORDER + "".join(order(n, quantity=n % 9 + 1) for n in range(number))


def a_model_asks_for_a_column_that_is_not_there(shop):
    change(shop, "transform/models/marts/fct_orders.sql", "quantity * unit_price", "quantity * price")


def a_macro_is_broken(shop):
    change(shop, "transform/macros/casts.sql", "as bigint) end", "as biginteger) end")


def a_change_makes_a_test_fail(shop):
    change(shop, "cleanup_models/models/duplicates/unique_payments.sql", "where rank = 1", "where rank < 9")


def a_file_is_corrupt(shop):
    damaged_parquet(shop, "payments/2026-01-20/damaged.parquet")


def rows_fail_a_test(shop):
    shop.deliver("orders/2026-01-20/a.csv", ORDER + order(1, quantity=9999))


def a_column_of_the_snapshot_is_not_there(shop):
    change(
        shop,
        "cleanup_models/models/history_of_a_source_that_forgets/products_snapshot.yml",
        "at: as_of\n",
        "at: as_off\n",
    )


def a_seed_has_a_value_of_another_type(shop):
    change(shop, "seeds/order_statuses.csv", "placed,false", "placed,perhaps")


def a_model_early_in_the_chain_is_broken(shop):
    change(
        shop,
        "cleanup_models/models/out_of_order_changes/latest_order_changes.sql",
        "changed_at desc, change_no desc",
        "altered_at desc, change_no desc",
    )


def a_customer_of_a_name_that_no_one_has(shop):
    shop.deliver("customers/2026-01-20/a.csv", f"{CUSTOMERS}X1,Nobody,n@example.org,DE,{MOMENT}\n")


MODEL_CHANGES = {
    a_model_asks_for_a_column_that_is_not_there: "fct_orders",
    a_macro_is_broken: "stg_orders",
    a_change_makes_a_test_fail: "unique_unique_payments_payment_id",
}
BAD_DATA = {
    a_file_is_corrupt: "unread_files",
    rows_fail_a_test: "orders_are_not_huge",
    a_customer_of_a_name_that_no_one_has: "nobody_is_called_nobody",
}


OF_ORDERS = ["fct_daily_revenue", "fct_orders", "fct_payments", "orphaned_orders", "orphaned_payments"]
WAITING = {  # what failed, and the tables that wait for it
    a_column_of_the_snapshot_is_not_there: ("products_snapshot", ["dim_products_history"]),
    a_customer_of_a_name_that_no_one_has: ("nobody_is_called_nobody", ["dim_customers", *OF_ORDERS]),
    a_seed_has_a_value_of_another_type: (
        "order_statuses",
        ["existing_orders", *OF_ORDERS, "landing_audit", "latest_order_changes", "quarantine", "stg_orders"],
    ),
}


def named(function: Callable) -> str:
    return function.__name__.replace("_", " ")


@pytest.mark.parametrize(
    ("provoke", "cause", "node"),
    [(provoke, "model_change", node) for provoke, node in MODEL_CHANGES.items()]
    + [(provoke, "bad_data", node) for provoke, node in BAD_DATA.items()],
    ids=lambda value: named(value) if callable(value) else "",
)
def test_it_is_said_that(provoke, cause, node, shop):
    provoke(shop)
    assert run(shop) != 0
    [incident] = incidents(shop)
    assert (incident["cause"], incident["node"]) == (cause, node), incident["explanation"]
    assert why(shop).startswith(f"{node} failed at ")
    # What Dagster says of the run is the same.
    assert f"Why:   {cause}" in shop.output.read_text()
    waiting = shop.query("select node, root_node, cause from ops.failures where outcome = 'skipped'")
    assert {cause for _, _, cause in waiting} <= {"failed_dependency"}
    assert {root.split(".")[2] for _, root, _ in waiting} <= {node}


def blocked(tables: list[str]) -> str:
    stay = "table, which stays as it was" if len(tables) == 1 else "tables, which stay as they were"
    return f"It blocks {len(tables)} {stay}: {', '.join(sorted(tables))}."


@pytest.mark.parametrize("provoke", WAITING, ids=named)
def test_it_is_said_what_waits_because(provoke, shop):
    root, tables = WAITING[provoke]
    provoke(shop)
    assert shop.dbt(*BUILD).code != 0
    waiting = shop.query("select node, root_node, cause, evidence from ops.failures where outcome = 'skipped'")
    assert {node.split(".")[2] for node, *_ in waiting if not node.startswith("test.")} == set(tables)
    assert {(root.split(".")[2], *why) for _, root, *why in waiting} == {
        (root, "failed_dependency", f"it waits for {root}")
    }
    [incident] = incidents(shop)
    assert incident["node"] == root and incident["blocks"] == ", ".join(sorted(tables))
    assert blocked(tables) in why(shop)


def test_what_waits_goes_on_waiting_whatever_else_is_built(shop):
    a_model_early_in_the_chain_is_broken(shop)
    assert shop.dbt(*BUILD).code != 0
    assert shop.dbt(*BUILD, "--select", "fct_orders", "dim_customers").code == 0
    # What it read is as old as it was.
    [incident] = incidents(shop)
    assert (incident["node"], incident["over_at"]) == ("latest_order_changes", None)
    assert blocked(["existing_orders", *OF_ORDERS]) in why(shop)
    assert shop.dbt(*BUILD, "--select", "latest_order_changes+").code != 0
    [incident] = incidents(shop)
    assert incident["builds"] == 2 and not incident["over_at"]
    shop.edit(
        "cleanup_models/models/out_of_order_changes/latest_order_changes.sql", "altered_at desc", "changed_at desc"
    )
    shop.build()
    assert "It is over since the build of " in why(shop)


def test_two_causes_at_once_are_both_told(shop):
    a_model_asks_for_a_column_that_is_not_there(shop)
    a_file_is_corrupt(shop)
    assert run(shop) != 0
    [incident] = incidents(shop)
    assert "fct_orders failed" in incident["explanation"] and "model_change" in incident["explanation"]
    assert "unread_files failed" in incident["explanation"] and "bad_data" in incident["explanation"]


def test_two_causes_one_after_the_other_are_both_told(shop):
    a_file_is_corrupt(shop)
    assert shop.dbt(*BUILD).code != 0
    shop.edit("transform/macros/engine/duckdb_files.py", "LOCK_WAIT_SECONDS = 600", "LOCK_WAIT_SECONDS = 1")
    holder = hold(shop, 600)
    assert shop.dbt(*BUILD).code != 0
    holder.kill()
    holder.wait()
    assert shop.dbt(*BUILD).code != 0
    [incident] = incidents(shop)
    told = re.findall(r"^(\w+) failed .*\n  Why:   (\w+): ", incident["explanation"], re.MULTILINE)
    assert told == [("unread_files", "bad_data"), ("opening_the_warehouse", "environment")], incident["explanation"]
    assert incident["builds"] == 3 and not incident["over_at"]


@pytest.mark.skipif(not shutil.which("faketime"), reason="install `faketime`: a feed is late only after days")
@pytest.mark.parametrize(
    ("feed", "path", "content", "node"),
    [
        ("customers", "orders/2026-01-20/a.csv", ORDER + order(1, customer="X9"), "no_new_order_lacks_a_customer"),
        ("products", "orders/2026-01-20/a.csv", ORDER + order(1, product="X9"), "no_new_order_lacks_a_product"),
        (
            "orders",
            "payments/2026-01-20/a.csv",
            f"payment_id,order_id,kind,amount,paid_at\nNEW1,X9,charge,1,{MOMENT}\n",
            "no_new_payment_lacks_its_order",
        ),
    ],
)
def test_it_is_said_that_a_feed_is_late(feed, path, content, node, shop):
    shop.deliver(path, content)
    in_three_days = time.time() + 3 * 86400
    for other in {"orders", "payments", "customers", "products"} - {feed}:
        for file in shop.landing.glob(f"{other}/**/*.csv*"):
            os.utime(file, (in_three_days, in_three_days))
    assert run(shop, "faketime", "-f", "+3d") != 0
    [incident] = incidents(shop)
    assert (incident["cause"], incident["node"]) == ("stale_input", node), incident["explanation"]
    assert f"no delivery of {feed} since" in incident["explanation"]


def test_it_is_said_that_a_build_was_killed(shop):
    shop.deliver("orders/2026-01-20/a.csv", many_orders(200_000))
    shop.output.write_text("")
    process = shop.start("dbt", *BUILD)
    while "START sql incremental model staging.stg_orders" not in shop.output.read_text():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    [incident] = incidents(shop)
    assert incident["cause"] == "environment" and incident["over_at"] is None
    assert "stg_orders was not finished" in incident["explanation"]
    shop.build()
    [incident] = incidents(shop)
    assert incident["over_at"]


def test_it_is_said_that_memory_is_short(shop):
    shop.deliver("orders/2026-01-20/a.csv", many_orders(200_000))
    shop.edit("profiles.yml", "memory_limit: 2GB", "memory_limit: 60MB")
    # One table at a time, or what is built beside it may be the first that lacks memory.
    shop.edit("profiles.yml", "threads: 2", "threads: 1")
    assert run(shop) != 0
    [incident] = incidents(shop)
    assert (incident["cause"], incident["node"]) == ("environment", "landing_orders"), incident["explanation"]
    assert "Out of Memory Error" in incident["explanation"]


@pytest.mark.parametrize("kilobytes", [500, 3500])
def test_it_is_said_that_the_disk_is_full(kilobytes, shop):
    """Where the warehouse cannot be written any more at all, what it was cannot be recorded either."""
    shop.deliver("orders/2026-01-20/a.csv", many_orders(100_000))
    # A limit on the size of files stands in for it.
    limit = shop.warehouse.stat().st_size // 1024 + kilobytes
    assert run(shop, "bash", "-c", f'ulimit -f {limit}; exec "$@"', "job") != 0
    assert "Could not write file" in shop.output.read_text()
    [incident] = incidents(shop)
    assert incident["cause"] == "environment", incident["explanation"]
    # Which of the two it is depends on what is written meanwhile.
    failed = re.search(
        r" failed at .*\n  Why:   environment: .*\n  It said: .*\n.*Could not write ", incident["explanation"]
    )
    assert failed or "was killed, or the disk was full" in incident["explanation"], incident["explanation"]


def test_it_is_said_that_the_landing_folder_is_gone(shop):
    shop.landing.rename(shop.home / "moved")
    assert run(shop) != 0
    [incident] = incidents(shop)
    assert (incident["cause"], incident["node"]) == ("environment", "unread_files"), incident["explanation"]


def test_it_is_said_who_has_the_warehouse(shop):
    shop.edit("transform/macros/engine/duckdb_files.py", "LOCK_WAIT_SECONDS = 600", "LOCK_WAIT_SECONDS = 1")
    holder = hold(shop, 600)
    assert run(shop) != 0
    newest = incidents(shop)[0]
    assert (newest["cause"], newest["node"]) == ("environment", "opening_the_warehouse")
    text = why(shop)
    assert f"(PID {holder.pid})" in text and "Not seen: " in text
    holder.kill()
    holder.wait()
    # The next build records it, and so it is over.
    assert run(shop) == 0
    [incident] = incidents(shop)
    assert (incident["cause"], incident["node"]) == ("environment", "opening_the_warehouse")
    assert incident["over_at"] and incident["runs"]
    assert why(shop, "--run", incident["runs"]) == why(shop)
