"""Run by_hand.sql with the platform's settings: by_hand.py <landing folder> <file for the marts> <project>."""

import sys
from pathlib import Path

import duckdb
import yaml

landing, made, project = sys.argv[1:]
profile = yaml.safe_load((Path(project) / "profiles.yml").read_text())["shop"]["outputs"]["duckdb"]
options = {"threads": profile["threads"], **profile.get("config_options", {}), "temp_directory": f"{made}.tmp"}
with duckdb.connect(config=options) as connection:
    for name, value in profile["settings"].items():
        connection.execute(f"set {name} = '{value}'")
    for name, value in {"landing": landing, "seeds": f"{project}/seeds"}.items():
        connection.execute(f"set variable {name} = '{value}'")
    connection.execute(f"attach '{made}' as made")
    connection.execute(Path(__file__).with_suffix(".sql").read_text())
