"""Dagster says when and in what order, and nothing else."""

import ast
import json
import re
import runpy
import shutil
import subprocess
import sys
import time
import tokenize
from pathlib import Path

import pytest
import yaml
from conftest import BUILD, JOB, ROOT, Platform, differences
from reference import Reference

FILES = sorted((ROOT / "orchestration").glob("**/*.py"))


@pytest.fixture
def instance(platform, monkeypatch) -> dict[str, str]:
    """An environment for Dagster, with a prepared manifest."""
    environment = platform.instance() | {"AUTOMATIC_RUNS": "on"}
    assert platform.dbt("parse").code == 0
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def definitions(instance, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "orchestration"))
    monkeypatch.delitem(sys.modules, "definitions", raising=False)
    import definitions

    return definitions


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Platform:
    """The sample, built by a run of the job."""
    platform = Platform(tmp_path_factory.mktemp("ran"))
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    assert platform.dbt("parse").code == 0
    run = subprocess.run(JOB, cwd=ROOT, env=platform.instance(), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    return platform


def code_lines(file: Path) -> set[int]:
    """The lines of a Python file that hold more than a comment or a docstring."""
    passive = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with open(file, "rb") as source:
        tokens = [token for token in tokenize.tokenize(source.readline) if token.type != tokenize.ENCODING]
    lines, previous = set(), tokenize.NEWLINE
    for token in tokens:
        is_docstring = token.type == tokenize.STRING and previous in (tokenize.NEWLINE, tokenize.INDENT)
        if token.type not in passive and not is_docstring:
            lines.update(range(token.start[0], token.end[0] + 1))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            previous = token.type
    return lines


def test_orchestration_is_small_and_names_nothing_of_the_models():
    assert sum(len(code_lines(file)) for file in FILES) <= 100
    assert {path.name for path in (ROOT / "orchestration").iterdir()} - {"__pycache__"} == {
        "definitions.py",
        "dagster.yaml",
        "GRAPH.md",
    }
    text = "\n".join(file.read_text() for file in FILES)
    models = [
        file.stem for folder in ("transform", "cleanup_models") for file in (ROOT / folder).glob("models/**/*.sql")
    ]
    for model in models:
        assert not re.search(rf"\b{model}\b", text), f"{model} is named in orchestration"
    assert not re.search(
        r"\b(select|insert|delete|update|create|drop|truncate)\b.*\b(from|into|table|set)\b", text, re.I
    )
    assert not re.search(r"--(vars|full-refresh|select|exclude(?!-resource-type)|target|event-time)", text)


def test_every_entry_point_runs_the_one_job(definitions):
    from dagster import RunStatusSensorDefinition

    repository = definitions.defs.get_repository_def()
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert [job.name for job in jobs] == ["refresh"]
    assert [schedule.job_name for schedule in repository.schedule_defs] == ["refresh"]
    starting = [sensor for sensor in repository.sensor_defs if not isinstance(sensor, RunStatusSensorDefinition)]
    assert [sensor.job_name for sensor in starting] == ["refresh"]
    assert jobs[0].partitions_def is None
    assert all(entry.description for entry in [*jobs, *repository.schedule_defs, *repository.sensor_defs])


def test_the_overview_is_what_the_definitions_and_the_manifest_give(definitions, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "boundary"))
    import graph

    instance = yaml.safe_load((ROOT / "orchestration" / "dagster.yaml").read_text())
    assert graph.overview(vars(definitions), instance) == (ROOT / "orchestration" / "GRAPH.md").read_text(), (
        "Run `make graph`, and look at what changed."
    )


def test_dbt_is_started_in_one_place_with_arguments_that_nothing_decides():
    trees = [ast.parse(file.read_text()) for file in FILES]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    [(function, start)] = [
        (function, node)
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cli"
    ]
    assert not [node for node in ast.walk(function) if isinstance(node, (ast.If, ast.IfExp, ast.Match, ast.BoolOp))]
    [value] = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.dump(node.targets[0]) == ast.dump(ast.Name("arguments", ast.Store()))
    ]
    assert tuple(ast.literal_eval(value)) == BUILD
    # Handed on as they are: nothing else touches them.
    assert ast.unparse(start.args[0]) == "arguments" and ast.unparse(function).count("arguments") == 2
    assert {option.arg for option in start.keywords} == {"context", "target_path"}


def test_the_dbt_project_is_one_set_of_assets(definitions):
    [assets] = set(definitions.defs.get_repository_def().assets_defs_by_key.values())
    nodes = json.loads(Path(definitions.project.manifest_path).read_text())["nodes"].values()
    built = {node["name"] for node in nodes if node["resource_type"] in ("model", "seed", "snapshot")}
    assert {key.path[-1] for key in assets.keys} == built


def settable(config_type, place: str = "") -> set[str]:
    """The places in a run config where a launch can set something."""
    fields = getattr(config_type, "fields", None)
    if fields is None:
        return {place}
    return {found for name, field in fields.items() for found in settable(field.config_type, f"{place}/{name}")}


def test_no_job_asset_or_resource_accepts_run_config(definitions):
    """Of what Dagster launches for a selection in the graph, its own executor, log and storage of values are left;
    the assets here hand on no values."""
    jobs = {job.name: job for job in definitions.defs.get_repository_def().get_all_jobs()}
    assert settable(jobs.pop("refresh").run_config_schema.config_type) == set()
    assert jobs.keys() == {"__ASSET_JOB"}
    own = ("/execution/", "/loggers/", "/resources/io_manager/")
    assert not [
        place for place in settable(jobs["__ASSET_JOB"].run_config_schema.config_type) if not place.startswith(own)
    ]


