"""A batch that asks before it spends much: up to an amount it runs by itself, above that a person decides in Airflow.

The question has a table of what would be ordered and its estimated cost; *Approve* orders, *Reject* skips. Without an
answer within a day, nothing is ordered. The batch itself is held to the amount that was approved, should a price rise
meanwhile.
The table is the one of ``nightly_batch.py``.
"""

from __future__ import annotations

import csv
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_wiro.operators.approval import WiroBudgetApprovalOperator
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator

PROMPTS = os.environ.get("WIRO_PROMPTS_CSV", str(Path(__file__).with_name("prompts.csv")))
VIDEOS = os.environ.get("WIRO_VIDEOS_DIR", str(Path.home() / "wiro-videos"))
POLL_INTERVAL = float(os.environ.get("WIRO_POLL_INTERVAL", "15"))

with DAG(
    dag_id="approved_batch",
    schedule=None,
    params={
        "auto_approve_up_to": Param(
            1.0, type="number", minimum=0, title="Dollars without asking", description="What costs more is asked about."
        )
    },
    tags=["wiro", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def read_prompts() -> list[dict[str, Any]]:
        """Read the table: a column for each input; an empty cell is the input's default."""
        with open(PROMPTS, newline="", encoding="utf-8-sig") as table:  # as spreadsheets write it, too
            return [{name: value for name, value in row.items() if value} for row in csv.DictReader(table)]

    videos = read_prompts()
    approve = WiroBudgetApprovalOperator(
        task_id="approve",
        videos=videos,
        auto_approve_up_to="{{ params.auto_approve_up_to }}",
        response_timeout=timedelta(days=1),
        defaults="Reject",
    )
    SeedanceBatchOperator(
        task_id="videos",
        videos=videos,
        destination=VIDEOS + "/{{ dag_run.run_after | ds }}",
        max_cost=approve.output["estimated_cost"],  # None where a person has approved an unknown price: any
        poll_interval=POLL_INTERVAL,
        retries=10,
        retry_delay=timedelta(seconds=30),
    )
