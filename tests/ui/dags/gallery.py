"""Dags whose runs the tests put into the database as if they had run."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator

for name in ("gallery", "large", "foreign"):
    with DAG(name, schedule=None):
        submit = SeedanceRunOperator.partial(task_id="submit").expand(prompt=["one", "two"])
        WiroFetchOutputsOperator.partial(task_id="fetch", destination="/videos").expand(task=submit.output)
        SeedanceBatchOperator(task_id="batch", videos=[{"prompt": "one"}], destination="/videos")
