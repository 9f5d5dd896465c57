"""What stays allowed, in Airflow: constant commands, a target for each deployment, waits, retries, alerts."""

import os
from datetime import datetime, timedelta

import requests
from airflow import DAG
from airflow.models import Variable
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.slack.operators.slack import SlackAPIPostOperator
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

TARGET = os.getenv("DBT_TARGET", "dev")
PROJECT = "/opt/dbt/shop"
DBT = f"dbt --no-use-colors {{command}} --project-dir {PROJECT} --profiles-dir {PROJECT} --target {TARGET}"
BUCKET = "shop-landing" if TARGET == "prod" else "shop-landing-dev"


def land_orders(ds: str):
    """Write what the API returned, as it came."""
    answer = requests.get(Variable.get("orders_url"), params={"day": ds}, timeout=60)
    answer.raise_for_status()
    S3Hook("aws").load_string(answer.text, key=f"orders/{ds}/orders.json", bucket_name=BUCKET, replace=True)


with DAG(
    "shop",
    schedule="0 3 * * *",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "execution_timeout": timedelta(hours=1)},
) as dag:
    start = EmptyOperator(task_id="start")
    land = PythonOperator(task_id="land_orders", python_callable=land_orders)
    arrived = S3KeySensor(task_id="arrived", bucket_name=BUCKET, bucket_key="orders/{{ ds }}/orders.json")
    freshness = BashOperator(
        task_id="freshness", bash_command=f"cd {PROJECT} && dbt source freshness --target {TARGET}"
    )
    build = BashOperator(
        task_id="build", bash_command=f"dbt build --project-dir {PROJECT} --target {TARGET}", pool="dbt"
    )
    test = BashOperator(task_id="test", bash_command="cd /opt/dbt/shop && dbt deps && dbt test --select tag:nightly")
    marts = DbtTaskGroup(
        group_id="marts",
        project_config=ProjectConfig(PROJECT),
        profile_config=ProfileConfig(
            profile_name="shop", target_name=TARGET, profiles_yml_filepath=f"{PROJECT}/profiles.yml"
        ),
        execution_config=ExecutionConfig(dbt_executable_path="/opt/venv/bin/dbt"),
        render_config=RenderConfig(select=["tag:marts", "path:models/finance"], exclude=["tag:manual"]),
        operator_args={"install_deps": True},
    )
    tell = SlackAPIPostOperator(
        task_id="tell", text="Could not delete from orders: select * from orders shows why", trigger_rule="one_failed"
    )
    start >> land >> arrived >> freshness >> build >> test >> marts >> tell
