"""Dags that ask a person before much is spent."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_wiro.operators.approval import WiroBudgetApprovalOperator
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator

with DAG("budget", schedule=None, default_args={"retries": 0}):

    @task
    def videos(*, dag_run: Any) -> Any:
        return dag_run.conf["videos"]

    found = videos()
    approve = WiroBudgetApprovalOperator(
        task_id="approve", videos=found, auto_approve_up_to=1, params={"note": Param("", type="string")}
    )
    SeedanceBatchOperator(
        task_id="order",
        videos=found,
        destination=os.environ["WIRO_VIDEOS_DIR"] + "/budget",
        max_cost=approve.output["estimated_cost"],
        poll_interval=1.0,
    )
