"""Submit, wait in the triggerer, fetch: twenty videos at once, two of which go wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import av
import pytest

from airflow_provider_wiro.emulator import LocalWiro

from .conftest import COUNT, FAILS, IS_CANCELLED, IS_SLOW, Run, runs_of, twenty

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return [prompt for prompt, _ in twenty()]


@pytest.fixture(scope="module")
def run(long_runs: dict[str, Run]) -> Run:
    assert long_runs["three_tasks"].wait() == "failed"
    return long_runs["three_tasks"]


@pytest.mark.timeout(300)
def test_every_other_video_is_on_disk_as_ordered(run: Run, prompts: list[str]) -> None:
    good = [index for index in range(COUNT) if index not in (FAILS, IS_CANCELLED)]
    states = run.states()
    assert {index for index in range(COUNT) if states["fetch", index] == "success"} == set(good)
    for index in good:
        fetched = run.xcom("fetch", index)
        (file,) = fetched["files"]
        content = Path(file["uri"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
        manifest = json.loads(Path(fetched["manifest"]).read_text(encoding="utf-8"))
        assert manifest["inputs"]["prompt"] == prompts[index]
        with av.open(file["uri"]) as video:
            stream = video.streams.video[0]
            assert (stream.width, stream.height) == ((480, 864) if index % 2 else (864, 480))
            assert stream.frames == 5 * 24


def test_each_video_was_ordered_once_and_paid_if_good(run: Run, wiro: LocalWiro, prompts: list[str]) -> None:
    for index, prompt in enumerate(prompts):
        (order,) = runs_of(wiro, prompt)
        assert order["billed"] is (index not in (FAILS, IS_CANCELLED))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (FAILS, ["WiroTaskFailedError", "pexit 1", "not billed"]),
        (IS_CANCELLED, ["WiroTaskCancelledError", "cancelled"]),
    ],
)
def test_a_bad_video_fails_its_own_index_at_once_and_says_why(run: Run, index: int, words: list[str]) -> None:
    instance = run.instances()["wait", index]
    assert (instance["state"], instance["try_number"], instance["max_tries"]) == ("failed", 1, 2)
    assert run.states()["fetch", index] == "upstream_failed"
    log = run.log("wait", index)
    assert [word for word in words if word not in log] == []


def test_a_waiting_video_holds_no_worker(run: Run) -> None:
    log = run.log("wait", IS_SLOW)
    assert "Pausing task as DEFERRED" in log
    assert "Trigger fired event" in log


def test_mapped_videos_show_their_prompts(run: Run, prompts: list[str]) -> None:
    assert run.instances()["submit", 0]["rendered_map_index"] == prompts[0][:60]


def test_the_links_are_on_every_instance(run: Run, wiro: LocalWiro) -> None:
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
    for task_id in ("submit", "wait", "fetch"):
        links: dict[str, Any] = run.api.call("GET", f"{path}/{task_id}/links", params={"map_index": 0})["extra_links"]
        here = urlencode({"dag_id": run.dag_id, "run_id": run.run_id, "task_id": task_id, "map_index": 0})
        assert links == {
            "Wiro task": f"{wiro.url}/tasks/{run.xcom('submit', 0)['wiro_task_id']}",
            "Watch": None if task_id == "submit" else f"wiro/watch?{here}",  # nothing to watch yet
        }
