"""What an operator does after it has ordered: nothing that would order again by accident."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferred

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroBusyError, WiroConnectionError, WiroTaskFailedError
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator
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
    with pytest.raises(AirflowFailException, match=r"RuntimeError: no api-server.* is ordered and untouched"):
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
