"""One task submits, waits and fetches; retries order again only where nothing is paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_wiro.emulator import LocalWiro

from .conftest import ENDINGS, Run, runs_of

pytestmark = pytest.mark.integration

GOOD, FAILED, CANCELLED = ENDINGS


@pytest.fixture(scope="module", params=["one_task", "sync_operator"])
def run(request: pytest.FixtureRequest, long_runs: dict[str, Run]) -> Run:
    assert long_runs[request.param].wait() == "failed"
    return long_runs[request.param]


@pytest.mark.timeout(300)
def test_the_video_is_delivered(run: Run) -> None:
    video = run.xcom("video", 0)
    assert video["status"] == "succeeded"
    assert video["total_cost"] == "0.1"
    (file,) = video["files"]
    assert Path(file["uri"]).stat().st_size == file["size"] > 10_000
    assert Path(video["manifest"]).exists()


def test_a_failed_video_is_ordered_again_by_each_retry_and_never_paid(run: Run, wiro: LocalWiro) -> None:
    instance = run.instances()["video", 1]
    assert (instance["state"], instance["try_number"]) == ("failed", 3)
    orders = runs_of(wiro, f"{FAILED}, {run.dag_id}")
    assert [order["billed"] for order in orders] == [False, False, False]
    assert "WiroTaskFailedError" in run.log("video", 1, try_number=3)


def test_a_cancelled_video_is_not_ordered_again(run: Run, wiro: LocalWiro) -> None:
    instance = run.instances()["video", 2]
    assert (instance["state"], instance["try_number"]) == ("failed", 1)
    assert len(runs_of(wiro, f"{CANCELLED}, {run.dag_id}")) == 1
