"""Prints the newest incident (transform/models/ops/incidents.sql): python why.py [--run ID] [--json]

The warehouse knows best. While somebody has it open, what the last build laid beside it has to do, and what that cannot
know is said. Builds that could not open the warehouse are in a file beside it too, until the next one records them.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import duckdb


def beside(warehouse: Path, name: str) -> Path:
    return Path(f"{str(warehouse).removesuffix('.duckdb')}_{name}.json")


def recorded(warehouse: Path) -> tuple[list[dict], str]:
    """The incidents, newest first, and what could not be seen."""
    query = "select to_json(list(incidents order by incident_no desc)) from ops.incidents as incidents"
    try:
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            return json.loads(connection.sql(query).fetchone()[0] or "[]"), ""
    except duckdb.CatalogException:
        return [], "No build has got as far as recording itself yet."
    except duckdb.Error as error:
        holder = re.search(r"held in (.*? \(PID \d+\))", str(error))
        problem = f"is in use by {holder[1]}" if holder else f"cannot be opened: {str(error).splitlines()[0]}"
    laid_out = beside(warehouse, "incidents")
    incidents = json.loads(laid_out.read_text()) if laid_out.exists() else []
    return incidents, f"Not seen: what happened since the last build ended. {warehouse} {problem}."


def unopened(warehouse: Path) -> list[dict]:
    """Builds that could not open the warehouse, and are not in it yet, newest first."""
    file = beside(warehouse, "unopened")
    builds = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [
        {
            "began_at": build["began_at"],
            "over_at": None,
            "node": "opening_the_warehouse",
            "cause": "environment",
            "runs": json.loads(build["run"]).get("run_id"),
            "explanation": (
                f"No build could begin at {build['began_at'][:19]} UTC.\n  Why:   environment. {build['message']}"
            ),
        }
        for build in reversed(builds)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", default="")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warehouse = Path(os.environ.get("WAREHOUSE_PATH") or "warehouse.duckdb")
    if not warehouse.exists():
        sys.exit(f"{warehouse} is not there yet: `make run` makes it.")
    incidents, not_seen = recorded(warehouse)
    found = [incident for incident in unopened(warehouse) + incidents if arguments.run in (incident["runs"] or "")]
    if arguments.json:
        print(json.dumps({"incidents": found, "not_seen": not_seen}, indent=2))
        return
    if found:
        print(found[0]["explanation"])
    elif arguments.run:
        sys.exit(f"No incident of run {arguments.run} is known. {not_seen}")
    else:
        print("Nothing has failed.")
    if not_seen:
        print(not_seen)


if __name__ == "__main__":
    main()
