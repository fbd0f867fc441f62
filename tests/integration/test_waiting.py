"""Sensors in every mode, on tasks made elsewhere; deadlines; people who end a waiting task; triggerers that die."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_wiro.api.auth import WiroAuth
from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, wire_inputs
from airflow_provider_wiro.emulator import LocalWiro
from scripts.local_airflow import LocalAirflow
from tests.readme import row

from .conftest import CANARY_KEY, CANARY_SECRET, Run, runs_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def order(wiro: LocalWiro) -> Callable[[str], Any]:
    """Order a video without Airflow."""
    client = WiroClient(WiroAuth(CANARY_KEY, CANARY_SECRET), wiro.base_url)
    return lambda prompt: client.run(DEFAULT_MODEL, wire_inputs(DEFAULT_MODEL, {"prompt": prompt}))


def status_of(wiro: LocalWiro, prompt: str) -> str:
    (run,) = runs_of(wiro, prompt)
    return str(run["status"])


def until(wanted: Callable[[], bool], timeout: float = 20) -> bool:
    deadline = time.monotonic() + timeout
    while not wanted() and time.monotonic() < deadline:
        time.sleep(0.2)
    return wanted()


def test_a_task_made_elsewhere_is_waited_for_by_id_number_token_or_mapping(
    start: Callable[..., Run], order: Callable[[str], Any], airflow: LocalAirflow
) -> None:
    receipts = [order(f"Elsewhere {number}") for number in range(3)]
    tasks = [
        receipts[0].wiro_task_id,
        int(receipts[1].wiro_task_id),
        {"wiro_task_id": receipts[2].wiro_task_id, "model": DEFAULT_MODEL},
    ]
    by_token = order("Elsewhere [wiro:slow=900]")
    airflow.api.call("POST", "/variables", body={"key": "video_token", "value": by_token.task_token})
    run = start("elsewhere", tasks=tasks)
    assert run.wait() == "success", run.failures()
    for index, receipt in enumerate(receipts):
        assert run.xcom("wait", index)["wiro_task_id"] == receipt.wiro_task_id
        assert len(run.xcom("fetch", index)["files"]) == 1
    assert run.xcom("by_token")["wiro_task_id"] == by_token.wiro_task_id
    rendered = run.api.call("GET", f"/dags/elsewhere/dagRuns/{run.run_id}/taskInstances/by_token")["rendered_fields"]
    assert rendered["task"] == {"task_token": "***"}


def test_poke_reschedule_and_deferrable_judge_alike(start: Callable[..., Run], order: Callable[[str], Any]) -> None:
    good, bad = order("Modes"), order("Modes [wiro:fail]")
    run = start("sensor_modes", tasks=[good.wiro_task_id, bad.wiro_task_id])
    assert run.wait() == "failed"
    states = run.states()
    assert {task: (states[task, 0], states[task, 1]) for task in ("poke", "reschedule", "soft")} == {
        "poke": ("success", "failed"),
        "reschedule": ("success", "failed"),
        "soft": ("success", "skipped"),
    }
    tries = {run.instances()[task, 1]["try_number"] for task in ("poke", "reschedule")}
    assert tries == {1}
    assert "WiroTaskFailedError" in run.log("poke", 1)


def test_a_killed_task_stops_its_remote_task(start: Callable[..., Run], wiro: LocalWiro) -> None:
    run = start("hanging")
    waiting = [("operator", -1), ("left_alone", -1), ("mapped", 0), ("mapped", 1), ("sensor", -1)]
    run.until(
        lambda states: all(states.get(key) == "deferred" for key in waiting) and states["on_worker", -1] == "running"
    )
    links = run.api.call("GET", f"/dags/hanging/dagRuns/{run.run_id}/taskInstances/operator/links")["extra_links"]
    assert links["Wiro task"].startswith(wiro.url)
    # All triggers must have started: one that has not is not told of the kill.
    assert until(lambda: all("starting" in run.log(*key) for key in waiting))
    run.mark("operator", "failed")
    run.mark("left_alone", "failed")
    run.mark("mapped", "failed", 1)
    run.mark("sensor", "success")
    run.mark("on_worker", "failed")
    stopped = ["one", "four", "five", "six"]
    ended = until(lambda: all(status_of(wiro, f"{word} [wiro:hang]") == "task_cancel" for word in stopped), 30)
    assert ended, {word: status_of(wiro, f"{word} [wiro:hang]") for word in stopped}
    assert status_of(wiro, "two [wiro:hang]") != "task_cancel"
    assert status_of(wiro, "three [wiro:hang]") != "task_cancel"
    told = "is stopped (cancelled): it is not billed"
    assert until(lambda: all(told in run.log(task_id) for task_id in ("operator", "sensor", "on_worker")), 10)
    run.mark("mapped", "failed", 0)
    run.wait()


def test_a_deadline_stops_or_leaves_the_remote_task_as_asked(long_runs: dict[str, Run], wiro: LocalWiro) -> None:
    run = long_runs["late"]
    assert run.wait() == "failed"
    instances = run.instances()
    # Stopped: not billed, so each retry orders anew.
    assert instances["stopped", -1]["try_number"] == 3
    assert [order["status"] for order in runs_of(wiro, "late [wiro:hang]")] == ["task_cancel"] * 3
    assert "WiroTaskTimeoutError" in run.log("stopped", try_number=3)
    # Left: it may yet be billed, so each retry looks at it again, and nothing is ordered.
    assert instances["left", -1]["try_number"] == 3
    assert len(runs_of(wiro, "left [wiro:hang]")) == 1
    assert "goes on at Wiro" in run.log("left")
    assert instances["sensor", -1]["try_number"] == 1
    assert "AirflowSensorTimeout" in run.log("sensor")


@row("the triggerer dies")
def test_another_triggerer_waits_on(
    row: str, start: Callable[..., Run], wiro: LocalWiro, airflow: LocalAirflow
) -> None:
    prompt = "Survives the triggerer [wiro:slow=1500]"
    run = start("one_task", prompts=[prompt])
    run.until(lambda states: states.get(("video", 0)) == "deferred")
    airflow.kill("triggerer")
    airflow.launch("triggerer")
    assert run.wait() == "success", run.failures()
    (order,) = runs_of(wiro, prompt)
    assert order["billed"] is True
    assert run.xcom("video", 0)["wiro_task_id"] == order["taskid"]
