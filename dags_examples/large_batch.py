"""Thousands of videos in one task: every prompt of a table, as many at a time as the account admits.

A task instance for each video costs Airflow more than the waiting: here one task orders them all, waits in one trigger
and fetches. A retry makes only what is missing, and the run is green when nine in ten succeeded. The manifest, a line
of JSON for each video, says which, and why the others did not. The table is the one of ``nightly_batch.py``.
"""

from __future__ import annotations

import csv
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator

PROMPTS = os.environ.get("WIRO_PROMPTS_CSV", str(Path(__file__).with_name("prompts.csv")))
VIDEOS = os.environ.get("WIRO_VIDEOS_DIR", str(Path.home() / "wiro-videos"))
POLL_INTERVAL = float(os.environ.get("WIRO_POLL_INTERVAL", "15"))

with DAG(
    dag_id="large_batch",
    schedule="0 3 * * 6",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    catchup=False,
    max_active_runs=1,
    tags=["wiro", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def read_prompts() -> list[dict[str, Any]]:
        """Read the table: a column for each input; an empty cell is the input's default."""
        with open(PROMPTS, newline="", encoding="utf-8-sig") as table:  # as spreadsheets write it, too
            return [{name: value for name, value in row.items() if value} for row in csv.DictReader(table)]

    SeedanceBatchOperator(
        task_id="videos",
        videos=read_prompts(),
        destination=VIDEOS + "/{{ dag_run.run_after | ds }}",
        min_success_ratio=0.9,
        poll_interval=POLL_INTERVAL,
        retries=10,
        retry_delay=timedelta(seconds=30),
        retry_exponential_backoff=2,
        max_retry_delay=timedelta(minutes=10),
    )
