"""The check of orchestration code finds what it says, is silent on what stays allowed, and can be lived with."""

import json
import os
import re
import subprocess
import sys
import sysconfig

import pytest
import yaml
from conftest import ROOT

BOUNDARY = ROOT / "boundary"
RULES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((BOUNDARY / "rules").glob("*.yml"))}
SQL = 'import dagster\nquery = "select * from orders"'


def run(*arguments, code=0):
    command = [sys.executable, "-m", "boundary", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran


def found(*arguments, code=0):
    return json.loads(run("--format", "json", *arguments, code=code).stdout)


@pytest.fixture
def module(tmp_path):
    def write(text, name="module.py"):
        file = tmp_path / name
        file.write_text(text + "\n")
        return file

    return write


def test_this_platforms_orchestration_keeps_the_boundary():
    assert "errors 0, warnings 0, in the baseline 0, suppressed 0" in run("orchestration").stdout


def test_every_rule_is_right_about_its_red_and_green_cases():
    for rule in RULES:
        cases = yaml.safe_load((BOUNDARY / "tests" / f"{rule}-test.yml").read_text())
        assert cases["id"] == rule and cases["invalid"] and cases["valid"]
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    # Without snapshots: what is valid and what is not is asserted, not how the report looks.
    ran = subprocess.run(
        ["ast-grep", "test", "--skip-snapshot-tests"],
        cwd=BOUNDARY,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0 and f"{len(RULES)} passed; 0 failed" in ran.stdout, ran.stdout + ran.stderr


def test_every_rule_fires_on_the_fat_module():
    assert {finding["ruleId"] for finding in found("boundary/examples/fat.py", code=1)} == set(RULES)


@pytest.mark.parametrize("example", sorted((BOUNDARY / "examples").glob("clean_*.py")), ids=lambda file: file.stem)
def test_what_stays_allowed_is_silent(example):
    assert found(example) == []


def test_before_is_found_by_its_rule_and_after_by_none(tmp_path):
    for rule, text in RULES.items():
        for moment in ("before", "after"):
            (tmp_path / f"{rule}.{moment}.py").write_text(f"import dagster as dg\n{text['metadata'][moment]}")
        if text["metadata"]["after"].startswith(("--", "# dbt_project.yml\nmodels")):
            (tmp_path / f"{rule}.after.py").unlink()
    findings = [(finding["file"].split("/")[-1], finding["ruleId"]) for finding in found(tmp_path, code=1)]
    assert {(f"{rule}.before.py", rule) for rule in RULES} <= set(findings)
    # The warning's own remedy is to keep it, and the suppression's is to say why.
    assert [finding for finding in findings if ".after." in finding[0]] == []


def test_every_rule_names_its_problem_in_one_sentence_and_says_why_where_and_how():
    for rule, text in RULES.items():
        assert text["id"] == rule
        assert text["message"].endswith(".") and ". " not in text["message"], rule
        assert re.match(r"Why: .+\nWhere: .+\nHow: .+", text["note"], re.DOTALL), rule


def test_the_readme_says_what_the_rules_say():
    sys.path.insert(0, str(BOUNDARY))
    import catalogue

    assert catalogue.written(catalogue.README.read_text()) == catalogue.README.read_text(), (
        "Run `python boundary/catalogue.py`."
    )


def test_a_finding_has_a_place_a_rule_a_sentence_and_where_it_belongs(module):
    file = module(SQL)
    first, second, summary = run(file, code=1).stdout.splitlines()
    assert first.startswith(f"{file}:2:9: error[sql-text]: SQL is written in orchestration")
    assert second.strip().startswith("belongs in: a model of the dbt project")
    assert summary.startswith("boundary: errors 1, warnings 0")


def test_a_warning_does_not_fail(module):
    assert [one["severity"] for one in found(module('import dagster\ndbt.cli(["build", "--full-refresh"])'))] == [
        "warning"
    ]


def test_a_suppression_with_a_reason_is_heeded_and_counted(module):
    file = module(SQL + "  # ast-grep-ignore: sql-text -- the vendor reads this view")
    assert "errors 0, warnings 0, in the baseline 0, suppressed 1" in run(file).stdout


@pytest.mark.parametrize(
    "text",
    [
        SQL + "  # ast-grep-ignore: sql-text",
        SQL + "  # ast-grep-ignore",
        "# ast-grep-ignore\n\n" + SQL,
        SQL + "  # ast-grep-ignore: sql-text, suppression-without-reason",
    ],
    ids=["names a rule", "names none", "hides the file", "hides itself"],
)
@pytest.mark.parametrize("style", ["json", "sarif"])
def test_a_suppression_without_a_reason_is_a_finding(module, text, style):
    assert "suppression-without-reason" in run("--format", style, module(text), code=1).stdout


def test_a_baseline_lets_what_was_there_pass_and_nothing_new(module, tmp_path):
    file, baseline = module(SQL), tmp_path / "boundary.json"
    run("--write-baseline", baseline, tmp_path)
    assert "errors 0, warnings 0, in the baseline 1" in run("--baseline", baseline, tmp_path).stdout
    file.write_text("# a line above\n" + file.read_text())
    assert found("--baseline", baseline, tmp_path) == []
    file.write_text(file.read_text() * 2)
    assert len(found("--baseline", baseline, tmp_path, code=1)) == 1
    sarif = json.loads(run("--format", "sarif", "--baseline", baseline, tmp_path, code=1).stdout)
    assert len(sarif["runs"][0]["results"]) == 1


def test_formats_for_a_pull_request_and_for_tools(module):
    file = module(SQL)
    annotation = run("--format", "github", file, code=1).stdout
    assert annotation.startswith(f"::error file={file},line=2,endLine=2,title=sql-text::")
    sarif = json.loads(run("--format", "sarif", file, code=1).stdout)
    assert sarif["version"] == "2.1.0" and sarif["runs"][0]["results"][0]["ruleId"] == "sql-text"


def test_only_orchestration_code_is_looked_at(module, tmp_path):
    module('import pandas as pd\nframe = pd.read_csv("a.csv").groupby("a").sum()', "library.py")
    module("import pytest\n" + SQL, "test_orders.py")
    assert found(tmp_path) == []


def test_a_path_that_is_not_there_is_said():
    assert "nowhere is not there" in run("nowhere", code=1).stderr


def test_the_package_holds_what_it_needs():
    package = (BOUNDARY / "pyproject.toml").read_text()
    for name in re.findall(r'"([^"]+)"', re.search(r"^include = \[(.*)\]", package, re.MULTILINE)[1]):
        assert (BOUNDARY / name).exists()
