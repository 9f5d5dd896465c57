"""boundary PATH ...: the linter with its rules, a baseline, and a count of what is suppressed.

ast-grep finds; this only leaves out what the baseline knows and says the rest in one line each.
"""

import argparse
import collections
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = sorted(file.stem for file in (HERE / "rules").glob("*.yml"))


def ast_grep(*arguments: str, stdin: str | None = None) -> list[str]:
    # An environment that is not activated has the linter beside its Python.
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    linter = shutil.which("ast-grep", path=places)
    if not linter:
        sys.exit("boundary: ast-grep is not there; `pip install ast-grep-cli`.")
    ran = subprocess.run([linter, *arguments], input=stdin, capture_output=True, text=True, encoding="utf-8")
    # 1 says that something was found, and also that the linter could not start.
    if ran.returncode not in (0, 1) or "Cannot" in ran.stderr:
        sys.exit(f"boundary: {ran.stderr.strip()}")
    return ran.stdout.splitlines()


def scan(paths: list[str], style: str) -> list[str]:
    # A suppression of another set of rules suppresses nothing here.
    return ast_grep("scan", "--config", str(HERE / "sgconfig.yml"), "--off=unused-suppression", style, *paths)


def suppressions(paths: list[str]) -> list[dict]:
    """The comments that switch one of these rules off, or all."""
    comments = [
        json.loads(line) for line in ast_grep("run", "--lang=python", "--kind=comment", "--json=stream", *paths)
    ]
    ours = re.compile(r"#\s*ast-grep-ignore(-\w+)?(\s*$|:.*\b(" + "|".join(RULES) + r")\b)")
    return [comment for comment in comments if ours.match(comment["text"])]


def without_reason(comments: list[dict]) -> list[dict]:
    """Findings for suppressions without a reason, also for those that hide themselves from the linter."""
    # Each for itself, where nothing else is on its line or below it.
    alone = "pass\n" + "".join(f"\n{comment['text']}\n" for comment in comments)
    rule = HERE / "rules" / "suppression-without-reason.yml"
    found = [json.loads(line) for line in ast_grep("scan", "--stdin", f"--rule={rule}", "--json=stream", stdin=alone)]
    return [finding | comments[finding["range"]["start"]["line"] // 2 - 1] for finding in found]


class Baseline:
    """What was there on the first day. A finding is known by its file, rule and text: lines may move."""

    def __init__(self, file: Path | None):
        self.home = file.resolve().parent if file else Path.cwd()
        self.left = collections.Counter(json.loads(file.read_text())["findings"] if file else {})

    def key(self, path: str, rule: str, text: str) -> str:
        place = Path(os.path.relpath(Path(path).resolve(), self.home)).as_posix()
        return f"{place} {rule} {hashlib.sha256(' '.join(text.split()).encode()).hexdigest()[:12]}"

    def knows(self, path: str, rule: str, text: str) -> bool:
        key = self.key(path, rule, text)
        self.left[key] -= 1
        return self.left[key] >= 0


def write_baseline(file: Path, findings: list[dict]) -> None:
    baseline = Baseline(None)
    baseline.home = file.resolve().parent
    keys = collections.Counter(baseline.key(found["file"], found["ruleId"], found["text"]) for found in findings)
    file.write_text(json.dumps({"findings": dict(sorted(keys.items()))}, indent=1) + "\n")
    print(f"{len(findings)} findings are the baseline in {file}; only new ones are reported with --baseline {file}.")


def as_text(found: dict) -> str:
    start = found["range"]["start"]
    where = re.search(r"^Where: (.*?)\n(?=\w+: |\Z)", found["note"], re.MULTILINE | re.DOTALL)
    belongs = " ".join(where[1].split()) if where else ""
    place = f"{found['file']}:{start['line'] + 1}:{start['column'] + 1}"
    return f"{place}: {found['severity']}[{found['ruleId']}]: {found['message']}\n    belongs in: {belongs}"


def as_github(found: dict) -> str:
    start, end = found["range"]["start"]["line"] + 1, found["range"]["end"]["line"] + 1
    level = "error" if found["severity"] == "error" else "warning"
    return f"::{level} file={found['file']},line={start},endLine={end},title={found['ruleId']}::{found['message']}"


def as_sarif(paths: list[str], new: list[dict]) -> dict:
    """The linter's own report, with the new findings alone."""
    report = json.loads("\n".join(scan(paths, "--format=sarif")))
    left = {(found["file"], found["ruleId"], found["range"]["byteOffset"]["start"]): found for found in new}
    for run in report["runs"]:
        kept = []
        for result in run.get("results", []):
            place = result["locations"][0]["physicalLocation"]
            key = (place["artifactLocation"]["uri"], result["ruleId"], place["region"]["byteOffset"])
            if left.pop(key, None):
                kept.append(result)
        run["results"] = kept
    for found in left.values():  # suppressions that the linter did not see
        region = {"startLine": found["range"]["start"]["line"] + 1, "endLine": found["range"]["end"]["line"] + 1}
        location = {"physicalLocation": {"artifactLocation": {"uri": found["file"]}, "region": region}}
        result = {"level": "error", "ruleId": found["ruleId"], "message": {"text": found["message"]}}
        report["runs"][0]["results"].append(result | {"locations": [location]})
    return report


def main() -> None:
    parser = argparse.ArgumentParser("boundary", description="Where has orchestration become the home of meaning?")
    parser.add_argument("paths", nargs="*", default=["."], metavar="PATH")
    parser.add_argument("--format", choices=["text", "github", "sarif", "json"], default="text")
    parser.add_argument("--baseline", type=Path, help="report only what this file does not know")
    parser.add_argument("--write-baseline", type=Path, metavar="FILE", help="make what is there now the baseline")
    options = parser.parse_args()
    if missing := [path for path in options.paths if not os.path.exists(path)]:
        sys.exit(f"boundary: {missing[0]} is not there.")

    suppressed = suppressions(options.paths)
    findings = [json.loads(line) for line in scan(options.paths, "--json=stream")]
    findings = [found for found in findings if found["ruleId"] != "suppression-without-reason"]
    findings += without_reason(suppressed)
    findings.sort(key=lambda found: (found["file"], found["range"]["byteOffset"]["start"], found["ruleId"]))
    if options.write_baseline:
        return write_baseline(options.write_baseline, findings)
    baseline = Baseline(options.baseline)
    new = [found for found in findings if not baseline.knows(found["file"], found["ruleId"], found["text"])]

    if options.format == "sarif":
        print(json.dumps(as_sarif(options.paths, new), indent=1))
    elif options.format == "json":
        print(json.dumps(new, indent=1))
    else:
        for found in new:
            print(as_text(found) if options.format == "text" else as_github(found))
    severities = collections.Counter(found["severity"] for found in new)
    print(
        f"boundary: errors {severities['error']}, warnings {severities['warning']}, "
        f"in the baseline {len(findings) - len(new)}, suppressed {len(suppressed)}",
        file=sys.stdout if options.format == "text" else sys.stderr,
    )
    sys.exit(1 if severities["error"] else 0)


if __name__ == "__main__":
    main()
