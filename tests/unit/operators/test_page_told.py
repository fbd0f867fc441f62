"""What the page of videos is told while a video is made, and how little depends on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_wiro import page
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroBatchError, WiroTaskFailedError
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator, WiroRunOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor
from tests.unit.instances import Instance, finish

Make = Callable[..., SeedanceRunOperator]
WATCH = "_link_WiroVideoLink"


def test_a_video_is_told_when_it_is_ordered_and_when_it_is_there(
    wiro: LocalWiro, make: Make, instance: Instance
) -> None:
    context = instance.start()
    with pytest.raises(TaskDeferred) as deferred:
        make(ratio="1:1").execute(context)
    order = instance.xcoms[page.ORDER_KEY]
    assert (order["status"], order["model"]) == ("running", "ByteDance/text-to-video-seedance-v1")
    assert order["url"] == f"{wiro.url}/tasks/{order['wiro_task_id']}"
    (run,) = wiro.ledger()["runs"]
    assert order["inputs"]["prompt"] == "Once only"
    assert order["inputs"] == {name: run["parameters"][name] for name in order["inputs"]}
    assert {"resolution", "ratio", "duration", "fps", "seed"} <= set(order["inputs"])
    assert page.END_KEY not in instance.xcoms
    assert WATCH not in instance.xcoms

    done = finish(lambda: _resumed(make, deferred.value), context)
    end = instance.xcoms[page.END_KEY]
    assert (end["status"], end["wiro_task_id"]) == ("succeeded", done["wiro_task_id"])
    assert (end["total_cost"], end["elapsed_seconds"]) == (done["total_cost"], done["elapsed_seconds"])
    assert [file["uri"] for file in end["files"]] == [file["uri"] for file in done["files"]]
    assert end["files"][0]["video"]["width"] == end["files"][0]["video"]["height"]
    assert end["outputs"][0]["url"] == done["outputs"][0]["url"]
    link = urlsplit(instance.xcoms[WATCH])
    assert (link.scheme, link.netloc, link.path) == ("", "", "wiro/watch")
    assert parse_qs(link.query) == {"dag_id": ["dag"], "run_id": ["manual__1"], "task_id": ["video"]}


def _resumed(make: Make, deferred: TaskDeferred) -> SeedanceRunOperator:
    return make(ratio="1:1")


def test_of_the_inputs_only_what_is_meant_to_be_seen_is_told(wiro: LocalWiro, instance: Instance) -> None:
    inputs = {"prompt": "p" * 9000, "fps": 24, "apiKey": "hidden-1", "callbackUrl": "https://hidden-2", "ratio": ["x"]}
    assert page.shown_inputs(inputs) == {"prompt": "p" * 5000, "fps": 24}


@pytest.mark.parametrize(("mark", "status"), [("fail", "failed"), ("cancel", "cancelled")])
def test_a_video_that_will_not_come_is_told_with_its_reason(
    wiro: LocalWiro, make: Make, instance: Instance, mark: str, status: str
) -> None:
    with pytest.raises(AirflowException):
        finish(lambda: make(prompt=f"Bad luck [wiro:{mark}]"), instance.start())
    end = instance.xcoms[page.END_KEY]
    assert (end["status"], end["wiro_task_id"]) == (status, instance.xcoms[page.ORDER_KEY]["wiro_task_id"])
    assert end["error"].startswith(("The model failed", "The task was cancelled"))
    assert "clear" not in end["error"], "advice is for the log"
    assert WATCH not in instance.xcoms


def test_an_order_that_is_refused_is_told(instance: Instance) -> None:
    with pytest.raises(AirflowFailException):
        WiroRunOperator(task_id="video", model="no/such-model", inputs={}).execute(instance.start())
    assert instance.xcoms[page.END_KEY]["status"] == "failed"
    assert "slug-owner-project-not-exist" in instance.xcoms[page.END_KEY]["error"]


def test_an_order_that_waits_for_a_place_is_told(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    wiro.set_limit(1)
    try:
        wiro.run_foreign(prompt="Somebody else's [wiro:hang]")
        with pytest.raises(TaskDeferred):
            make().execute(instance.start())
    finally:
        wiro.set_limit(None)
    order = instance.xcoms[page.ORDER_KEY]
    assert (order["status"], order["inputs"]["prompt"]) == ("queued", "Once only")
    assert "wiro_task_id" not in order


def test_a_reused_video_is_told_as_this_order_s(make: Make, instance: Instance, tmp_path: Path) -> None:
    first = finish(make, instance.start())
    (tmp_path / "other").mkdir()
    other = Instance(tmp_path / "other")
    finish(lambda: make(reuse=True), other.start())
    end = other.xcoms[page.END_KEY]
    assert (end["status"], end["reused_from"], end["total_cost"]) == ("succeeded", first["wiro_task_id"], "0")
    assert "wiro_task_id" not in end
    assert end["files"][0]["uri"] == first["files"][0]["uri"]
    assert other.xcoms[page.ORDER_KEY]["inputs"]["prompt"] == "Once only"


def test_three_tasks_tell_each_its_part(make: Make, instance: Instance, tmp_path: Path) -> None:
    submitted = make(wait_for_completion=False, destination=None).execute(instance.start())
    known = dict(instance.xcoms)
    waited = finish(lambda: WiroTaskSensor(task_id="wait", task=submitted, poll_interval=0.05), instance.start())
    assert page.ORDER_KEY not in instance.xcoms
    assert instance.xcoms[page.END_KEY]["status"] == "succeeded"
    assert "inputs" not in instance.xcoms[page.END_KEY]
    fetch = WiroFetchOutputsOperator(task_id="fetch", task=waited, destination=str(tmp_path / "videos"))
    fetched = fetch.execute(instance.start())
    assert [file["uri"] for file in instance.xcoms[page.END_KEY]["files"]] == [file["uri"] for file in fetched["files"]]
    ids = {known[page.ORDER_KEY]["wiro_task_id"], instance.xcoms[page.END_KEY]["wiro_task_id"]}
    assert ids == {submitted["wiro_task_id"]}
    again = fetch.execute(instance.start())
    assert (again["files"], instance.xcoms[page.END_KEY]["files"][0]["uri"]) == (
        fetched["files"],
        fetched["files"][0]["uri"],
    )


def test_a_task_from_elsewhere_is_told_with_what_wiro_says_of_it(
    make: Make, instance: Instance, tmp_path: Path
) -> None:
    submitted = make(wait_for_completion=False, destination=None).execute(instance.start())
    only_id = submitted["wiro_task_id"]
    finish(lambda: WiroTaskSensor(task_id="wait", task=only_id, poll_interval=0.05), instance.start())
    assert instance.xcoms[page.ORDER_KEY]["wiro_task_id"] == only_id
    assert instance.xcoms[page.END_KEY]["inputs"]["prompt"] == "Once only"


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sensor_tells_why_its_video_will_not_come(make: Make, instance: Instance, deferrable: bool) -> None:
    submit = make(prompt="Bad luck [wiro:fail]", wait_for_completion=False, destination=None)
    submitted = submit.execute(instance.start())
    with pytest.raises(AirflowFailException):
        finish(
            lambda: WiroTaskSensor(task_id="wait", task=submitted, poll_interval=0.05, deferrable=deferrable),
            instance.start(),
        )
    end = instance.xcoms[page.END_KEY]
    assert (end["status"], end["wiro_task_id"]) == ("failed", submitted["wiro_task_id"])


def test_a_fetch_tells_why_there_is_no_file(make: Make, instance: Instance, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException):
        WiroFetchOutputsOperator(task_id="fetch", task="999999", destination=str(tmp_path)).execute(instance.start())
    assert (instance.xcoms[page.END_KEY]["status"], instance.xcoms[page.END_KEY]["wiro_task_id"]) == (
        "failed",
        "999999",
    )


def test_what_cannot_be_told_fails_nothing(
    make: Make, instance: Instance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def push(key: str, value: Any) -> None:
        if key.startswith("wiro_video"):
            raise ConnectionError("no api-server")
        instance.xcoms[key] = value

    monkeypatch.setattr(instance, "_push", push)
    assert finish(make, instance.start())["status"] == "succeeded"
    assert "The page of videos is not told (wiro_video_end): ConnectionError" in capsys.readouterr().out


# Batches


def _batch(tmp_path: Path, prompts: list[str]) -> SeedanceBatchOperator:
    return SeedanceBatchOperator(
        task_id="video",
        videos=[{"prompt": prompt} for prompt in prompts],
        destination=str(tmp_path / "videos"),
        poll_interval=0.05,
        retries=3,
    )


def test_a_batch_tells_every_video_in_values_of_a_few_dozen(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PER_VALUE", 3)
    prompts = [*(f"Video {number}" for number in range(6)), "Bad luck [wiro:fail]"]
    context = instance.start()
    with pytest.raises(TaskDeferred):
        _batch(tmp_path, prompts).execute(context)
    values = [instance.xcoms[f"wiro_videos_{number}"] for number in range(3)]
    assert [[video["index"] for video in value] for value in values] == [[0, 1, 2], [3, 4, 5], [6]]
    assert {video["status"] for value in values for video in value} <= {"running", "queued"}
    assert WATCH in instance.xcoms

    with pytest.raises(WiroBatchError):
        finish(lambda: _batch(tmp_path, prompts), instance.start())
    videos = [video for number in range(3) for video in instance.xcoms[f"wiro_videos_{number}"]]
    assert [video["inputs"]["prompt"] for video in videos] == prompts
    assert [video["status"] for video in videos] == ["succeeded"] * 6 + ["failed"]
    assert all(video["files"][0]["size"] > 0 and video["total_cost"] for video in videos[:6])
    assert videos[6]["error"].startswith(WiroTaskFailedError.__name__)
    assert page.END_KEY not in instance.xcoms
    assert len(json.dumps(videos)) < 7 * 2000


def test_a_batch_that_goes_on_tells_only_what_is_new(
    wiro: LocalWiro, instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PER_VALUE", 2)
    pushed: list[str] = []
    push = instance._push
    monkeypatch.setattr(instance, "_push", lambda key, value: (pushed.append(key), push(key, value)))
    wiro.set_limit(2)
    try:
        finish(lambda: _batch(tmp_path, [f"Video {number}" for number in range(6)]), instance.start())
    finally:
        wiro.set_limit(None)
    values = [instance.xcoms[f"wiro_videos_{number}"] for number in range(3)]
    assert [video["status"] for value in values for video in value] == ["succeeded"] * 6
    assert all(video["files"] for value in values for video in value)
    assert 3 < sum(key.startswith("wiro_videos_") for key in pushed) <= 3 + 3 + 6 + 6
