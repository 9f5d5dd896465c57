"""What cannot be done is said in one sentence that names the thing; nothing is lost, and the next build goes on."""

import gzip
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
import time

import duckdb
import pytest
from conftest import ROOT, Platform, differences
from dbt_common.exceptions import DbtRuntimeError
from reference import Reference

ORDER = "op,order_id,customer_id,product_id,status,quantity,unit_price,ordered_at,changed_at,change_no\n"
PAYMENT = "payment_id,order_id,kind,amount,paid_at\n"
CUSTOMER = "customer_id,name,email,country_code,signed_up_at\n"
MOMENT = "2026-01-01T10:00:00Z"


def parquet(platform: Platform, path: str, select: str) -> None:
    (platform.landing / path).parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(f"copy ({select}) to '{platform.landing / path}' (format parquet)")


def damaged_parquet(platform: Platform, path: str) -> None:
    """Sound at both ends, so that only reading the values finds it."""
    parquet(platform, path, "select md5(cast(range as varchar)) as payment_id from range(5000)")
    content = bytearray((platform.landing / path).read_bytes())
    content[40:4000] = b"\xff" * 3960
    platform.deliver(path, bytes(content))


UNREADABLE = {
    "orders/2026-01-02/truncated.csv.gz": (
        lambda platform, path: platform.deliver(path, gzip.compress(ORDER.encode() * 100)[:-9]),
        "end-of-stream marker",
    ),
    "payments/2026-01-02/damaged.parquet": (damaged_parquet, ""),
    "customers/2026-01-02/twice.csv": (
        lambda platform, path: platform.deliver(path, "customer_id,name,name\n1,a,b\n"),
        "the header has the name 'name' more than once",
    ),
    "erasures/2026-01-02/latin.csv": (
        lambda platform, path: platform.deliver(path, b"customer_id,requested_\xe4t\n1,x\n"),
        "the header is not UTF-8",
    ),
    "retractions/2026-01-02/numbers.parquet": (
        lambda platform, path: parquet(platform, path, "select 'a' as batch_id, 1 as retracted_at"),
        "the column 'retracted_at' is integer, and columns have to be strings",
    ),
    "products/current.csv": (lambda platform, path: platform.deliver(path, "\n\n"), "the file has no header line"),
}


def test_an_unreadable_file_stops_its_own_feed_until_it_is_replaced(platform):
    """Here every feed has one, so that each way of being unreadable is seen, and none keeps another from its own."""
    platform.deliver("orders/2026-01-01/a.csv", f"{ORDER}I,O1,C1,P1,paid,1,5,{MOMENT},{MOMENT},1\n")
    platform.build()
    before = platform.tables()

    platform.deliver("orders/2026-01-02/fine.csv", f"{ORDER}I,O2,C1,P1,paid,1,5,{MOMENT},{MOMENT},1\n")
    for path, (damage, _) in UNREADABLE.items():
        damage(platform, path)
    run = platform.dbt("build")
    assert run.code == 1
    for path, (_, reason) in UNREADABLE.items():
        assert f"{path} cannot be read: " in run.output
        assert reason in run.output
    assert "Traceback" not in run.output
    assert platform.tables() == before

    for path in UNREADABLE:
        (platform.landing / path).unlink()
    platform.build()
    assert not differences(platform.tables(), Reference(ROOT / "seeds").build(platform.landing))
    assert ("O2",) in platform.tables()["fct_orders"]


def test_an_unreadable_file_stops_no_other_feed(platform):
    platform.deliver("orders/2026-01-01/a.csv", f"{ORDER}I,O1,C1,P1,paid,1,5,{MOMENT},{MOMENT},1\n")
    platform.deliver("payments/2026-01-01/a.csv", "")
    platform.deliver("payments/2026-01-01/b.csv.gz", b"no gzip")
    run = platform.dbt("build")
    assert run.code == 1
    assert "payments/2026-01-01/b.csv.gz cannot be read: Not a gzipped file" in run.output
    assert "until it is replaced or removed, no new file of its feed is landed." in run.output
    assert ("O1",) in platform.tables()["fct_orders"]
    assert platform.query("select batch_id from marts.landing_audit") == [("orders/2026-01-01/a.csv",)]


def test_a_landing_folder_that_is_gone_is_named_and_costs_nothing(platform):
    platform.deliver("orders/2026-01-01/a.csv", f"{ORDER}I,O1,C1,P1,paid,1,5,{MOMENT},{MOMENT},1\n")
    platform.build()
    before = platform.tables()
    platform.landing.rename(platform.home / "moved")
    run = platform.dbt("build")
    assert run.code == 1
    assert f"{platform.landing} cannot be read: there is no such folder; LANDING_DIR names it" in run.output
    assert platform.tables() == before


