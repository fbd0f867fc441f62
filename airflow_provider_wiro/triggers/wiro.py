"""The triggers that wait in the triggerer: for one Wiro task, and for a place in the account."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wiro.exceptions import WiroError
from airflow_provider_wiro.waiting import PLACE, REFUSED, TIMEOUT, Wait, longest_interval


class WiroTaskTrigger(BaseTrigger):
    """Waits until a Wiro task has ended, and says so once.

    All triggers of a triggerer that use the same connection share one watcher, which reads a hundred tasks with one
    request. It only reads: a triggerer that dies or loses its triggers leaves nothing behind, and the next one starts
    anew from these arguments. Outages are ridden out until `end_time`. Its one event has ``wiro_task_id`` and
    ``status``: an outcome (``succeeded``, ``failed``, ``cancelled``), ``timeout``, or ``refused`` when Wiro will not
    show the task. The worker reads the task itself and decides.

    :param wiro_conn_id: the connection; its secrets stay out of the trigger's row in the database.
    :param wiro_task_id: Wiro's id of the task.
    :param poll_interval: seconds between two looks at the task while it may end at any moment.
    :param end_time: unix time in seconds at which the waiting ends.
    :param grace: seconds from the start in which no event is sent, although looks are taken; default 10. An event soon
        after the deferral can make Airflow 3.3 run the same try twice.
    :param cancel_on_kill: whether the remote task is stopped when somebody ends the Airflow task; default True.
    :param max_poll_interval: seconds between two looks while the task is not expected to end, going by the runs of its
        model that have been seen; default: four times `poll_interval`.
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
        max_poll_interval: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wiro_conn_id = wiro_conn_id
        self.wiro_task_id = wiro_task_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.grace = grace
        self.cancel_on_kill = cancel_on_kill
        self.max_poll_interval = max_poll_interval

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
                "max_poll_interval": self.max_poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then send the one event."""
        may_send_at = time.monotonic() + self.grace
        status = await self._wait()
        await asyncio.sleep(max(0.0, may_send_at - time.monotonic()))
        yield TriggerEvent({"status": status, "wiro_task_id": self.wiro_task_id})  # type: ignore[no-untyped-call]

    async def _wait(self) -> str:
        from airflow_provider_wiro.triggers.watcher import watcher_of

        watcher = watcher_of(self.wiro_conn_id)
        wait = Wait(self.wiro_task_id, self.end_time, self.log)
        longest = longest_interval(self.poll_interval, self.max_poll_interval)
        mailbox = watcher.watch([self.wiro_task_id], self.poll_interval, longest, self.end_time)
        try:
            while (news := await mailbox.next()) is not None:
                ended = wait.after_look(news[1], time.time())
                if ended is not None:
                    return ended
                del news  # a thousand tasks are not kept while waiting for the next look
        finally:
            watcher.leave(mailbox)
        self.log.warning("Wiro task %s has not ended in time.", self.wiro_task_id)
        return TIMEOUT

    async def on_kill(self) -> None:
        """Stop the remote task if somebody has really ended the Airflow task."""
        if self.cancel_on_kill:
            from airflow_provider_wiro.triggers._killing import stop_if_over

            await stop_if_over(self.task_instance, self.wiro_conn_id, [self.wiro_task_id], self.log)


class WiroPlaceTrigger(BaseTrigger):
    """Waits for a place in an account that runs as many tasks as it may (code 96), and says so once.

    Those that wait are let go in the order in which they were first refused, as many as places came free. Where the
    account's tasks cannot be seen, one after the other tries. Its one event has ``status`` (``place``, ``timeout``, or
    ``refused`` when Wiro refuses the credentials) and ``since``. It never orders: the worker does.

    :param wiro_conn_id: the connection.
    :param since: unix time in seconds at which the order was first refused.
    :param limit: how many tasks the account may run, where the refusal said so.
    :param came_back: whether the order had been let go before, and was refused again.
    :param end_time: unix time in seconds at which the waiting ends.
    :param grace: as for :class:`WiroTaskTrigger`.
    """

    def __init__(
        self,
        *,
        wiro_conn_id: str,
        since: float,
        limit: int | None,
        came_back: bool,
        end_time: float,
        grace: float = 10.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wiro_conn_id = wiro_conn_id
        self.since = since
        self.limit = limit
        self.came_back = came_back
        self.end_time = end_time
        self.grace = grace

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments: names and numbers only."""
        return (
            "airflow_provider_wiro.triggers.wiro.WiroPlaceTrigger",
            {
                "wiro_conn_id": self.wiro_conn_id,
                "since": self.since,
                "limit": self.limit,
                "came_back": self.came_back,
                "end_time": self.end_time,
                "grace": self.grace,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then send the one event."""
        may_send_at = time.monotonic() + self.grace
        status = await self._wait()
        await asyncio.sleep(max(0.0, may_send_at - time.monotonic()))
        yield TriggerEvent({"status": status, "since": self.since})  # type: ignore[no-untyped-call]

    async def _wait(self) -> str:
        from airflow_provider_wiro.triggers.watcher import watcher_of

        watcher = watcher_of(self.wiro_conn_id)
        mailbox = watcher.watch([], math.inf, math.inf, self.end_time)
        try:
            watcher.take_turn(mailbox, self.since, 1, self.limit, self.came_back)
            granted = await mailbox.next()
        except WiroError as error:
            self.log.error("The account's tasks cannot be watched: %s", error)
            return REFUSED
        finally:
            watcher.leave(mailbox)
        return TIMEOUT if granted is None else PLACE
