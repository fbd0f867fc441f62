"""Dags of many videos: an account that admits three at a time, and batches."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from faults import BatchThatDiesTwice

from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator

VIDEOS = os.environ["WIRO_VIDEOS_DIR"]
SMALL = {"wiro_conn_id": "wiro_small", "poll_interval": 1.0}


@task
def configured(name: str, *, dag_run: Any) -> Any:
    return dag_run.conf[name]


with DAG("queue", schedule=None, default_args={"retries": 0}, max_active_tasks=64):
    SeedanceRunOperator.partial(
        task_id="video", wait_for_completion=True, destination=VIDEOS + "/queue", **SMALL
    ).expand(prompt=configured("prompts"))

with DAG("batch", schedule=None, default_args={"retries": 0}):
    SeedanceBatchOperator(
        task_id="videos",
        videos=configured("videos"),
        destination=VIDEOS + "/batch",
        min_success_ratio=0.8,
        settle=1.0,
        **SMALL,
    )

with DAG("batch_dies", schedule=None, default_args={"retries": 3, "retry_delay": timedelta(seconds=1)}):
    BatchThatDiesTwice(
        task_id="videos",
        videos=[{"prompt": f"A batch that dies, {number}"} for number in range(6)],
        destination=VIDEOS + "/batch_dies",
        settle=1.0,
        poll_interval=1.0,
    )
