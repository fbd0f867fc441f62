"""Every night at two: the videos of a table, each submitted, awaited and fetched on its own.

A mapped task group gives each row its own chain, so that a video is fetched as soon as it is ready, and one that fails
stops no other. The table is ``prompts.csv`` beside this file, or the file that the environment variable
``WIRO_PROMPTS_CSV`` names. The videos go to a folder for each night below ``WIRO_VIDEOS_DIR``: a local path, or an
address such as ``s3://aws_default@bucket/videos``.
"""

from __future__ import annotations

import csv
import json
import os
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, ObjectStoragePath, task, task_group
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor

PROMPTS = os.environ.get("WIRO_PROMPTS_CSV", str(Path(__file__).with_name("prompts.csv")))
VIDEOS = os.environ.get("WIRO_VIDEOS_DIR", str(Path.home() / "wiro-videos"))
POLL_INTERVAL = float(os.environ.get("WIRO_POLL_INTERVAL", "15"))

# The later tasks of a chain know only an id; a person looks for the prompt.
PROMPT_OF_ROW = "{{ ti.xcom_pull(task_ids='read_prompts')[ti.map_index]['prompt'] | truncate(60) }}"

nightly_videos = Asset("nightly_videos")

with DAG(
    dag_id="nightly_batch",
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    catchup=False,
    max_active_runs=1,
    # Waiting videos occupy no worker; this bounds how many chains are in flight at Wiro.
    max_active_tasks=64,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": 2},
    tags=["wiro", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def read_prompts() -> list[dict[str, str]]:
        """Read the table: a column for each argument of the task group."""
        with open(PROMPTS, newline="", encoding="utf-8-sig") as table:  # as spreadsheets write it, too
            return list(csv.DictReader(table))

    @task_group(prefix_group_id=False)
    def video(prompt: str, resolution: str, ratio: str, duration: str, fps: str) -> Any:
        """Make one video."""
        submit = SeedanceRunOperator(
            task_id="submit",
            prompt=prompt,
            resolution=resolution,
            ratio=ratio,
            duration=duration,
            fps=fps,
            map_index_template="{{ task.prompt | truncate(60) }}",
        )
        wait = WiroTaskSensor(
            task_id="wait",
            task=submit.output,
            timeout=3600,
            poll_interval=POLL_INTERVAL,
            map_index_template=PROMPT_OF_ROW,
        )
        fetch = WiroFetchOutputsOperator(
            task_id="fetch",
            task=wait.output,
            destination=VIDEOS + "/{{ dag_run.run_after | ds }}",
            map_index_template=PROMPT_OF_ROW,
        )
        return fetch.output

    @task(trigger_rule="all_done", outlets=[nightly_videos])
    def summary(rows: list[dict[str, str]] | None, videos: Any, *, run_id: str, outlet_events: Any) -> dict[str, Any]:
        """Add up the night, write one manifest of all its videos, and tell the rest of the pipeline once."""
        # Airflow gives the value itself where only one video came, and nothing where none did.
        fetched: list[dict[str, Any]] = [videos] if isinstance(videos, dict) else list(videos or ())
        report: dict[str, Any] = {
            "videos": len(fetched),
            "failed": len(rows or ()) - len(fetched),
            "total_cost": str(sum((Decimal(video["total_cost"] or 0) for video in fetched), Decimal(0))),
            "folder": None,
            "manifest": None,
        }
        if fetched:
            folder = ObjectStoragePath(fetched[0]["manifest"]).parent
            manifest = folder / f"batch-{re.sub(r'[^A-Za-z0-9_-]', '_', run_id)}.json"
            with manifest.open("w") as file:
                json.dump({**report, "tasks": fetched}, file, indent=2)
            report |= {"folder": str(folder), "manifest": str(manifest)}
        outlet_events[nightly_videos].extra = report
        return report

    @task(trigger_rule="one_failed", retries=0)
    def some_videos_failed() -> None:
        """Turn the run red: a summary of what could be made would leave it green."""
        raise AirflowFailException("At least one video failed; its own task's log tells why.")

    rows = read_prompts()
    videos = video.expand_kwargs(rows)
    summary(rows, videos)
    videos >> some_videos_failed()
