"""What runs when, and what depends on what, as Markdown: from the loaded definitions and dbt's manifest.

python boundary/graph.py [FILE]: prints it, and writes it to FILE.
"""

import json
import os
import runpy
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import yaml

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {
    "seeds": "#eeeeee",
    "landing": "#d7e3fc",
    "staging": "#fdf0d5",
    "cleanup_models": "#e4d7f5",
    "marts": "#dff5e1",
    "ops": "#f5d7d7",
}
RESUMES = {
    "FROM_ASSET_FAILURE": "with what failed and what depends on it",
    "FROM_FAILURE": "with the steps that failed",
    "ALL_STEPS": "with everything",
}


def table(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def named(counts: Counter) -> str:
    return ", ".join(f"{number} {kind}{'s' * (number > 1)}" for kind, number in counts.items())


def entry_points(repository: dg.RepositoryDefinition, manifest: dict, instance: dict) -> list[dict[str, str]]:
    """A row for each way in which a run begins."""
    limit = instance["concurrency"]["pools"]["default_limit"]
    hours = instance["run_monitoring"]["max_runtime_seconds"] / 3600
    kinds = {node["name"]: node["resource_type"] for node in manifest["nodes"].values()}
    told = [s.name.replace("_", " ") for s in repository.sensor_defs if isinstance(s, dg.RunStatusSensorDefinition)]
    alerts = " and once when it is ".join(told)
    rows = []
    for job in repository.get_all_jobs():
        if job.name.startswith("__"):
            continue  # Dagster's own, for a selection in its graph
        keys = job.asset_layer.executable_asset_keys
        built = Counter(kinds[key.path[-1]] for key in sorted(keys))
        tags = job.tags
        does = {
            "job": f"`{job.name}`",
            "builds": f"{named(built)}, with {len(repository.asset_graph.get_check_keys_for_assets(keys))} tests",
            "if it fails": (
                f"tried {tags['dagster/max_retries']} times more, {RESUMES[tags['dagster/retry_strategy']]}"
                if "dagster/max_retries" in tags
                else "stays failed"
            ),
            "pool": ", ".join(
                f"`{pool}`, {limit} at a time" for pool in sorted({node.definition.pool for node in job.nodes})
            ),
            "stopped after": f"{hours:g} h",
            "alerts": f"`ALERT_URL`, once when it is {alerts}" if alerts else "nobody",
        }
        starts = [("a person", "manual", "launched in Dagster, or `make run`", "first")]
        for schedule in repository.schedule_defs:
            if schedule.job_name == job.name:
                starts.append(
                    (
                        f"schedule `{schedule.name}`",
                        "automatic",
                        f"`{schedule.cron_schedule}` {schedule.execution_timezone or 'UTC'}",
                        "after people",
                    )
                )
        for sensor in repository.sensor_defs:
            if not isinstance(sensor, dg.RunStatusSensorDefinition) and sensor.job_name == job.name:
                seconds = sensor.minimum_interval_seconds
                starts.append((f"sensor `{sensor.name}`", "automatic", f"looks every {seconds} s", "after people"))
        rows += [
            {"started by": who, "kind": kind, "when": when, "in the queue": place, **does}
            for who, kind, when, place in starts
        ]
    return rows


def folder(node: dict) -> str:
    return node["config"]["meta"]["dagster"]["group"]


def models(manifest: dict) -> str:
    """A Mermaid graph of all that is built, coloured by folder."""
    built = {
        name: node
        for name, node in sorted(manifest["nodes"].items())
        if node["resource_type"] in ("model", "snapshot", "seed")
    }
    lines = ["flowchart LR"]
    for node in built.values():
        lines.append(f"    {node['name']}:::{folder(node)}")
    for node in built.values():
        parents = [built[parent]["name"] for parent in node["depends_on"].get("nodes", []) if parent in built]
        lines += [f"    {parent} --> {node['name']}" for parent in sorted(parents)]
    lines += [f"    classDef {name} fill:{colour},stroke:#666666,color:#000000" for name, colour in COLOURS.items()]
    return "\n".join(lines)


def overview(definitions: dict, instance: dict) -> str:
    manifest = json.loads(definitions["project"].manifest_path.read_text())
    rows = entry_points(definitions["defs"].get_repository_def(), manifest, instance)
    return f"""# What runs when

Written by `make graph` from the loaded definitions, `dagster.yaml` and dbt's manifest; a test fails when it is not what
they give, so that a change of orchestration shows here as a difference.

{table(rows)}

Every run of a job starts the same dbt command, and nobody can set anything. Plain `dbt build` does the same work. What
is automatic, and the alerts, are there only in a deployment with `AUTOMATIC_RUNS=on`, and there they are on.

```mermaid
{models(manifest)}
```

Colours are folders: {", ".join(COLOURS)}.
"""


if __name__ == "__main__":
    os.environ["AUTOMATIC_RUNS"] = "on"
    found = overview(
        runpy.run_path(str(ROOT / "orchestration" / "definitions.py")),
        yaml.safe_load((ROOT / "orchestration" / "dagster.yaml").read_text()),
    )
    print(found)
    for file in sys.argv[1:]:
        Path(file).write_text(found)
