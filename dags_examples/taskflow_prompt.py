"""TaskFlow: a function writes the prompt, its decorator makes the video, the next function gets the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, task

VIDEOS = os.environ.get("WIRO_VIDEOS_DIR", str(Path.home() / "wiro-videos"))
POLL_INTERVAL = float(os.environ.get("WIRO_POLL_INTERVAL", "15"))
SEASONS = ("winter", "spring", "summer", "autumn")

with DAG(dag_id="taskflow_prompt", schedule=None, tags=["wiro", "example"], doc_md=__doc__) as dag:

    @task.seedance(wait_for_completion=True, poll_interval=POLL_INTERVAL, destination=VIDEOS + "/taskflow")
    def postcard(city: str) -> dict[str, Any]:
        """Describe the video; a plain string would do where only the prompt varies."""
        season = SEASONS[pendulum.now("UTC").month % 12 // 3]
        return {"prompt": f"A {season} morning in {city}, a postcard coming alive", "ratio": "4:3"}

    @task
    def announce(video: dict[str, Any]) -> str:
        """Use what was made."""
        return f"{video['files'][0]['uri']} cost ${video['total_cost']}"

    announce(postcard("Ljubljana"))
