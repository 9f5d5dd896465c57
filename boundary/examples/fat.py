"""A step that has become the home of meaning: every rule of the boundary fires in this file, on purpose.

It is read by the linter and never run.
"""

import json
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
from airflow.operators.bash import BashOperator
from airflow.operators.python import BranchPythonOperator
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets

CORE_MODELS = ["stg_orders", "fct_orders", "dim_customers"]


class BuildConfig(dg.Config):
    full_refresh: bool = False
    region: str = "eu"


class ByName(DagsterDbtTranslator):
    def get_group_name(self, dbt_resource_props):
        if dbt_resource_props["name"].startswith("fct_"):
            return "finance"
        return "other"


@dbt_assets(manifest="target/manifest.json", select="stg_orders fct_orders", dagster_dbt_translator=ByName())
def orders(context: dg.AssetExecutionContext, dbt: DbtCliResource, config: BuildConfig):
    since = context.partition_time_window.start - timedelta(days=3)
    arguments = ["build", "--vars", json.dumps({"since": str(since)})]
    if config.full_refresh:
        arguments.append("--full-refresh")
    try:
        yield from dbt.cli(arguments, context=context).stream()
    except Exception:
        yield from dbt.cli(["build", "--full-refresh"], context=context).stream()


@dg.asset
def revenue(context: dg.AssetExecutionContext, config: BuildConfig):
    warehouse = duckdb.connect("warehouse.duckdb")
    warehouse.execute("delete from revenue where day >= current_date - 3")
    frame = warehouse.execute(Path("sql/revenue.sql").read_text()).df()
    paid = frame.merge(warehouse.sql("select id, region from customers").df(), on="id").groupby("region").sum()
    paid["net"] = paid["gross"] / 1.19
    if config.region == "eu":
        paid = paid.round(2)
    if context.has_partition_key:
        paid = paid.tail(1)
    if datetime.now().weekday() == 0:
        paid = paid.head(1000)
    if context.resources.settings.environment == "prod":
        paid = paid.nlargest(100, "net")
    rows = warehouse.execute("select count(*) from revenue").fetchone()
    if rows[0] == 0:
        paid.to_parquet("revenue.parquet")
    warehouse.drop_table("revenue_old")


def rebuild(model: str):
    subprocess.run(["dbt", "run", "--select", model], check=True)


rebuild_all = BashOperator(task_id="rebuild_all", bash_command="dbt build --full-refresh")
daily = BashOperator(task_id="daily", bash_command="dbt build --vars '{day: {{ ds }}}'")
weekly = BashOperator(task_id="weekly", bash_command="if [ $(date +%u) = 1 ]; then dbt build; else dbt test; fi")
choose = BranchPythonOperator(task_id="choose", python_callable=lambda: "daily")
load = SQLExecuteQueryOperator(task_id="load", conn_id="warehouse", sql="insert into orders select * from landing")
count = BashOperator(task_id="count", bash_command='psql -c "select 1 from orders"')
drop_day = BashOperator(task_id="drop_day", bash_command="rm -rf /warehouse/orders/dt={{ ds }}")
purge = BashOperator(task_id="purge", bash_command="dbt run-operation purge_old_orders")
quiet = pd.read_sql("select 1", load)  # ast-grep-ignore: sql-text, warehouse-query
