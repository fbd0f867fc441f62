"""The README's table "what happens when", row by row, on a live Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wiro.emulator import LocalWiro
from tests.integration.dags.faults import POINTS
from tests.readme import row

from .conftest import Run, runs_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
RESTING = {"deferred", "success", "failed", "up_for_reschedule"}


@pytest.fixture(scope="module")
def rows(long_runs: dict[str, Run], start: Callable[..., Run], wiro: LocalWiro) -> Run:
    """The run of the Dag, with what waits for a hand waiting."""
    wiro.set_faults(["run:reset_after:times=1:match=Row lost"])
    run = start("what_happens")
    resting = {"ended": "deferred", "cleared_before": "deferred", "cleared_after": "success", "resubmitted": "success"}
    resting |= {"cancelled": "failed", "sleeper": "up_for_reschedule"}
    run.until(lambda states: all(states.get((task, -1)) == state for task, state in resting.items()), 120)
    return run


def orders(wiro: LocalWiro, words: str) -> list[dict[str, Any]]:
    return [run for run in wiro.ledger()["runs"] if run["parameters"].get("prompt", "").startswith(f"Row {words}")]


def reaches(run: Run, task_id: str, *wanted: str, tries: int = 0, timeout: float = 90) -> dict[str, Any]:
    """Wait until a task is in a state in a try after `tries`."""
    give_up = time.monotonic() + timeout
    while True:
        instance = run.instances()[task_id, -1]
        if instance["state"] in wanted and instance["try_number"] > tries:
            return instance
        assert time.monotonic() < give_up, instance
        time.sleep(0.3)


def cleared(run: Run, task_id: str, *wanted: str) -> dict[str, Any]:
    """Clear a task and wait until it is in a state again."""
    tries = run.instances()[task_id, -1]["try_number"]
    run.api.clear(run.dag_id, run.run_id, [task_id])
    return reaches(run, task_id, *wanted, tries=tries)


@row("a worker dies, or an attempt fails, after the order")
def test_worker(row: str, long_runs: dict[str, Run], wiro: LocalWiro) -> None:
    run = long_runs["crash_points"]
    assert run.wait() == "success", run.failures()
    index = POINTS.index("in the resume")
    assert run.instances()["whole", index]["try_number"] == 2
    (order,) = (o for o in runs_of(wiro, "Twins that crash") if o["taskid"] == run.xcom("whole", index)["wiro_task_id"])
    assert (order["billed"], order["stopped_by_request"]) == (True, False)


@row("the answer to an order is lost")
def test_lost(row: str, rows: Run, wiro: LocalWiro) -> None:
    assert reaches(rows, "lost", "success")["try_number"] == 1
    (order,) = orders(wiro, "lost")
    assert rows.xcom("lost")["wiro_task_id"] == order["taskid"]
    log = rows.log("lost")
    assert "The outcome of the Run is not known, looking for it at Wiro" in log
    assert f"Wiro task {order['taskid']} is this order's Run" in log


@row("Wiro reports a failure")
def test_failure(row: str, rows: Run, wiro: LocalWiro) -> None:
    instance = reaches(rows, "fails", "failed")
    assert instance["try_number"] == 4, "the fourth try says that three were enough"
    assert [order["billed"] for order in orders(wiro, "fails")] == [False] * 3
    assert "A retry, or a clear, orders anew" in rows.log("fails", try_number=1)
    assert "Wiro ended 3 Runs of this order without success" in rows.log("fails", try_number=4)


@row("the task is cancelled at Wiro")
def test_cancelled(row: str, rows: Run, wiro: LocalWiro) -> None:
    assert reaches(rows, "cancelled", "failed")["try_number"] == 1
    assert "A cancelled task is not billed" in rows.log("cancelled")
    cleared(rows, "cancelled", "failed")
    assert [order["billed"] for order in orders(wiro, "cancelled")] == [False, False]


@row("somebody ends the waiting Airflow task (marks it failed or success)")
def test_ended(row: str, rows: Run, wiro: LocalWiro) -> None:
    rows.mark("ended", "failed")
    give_up = time.monotonic() + 30
    while orders(wiro, "ended")[0]["status"] != "task_cancel" and time.monotonic() < give_up:
        time.sleep(0.3)
    assert [order["stopped_by_request"] for order in orders(wiro, "ended")] == [True]
    cleared(rows, "ended", "deferred")
    assert "ended without success (task_cancel) and is not billed" in rows.log("ended", try_number=2)
    assert [order["status"] == "task_cancel" for order in orders(wiro, "ended")] == [True, False]
    rows.mark("ended", "failed")


@row("a run operator's `timeout` passes")
def test_timeout(row: str, long_runs: dict[str, Run], wiro: LocalWiro) -> None:
    run = long_runs["late"]
    assert run.wait() == "failed"
    assert [order["status"] for order in runs_of(wiro, "late [wiro:hang]")] == ["task_cancel"] * 3
    assert len(runs_of(wiro, "left [wiro:hang]")) == 1
    assert "goes on with Wiro task" in run.log("left")


@row("a sensor's `timeout` passes")
def test_sensor_timeout(row: str, long_runs: dict[str, Run], wiro: LocalWiro) -> None:
    run = long_runs["late"]
    assert run.wait() == "failed"
    assert run.instances()["sensor", -1]["try_number"] == 1
    (order,) = runs_of(wiro, "sensed [wiro:hang]")
    assert not order["stopped_by_request"]


@row("`execution_timeout` passes after the order")
def test_execution_timeout(row: str, rows: Run, wiro: LocalWiro) -> None:
    assert reaches(rows, "execution_timeout", "failed")["try_number"] == 2
    assert [order["stopped_by_request"] for order in orders(wiro, "execution timeout")] == [True, True]
    assert "is stopped (cancelled): it is not billed" in rows.log("execution_timeout")


@row("the run task is cleared before the delivery")
def test_cleared_before(row: str, rows: Run, wiro: LocalWiro) -> None:
    cleared(rows, "cleared_before", "success")
    (order,) = orders(wiro, "cleared before")
    assert (order["billed"], order["stopped_by_request"]) == (True, False)
    assert rows.xcom("cleared_before")["wiro_task_id"] == order["taskid"]


@row("the run task is cleared after the delivery")
def test_cleared_after(row: str, rows: Run, wiro: LocalWiro) -> None:
    delivered = rows.xcom("cleared_after")
    cleared(rows, "cleared_after", "success")
    assert rows.xcom("cleared_after") == delivered
    assert len(orders(wiro, "cleared after")) == 1


@row('the run task is cleared with `on_clear="resubmit"`')
def test_resubmitted(row: str, rows: Run, wiro: LocalWiro) -> None:
    cleared(rows, "resubmitted", "success")
    first, second = orders(wiro, "resubmitted")
    assert first["parameters"]["seed"] != second["parameters"]["seed"]
    assert rows.xcom("resubmitted")["wiro_task_id"] == second["taskid"]


@row("a sensor's or a fetch's attempt fails, Airflow retries")
def test_attempts(row: str, rows: Run, wiro: LocalWiro) -> None:
    assert reaches(rows, "fetch", "success")["try_number"] == 2
    assert rows.instances()["wait", -1]["try_number"] == 2
    assert len(orders(wiro, "attempts")) == 1
    (file,) = rows.xcom("fetch")["files"]
    assert Path(file["uri"]).stat().st_size == file["size"]


@row("no triggerer tells the end in time")
def test_no_triggerer(row: str, rows: Run, wiro: LocalWiro) -> None:
    assert reaches(rows, "no_triggerer", "success")["try_number"] == 1
    assert "No trigger has told the end of the wait in time: looking at Wiro" in rows.log("no_triggerer")
    assert len(orders(wiro, "no triggerer")) == 1


@row('somebody ends the task while a `mode="reschedule"` sensor sleeps, or while no triggerer runs')
def test_sleeper(row: str, rows: Run, wiro: LocalWiro) -> None:
    rows.mark("sleeper", "failed")
    time.sleep(3)
    (order,) = orders(wiro, "sleeper")
    assert not order["stopped_by_request"]
