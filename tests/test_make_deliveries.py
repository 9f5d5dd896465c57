"""The script that makes deliveries in any volume: the same bytes each time, with all that the platform is for."""

import subprocess
import sys

from conftest import ROOT, differences
from reference import Reference

SCRIPT = [sys.executable, "seeds/make_deliveries.py"]


def make(out, *options):
    return subprocess.run([*SCRIPT, "--out", out, *options], cwd=ROOT, capture_output=True, text=True)


def test_its_deliveries_are_built_as_the_contract_says(platform, tmp_path):
    platform.landing.rmdir()
    for out in (platform.landing, tmp_path / "again"):
        made = make(out, "--days", "4", "--orders", "2000")
        assert made.returncode == 0, made.stderr
    files = {path.relative_to(platform.landing): path.read_bytes() for path in platform.landing.glob("**/*.*")}
    assert files == {path.relative_to(tmp_path / "again"): path.read_bytes() for path in tmp_path.glob("again/**/*.*")}
    platform.build()
    tables = platform.tables()
    assert not differences(tables, Reference(ROOT / "seeds").build(platform.landing))
    assert len(tables["fct_orders"]) > 1000 and tables["quarantine"] and tables["fct_payments"]


def test_it_never_writes_into_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    made = make(tmp_path)
    assert made.returncode == 1
    assert len(made.stderr.strip().splitlines()) == 1 and str(tmp_path) in made.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
