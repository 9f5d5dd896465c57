"""Writes the parts of README.md that the rules themselves say: `python boundary/catalogue.py`."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
FAMILIES = [
    "SQL",
    "transformation",
    "cleanup",
    "hidden branching",
    "semantic arguments",
    "direct access",
    "ownership",
    "suppressions",
]


def rules() -> list[dict]:
    found = [yaml.safe_load(file.read_text()) for file in sorted((HERE / "rules").glob("*.yml"))]
    return sorted(found, key=lambda rule: FAMILIES.index(rule["metadata"]["family"]))


def language(code: str) -> str:
    if code.startswith("# dbt_project.yml\n"):
        return "yaml"
    return "sql" if code.startswith("--") else "python"


def catalogue() -> str:
    text, family = "", None
    for rule in rules():
        if rule["metadata"]["family"] != family:
            family = rule["metadata"]["family"]
            text += f"### {family[0].upper()}{family[1:]}\n\n"
        why, where, how = re.match(r"Why: (.*)\nWhere: (.*)\nHow: (.*)", rule["note"].strip(), re.DOTALL).groups()
        text += f"#### {rule['id']}\n\n{rule['message']}{' A warning.' if rule['severity'] == 'warning' else ''}\n\n"
        text += (
            f"- Why: {' '.join(why.split())}\n- Where: {' '.join(where.split())}\n- How: {' '.join(how.split())}\n\n"
        )
        for moment in ("before", "after"):
            code = rule["metadata"][moment]
            text += f"{moment.title()}:\n\n```{language(code)}\n{code}```\n\n"
    return text


def output() -> str:
    command = [sys.executable, "-m", "boundary", "boundary/examples/fat.py"]
    return f"```\n{subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True).stdout}```\n\n"


def written(readme: str) -> str:
    for name, text in (("catalogue", catalogue()), ("output", output())):
        marked = rf"(<!-- {name} -->\n\n).*?(<!-- end of {name} -->)"
        readme = re.sub(marked, lambda match, text=text: match[1] + text + match[2], readme, flags=re.DOTALL)
    return readme


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
