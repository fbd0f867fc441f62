"""One logical task, one paid run: what a retry and a clear make of every way in which a try can end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3.connection
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroStoreError, WiroSupersededError
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.submission import driver
from tests.readme import row
from tests.unit.instances import Instance, billed, finish, runs

Make = Callable[..., SeedanceRunOperator]


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Run is on its way for two seconds at most."""
    monkeypatch.setattr(driver, "FENCE", 1.0)
    monkeypatch.setattr(driver, "POST", 1.0)


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    """Run something beside, and keep what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


@pytest.fixture
def freeze(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Freeze the first Run right before it connects; return (it is frozen, let it go on)."""
    frozen, thaw = threading.Event(), threading.Event()
    connect = urllib3.connection.HTTPConnection.connect
    asked = urllib3.connection.HTTPConnection.request

    def request(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        self.is_run = "/Run/" in url
        return asked(self, method, url, *args, **kwargs)

    def slowly(self: Any) -> None:
        if getattr(self, "is_run", False) and not frozen.is_set():
            frozen.set()
            assert thaw.wait(30)
        connect(self)

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "request", request)
    monkeypatch.setattr(urllib3.connection.HTTPConnection, "connect", slowly)
    return frozen, thaw


@row("a superseded process wakes up before its order")
def test_a_process_that_is_frozen_before_its_run_and_superseded_sends_nothing(
    row: str,
    wiro: LocalWiro,
    instance: Instance,
    make: Make,
    brisk: None,
    freeze: tuple[threading.Event, threading.Event],
) -> None:
    frozen, thaw = freeze
    old = instance.start()
    thread, raised = in_thread(lambda: make().execute(old))
    assert frozen.wait(10)
    delivered = finish(make, instance.start())
    thaw.set()
    thread.join(20)
    assert isinstance(raised[0], WiroSupersededError)
    assert billed(wiro) == [delivered["wiro_task_id"]]
    assert len(runs(wiro)) == 1


