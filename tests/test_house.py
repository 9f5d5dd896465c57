"""A line is at home in one room: what models must not listen to, and what the repository must not hold."""

import json
import re

import pytest
from conftest import ROOT

MODELS = sorted([*ROOT.glob("transform/models/**/*.sql"), *ROOT.glob("cleanup_models/models/**/*.sql")])
# Anything by which whoever starts a run could change what a table means.
OUTSIDE = (
    r"\b(var|env_var)\s*\(|\btarget\b|\bflags\b|\binvocation_id\b|\brun_started_at\b|\bcurrent_\w+\b|\bnow\s*\(|today"
)


def code(file) -> str:
    return re.sub(r"--[^\n]*|\{#.*?#\}", "", file.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("model", MODELS, ids=lambda file: file.stem)
def test_a_model_listens_to_nothing_but_data(model):
    found = re.search(OUTSIDE, re.sub(r"current_(products|customers)", "", code(model)))
    assert not found, f"{model.name} has {found[0]}"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    from conftest import Platform

    platform = Platform(tmp_path_factory.mktemp("parsed"))
    assert platform.dbt("parse").code == 0
    return json.loads((platform.home / "target" / "manifest.json").read_text())


def test_every_model_and_column_is_described_and_every_mart_has_a_contract_and_unit_tests(manifest):
    unit_tested = {test["model"] for test in manifest["unit_tests"].values()}
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "seed", "snapshot"):
            assert node["description"], f"{node['name']} has no description"
            for column in node["columns"].values():
                assert column["description"], f"{node['name']}.{column['name']} has no description"
        if node["resource_type"] == "model" and node["schema"] == "marts":
            assert node["config"]["contract"]["enforced"], f"{node['name']} has no contract"
            assert node["name"] in unit_tested, f"{node['name']} has no unit test"


def test_every_unit_test_passes(platform, manifest):
    """Plain `dbt build` runs them, and orchestration leaves them out."""
    run = platform.dbt("build")
    assert run.code == 0, run.output
    results = json.loads((platform.home / "target" / "run_results.json").read_text())["results"]
    passed = {result["unique_id"] for result in results if result["status"] == "pass"}
    assert manifest["unit_tests"] and manifest["unit_tests"].keys() <= passed


def test_marts_read_no_landing_table_and_staging_reads_nothing_else_that_holds_values(manifest):
    for node in manifest["nodes"].values():
        parents = {name.split(".")[-1] for name in node["depends_on"].get("nodes", [])}
        if node["resource_type"] == "model" and node["schema"] == "marts":
            assert not [parent for parent in parents if parent.startswith("landing_") and parent != "landing_audit"]
        if node["resource_type"] == "model" and node["schema"] == "staging":
            allowed = {"live_batches", "newest_contents", "erased_customers", "countries", "order_statuses"}
            assert {parent for parent in parents if not parent.startswith("landing_")} <= allowed


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
