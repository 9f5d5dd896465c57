"""What the benchmark measures the platform against has to do the same work."""

import subprocess
import sys

from conftest import ROOT, differences
from reference import Reference


def test_the_marts_by_hand_are_those_of_the_contract(platform):
    made = platform.home / "by_hand.db"
    volume = ("--days", "8", "--orders", "1000", "--customers", "1500")
    for command in (
        ["seeds/make_deliveries.py", "--out", platform.landing, *volume],
        ["bench/by_hand.py", platform.landing, made, ROOT],
    ):
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    tables = platform.tables(made)
    assert not differences(tables, Reference(ROOT / "seeds").build(platform.landing))
    reasons = {row["reasons"] for row in tables["quarantine"].values()}
    assert {"malformed_line", "bad_amount", "bad_timestamp", "unknown_country", "missing_reference"} <= reasons
