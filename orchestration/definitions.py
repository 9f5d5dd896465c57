"""When, and in what order: what tables mean, and how they correct themselves, is dbt's."""

import hashlib
import multiprocessing
import os
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

project = DbtProject(
    project_dir=Path(__file__).resolve().parents[1],
    target_path=os.environ.get("DBT_TARGET_PATH", "target"),
)
# The process of a run is a child of the code server, which has prepared the manifest already.
if multiprocessing.parent_process() is None:
    project.prepare_if_dev()


@dbt_assets(manifest=project.manifest_path, pool="warehouse")
def warehouse(context: dg.AssetExecutionContext, dbt: DbtCliResource):
    # Unit tests are for changes of code, not for new data. One folder for what dbt writes: by default each run leaves
    # 12 MB in a new one.
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    build = dbt.cli(arguments, context=context, target_path=project.target_path / "dagster")
    try:
        yield from build.stream()
    finally:
        # A dbt that hangs does not heed the interrupt of its run, and would keep the warehouse from the retry.
        build.process.kill()


refresh = dg.define_asset_job(
    "refresh",
    selection=[warehouse],
    description="Everything that is new, from the landing folder to the marts.",
    # Nothing that whoever launches it could set.
    config=dg.ConfigMapping(config_fn=lambda _: {}, config_schema={}),
    tags={"dagster/max_retries": "2", "dagster/retry_strategy": "FROM_ASSET_FAILURE"},
)

nightly = dg.ScheduleDefinition(
    name="nightly",
    job=refresh,
    cron_schedule="0 3 * * *",
    execution_timezone="UTC",
    description="Refreshes once a night, whatever arrived.",
)


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=30,
    description="Refreshes when files have arrived, once for all that came since it last looked.",
)
def deliveries(context: dg.SensorEvaluationContext):
    landing = project.project_dir / (os.environ.get("LANDING_DIR") or "landing")
    seen = hashlib.sha256()
    for folder, folders, names in os.walk(landing):
        folders.sort()
        for name in sorted(names):
            # A writer renames its file when it is done.
            if not name.startswith((".", "_")) and not name.endswith((".tmp", ".part")):
                status = os.stat(os.path.join(folder, name))
                seen.update(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    if seen.hexdigest() == context.cursor:
        return dg.SkipReason("Nothing has arrived.")
    context.update_cursor(seen.hexdigest())
    return dg.RunRequest()


defs = dg.Definitions(
    assets=[warehouse],
    jobs=[refresh],
    schedules=[nightly],
    sensors=[deliveries],
    # By itself the resource lets a launch choose another target, profile or project.
    resources={"dbt": dg.ResourceDefinition(lambda _: DbtCliResource(project_dir=project), config_schema={})},
    executor=dg.in_process_executor,
)
