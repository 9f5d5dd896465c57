"""What stays allowed, in Dagster: when, in what order, where, and what to do when it fails.

A docstring may say: select * from orders; delete from orders; drop table orders.
"""

import os
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, build_dbt_asset_selection, dbt_assets
from dagster_duckdb import DuckDBResource

TARGETS = {"local": "dev", "staging": "staging", "production": "prod"}
target = TARGETS[os.getenv("DEPLOYMENT", "local")]
resources = {
    "warehouse": DuckDBResource(database=dg.EnvVar("WAREHOUSE_PATH")),
    "alerts": dg.ResourceDefinition.none_resource(),
}
projects = {}

# One asset set for each manifest: select name from projects is not SQL.
for folder in sorted(Path("projects").iterdir()):
    project = DbtProject(project_dir=folder, target=target)
    project.prepare_if_dev()
    projects[folder.name] = project


def asset_set(project: DbtProject):
    @dbt_assets(manifest=project.manifest_path, project=project, pool="warehouse", name=project.name)
    def models(context: dg.AssetExecutionContext, dbt: DbtCliResource):
        yield from dbt.cli(["build"], context=context).stream()

    return models


asset_sets = [asset_set(project) for project in projects.values()]

hourly = dg.define_asset_job(
    "hourly",
    selection=build_dbt_asset_selection(asset_sets, dbt_select="tag:hourly"),
    tags={"dagster/max_retries": "2", "dagster/concurrency_key": "warehouse"},
)
full_refresh = dg.define_asset_job(
    "full_refresh",
    selection=dg.AssetSelection.groups("finance"),
    description="Started by a person. Does not delete from or truncate anything by itself.",
)


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=3, delay=60))
def exchange_rates(context: dg.AssetExecutionContext, rates_api: dg.ResourceParam[object]):
    answer = rates_api.get("/latest")
    if answer.status_code != 200:
        raise dg.Failure("The rates API did not answer; nothing was deleted from the landing folder.")
    path = Path("landing/rates") / f"{context.run.run_id}.json"
    path.write_text(answer.text)
    return dg.MaterializeResult(metadata={"bytes": len(answer.text)})


@dg.asset
def published(warehouse: DuckDBResource, publisher: dg.ResourceParam[object]):
    publisher.publish(warehouse)


@dg.op
def freshness(dbt: DbtCliResource):
    dbt.cli(["source", "freshness"]).wait()


@dg.job
def check_freshness():
    freshness()


@dg.sensor(job=hourly, minimum_interval_seconds=60)
def arrivals(context: dg.SensorEvaluationContext):
    newest = max((file.stat().st_mtime for file in Path("landing").rglob("*.csv")), default=0)
    if newest <= float(context.cursor or 0):
        return dg.SkipReason("Nothing has arrived.")
    context.update_cursor(str(newest))
    return dg.RunRequest(run_key=str(newest))


@dg.run_failure_sensor
def tell(context: dg.RunFailureSensorContext):
    text = f"{context.dagster_run.job_name} failed: could not delete from orders, update it by hand"
    context.resources.alerts.send(text)


@dg.schedule(job=hourly, cron_schedule="0 * * * *")
def working_hours(context: dg.ScheduleEvaluationContext):
    if context.scheduled_execution_time.weekday() > 4:
        return dg.SkipReason("No deliveries at the weekend.")
    return dg.RunRequest()


schedules = [working_hours] if os.getenv("DEPLOYMENT") == "production" else []

defs = dg.Definitions(
    assets=[*asset_sets, exchange_rates, published],
    jobs=[hourly, full_refresh, check_freshness],
    schedules=schedules,
    sensors=[arrivals, tell],
    resources=resources | {"dbt": DbtCliResource(project_dir=next(iter(projects.values())))},
)
