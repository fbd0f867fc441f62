"""What an operator does after it has ordered: nothing that would order again by accident."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferred,
)

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import (
    WiroBusyError,
    WiroConnectionError,
    WiroError,
    WiroOutputError,
    WiroStoreError,
    WiroSupersededError,
    WiroTaskCancelledError,
    WiroTaskFailedError,
    WiroTaskTimeoutError,
)
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator, WiroRunOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor
from tests.readme import row
from tests.unit.instances import Instance, event_of, finish

Execute = Callable[[Any], Any]


def order(**arguments: Any) -> SeedanceRunOperator:
    defaults = {"task_id": "video", "prompt": "An order", "poll_interval": 0.05, "settle": 0.5, "retries": 3}
    return SeedanceRunOperator(**{**defaults, **arguments})


@pytest.fixture
def execute(instance: Instance) -> Callable[[Any], Any]:
    """Run an operator as the next try of one task instance."""
    return lambda operator: operator.execute(instance.start())


def accepted(wiro: LocalWiro) -> int:
    return len(wiro.ledger()["runs"])


def test_a_submit_returns_id_model_and_time_and_no_token(wiro: LocalWiro, instance: Instance) -> None:
    returned = order().execute(instance.start())
    assert set(returned) == {"wiro_task_id", "model", "submitted_at"}
    told = dict(instance.xcoms)
    assert told.pop("wiro_video")["status"] == "running"
    assert told == {
        "_link_WiroTaskLink": f"{wiro.url}/tasks/{returned['wiro_task_id']}",
        "wiro_task_id": returned["wiro_task_id"],
    }


def test_the_record_has_no_prompt_no_credential_and_no_token(
    client: WiroClient, instance: Instance, execute: Execute
) -> None:
    returned = execute(order(prompt="A secret plot"))
    record = str(instance.record)
    assert returned["wiro_task_id"] in record
    token = client.get_task(returned["wiro_task_id"]).task_token
    for secret in ("plot", "local-key", "local-secret", str(token)):
        assert secret not in record


@pytest.mark.parametrize(
    "fault",
    ["error_before", "error_after", "reset_before", "reset_after", "late:seconds=0.2", "truncated", "html"],
)
def test_a_run_whose_outcome_is_lost_is_found_or_sent_again(wiro: LocalWiro, execute: Execute, fault: str) -> None:
    wiro.set_faults([f"run:{fault}:times=1"])
    returned = execute(order())
    (run,) = wiro.ledger()["runs"]
    assert run["taskid"] == returned["wiro_task_id"]


def test_too_many_requests_are_left_to_a_retry_after_the_timeout(wiro: LocalWiro, execute: Execute) -> None:
    wiro.set_faults(["run:rate_limit:seconds=1"])
    with pytest.raises(WiroBusyError, match="Nothing is ordered. A retry, or a clear, orders"):
        execute(order(timeout=2))
    assert accepted(wiro) == 0


def test_a_redirect_is_not_retried(wiro: LocalWiro, execute: Execute) -> None:
    wiro.set_faults(["run:redirect"])
    with pytest.raises(AirflowFailException, match="signed requests are never redirected"):
        execute(order())
    assert accepted(wiro) == 0


def test_no_connection_is_retried(monkeypatch: pytest.MonkeyPatch, execute: Execute) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WIRO_DEFAULT", '{"conn_type": "wiro", "host": "http://127.0.0.1:9", "password": "k"}'
    )
    with pytest.raises(WiroConnectionError, match="Nothing was sent"):
        execute(order())


@row("Airflow's store does not answer")
def test_a_store_that_is_down_orders_nothing(row: str, wiro: LocalWiro, instance: Instance) -> None:
    context = instance.start()

    def down(_: Any) -> None:
        raise RuntimeError("no api-server")

    context["task_state_store"].before_set = down
    with pytest.raises(WiroStoreError, match="The record of this order cannot be written"):
        order().execute(context)
    assert accepted(wiro) == 0


def test_a_superseded_try_orders_nothing(wiro: LocalWiro, instance: Instance) -> None:
    old = instance.start()
    returned = order().execute(instance.start())
    with pytest.raises(WiroSupersededError, match="this process sends nothing"):
        order().execute(old)
    (run,) = wiro.ledger()["runs"]
    assert run["taskid"] == returned["wiro_task_id"]


def test_an_airflow_that_fails_after_the_order_goes_on_with_it_at_the_retry(
    wiro: LocalWiro, instance: Instance, execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.push_problem = RuntimeError("no api-server")
    with pytest.raises(RuntimeError, match="no api-server"):
        execute(order())
    (run,) = wiro.ledger()["runs"]
    assert f"goes on with Wiro task {run['taskid']} and pays for nothing more" in capsys.readouterr().out
    instance.push_problem = None
    assert execute(order())["wiro_task_id"] == run["taskid"]
    assert accepted(wiro) == 1


@pytest.mark.parametrize("event", [None, {}, {"status": "running", "wiro_task_id": "1"}, {"status": "succeeded"}])
def test_an_odd_event_is_not_asked_to_retry(instance: Instance, event: Any) -> None:
    with pytest.raises(AirflowFailException, match="is not one of WiroTaskTrigger's"):
        order(wait_for_completion=True).execute_complete(instance.start(), event)


def test_a_trigger_that_failed_is_retried_with_what_is_ordered(
    wiro: LocalWiro, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    context = instance.start()
    with pytest.raises(TaskDeferred):
        order(wait_for_completion=True).execute(context)
    with pytest.raises(TaskDeferralError):
        order(wait_for_completion=True).resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert "goes on with what is ordered: paid once" in capsys.readouterr().out
    delivered = finish(lambda: order(wait_for_completion=True), instance.start())
    assert (delivered["status"], accepted(wiro)) == ("succeeded", 1)


def test_airflows_own_limit_of_the_wait_looks_at_wiro_once_more(
    wiro: LocalWiro, instance: Instance, until: Callable[..., Any]
) -> None:
    context = instance.start()
    with pytest.raises(TaskDeferred) as deferred:
        order(wait_for_completion=True, timeout=60).execute(context)
    assert deferred.value.timeout.total_seconds() == pytest.approx(360, abs=5)
    until(wiro.ledger()["runs"][0]["taskid"])
    expired = {"error": "Trigger timeout"}
    delivered = order(wait_for_completion=True).resume_execution("__fail__", expired, context)
    assert (delivered["status"], accepted(wiro)) == ("succeeded", 1)


def test_the_deferral_carries_ids_and_numbers_only(wiro: LocalWiro, execute: Execute) -> None:
    with pytest.raises(TaskDeferred) as caught:
        execute(order(prompt="A secret plot", wait_for_completion=True, timeout=60))
    _, arguments = caught.value.trigger.serialize()
    assert arguments["wiro_task_id"] == wiro.ledger()["runs"][0]["taskid"]
    assert arguments["end_time"] - time.time() == pytest.approx(60, abs=5)
    assert "plot" not in str(arguments) + str(caught.value.kwargs)
    assert set(caught.value.kwargs) == {"end_time", "request"}
    assert re.fullmatch("[0-9a-f]{64}|", caught.value.kwargs["request"])


def test_a_wait_for_certainty_is_deferred_too(wiro: LocalWiro, execute: Execute) -> None:
    wiro.set_faults(["run:reset_before"])
    with pytest.raises(TaskDeferred) as caught:
        execute(order(prompt="A secret plot", settle=60))
    assert caught.value.method_name == "look_again"
    assert caught.value.trigger.moment.timestamp() - time.time() == pytest.approx(60, abs=5)
    assert "plot" not in str(caught.value.trigger.serialize()) + str(caught.value.kwargs)
    assert accepted(wiro) == 0


def test_an_outage_at_the_resume_is_waited_out(
    wiro: LocalWiro, instance: Instance, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = instance.start()
    with pytest.raises(TaskDeferred):
        order(wait_for_completion=True).execute(context)
    wiro_task_id = wiro.ledger()["runs"][0]["taskid"]
    until(wiro_task_id)
    wiro.set_faults(["detail:html"])
    with pytest.raises(TaskDeferred):
        order(wait_for_completion=True).execute_complete(
            context, {"status": "succeeded", "wiro_task_id": wiro_task_id}, end_time=time.time() + 60
        )


def test_files_that_cannot_be_had_are_not_ordered_again(wiro: LocalWiro, instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def make(folder: str) -> SeedanceRunOperator:
        return order(wait_for_completion=True, deferrable=False, destination=str(tmp_path / folder / "below"))

    with pytest.raises(WiroOutputError, match="and pays for nothing more"):
        finish(lambda: make("file"), instance.start())
    delivered = finish(lambda: make("folder"), instance.start())
    assert (len(delivered["files"]), accepted(wiro)) == (1, 1)


def test_a_failed_model_is_ordered_again_by_a_retry_three_times_at_most(wiro: LocalWiro, instance: Instance) -> None:
    def make() -> SeedanceRunOperator:
        return order(prompt="[wiro:fail]", wait_for_completion=True, deferrable=False)

    for said in ("A retry, or a clear, orders anew", "A retry, or a clear, orders anew", "a clear orders anew"):
        with pytest.raises(WiroTaskFailedError, match="not billed") as caught:
            finish(make, instance.start())
        assert said in str(caught.value)
    with pytest.raises(AirflowFailException, match="Wiro ended 3 Runs of this order without success"):
        finish(make, instance.start())
    assert accepted(wiro) == 3
    instance.clear()
    with pytest.raises(WiroTaskFailedError):
        finish(make, instance.start())
    assert accepted(wiro) == 4
    assert wiro.ledger()["billed_total"] in ("0", "0.00")


def test_a_fetch_before_the_end_may_be_retried_and_a_sensor_need_not_wait_after_it(
    client: WiroClient, wiro: LocalWiro, tmp_path: Path, until: Callable[..., Any], execute: Execute
) -> None:
    known = execute(order(prompt="[wiro:slow=600]"))
    fetch = WiroFetchOutputsOperator(task_id="fetch", task=known, destination=str(tmp_path))
    with pytest.raises(Exception, match="Put a WiroTaskSensor before the fetch") as caught:
        execute(fetch)
    assert not isinstance(caught.value, AirflowFailException)
    until(known["wiro_task_id"])
    waited = execute(WiroTaskSensor(task_id="wait", task=known))
    assert (waited["status"], waited["submitted_at"]) == ("succeeded", known["submitted_at"])
    fetched = execute(WiroFetchOutputsOperator(task_id="fetch", task=waited, destination=str(tmp_path)))
    calls = wiro.ledger()["calls"]
    again = execute(WiroFetchOutputsOperator(task_id="fetch", task=waited, destination=str(tmp_path)))
    assert again == fetched
    assert wiro.ledger()["calls"] == calls


@pytest.mark.parametrize("destination", ["nosuch://bucket/videos", "s3nosuch://conn@bucket/x", "  "])
def test_a_destination_that_cannot_work_is_refused_before_anything_is_ordered(
    wiro: LocalWiro, execute: Execute, destination: str
) -> None:
    operator = order(wait_for_completion=True, destination="/videos")
    operator.destination = destination  # as a template would
    with pytest.raises(AirflowFailException, match="destination is"):
        execute(operator)
    assert accepted(wiro) == 0


def test_an_execution_timeout_leaves_the_order_to_the_next_try(
    wiro: LocalWiro, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = order(prompt="[wiro:slow=3000]", wait_for_completion=True, deferrable=False)
    with execution_timeout(0.5), pytest.raises(AirflowTaskTimeout):
        operator.execute(instance.start())
    assert "pays for nothing more" in capsys.readouterr().out
    delivered = finish(lambda: order(prompt="[wiro:slow=3000]", wait_for_completion=True), instance.start())
    assert (delivered["status"], accepted(wiro)) == ("succeeded", 1)


def test_an_execution_timeout_while_the_order_is_on_its_way_leaves_the_intent(
    wiro: LocalWiro, instance: Instance, execute: Execute
) -> None:
    wiro.set_faults(["run:slow:seconds=2:times=1"])
    with execution_timeout(0.5), pytest.raises(AirflowTaskTimeout):
        execute(order())
    assert instance.record is not None
    assert instance.record["phase"] == "intent"
    returned = execute(order())
    (run,) = wiro.ledger()["runs"]
    assert run["taskid"] == returned["wiro_task_id"]


@pytest.mark.parametrize(("state", "stopped"), [("failed", True), ("running", False), ("deferred", False)])
def test_a_kill_while_the_order_is_on_its_way_stops_it_only_where_somebody_ended_the_task(
    wiro: LocalWiro, instance: Instance, state: str, stopped: bool
) -> None:
    operator = order(prompt="[wiro:hang]", wait_for_completion=True)
    wiro.set_faults(["run:slow:seconds=1"])
    instance.state = state
    threading.Timer(0.3, operator.on_kill).start()
    with pytest.raises((AirflowFailException, TaskDeferred)):
        operator.execute(instance.start())
    (run,) = wiro.ledger()["runs"]
    assert (run["status"] == "task_cancel") is stopped


def test_a_kill_before_the_order_orders_nothing(wiro: LocalWiro, execute: Execute) -> None:
    operator = order()
    operator.on_kill()
    with pytest.raises(WiroError, match="before anything was ordered"):
        execute(operator)
    assert accepted(wiro) == 0


def test_a_kill_from_below_may_be_retried_once_the_task_is_stopped(wiro: LocalWiro, execute: Execute) -> None:
    operator = order(prompt="[wiro:hang]", wait_for_completion=True, deferrable=False)
    threading.Timer(0.5, operator.on_kill).start()
    with pytest.raises(WiroTaskCancelledError, match="because Airflow ended this process") as caught:
        execute(operator)
    assert caught.value.retryable
    assert accepted(wiro) == 1


def test_inputs_that_are_no_mapping_are_not_retried(wiro: LocalWiro, execute: Execute) -> None:
    operator = WiroRunOperator(task_id="run", model="local/echo-text", inputs={"prompt": "x"})
    operator.inputs = ["x"]  # as another task might bring
    with pytest.raises(AirflowFailException, match="inputs is"):
        execute(operator)
    assert accepted(wiro) == 0


def test_the_deadline_counts_from_the_submission_across_tries(wiro: LocalWiro, instance: Instance) -> None:
    def make() -> SeedanceRunOperator:
        return order(prompt="[wiro:hang]", wait_for_completion=True, timeout=2)

    with pytest.raises(TaskDeferred) as first:
        make().execute(instance.start())
    time.sleep(0.5)
    with pytest.raises(TaskDeferred) as second:
        make().execute(context := instance.start())
    assert second.value.kwargs["end_time"] == pytest.approx(first.value.kwargs["end_time"], abs=0.01)
    # `dag.test()` drops what was deferred with.
    event = event_of(second.value)
    with pytest.raises(WiroTaskTimeoutError, match="was stopped.* A retry, or a clear, orders anew"):
        make().execute_complete(context, event)
    assert accepted(wiro) == 1


def test_what_was_left_after_its_time_is_gone_on_with(wiro: LocalWiro, instance: Instance) -> None:
    def make(**more: Any) -> SeedanceRunOperator:
        return order(prompt="[wiro:slow=3000]", wait_for_completion=True, timeout=0.5, cancel_on_timeout=False, **more)

    with pytest.raises(WiroTaskTimeoutError, match="goes on at Wiro") as caught:
        finish(make, instance.start())
    assert caught.value.retryable
    instance.clear()  # gives it its whole time again
    delivered = finish(lambda: order(prompt="[wiro:slow=3000]", wait_for_completion=True), instance.start())
    assert (delivered["status"], accepted(wiro)) == ("succeeded", 1)


@pytest.mark.parametrize(("ago", "error"), [(120, AirflowFailException), (5, AirflowRescheduleException)])
def test_a_sensor_that_sleeps_between_looks_is_patient_for_a_minute_only(ago: int, error: type[BaseException]) -> None:
    class Sleeper:
        def get_first_reschedule_date(self, context: Any) -> datetime:
            return datetime.now(UTC) - timedelta(seconds=ago)

        def xcom_push(self, key: str, value: Any) -> None:
            pass

    sensor = WiroTaskSensor(task_id="wait", task="999", mode="reschedule", deferrable=False, timeout=600)
    with pytest.raises(error):
        sensor.execute({"ti": Sleeper()})


@contextmanager
def execution_timeout(seconds: float) -> Iterator[None]:
    """Raise what Airflow raises, from a signal as Airflow does."""

    def alarm(*_: object) -> None:
        raise AirflowTaskTimeout("Process timed out")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
