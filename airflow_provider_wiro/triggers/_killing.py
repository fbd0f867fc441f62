"""What triggers do when somebody ends their Airflow task: stop the remote one, if it is really over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from airflow_provider_wiro.waiting import Log, log_not_stopped, log_stopped

# Airflow states of a task instance that nobody works on any more.
_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_PATIENCE = 25.0  # seconds; Airflow means to give 30
# Remote tasks that are stopped at once, each with a few requests.
_AT_ONCE = 8
# A task that stops a remote task must not be forgotten by the event loop before it is done.
_stopping: set[asyncio.Task[None]] = set()


async def stop_if_over(ti: Any, wiro_conn_id: str, ids: Sequence[str], log: Log) -> None:
    """Stop remote tasks if somebody has really ended the Airflow task that waits for them.

    :param ti: the trigger's task instance.
    :param wiro_conn_id: the connection.
    :param ids: Wiro's ids of the tasks.
    :param log: gets a line for each of them.
    """
    stopping = asyncio.create_task(_stop(ti, wiro_conn_id, ids, log))
    _stopping.add(stopping)
    stopping.add_done_callback(_stopping.discard)
    give_up_at = time.monotonic() + _PATIENCE
    while not stopping.done():
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            # Airflow 3.3 cancels this coroutine again about every second. Once it returns, the task's log is closed.
            if time.monotonic() > give_up_at:
                raise


async def _stop(ti: Any, wiro_conn_id: str, ids: Sequence[str], log: Log) -> None:
    from airflow_provider_wiro.hooks.wiro import WiroHook

    try:
        state = await _state_of(ti)
        if state not in _OVER:
            # Airflow 3.3 also calls on_kill when the trigger only moves to another triggerer.
            which = f"Wiro task {ids[0]} goes" if len(ids) == 1 else f"{len(ids)} Wiro tasks go"
            log.info("%s on: the Airflow task is %s.", which, state)
            return
        client = await WiroHook(wiro_conn_id).aget_client(connect_timeout=5, read_timeout=10, attempts=2)
    except Exception as error:
        log_not_stopped(log, ", ".join(ids), error)
        return
    turn = asyncio.Semaphore(_AT_ONCE)

    async def stop(wiro_task_id: str) -> None:
        async with turn:
            try:
                log_stopped(log, await asyncio.to_thread(client.stop_task, wiro_task_id))
            except Exception as error:
                log_not_stopped(log, wiro_task_id, error)

    await asyncio.gather(*map(stop, ids))


async def _state_of(ti: Any) -> str | None:
    """Return the state of a trigger's task instance; ``removed`` where there is none any more."""
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    if ti is None:
        return None
    mapped = ti.map_index >= 0
    answer = await SUPERVISOR_COMMS.asend(
        GetTaskStates(
            dag_id=ti.dag_id,
            run_ids=[ti.run_id],
            task_ids=[ti.task_id],
            map_index=ti.map_index if mapped else None,
        )
    )
    if not isinstance(answer, TaskStatesResult):
        return None
    states = answer.task_states.get(ti.run_id, {})
    state = states.get(f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id, "removed")
    return None if state is None else str(state)