def test_a_retry_resumes_and_writers_queue_for_the_warehouse(definitions):
    job = definitions.defs.resolve_job_def("refresh")
    assert job.tags["dagster/max_retries"] == "2"
    assert job.tags["dagster/retry_strategy"] == "FROM_ASSET_FAILURE"
    assert {node.definition.pool for node in job.nodes} == {"warehouse"}

    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 0
        concurrency = instance.get_concurrency_config()
        assert concurrency.pool_config.default_pool_limit == 1
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled


def test_the_job_gives_what_plain_dbt_gives(ran):
    assert not differences(ran.tables(), Reference(ROOT / "seeds").build(ran.landing))


def test_dagster_knows_of_each_table_what_it_is_whose_it_is_and_what_is_in_it(ran, definitions, monkeypatch):
    from dagster import AssetKey, DagsterInstance

    monkeypatch.setenv("DAGSTER_HOME", str(ran.home / "dagster"))
    nodes = json.loads((ran.home / "target" / "manifest.json").read_text())["nodes"].values()
    [assets] = set(definitions.defs.get_repository_def().assets_defs_by_key.values())
    with DagsterInstance.get() as instance:
        for spec in assets.specs:
            [node] = [
                node for node in nodes if node["alias"] == spec.key.path[-1] and node["schema"] == spec.key.path[0]
            ]
            table = f'"{node["schema"]}"."{node["alias"]}"'
            assert node["description"] in spec.description
            assert spec.owners and spec.group_name
            metadata = instance.get_latest_materialization_event(spec.key).asset_materialization.metadata
            columns = {column.name: column for column in metadata["dagster/column_schema"].value.columns}
            described = ran.query(f"select column_name, lower(column_type) from (describe {table})")
            assert {name: column.type for name, column in columns.items()} == dict(described)
            assert all(column.description for name, column in columns.items() if name in node["columns"])
            if node["config"]["materialized"] != "view":
                [(rows,)] = ran.query(f"select count(*) from {table}")
                assert metadata["dbt"].value.split(", ")[0] == f"{rows} rows"
        newest = max(path.parent.name for path in ran.landing.glob("orders/2026-01-*/*"))
        orders = instance.get_latest_materialization_event(AssetKey(["marts", "fct_orders"])).asset_materialization
        assert f", newest delivery {newest}" in orders.metadata["dbt"].value


def test_the_sensor_asks_for_one_run_when_something_has_arrived_and_is_done(platform, definitions):
    from dagster import DagsterInstance, RunRequest, SkipReason, build_sensor_context

    def look(cursor):
        with DagsterInstance.ephemeral() as ephemeral:
            context = build_sensor_context(ephemeral, cursor=cursor)
            return definitions.deliveries(context), context.cursor

    platform.deliver("orders/2026-01-01/1.csv", "op\n")
    first, cursor = look(None)
    assert isinstance(first, RunRequest) and first.run_config == {} and first.tags == {"dagster/priority": "-1"}
    assert isinstance(look(cursor)[0], SkipReason)

    platform.deliver("orders/2026-01-01/2.csv.part", "op\n")
    assert isinstance(look(cursor)[0], SkipReason)
    (platform.landing / "orders/2026-01-01/2.csv.part").rename(platform.landing / "orders/2026-01-01/2.csv")
    platform.deliver("payments/2026-01-01/3.csv", "kind\n")
    second, cursor = look(cursor)
    assert isinstance(second, RunRequest)
    assert isinstance(look(cursor)[0], SkipReason)


def test_the_sensor_is_quiet_while_a_refresh_is_about_to_start_and_forgets_nothing(platform, definitions):
    from dagster import DagsterInstance, DagsterRunStatus, RunRequest, SkipReason, build_sensor_context

    platform.deliver("orders/2026-01-01/1.csv", "op\n")
    with DagsterInstance.ephemeral() as instance:
        # One in the queue is in test_incidents.py.
        for status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING):
            queued = instance.create_run_for_job(definitions.defs.resolve_job_def("refresh"), status=status)
            context = build_sensor_context(instance)
            assert isinstance(definitions.deliveries(context), SkipReason) and context.cursor is None
            instance.delete_run(queued.run_id)
        assert isinstance(definitions.deliveries(build_sensor_context(instance)), RunRequest)


def test_the_sensor_looks_at_100_000_files_within_a_few_seconds(platform, definitions):
    from dagster import DagsterInstance, RunRequest, build_sensor_context

    for day in range(100):
        folder = platform.landing / "orders" / f"2026-{day // 28 + 1:02}-{day % 28 + 1:02}"
        folder.mkdir(parents=True)
        for number in range(1000):
            (folder / f"{number}.csv").touch()
    with DagsterInstance.ephemeral() as instance:
        started = time.process_time()
        assert isinstance(definitions.deliveries(build_sensor_context(instance)), RunRequest)
        assert time.process_time() - started < 5


def test_where_the_deployment_does_not_say_so_nothing_starts_by_itself(instance, monkeypatch):
    monkeypatch.delenv("AUTOMATIC_RUNS")
    repository = runpy.run_path(str(ROOT / "orchestration" / "definitions.py"))["defs"].get_repository_def()
    assert [job.name for job in repository.get_all_jobs() if not job.name.startswith("__")] == ["refresh"]
    assert not repository.schedule_defs and not repository.sensor_defs