def test_without_the_fence_the_same_freeze_orders_twice(
    wiro: LocalWiro,
    instance: Instance,
    make: Make,
    brisk: None,
    freeze: tuple[threading.Event, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen, thaw = freeze
    old = instance.start()
    monkeypatch.setattr(driver.Submission, "_check", lambda *_: None)
    thread, _ = in_thread(lambda: make().execute(old))
    assert frozen.wait(10)
    finish(make, instance.start())
    thaw.set()
    thread.join(20)
    assert len(runs(wiro)) == 2


def test_a_freeze_that_nobody_noticed_takes_a_new_fence_and_orders_once(
    wiro: LocalWiro, instance: Instance, make: Make, brisk: None, freeze: tuple[threading.Event, threading.Event]
) -> None:
    frozen, thaw = freeze
    context = instance.start()
    thread, raised = in_thread(lambda: make(wait_for_completion=False, destination=None).execute(context))
    assert frozen.wait(10)
    time.sleep(1.2)
    thaw.set()
    thread.join(20)
    assert raised == []
    assert len(runs(wiro)) == 1


def test_a_run_that_is_accepted_later_than_settle_is_stopped_by_the_second_look(
    wiro: LocalWiro, instance: Instance, make: Make, brisk: None
) -> None:
    wiro.set_faults(["run:late:seconds=1.5:times=1"])
    delivered = finish(lambda: make(prompt="Late [wiro:slow=4000]", settle=1.0), instance.start())
    first, second = runs(wiro)
    assert {run["taskid"] for run in runs(wiro) if run["billed"]} == {delivered["wiro_task_id"]}
    assert sorted([first["status"], second["status"]]) == ["task_cancel", "task_postprocess_end"]
    assert first["parameters"]["seed"] == second["parameters"]["seed"]


def test_a_decorated_function_is_not_needed_to_look_for_a_second_run(
    wiro: LocalWiro, instance: Instance, make: Make, until: Callable[..., Any]
) -> None:
    wiro.set_faults(["run:reset_before:times=1"])
    known = finish(lambda: make(wait_for_completion=False, destination=None), context := instance.start())
    assert instance.record is not None
    assert instance.record["doubts"] == 1
    until(known["wiro_task_id"])
    resumed = make(destination=None)
    resumed.prompt = SET_DURING_EXECUTION  # as Airflow resumes a task of @task.seedance
    event = {"status": "succeeded", "wiro_task_id": known["wiro_task_id"]}
    assert resumed.execute_complete(instance.resume(context), event)["status"] == "succeeded"


def test_a_wiped_store_finds_the_run_at_wiro(wiro: LocalWiro, instance: Instance, make: Make) -> None:
    with pytest.raises(TaskDeferred):
        make().execute(instance.start())
    instance.wipe()
    delivered = finish(make, instance.start())
    assert billed(wiro) == [delivered["wiro_task_id"]]


def test_a_store_wiped_by_a_clear_finds_the_run_although_the_dag_run_has_a_new_start(
    wiro: LocalWiro, instance: Instance, make: Make
) -> None:
    delivered = finish(make, instance.start())
    instance.clear()
    instance.wipe()
    again = finish(make, instance.start())
    assert again == delivered
    assert billed(wiro) == [delivered["wiro_task_id"]]


def test_a_store_that_fails_after_the_answer_loses_nothing(wiro: LocalWiro, instance: Instance, make: Make) -> None:
    context = instance.start()

    def down_after_the_run(value: dict[str, Any]) -> None:
        if value["phase"] != "intent":
            raise RuntimeError("no api-server")

    context["task_state_store"].before_set = down_after_the_run
    with pytest.raises(WiroStoreError, match="A retry, or a clear, looks at Wiro first"):
        make().execute(context)
    delivered = finish(make, instance.start())
    assert billed(wiro) == [delivered["wiro_task_id"]]


def test_a_map_index_that_holds_another_items_record_orders_its_own(
    wiro: LocalWiro, tmp_path: Path, make: Make
) -> None:
    instance = Instance(tmp_path, map_index=2)
    first = finish(make, instance.start())
    instance.clear()  # with the task that made the list, which is another one now
    second = finish(lambda: make(prompt="Another item"), instance.start())
    assert sorted(billed(wiro)) == sorted([first["wiro_task_id"], second["wiro_task_id"]])
    assert [run["parameters"]["prompt"] for run in runs(wiro)] == ["Once only", "Another item"]
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}


@row("the inputs of a retry are not those that were ordered")
def test_inputs_that_change_between_two_tries_order_nothing(
    row: str, wiro: LocalWiro, instance: Instance, make: Make
) -> None:
    with pytest.raises(TaskDeferred):
        make().execute(instance.start())
    (run,) = runs(wiro)
    with pytest.raises(AirflowFailException, match="inputs are not those of try 1") as caught:
        make(prompt="It is now 12:31").execute(instance.start())
    assert run["taskid"] in str(caught.value)
    assert len(runs(wiro)) == 1


def test_a_clear_before_the_delivery_goes_on_with_the_run(wiro: LocalWiro, instance: Instance, make: Make) -> None:
    slow = {"prompt": "[wiro:slow=60000]", "timeout": 60}
    with pytest.raises(TaskDeferred) as first:
        make(**slow).execute(instance.start())
    time.sleep(0.3)
    instance.clear()
    with pytest.raises(TaskDeferred) as second:
        make(**slow).execute(instance.start())
    assert second.value.kwargs["end_time"] > first.value.kwargs["end_time"] + 0.2, "a clear gives the whole time again"
    assert len(runs(wiro)) == 1


def test_a_clear_after_the_delivery_delivers_again_without_a_request_for_the_file(
    wiro: LocalWiro, instance: Instance, make: Make
) -> None:
    delivered = finish(make, instance.start())
    files = wiro.ledger()["cdn"]["requests"]
    instance.clear()
    assert finish(make, instance.start()) == delivered
    assert (wiro.ledger()["cdn"]["requests"], len(runs(wiro))) == (files, 1)


def test_a_clear_with_resubmit_makes_a_new_video_with_a_new_seed(
    wiro: LocalWiro, instance: Instance, make: Make
) -> None:
    delivered = finish(lambda: make(on_clear="resubmit"), instance.start())
    instance.clear()
    again = finish(lambda: make(on_clear="resubmit"), instance.start())
    assert again["wiro_task_id"] != delivered["wiro_task_id"]
    first, second = runs(wiro)
    assert first["parameters"]["seed"] != second["parameters"]["seed"]
    finish(lambda: make(on_clear="resubmit"), instance.start())  # a retry of the same
    assert len(runs(wiro)) == 2


def test_a_clear_with_resubmit_stops_what_still_runs(wiro: LocalWiro, instance: Instance, make: Make) -> None:
    with pytest.raises(TaskDeferred):
        make(prompt="[wiro:slow=60000]", on_clear="resubmit").execute(instance.start())
    instance.clear()
    with pytest.raises(TaskDeferred):
        make(prompt="[wiro:slow=60000]", on_clear="resubmit").execute(instance.start())
    first, second = runs(wiro)
    assert first["stopped_by_request"]
    assert not second["stopped_by_request"]


def test_with_no_retries_left_a_clear_collects_what_is_paid(
    wiro: LocalWiro, tmp_path: Path, make: Make, until: Callable[..., Any]
) -> None:
    instance = Instance(tmp_path, retries=0, max_tries=0)
    with pytest.raises(TaskDeferred):
        make(retries=0).execute(instance.start())
    until(runs(wiro)[0]["taskid"])  # and the worker dies in the resume
    instance.clear()
    delivered = finish(lambda: make(retries=0), instance.start())
    assert billed(wiro) == [delivered["wiro_task_id"]]


@pytest.mark.parametrize("offset", [-90, 90])
def test_a_wrong_clock_at_wiro_changes_nothing(
    wiro: LocalWiro, instance: Instance, make: Make, brisk: None, offset: int
) -> None:
    wiro.set_clock_offset(offset)
    try:
        wiro.set_faults(["run:reset_after:times=1"])
        delivered = finish(make, instance.start())
        assert billed(wiro) == [delivered["wiro_task_id"]]
    finally:
        wiro.set_clock_offset(0)
