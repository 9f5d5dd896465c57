"""A line is at home in one room. What one model may listen to and read is checked by `make boundary`."""

import json
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    from conftest import Platform

    platform = Platform(tmp_path_factory.mktemp("parsed"))
    assert platform.dbt("parse").code == 0
    return json.loads((platform.home / "target" / "manifest.json").read_text())


def test_every_column_of_a_seed_or_snapshot_is_described(manifest):
    """Of models `make boundary` asks it."""
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("seed", "snapshot"):
            for column in node["columns"].values():
                assert column["description"], f"{node['name']}.{column['name']} has no description"


def test_every_unit_test_passes(platform, manifest):
    """Plain `dbt build` runs them, and orchestration leaves them out."""
    run = platform.dbt("build")
    assert run.code == 0, run.output
    results = json.loads((platform.home / "target" / "run_results.json").read_text())["results"]
    passed = {result["unique_id"] for result in results if result["status"] == "pass"}
    assert manifest["unit_tests"] and manifest["unit_tests"].keys() <= passed


def test_each_folder_reads_only_folders_before_it(manifest):
    """That is, the folders have an order. What each layer may read is in boundary/dbt-bouncer.yml."""
    folder = {
        name: str(Path(node["original_file_path"]).parent)
        for name, node in manifest["nodes"].items()
        if node["resource_type"] in ("model", "snapshot", "seed")
    }
    # Two steps back: landing forgets who is erased, and a retraction is cast before any batch counts.
    landing, staging, cleanup = "transform/models/landing", "transform/models/staging", "cleanup_models/models"
    back = {(landing, f"{cleanup}/erasure"), (f"{cleanup}/retractions", staging)}
    before = {name: set() for name in folder.values()}
    for name, home in folder.items():
        for parent in manifest["nodes"][name]["depends_on"].get("nodes", []):
            if parent in folder and folder[parent] != home and (home, folder[parent]) not in back:
                before[home].add(folder[parent])
    TopologicalSorter(before).prepare()  # raises CycleError, which names the folders


def test_each_problem_of_the_contract_has_its_file():
    problems = {
        "duplicates": "unique_payments",
        "out_of_order_changes": "latest_order_changes",
        "hard_deletes": "existing_orders",
        "redeliveries": "newest_contents",
        "retractions": "retracted_batches",
        "orphans": "orphaned_payments",
        "quarantine": "quarantine",
        "erasure": "erased_customers",
        "history_from_full_extracts": "customer_changes",
    }
    for problem, model in problems.items():
        file = ROOT / "cleanup_models" / "models" / problem / f"{model}.sql"
        opening = file.read_text().splitlines()
        assert opening[0].startswith(("-- Problem: ", "-- Who has asked")), file
    for problem in ("late_arrivals", "stale_rows", "rebuild_on_change_of_logic", "erasure"):
        assert "Problem: " in (ROOT / "cleanup_models" / "macros" / f"{problem}.sql").read_text()


def test_the_lock_file_pins_by_hash_and_holds_no_addresses():
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:", lock)
    assert lock.count("--hash=sha256:") > 500
    assert re.search(r"^duckdb==1\.5\.", lock, re.MULTILINE)
