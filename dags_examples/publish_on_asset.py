"""What comes after the videos: runs when ``nightly_batch`` has told of a new batch, and writes a page that plays it.

Airflow may put several events of an asset into one run, so all of them are read, not the last one only: a night that
was made while an earlier page was being written is on the next page, and none is skipped. What an event tells is its
``extra``: how many videos, what they cost, and where the manifest is.
"""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, ObjectStoragePath, task

PAGES = os.environ.get("WIRO_PAGES_DIR", str(Path.home() / "wiro-pages"))

nightly_videos = Asset("nightly_videos")

with DAG(
    dag_id="publish_on_asset",
    schedule=[nightly_videos],
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    catchup=False,
    tags=["wiro", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def read_manifests(*, triggering_asset_events: Any) -> list[dict[str, Any]]:
        """Return the tasks of every batch that this run was started for, each batch once."""
        found: dict[str, list[dict[str, Any]]] = {}
        for event in triggering_asset_events[nightly_videos]:
            manifest = event.extra.get("manifest")
            if manifest and manifest not in found:  # a night without a single video has none
                with ObjectStoragePath(manifest).open("rb") as file:
                    found[manifest] = json.load(file)["tasks"]
        return [video for videos in found.values() for video in videos]

    @task
    def write_page(videos: list[dict[str, Any]], *, run_id: str) -> str:
        """Write a page with a player for each video; return its address."""
        figures = [
            f'<figure><video controls preload="none" src="{html.escape(file["uri"])}"></video>'
            f"<figcaption>{html.escape(video['wiro_task_id'])}, ${video['total_cost']}</figcaption></figure>"
            for video in videos
            for file in video["files"]
        ]
        name = "".join(character if character.isalnum() else "_" for character in run_id)
        page = ObjectStoragePath(PAGES if "://" in PAGES else f"file://{Path(PAGES).absolute()}") / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("wb") as file:
            file.write(f"<!doctype html><meta charset=utf-8><title>Videos</title>{''.join(figures)}".encode())
        return str(page)

    write_page(read_manifests())
