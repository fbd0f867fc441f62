"""The trigger that waits for a batch: many Wiro tasks, and places for those that are not ordered yet."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wiro.api.tasks import WiroTask
from airflow_provider_wiro.exceptions import (
    WiroAuthenticationError,
    WiroConfigurationError,
    WiroError,
    WiroNotFoundError,
)
from airflow_provider_wiro.waiting import ENDED, PLACE, REFUSED, TIMEOUT, Wait, longest_interval

if TYPE_CHECKING:
    from airflow_provider_wiro.waiting import Log

# Seconds after which what has ended is fetched although other tasks still run: its files expire at Wiro.
_FETCH_AFTER = 600.0
# Seconds in which more places are waited for when one has come free: what ends a little later than the first would wait
# until the next deferral's grace is over.
_TOGETHER = 3.0


class WiroBatchTrigger(BaseTrigger):
    """Waits until there is something to do for a batch, and says so once.

    That is when all its tasks have ended, when places in the account came free for what is not ordered yet, when
    something has been ready for ten minutes, or when the time is up. Its event has ``status`` (``ended``, ``place``,
    ``timeout``, ``refused``), ``places`` (how many may be ordered), ``since`` and ``limit``. It only reads.

    :param wiro_conn_id: the connection.
    :param ids: Wiro's ids of the tasks that run.
    :param poll_interval: seconds between two looks while a task may end at any moment.
    :param end_time: unix time in seconds at which the waiting ends.
    :param wanted: how many orders wait for a place; default 0.
    :param since: unix time in seconds since when they do.
    :param limit: how many tasks the account may run, where a refusal said so.
    :param came_back: whether orders had been let go before, and were refused again.
    :param grace: as for :class:`~airflow_provider_wiro.triggers.wiro.WiroTaskTrigger`.
    :param cancel_on_kill: whether the remote tasks are stopped when somebody ends the Airflow task; default True.
    :param max_poll_interval: as for :class:`~airflow_provider_wiro.triggers.wiro.WiroTaskTrigger`.
    """

    def __init__(
        self,
        *,
        wiro_conn_id: str,
        ids: Sequence[str],
        poll_interval: float,
        end_time: float,
        wanted: int = 0,
        since: float = 0.0,
        limit: int | None = None,
        came_back: bool = False,
        grace: float = 10.0,
        cancel_on_kill: bool = True,
        max_poll_interval: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wiro_conn_id = wiro_conn_id
        self.ids = list(ids)
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.wanted = wanted
        self.since = since
        self.limit = limit
        self.came_back = came_back
        self.grace = grace
        self.cancel_on_kill = cancel_on_kill
        self.max_poll_interval = max_poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments: ids and numbers only."""
        return (
            "airflow_provider_wiro.triggers.batch.WiroBatchTrigger",
            {
                "wiro_conn_id": self.wiro_conn_id,
                "ids": self.ids,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "wanted": self.wanted,
                "since": self.since,
                "limit": self.limit,
                "came_back": self.came_back,
                "grace": self.grace,
                "cancel_on_kill": self.cancel_on_kill,
                "max_poll_interval": self.max_poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then send the one event."""
        may_send_at = time.time() + self.grace
        status, places = await self._wait(may_send_at)
        await asyncio.sleep(max(0.0, may_send_at - time.time()))
        event = {"status": status, "places": places, "since": self.since, "limit": self.limit}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self, may_send_at: float) -> tuple[str, int]:
        from airflow_provider_wiro.triggers.watcher import watcher_of

        watcher = watcher_of(self.wiro_conn_id)
        progress = _Progress(self.ids, self.end_time, self.log)
        longest = longest_interval(self.poll_interval, self.max_poll_interval)
        mailbox = watcher.watch(self.ids, self.poll_interval, longest, self.end_time)
        places, until = 0, self.end_time
        try:
            if self.wanted:
                watcher.take_turn(mailbox, self.since, self.wanted, self.limit, self.came_back)
            while not (progress.is_refused or progress.all_ended or places >= self.wanted > 0):
                news = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(until - time.time()):
                        news = await mailbox.next()
                if news is None:
                    break
                if isinstance(news, int):
                    places += news
                    until = min(until, max(may_send_at, time.time() + _TOGETHER))
                else:
                    progress.take(*news, more=mailbox.has_news)
                    until = min(until, progress.fetch_at)
        except WiroError as error:
            progress.refuse(error)
        finally:
            watcher.leave(mailbox)
        if progress.is_refused:
            return REFUSED, 0
        if places and not progress.all_ended:
            return PLACE, places
        return (TIMEOUT if time.time() >= self.end_time else ENDED), places

    async def on_kill(self) -> None:
        """Stop the remote tasks if somebody has really ended the Airflow task."""
        if self.cancel_on_kill and self.ids:
            from airflow_provider_wiro.triggers._killing import stop_if_over

            await stop_if_over(self.task_instance, self.wiro_conn_id, self.ids, self.log)


class _Progress:
    """What has ended of a batch; it logs each tenth, those that one look shows together, and trouble once."""

    def __init__(self, ids: Sequence[str], end_time: float, log: Log) -> None:
        self._count = len(set(ids))
        self._ended: set[str] = set()
        self._missing: dict[str, Wait] = {}
        self._end_time = end_time
        self._log = log
        self._told = 0
        self._in_trouble = False
        self.is_refused = False
        """Whether Wiro will not show anything any more."""
        self.fetch_at = math.inf
        """Unix time at which what has ended is to be fetched, whatever still runs."""

    @property
    def all_ended(self) -> bool:
        """Whether nothing runs any more."""
        return len(self._ended) == self._count > 0

    def refuse(self, error: WiroError) -> None:
        """Note that nothing will be seen any more."""
        self._log.error("The batch's tasks cannot be watched: %s", error)
        self.is_refused = True

    def take(self, wiro_task_id: str, look: WiroTask | WiroError, *, more: bool = False) -> None:
        """Take one look in.

        :param more: whether the next one is there already, as of the same page.
        """
        if isinstance(look, WiroTask):
            self._in_trouble = False
            self._missing.pop(wiro_task_id, None)
            if look.outcome.is_terminal:
                self._add(wiro_task_id)
            if not more or self.all_ended:
                self._tell()
        elif isinstance(look, (WiroAuthenticationError, WiroConfigurationError)):
            self.refuse(look)
        elif isinstance(look, WiroNotFoundError):
            missing = self._missing.setdefault(wiro_task_id, Wait(wiro_task_id, self._end_time, self._log))
            if missing.after_look(look, time.time()) == REFUSED:
                self._add(wiro_task_id)  # the worker tells what that means
        elif not self._in_trouble:
            self._in_trouble = True
            self._log.warning("The batch's tasks cannot be read now, trying on: %s", look)

    def _add(self, wiro_task_id: str) -> None:
        self._ended.add(wiro_task_id)
        self.fetch_at = min(self.fetch_at, time.time() + _FETCH_AFTER)

    def _tell(self) -> None:
        if len(self._ended) * 10 // self._count > self._told:
            self._told = len(self._ended) * 10 // self._count
            self._log.info("%d of %d Wiro tasks have ended.", len(self._ended), self._count)
