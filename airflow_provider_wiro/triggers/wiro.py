"""The trigger that waits for one Wiro task in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wiro.exceptions import WiroConnectionError, WiroError
from airflow_provider_wiro.waiting import REFUSED, TIMEOUT, Wait, log_not_stopped, log_stopped, look_at

# Airflow states of a task instance that nobody works on any more.
_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_STOP_PATIENCE = 25.0  # seconds; Airflow means to give 30
# A task that stops a remote task must not be forgotten by the event loop before it is done.
_stopping: set[asyncio.Task[None]] = set()


class WiroTaskTrigger(BaseTrigger):
    """Waits until a Wiro task has ended, and says so once.

    It only reads: a triggerer that dies or loses its triggers leaves nothing behind, and the next one starts anew from
    these arguments. Outages are ridden out until `end_time`. Its one event has ``wiro_task_id`` and ``status``: an
    outcome (``succeeded``, ``failed``, ``cancelled``), ``timeout``, or ``refused`` when Wiro will not show the task.
    The worker reads the task itself and decides.

    :param wiro_conn_id: the connection; its secrets stay out of the trigger's row in the database.
    :param wiro_task_id: Wiro's id of the task.
    :param poll_interval: seconds between two looks at the task.
    :param end_time: unix time in seconds at which the waiting ends.
    :param grace: seconds from the start in which no event is sent, although looks are taken; default 10. An event soon
        after the deferral can make Airflow 3.3 run the same try twice.
    :param cancel_on_kill: whether the remote task is stopped when somebody ends the Airflow task; default True.
    """

    def __init__(
        self,
        *,
        wiro_conn_id: str,
        wiro_task_id: str,
        poll_interval: float,
        end_time: float,
        grace: float = 10.0,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wiro_conn_id = wiro_conn_id
        self.wiro_task_id = wiro_task_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.grace = grace
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments: ids and numbers only."""
        return (
            "airflow_provider_wiro.triggers.wiro.WiroTaskTrigger",
            {
                "wiro_conn_id": self.wiro_conn_id,
                "wiro_task_id": self.wiro_task_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "grace": self.grace,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then send the one event."""
        may_send_at = time.monotonic() + self.grace
        status = await self._wait()
        await asyncio.sleep(max(0.0, may_send_at - time.monotonic()))
        yield TriggerEvent({"status": status, "wiro_task_id": self.wiro_task_id})  # type: ignore[no-untyped-call]

    async def _wait(self) -> str:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        try:
            # This loop is the retry: a request that waits in its thread would keep others from theirs.
            client = await WiroHook(self.wiro_conn_id).aget_client(attempts=1)
        except WiroError as error:
            self.log.error("Wiro task %s cannot be watched: %s", self.wiro_task_id, error)
            return REFUSED
        wait = Wait(self.wiro_task_id, self.end_time, self.log)
        try:
            while True:
                try:
                    look = await asyncio.to_thread(look_at, client, self.wiro_task_id)
                except Exception as error:
                    # A trigger that raises fails its task, and a retry of that would order again.
                    self.log.exception("Looking at Wiro task %s failed", self.wiro_task_id)
                    look = WiroConnectionError(f"{type(error).__name__}: {error}.")
                ended = wait.after_look(look, time.time())
                if ended is not None:
                    if ended == TIMEOUT:
                        self.log.warning("Wiro task %s has not ended in time.", self.wiro_task_id)
                    return ended
                await asyncio.sleep(wait.pause(look, self.poll_interval, time.time()))
        finally:
            client.close()

    async def on_kill(self) -> None:
        """Stop the remote task if somebody has really ended the Airflow task."""
        if not self.cancel_on_kill:
            return
        stopping = asyncio.create_task(self._stop())
        _stopping.add(stopping)
        stopping.add_done_callback(_stopping.discard)
        give_up_at = time.monotonic() + _STOP_PATIENCE
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                # Airflow 3.3 cancels this coroutine again about every second. Once it returns, the task's log is
                # closed.
                if time.monotonic() > give_up_at:
                    raise

    async def _stop(self) -> None:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        try:
            state = await self._airflow_state()
            if state not in _OVER:
                # Airflow 3.3 also calls on_kill when the trigger only moves to another triggerer.
                self.log.info("Wiro task %s goes on: the Airflow task is %s.", self.wiro_task_id, state)
                return
            client = await WiroHook(self.wiro_conn_id).aget_client(connect_timeout=5, read_timeout=10, attempts=2)
            log_stopped(self.log, await asyncio.to_thread(client.stop_task, self.wiro_task_id))
        except Exception as error:
            log_not_stopped(self.log, self.wiro_task_id, error)

    async def _airflow_state(self) -> str | None:
        """Return the state of this trigger's task instance; ``removed`` where there is none any more."""
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        ti = self.task_instance
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
