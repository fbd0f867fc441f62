"""The nightly example on a bad night: one of two videos fails, and half of its row is empty."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from .conftest import Run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def run(long_runs: dict[str, Run]) -> Run:
    assert long_runs["nightly_batch"].wait() == "failed"
    return long_runs["nightly_batch"]


def test_the_night_is_red_and_its_good_video_is_there(run: Run) -> None:
    states = run.states()
    assert (states["fetch", 0], states["wait", 1]) == ("success", "failed")
    assert states["some_videos_failed", -1] == "failed"
    assert states["summary", -1] == "success", run.failures()


def test_one_summary_one_manifest_one_asset_event(run: Run) -> None:
    report = run.xcom("summary")
    assert (report["videos"], report["failed"], report["total_cost"]) == (1, 1, "0.1")
    (task,) = json.loads(Path(report["manifest"]).read_text())["tasks"]
    assert task["manifest"] == run.xcom("fetch", 0)["manifest"]
    (event,) = run.api.call("GET", "/assets/events", params={"source_dag_id": "nightly_batch"})["asset_events"]
    assert event["extra"] == report


def test_the_event_starts_what_comes_after_the_videos(run: Run, home: Path) -> None:
    deadline = time.monotonic() + 90
    while not (runs := run.api.call("GET", "/dags/publish_on_asset/dagRuns")["dag_runs"]):
        assert time.monotonic() < deadline, "no run was started by the event"
        time.sleep(0.5)
    assert run.api.wait_for_run("publish_on_asset", runs[0]["dag_run_id"], 90) == "success"
    (page,) = (home / "pages").iterdir()
    (file,) = run.xcom("fetch", 0)["files"]
    assert f'src="{file["uri"]}"' in page.read_text(encoding="utf-8")


def test_every_task_of_a_chain_shows_the_prompt(run: Run) -> None:
    names = {run.instances()[task_id, 0]["rendered_map_index"] for task_id in ("submit", "wait", "fetch")}
    assert names == {"A night train, seen from a bridge"}