def test_what_is_no_delivery_is_ignored_and_named(platform):
    ignored = {
        "invoices/2026-01-01/a.csv": "there is no feed invoices",
        "orders/2026-02-30/a.csv": "its folder is no date (YYYY-MM-DD)",
        "orders/2026-1-01/a.csv": "its folder is no date (YYYY-MM-DD)",
        "orders/a.csv": "its folder is no date (YYYY-MM-DD)",
        "orders/2026-01-01/a.txt": "its name does not end in .csv, .csv.gz or .parquet",
        "products/2026-01-01/a.csv": "the one delivery of products is products/current.csv",
    }
    for path in ignored:
        platform.deliver(path, "x\n1\n")
    for path in ("orders/2026-01-01/a.csv.part", "orders/2026-01-01/.a.csv", "orders/2026-01-01/_a.csv"):
        platform.deliver(path, "x\n1\n")
    platform.deliver("orders/2026-01-01/deeper/a.csv", "x\n1\n")
    output = platform.build()
    for path, reason in ignored.items():
        assert f"Warning: {path} is ignored: {reason}." in output
    assert "Warning: orders/2026-01-01/deeper/ is ignored: a delivery is a file." in output
    assert ".part" not in output and "/.a.csv" not in output and "/_a.csv" not in output
    assert platform.query("select * from marts.landing_audit") == []


def test_a_missing_column_and_an_empty_file_are_named_and_their_rows_kept(platform):
    platform.deliver("payments/2026-01-01/a.csv", f"payment_id,order_id,kind,paid_at\nP1,O1,charge,{MOMENT}\n")
    platform.deliver("payments/2026-01-01/b.csv", "")
    output = platform.build()
    assert "Warning: payments/2026-01-01/a.csv has no column amount: empty in each of its rows." in output
    assert "payments/2026-01-01/b.csv is empty" in output
    assert platform.query("select reasons from marts.quarantine") == [("bad_amount",)]
    assert platform.query("select batch_id, delivered_rows from marts.landing_audit order by 1") == [
        ("payments/2026-01-01/a.csv", 1),
        ("payments/2026-01-01/b.csv", 0),
    ]


def hold(platform: Platform, seconds: int) -> subprocess.Popen:
    """Another process that has the warehouse open."""
    path = str(platform.warehouse)
    code = f"import duckdb, time; held = duckdb.connect({path!r}); print(flush=True); time.sleep({seconds})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_build_waits_for_whoever_has_the_warehouse_open_and_names_him(platform):
    platform.build()
    holder = hold(platform, 600)
    build = platform.start("dbt", "build")
    for _ in range(300):
        if "Waiting for" in platform.output.read_text():
            break
        time.sleep(0.1)
    assert f"(PID {holder.pid}), which has {platform.warehouse} open" in platform.output.read_text()
    holder.kill()
    holder.wait()
    build.join(120)
    assert build.exitcode == 0, platform.output.read_text()


def test_a_build_that_waited_too_long_says_what_to_do(platform, monkeypatch):
    spec = importlib.util.spec_from_file_location("files", ROOT / "transform/macros/engine/duckdb_files.py")
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    monkeypatch.setattr(plugin, "LOCK_WAIT_SECONDS", 1)
    holder = hold(platform, 60)
    credentials = type("Credentials", (), {"path": str(platform.warehouse)})
    with pytest.raises(DbtRuntimeError, match=rf"\(PID {holder.pid}\) for 1 seconds: close that process"):
        plugin.Plugin("files", {}).update_connection_config(credentials, {})
    holder.kill()
    holder.wait()


def test_a_warehouse_that_cannot_be_opened_is_named(platform):
    platform.warehouse = platform.home / "no such folder" / "warehouse.duckdb"
    run = platform.dbt("build")
    assert run.code != 0
    assert f"The warehouse {platform.warehouse} cannot be opened" in run.output
    assert "Traceback" not in run.output


def test_a_full_disk_is_named_and_the_next_build_makes_up_for_it(platform):
    """The disk is full once the warehouse has grown by half a megabyte: a limit on file size stands in for it."""
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    platform.dbt("build", "--select", "order_statuses")
    lines = (f"I,O{n},C1,P{n * n},paid,1,{n}.5,{MOMENT},{MOMENT},{n}\n" for n in range(100_000))
    platform.deliver("orders/2026-01-20/large.csv", ORDER + "".join(lines))
    limit = platform.warehouse.stat().st_size + 500_000
    command = [
        sys.executable,
        "-c",
        "from dbt.cli.main import cli; cli()",
        "build",
        "--exclude-resource-type",
        "unit_test",
    ]
    full = subprocess.run(
        command,
        cwd=platform.project,
        env={**os.environ, **platform.environment},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
    )
    assert full.returncode != 0
    assert "Could not write" in full.stdout or "File too large" in full.stdout, full.stdout
    platform.build()
    assert not differences(platform.tables(), Reference(ROOT / "seeds").build(platform.landing))
