"""What an operator does after it has ordered: nothing that would order again by accident."""

from __future__ import annotations

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
    WiroTaskCancelledError,
    WiroTaskFailedError,
    WiroTaskTimeoutError,
)
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator, WiroRunOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor


class TaskInstance:
    """As much of Airflow's as the operators use."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.pushed: dict[str, Any] = {}
        self.problem = problem

    def xcom_push(self, key: str, value: Any) -> None:
        if self.problem is not None:
            raise self.problem
        self.pushed[key] = value


@pytest.fixture(autouse=True)
def connection(wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wiro.connection_json())


def order(**arguments: Any) -> SeedanceRunOperator:
    return SeedanceRunOperator(**{"task_id": "video", "prompt": "An order", "poll_interval": 0.05, **arguments})


def execute(operator: Any, problem: Exception | None = None) -> Any:
    return operator.execute({"ti": TaskInstance(problem)})


def accepted(wiro: LocalWiro) -> int:
    return len(wiro.ledger()["runs"])


def test_a_submit_returns_id_model_and_time_and_no_token(wiro: LocalWiro) -> None:
    instance = TaskInstance()
    returned = order().execute({"ti": instance})
    assert set(returned) == {"wiro_task_id", "model", "submitted_at"}
    assert instance.pushed == {"_link_WiroTaskLink": f"{wiro.url}/tasks/{returned['wiro_task_id']}"}


@pytest.mark.parametrize(
    ("fault", "error", "orders"),
    [
        ("rate_limit:seconds=1", WiroBusyError, 0),
        ("error_before", AirflowFailException, 0),
        ("error_after", AirflowFailException, 1),
        ("reset_before", AirflowFailException, 0),
        ("reset_after", AirflowFailException, 1),
        ("truncated", AirflowFailException, 1),
        ("html", AirflowFailException, 0),
        ("redirect", AirflowFailException, 0),
    ],
)
def test_only_what_was_surely_not_accepted_is_retried(
    wiro: LocalWiro, fault: str, error: type[Exception], orders: int
) -> None:
    wiro.set_faults([f"run:{fault}"])
    with pytest.raises(error) as caught:
        execute(order())
    assert accepted(wiro) == orders
    if error is AirflowFailException and fault != "redirect":
        assert "It is not known whether the run was accepted" in str(caught.value)


def test_no_connection_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WIRO_DEFAULT", '{"conn_type": "wiro", "host": "http://127.0.0.1:9", "password": "k"}'
    )
    with pytest.raises(WiroConnectionError, match="Nothing was sent"):
        execute(order())


def test_an_airflow_that_fails_after_the_order_is_not_asked_to_retry(wiro: LocalWiro) -> None:
    with pytest.raises(AirflowFailException, match=r"RuntimeError: no api-server.* is ordered: it is not retried"):
        execute(order(), RuntimeError("no api-server"))
    assert accepted(wiro) == 1


@pytest.mark.parametrize("event", [None, {}, {"status": "running", "wiro_task_id": "1"}, {"status": "succeeded"}])
def test_an_odd_event_is_not_asked_to_retry(event: Any) -> None:
    with pytest.raises(AirflowFailException, match="is not one of WiroTaskTrigger's"):
        order(wait_for_completion=True).execute_complete({}, event)


def test_a_trigger_that_failed_is_not_asked_to_retry() -> None:
    with pytest.raises(AirflowFailException, match="TaskDeferralError") as caught:
        order(wait_for_completion=True).resume_execution("__fail__", {"error": "Trigger failure"}, {})
    assert isinstance(caught.value.__cause__, TaskDeferralError)


def test_the_deferral_carries_ids_and_numbers_only(wiro: LocalWiro) -> None:
    with pytest.raises(TaskDeferred) as caught:
        execute(order(prompt="A secret plot", wait_for_completion=True, timeout=60))
    _, arguments = caught.value.trigger.serialize()
    assert arguments["wiro_task_id"] == wiro.ledger()["runs"][0]["taskid"]
    assert arguments["end_time"] - time.time() == pytest.approx(60, abs=5)
    assert "plot" not in str(arguments) + str(caught.value.kwargs)
    assert set(caught.value.kwargs) == {"end_time"}


def test_an_outage_at_the_resume_is_waited_out(wiro: LocalWiro, client: WiroClient, until: Callable[..., Any]) -> None:
    operator = order(wait_for_completion=True)
    receipt = client.run(operator.model, operator.wire_inputs())
    until(receipt.wiro_task_id)
    wiro.set_faults(["detail:html"])
    operator._hook().get_conn()
    monotonic = time.monotonic()
    with pytest.raises(TaskDeferred):
        operator.execute_complete(
            {}, {"status": "succeeded", "wiro_task_id": receipt.wiro_task_id}, end_time=time.time() + 60
        )
    assert time.monotonic() - monotonic < 60


def test_files_that_cannot_be_had_are_not_ordered_again(wiro: LocalWiro, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    operator = order(wait_for_completion=True, deferrable=False, destination=str(tmp_path / "file" / "below"))
    with pytest.raises(AirflowFailException, match="WiroOutputError"):
        execute(operator)
    assert accepted(wiro) == 1


def test_a_failed_model_may_be_ordered_again(wiro: LocalWiro) -> None:
    with pytest.raises(WiroTaskFailedError, match="not billed"):
        execute(order(prompt="[wiro:fail]", wait_for_completion=True, deferrable=False))
    assert wiro.ledger()["billed_total"] in ("0", "0.00")


def test_a_fetch_before_the_end_may_be_retried_and_a_sensor_need_not_wait_after_it(
    client: WiroClient, wiro: LocalWiro, tmp_path: Path, until: Callable[..., Any]
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
    wiro: LocalWiro, destination: str
) -> None:
    operator = order(wait_for_completion=True, destination="/videos")
    operator.destination = destination  # as a template would
    with pytest.raises(AirflowFailException, match="destination is"):
        execute(operator)
    assert accepted(wiro) == 0


@pytest.mark.parametrize(("cancel", "error"), [(True, WiroTaskTimeoutError), (False, AirflowFailException)])
def test_an_execution_timeout_after_the_order_stops_it_or_is_not_retried(
    wiro: LocalWiro, cancel: bool, error: type[Exception]
) -> None:
    operator = order(prompt="[wiro:hang]", wait_for_completion=True, deferrable=False, cancel_on_kill=cancel)
    with execution_timeout(0.5), pytest.raises(error, match="execution_timeout passed"):
        execute(operator)
    (run,) = wiro.ledger()["runs"]
    assert (run["status"] == "task_cancel") is cancel


def test_an_execution_timeout_while_the_order_is_on_its_way_is_not_retried(wiro: LocalWiro) -> None:
    wiro.set_faults(["run:slow:seconds=2"])
    with (
        execution_timeout(0.5),
        pytest.raises(AirflowFailException, match="It is not known whether the run was accepted"),
    ):
        execute(order())


def test_a_kill_while_the_order_is_on_its_way_stops_what_was_ordered(wiro: LocalWiro) -> None:
    operator = order(prompt="[wiro:hang]", wait_for_completion=True)
    wiro.set_faults(["run:slow:seconds=1"])
    threading.Timer(0.3, operator.on_kill).start()
    with pytest.raises(AirflowFailException, match="was being ordered"):
        execute(operator)
    assert [run["status"] for run in wiro.ledger()["runs"]] == ["task_cancel"]


def test_a_kill_before_the_order_orders_nothing(wiro: LocalWiro) -> None:
    operator = order()
    operator.on_kill()
    with pytest.raises(WiroError, match="before anything was ordered"):
        execute(operator)
    assert accepted(wiro) == 0


def test_a_kill_from_below_may_be_retried_once_the_task_is_stopped(wiro: LocalWiro) -> None:
    operator = order(prompt="[wiro:hang]", wait_for_completion=True, deferrable=False)
    threading.Timer(0.5, operator.on_kill).start()
    with pytest.raises(WiroTaskCancelledError, match="because Airflow ended this process") as caught:
        execute(operator)
    assert caught.value.retryable
    assert accepted(wiro) == 1


def test_inputs_that_are_no_mapping_are_not_retried(wiro: LocalWiro) -> None:
    operator = WiroRunOperator(task_id="run", model="local/echo-text", inputs={"prompt": "x"})
    operator.inputs = ["x"]  # as another task might bring
    with pytest.raises(AirflowFailException, match="inputs is"):
        execute(operator)
    assert accepted(wiro) == 0


def test_a_deadline_is_kept_where_airflow_forgets_it(wiro: LocalWiro, client: WiroClient) -> None:
    operator = order(prompt="[wiro:hang]", wait_for_completion=True)
    receipt = client.run(operator.model, operator.wire_inputs())
    with pytest.raises(WiroTaskTimeoutError, match="was stopped"):  # `dag.test()` drops what was deferred with
        operator.execute_complete({}, {"status": "timeout", "wiro_task_id": receipt.wiro_task_id})


@pytest.mark.parametrize(("ago", "error"), [(120, AirflowFailException), (5, AirflowRescheduleException)])
def test_a_sensor_that_sleeps_between_looks_is_patient_for_a_minute_only(ago: int, error: type[BaseException]) -> None:
    class Sleeper(TaskInstance):
        def get_first_reschedule_date(self, context: Any) -> datetime:
            return datetime.now(UTC) - timedelta(seconds=ago)

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
