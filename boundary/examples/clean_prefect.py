"""What stays allowed, in Prefect: land what came, build with one command, say what happened."""

import os
import subprocess
from pathlib import Path

import httpx
from prefect import flow, get_run_logger, task
from prefect_dbt.cli.commands import DbtCoreOperation

TARGET = os.environ.get("DBT_TARGET", "dev")


@task(retries=3, retry_delay_seconds=60, timeout_seconds=600)
def land(url: str, folder: Path) -> Path:
    answer = httpx.get(url)
    answer.raise_for_status()
    path = folder / f"{answer.headers['etag']}.json"
    path.write_bytes(answer.content)
    get_run_logger().info("Landed %s; nothing to delete from the folder", path)
    return path


@task
def freshness():
    subprocess.run(["dbt", "source", "freshness", "--target", TARGET], check=True)


@task
def build():
    result = subprocess.run(["dbt", "build", "--target", TARGET], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"dbt build failed: {result.stdout}")


@flow(name="shop")
def shop(url: str = "https://example.org/orders.json"):
    land(url, Path("landing/orders"))
    freshness()
    build()


@flow(name="full_refresh_of_everything", description="Select it by hand from the list; it is not on a schedule.")
def docs():
    DbtCoreOperation(commands=["dbt deps", "dbt docs generate"], project_dir="shop", profiles_dir="shop").run()


if __name__ == "__main__":
    shop.serve(name="shop", cron="0 3 * * *")
