"""Many videos: an account that is full lets them wait their turn, and a batch makes them all in one task."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wiro.emulator import LocalWiro

from .conftest import BATCH, PLACES, QUEUED, Run, runs_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def queue(long_runs: dict[str, Run]) -> Run:
    run = long_runs["queue"]
    assert run.wait() == "success", run.failures()
    return run


@pytest.fixture(scope="module")
def batch(long_runs: dict[str, Run]) -> Run:
    run = long_runs["batch"]
    assert run.wait() == "success", run.failures()
    return run


def lines_of(manifest: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(manifest.removeprefix("file://")).read_text().splitlines()]


def test_a_full_account_lets_videos_wait_and_no_attempt_fails(queue: Run, small_wiro: LocalWiro) -> None:
    instances = queue.instances()
    assert {instances["video", index]["try_number"] for index in range(len(QUEUED))} == {1}
    for index, prompt in enumerate(QUEUED):
        (run,) = runs_of(small_wiro, prompt)
        assert run["billed"] is True
        assert queue.xcom("video", index)["wiro_task_id"] == run["taskid"]
    assert small_wiro.ledger()["refusals"]["96"] > 0


def test_no_more_are_in_flight_than_the_account_admits(queue: Run, batch: Run, small_wiro: LocalWiro) -> None:
    ends = [(run["created"], 1) for run in small_wiro.ledger()["runs"]]
    ends += [(run["ended"], -1) for run in small_wiro.ledger()["runs"]]
    in_flight = most = 0
    for _, change in sorted(ends):
        in_flight += change
        most = max(most, in_flight)
    assert most == PLACES


def test_who_waits_says_once_for_what_and_holds_no_worker(queue: Run) -> None:
    waited = [index for index in range(len(QUEUED)) if "waiting:" in queue.log("video", index)]
    assert len(waited) >= len(QUEUED) - 2 * PLACES
    for index in waited:
        log = queue.log("video", index)
        assert log.count("you can run up to 3 tasks at the same time") == 1
        assert log.count("Pausing task as DEFERRED") >= 2, "once for a place, once for the video"


def test_a_batch_makes_every_video_once_and_names_what_failed(batch: Run, small_wiro: LocalWiro) -> None:
    result = batch.xcom("videos")
    assert (result["videos"], result["succeeded"], result["failed"]) == (6, 5, 1)
    assert [failure["index"] for failure in result["failures"]] == [5]
    lines = lines_of(result["manifest"])
    assert [line["inputs"]["prompt"] for line in lines] == BATCH
    for line in lines[:5]:
        (run,) = runs_of(small_wiro, line["inputs"]["prompt"])
        assert (run["taskid"], run["billed"]) == (line["wiro_task_id"], True)
        (file,) = line["files"]
        assert Path(file["uri"].removeprefix("file://")).stat().st_size == file["size"] > 0
    assert "WiroTaskFailedError" in lines[5]["error"]
    assert batch.instances()["videos", -1]["try_number"] == 1
    assert "videos run, " in batch.log("videos")


def test_a_batch_that_dies_while_it_orders_and_while_it_fetches_pays_once(
    long_runs: dict[str, Run], wiro: LocalWiro
) -> None:
    run = long_runs["batch_dies"]
    assert run.wait() == "success", run.failures()
    assert run.instances()["videos", -1]["try_number"] == 3
    prompts = Counter(order["parameters"].get("prompt") for order in wiro.ledger()["runs"])
    assert [prompts[f"A batch that dies, {number}"] for number in range(6)] == [1] * 6
    lines = lines_of(run.xcom("videos")["manifest"])
    assert [len(line["files"]) for line in lines] == [1] * 6
