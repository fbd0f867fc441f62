from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, wire_inputs
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.triggers.wiro import WiroTaskTrigger


@pytest.fixture(autouse=True)
def connection(wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wiro.connection_json())


def order(client: WiroClient, prompt: str = "A trigger") -> str:
    return client.run(DEFAULT_MODEL, wire_inputs(DEFAULT_MODEL, {"prompt": prompt})).wiro_task_id


def trigger(wiro_task_id: str, **changes: Any) -> WiroTaskTrigger:
    arguments = {
        "wiro_conn_id": "wiro_default",
        "wiro_task_id": wiro_task_id,
        "poll_interval": 0.05,
        "end_time": time.time() + 30,
        "grace": 0.0,
    }
    return WiroTaskTrigger(**(arguments | changes))


def events_of(running: WiroTaskTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in running.run()]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    ("mark", "status"),
    [("", "succeeded"), ("[wiro:fail]", "failed"), ("[wiro:error]", "failed"), ("[wiro:cancel]", "cancelled")],
)
def test_one_event_says_how_the_task_ended(client: WiroClient, mark: str, status: str) -> None:
    wiro_task_id = order(client, f"A trigger {mark}")
    assert events_of(trigger(wiro_task_id)) == [{"status": status, "wiro_task_id": wiro_task_id}]


def test_the_deadline_ends_the_wait_and_nothing_else(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = order(client, "A trigger [wiro:hang]")
    events = events_of(trigger(wiro_task_id, end_time=time.time() + 0.5))
    assert events == [{"status": "timeout", "wiro_task_id": wiro_task_id}]
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}


def test_no_event_within_the_grace(client: WiroClient) -> None:
    started = time.monotonic()
    assert len(events_of(trigger(order(client), grace=1.5))) == 1
    assert time.monotonic() - started >= 1.5


@pytest.mark.parametrize("kind", ["error", "reset", "html", "truncated", "rate_limit:seconds=0"])
def test_outages_are_ridden_out(client: WiroClient, wiro: LocalWiro, kind: str) -> None:
    wiro_task_id = order(client)
    wiro.set_faults([f"list:{kind}:times=5", f"detail:{kind}:times=2"])
    assert events_of(trigger(wiro_task_id)) == [{"status": "succeeded", "wiro_task_id": wiro_task_id}]
    assert sum(wiro.ledger()["faults"].values()) >= 2


@pytest.mark.parametrize(
    "connection_json",
    [
        '{"conn_type": "wiro", "host": "%s", "password": "another-key", "extra": {"api_secret": "wrong"}}',
        '{"conn_type": "wiro", "host": "%s", "extra": {"api_secret": "half"}}',
    ],
)
def test_a_refusal_of_the_credentials_ends_the_wait_at_once(
    client: WiroClient, wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch, connection_json: str
) -> None:
    wiro_task_id = order(client)
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", connection_json % wiro.base_url)
    assert events_of(trigger(wiro_task_id)) == [{"status": "refused", "wiro_task_id": wiro_task_id}]


def test_a_missing_connection_ends_the_wait_at_once() -> None:
    assert events_of(trigger("1", wiro_conn_id="nowhere")) == [{"status": "refused", "wiro_task_id": "1"}]


def test_slow_answers_never_block_the_loop(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = order(client)
    wiro.set_faults(["list:slow:seconds=0.6", "detail:slow:seconds=0.6"])

    async def longest_stall() -> float:
        async def wait() -> None:
            async for _ in trigger(wiro_task_id, end_time=time.time() + 1.0).run():
                pass

        waiting = asyncio.create_task(wait())
        longest = 0.0
        while not waiting.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        return longest

    assert asyncio.run(longest_stall()) < 0.4


def test_its_row_in_the_database_holds_ids_and_numbers_only(wiro: LocalWiro) -> None:
    path, arguments = trigger("2221").serialize()
    assert path == "airflow_provider_wiro.triggers.wiro.WiroTaskTrigger"
    assert set(arguments) == {
        "wiro_conn_id",
        "wiro_task_id",
        "poll_interval",
        "end_time",
        "grace",
        "cancel_on_kill",
        "max_poll_interval",
    }
    assert WiroTaskTrigger(**arguments).serialize() == (path, arguments)
    assert "local-secret" not in repr(trigger("2221"))


class Supervisor:
    """Stands for Airflow's supervisor, which knows the states of task instances."""

    def __init__(self, states: dict[str, Any]) -> None:
        self.states = states

    async def asend(self, message: GetTaskStates) -> TaskStatesResult:
        assert message.run_ids is not None
        return TaskStatesResult(task_states={message.run_ids[0]: self.states})


@pytest.mark.parametrize(
    ("map_index", "states", "stopped"),
    [
        (-1, {"video": "failed"}, True),
        (-1, {"video": "success"}, True),
        (-1, {}, True),  # the Dag run is gone
        (-1, {"video": "deferred"}, False),  # the trigger only moves to another triggerer
        (-1, {"video": "running"}, False),  # cleared, and started again
        (-1, {"video": None}, False),  # cleared, not scheduled yet
        (3, {"video_3": "failed", "video_2": "deferred"}, True),
        (3, {"video_3": "deferred", "video_2": "failed"}, False),
    ],
)
def test_only_a_task_that_is_over_in_airflow_is_stopped(
    client: WiroClient,
    wiro: LocalWiro,
    monkeypatch: pytest.MonkeyPatch,
    map_index: int,
    states: dict[str, Any],
    stopped: bool,
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(states), raising=False)
    running = trigger(order(client, "A trigger [wiro:hang]"))
    running._task_instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="video", map_index=map_index)
    asyncio.run(running.on_kill())
    assert (wiro.ledger()["runs"][0]["status"] == "task_cancel") is stopped


def test_nothing_is_stopped_where_the_user_said_so(client: WiroClient, wiro: LocalWiro) -> None:
    asyncio.run(trigger(order(client, "A trigger [wiro:hang]"), cancel_on_kill=False).on_kill())
    assert wiro.ledger()["runs"][0]["status"] != "task_cancel"
