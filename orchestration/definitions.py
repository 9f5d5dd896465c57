"""When, and in what order: what tables mean, and how they correct themselves, is dbt's."""

import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import apprise
import dagster as dg
from dagster import DagsterRunStatus as Status
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject, dbt_assets

project = DbtProject(
    project_dir=Path(__file__).resolve().parents[1],
    target_path=os.environ.get("DBT_TARGET_PATH", "target"),
)
# The process of a run is a child of the code server, which has prepared the manifest already.
if multiprocessing.parent_process() is None:
    project.prepare_if_dev()


def why(run_id: str, otherwise: str) -> str:
    """What `make why` says of a run, where it knows of it."""
    command = [sys.executable, "transform/macros/engine/why.py", "--run", run_id]
    return subprocess.run(command, cwd=project.project_dir, capture_output=True, text=True).stdout or otherwise


# Tests of sources (that they are on time) are checks too.
translator = DagsterDbtTranslator(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))


@dbt_assets(manifest=project.manifest_path, dagster_dbt_translator=translator, pool="warehouse")
def warehouse(context: dg.AssetExecutionContext, dbt: DbtCliResource):
    # Unit tests are for changes of code, not for new data. One folder for what dbt writes: by default each run leaves
    # 12 MB in a new one.
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    # Who started it, and which attempt it is: for dbt's record of the build, which no table is computed from.
    os.environ["DBT_ENV_CUSTOM_ENV_DAGSTER_RUN"] = json.dumps({"run_id": context.run_id, **context.run.tags})
    build = dbt.cli(arguments, context=context, target_path=project.target_path / "dagster")
    try:
        for message in build.stream_raw_events():
            data = message.raw_event["data"]
            for event in message.to_default_asset_events(build.manifest, translator, context, project=project):
                # Of a table how many rows it has and how new they are; of a test how it went.
                yield event.with_metadata({**event.metadata, "dbt": data.get("result_message", data["status"])})
    except Exception as error:
        raise dg.Failure(reason := why(context.run_id, str(error)), {"why": reason}) from error
    finally:
        # A dbt that hangs does not heed the interrupt of its run, and would keep the warehouse from the retry.
        build.process.kill()


refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(warehouse) | dg.AssetSelection.checks(*warehouse.check_keys),
    description="Everything that is new, from the landing folder to the marts.",
    # Nothing that whoever launches it could set.
    config=dg.ConfigMapping(config_fn=lambda _: {}, config_schema={}),
    tags={"dagster/max_retries": "2", "dagster/retry_strategy": "FROM_ASSET_FAILURE"},
)

# A writer renames its file when it is done.
UNFINISHED = re.compile(r"^[._]|\.(tmp|part)$")

# A person who launches a run does not wait behind those that start by themselves.
BEHIND_PEOPLE = {"dagster/priority": "-1"}

nightly = dg.ScheduleDefinition(
    name="nightly",
    job=refresh,
    cron_schedule="0 3 * * *",
    description="Refreshes once a night, whatever arrived.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=BEHIND_PEOPLE,
)


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=30,
    description="Refreshes when files have arrived, once for all that came since it last looked.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def deliveries(context: dg.SensorEvaluationContext):
    about_to_start = dg.RunsFilter(job_name="refresh", statuses=[Status.QUEUED, Status.NOT_STARTED, Status.STARTING])
    if context.instance.get_runs_count(about_to_start):
        return dg.SkipReason("The refresh that is about to start takes all that has arrived.")
    walk = os.walk(project.project_dir / (os.environ.get("LANDING_DIR") or "landing"))
    files = (f"{folder}/{name}" for folder, _, names in walk for name in names if not UNFINISHED.search(name))
    seen = sorted(f"{file} {(status := os.stat(file)).st_size} {status.st_mtime_ns}" for file in files)
    cursor = hashlib.sha256("\n".join(seen).encode(errors="replace")).hexdigest()
    if cursor == context.cursor:
        return dg.SkipReason("Nothing has arrived.")
    context.update_cursor(cursor)
    return dg.RunRequest(tags=BEHIND_PEOPLE)


# One message when runs of a job come to a status after they had the other one: trying again adds none.
def alert(name: str, status: Status) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        status,
        name=name,
        description="Tells ALERT_URL, in the words of `make why`; once for an incident, whatever is tried again.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def tell(context: dg.RunStatusSensorContext):
        run = context.dagster_run
        ended = dg.RunsFilter(job_name=run.job_name, statuses=[Status.SUCCESS, Status.FAILURE])
        before = context.instance.get_runs(ended, cursor=run.run_id, limit=1)
        if status != (before[0].status if before else Status.SUCCESS):
            title, text = f"{run.job_name}: {name}", why(run.run_id, context.dagster_event.message)
            context.log.info(f"{title}\n{text}")
            if (url := os.environ.get("ALERT_URL")) and not apprise.Apprise(url).notify(text, title):
                raise dg.Failure(f"ALERT_URL does not take the message: {title}")

    return tell


sensors = [deliveries, alert("failing", Status.FAILURE), alert("working_again", Status.SUCCESS)]
# Where a deployment does not say so, nothing is there that starts by itself.
is_automatic = os.environ.get("AUTOMATIC_RUNS") == "on"

defs = dg.Definitions(
    assets=[warehouse],
    jobs=[refresh],
    schedules=[nightly] if is_automatic else [],
    sensors=sensors if is_automatic else [],
    # By itself the resource lets a launch choose another target, profile or project.
    resources={"dbt": dg.ResourceDefinition(lambda _: DbtCliResource(project_dir=project), config_schema={})},
    executor=dg.in_process_executor,
)
