"""One watcher for all that wait: what the triggers of an event loop ask of one Wiro project is asked once.

One page of Task/List answers for a hundred tasks, so the pages that show the waiting ones are read, and no others.
What the list does not show is read by Task/Detail. The watcher only reads, and no request blocks the loop: they are
sent from a few threads of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.tasks import TaskPage, WiroTask
from airflow_provider_wiro.exceptions import (
    WiroAuthenticationError,
    WiroBusyError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroError,
)
from airflow_provider_wiro.triggers._places import Places, Turn
from airflow_provider_wiro.triggers._watched import Durations, Look, Mailbox, Watched, windows

_T = TypeVar("_T")

IN_FLIGHT = 4
"""Requests, and so connections, at once."""
_PAGE = 100
# How many pages a task is searched on, how many are read by Detail in one round, and for how many rounds a list that
# is refused, or does not show a task, is left alone.
_PAGES, _DETAILS, _REST = 100, 100, 10
# Looks that are due within this share of the interval are taken together.
_TOGETHER = 0.25
# Seconds between two looks at the account while somebody waits for a place in it: one request for all who wait.
_PLACES_EVERY = 2.0
# Timers do not run while a machine sleeps: the clock on the wall is looked at from time to time.
_NAP = 60.0
# Rounds that fail in a row until the waiting ones are told, and the longest pause in seconds after one: our own, and
# what an answer may ask for.
_BLIPS, _LONGEST_PAUSE, _LONGEST_ASKED = 3, 60.0, 600.0

_log = logging.getLogger(__name__)


class TaskWatcher:
    """Reads a project's tasks for everyone who waits in one event loop.

    Its poller runs while anybody waits. Whatever goes wrong on the way is ridden out, by all alike; only credentials
    that stay refused after the connection was read again, and a fault of its own, end the waiting, and reach everyone.

    :param connect: returns a new client of the connection, as it is now.
    """

    def __init__(self, connect: Callable[[], Awaitable[WiroClient]]) -> None:
        self._connect = connect
        self._mailboxes: dict[Mailbox, list[Watched]] = {}
        self._watched: dict[str, Watched] = {}
        self._places = Places()
        self._durations = Durations()
        self._changed = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._client: WiroClient | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._total = 0
        self._began = self._answered = self._sleeps_until = -math.inf
        self._places_due = 0.0
        self._running_on_top: frozenset[str] | None = None
        self._not_before = 0.0
        self._failures = self._list_failures = self._list_rests = 0
        self._renewed = False

    def watch(self, ids: Iterable[str], interval: float, longest: float, end_time: float) -> Mailbox:
        """Wait for tasks: what is new of them comes into the mailbox, until :meth:`leave`.

        :param ids: Wiro's ids of the tasks.
        :param interval: seconds between two looks at a task that may end at any moment.
        :param longest: seconds between two looks at one that is not expected to end yet.
        :param end_time: unix time at which the waiting ends.
        """
        mailbox = Mailbox(interval, max(interval, longest), end_time)
        now = time.monotonic()
        watched = self._mailboxes[mailbox] = [
            self._watched.setdefault(wiro_task_id, Watched(wiro_task_id, math.inf)) for wiro_task_id in ids
        ]
        # One look for those that come one after the other.
        due = max(now, self._began + interval * _TOGETHER) if watched else math.inf
        for task in watched:
            task.join(mailbox, due)
        self._start(min(due, now + end_time - time.time()))
        return mailbox

    def take_turn(self, mailbox: Mailbox, since: float, wanted: int, limit: int | None, came_back: bool) -> None:
        """Wait for places in the account: how many came free comes into the mailbox, until :meth:`leave`.

        :param mailbox: the mailbox.
        :param since: unix time of the first refusal: first come, first served.
        :param wanted: how many places.
        :param limit: how many tasks the account may run, where its refusal said so.
        :param came_back: whether it had been let go before, and was refused again.
        """
        self._places.join(Turn(since, wanted, mailbox), limit, came_back, time.monotonic())
        self._start(self._places_due)

    def leave(self, mailbox: Mailbox) -> None:
        """Wait no more."""
        for task in self._mailboxes.pop(mailbox):
            task.mailboxes.remove(mailbox)
            if not task.mailboxes:
                self._watched.pop(task.wiro_task_id, None)
        self._places.leave(mailbox)
        if not self._mailboxes:
            self._changed.set()

    def _start(self, due: float) -> None:
        if self._poller is None:
            # In an empty context: else all that it logs, and its span, belong to the trigger that came first.
            self._poller = asyncio.create_task(self._run(), context=contextvars.Context(), name="wiro-watcher")
        if due < self._sleeps_until:  # else ten thousand that come one after the other wake it as often
            self._changed.set()

    async def _run(self) -> None:
        self._threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="wiro-watcher")
        self._failures, self._list_failures, self._list_rests, self._renewed = 0, 0, 0, False
        self._not_before = 0.0
        try:
            while await self._until_due():
                await self._round()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._tell_everyone(error)
            raise
        finally:
            self._drop_client()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._poller = None
            self._changed = asyncio.Event()  # an idle watcher must not keep its loop from being forgotten

    async def _until_due(self) -> bool:
        """Sleep until the next look is due; return False when nobody waits any more."""
        while self._mailboxes:
            due = min((task.due for task in self._watched.values()), default=math.inf)
            # Where one round could not take all that was due, the next one does not follow at once.
            due = max(due, self._began + self._interval() * _TOGETHER)
            if self._places.turns:
                due = min(due, self._places_due)
            pause = max(due, self._not_before) - time.monotonic()
            if pause <= 0:
                return True
            self._changed.clear()
            pause = min(pause, self._until_an_end())
            self._sleeps_until = time.monotonic() + pause
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
        return False

    def _until_an_end(self) -> float:
        """Wake those whose time is up; return the seconds until the next one's is, or until the clock is due a look."""
        now, ends = time.time(), math.inf
        for mailbox in self._mailboxes:
            if mailbox.end_time <= now:
                mailbox.wake()
            else:
                ends = min(ends, mailbox.end_time)
        return min(ends - now, _NAP)

    async def _round(self) -> None:
        """Take the looks that are due; whatever fails makes the next round come later."""
        self._until_an_end()  # however long a round takes
        self._began = began = time.monotonic()
        self._running_on_top = None
        due = [task for task in self._watched.values() if task.due <= began + task.interval * _TOGETHER]
        try:
            if self._client is None:
                self._client = await self._connect()
            await self._read(self._client, due)
        except (WiroAuthenticationError, WiroConfigurationError) as error:
            self._refused(error)
        except WiroError as error:
            self._failed(error, due)
        except Exception as error:
            _log.exception("Looking at Wiro's tasks failed.")
            self._failed(WiroConnectionError(f"{type(error).__name__}: {error}."), due)
        else:
            if self._failures >= _BLIPS:
                _log.info("Wiro's tasks can be read again.")
            self._failures, self._renewed = 0, False
        if self._places.turns and began >= self._places_due:
            self._places_due = time.monotonic() + _PLACES_EVERY * random.uniform(0.8, 1.2)
            self._places.let_go(self._running(), time.monotonic())

    async def _read(self, client: WiroClient, due: Sequence[Watched]) -> None:
        if self._list_rests > 0:
            self._list_rests -= 1
        else:
            try:
                await self._read_list(client, due)
                self._list_failures = 0
            except WiroBusyError:
                raise
            except WiroError as error:
                self._list_failures += 1
                blip = isinstance(error, WiroConnectionError) and self._list_failures < _BLIPS
                if blip or (isinstance(error, WiroAuthenticationError) and not self._watched):
                    raise  # where nobody waits for a task, no Detail tells whether the list alone is refused
                if self._list_failures <= _BLIPS:
                    _log.warning("Wiro does not tell its tasks, each is asked for by itself: %s", error)
                self._list_rests = _REST
        await self._read_details(client, [task for task in due if task.looked < self._began])

    async def _read_list(self, client: WiroClient, due: Sequence[Watched]) -> None:
        """Read the pages of the list that show what is due."""
        searched = [task for task in due if task.from_end is None and not task.unlisted]
        for task in due:
            task.unlisted = max(0, task.unlisted - 1)
        if searched or (self._places.turns and self._began >= self._places_due):
            await self._search(client, searched)
        for at_once in (1, IN_FLIGHT):  # the first page tells how many tasks are new, and so where the others are
            missing = [task for task in due if task.from_end is not None and task.looked < self._began]
            ranks = sorted(max(0, self._total - (task.from_end or 0)) for task in missing)
            starts = windows(ranks, _PAGE)[: 1 if at_once == 1 else None]
            for first in range(0, len(starts), at_once):
                pages = [self._read_page(client, start) for start in starts[first : first + at_once]]
                for outcome in await asyncio.gather(*pages, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
        for task in due:
            if task.looked < self._began:
                task.from_end = None

    async def _search(self, client: WiroClient, searched: Sequence[Watched]) -> None:
        """Read page after page, newest first, while tasks are missing whose place is not known."""
        wanted = {task.wiro_task_id for task in searched}
        start = vain = 0
        for _ in range(_PAGES):
            page = await self._read_page(client, start)
            shown = {glance.wiro_task_id for glance in page.glances}
            start += len(page.glances)
            vain += not shown & wanted
            wanted -= shown
            # A page that shows none of them costs as much as asking for one of them by itself.
            is_last = len(page.glances) < _PAGE or (page.total is not None and start >= page.total)
            if not wanted or vain >= len(wanted) or is_last or _is_past(page, wanted):
                break
        for wiro_task_id in wanted & self._watched.keys():
            self._watched[wiro_task_id].unlisted = _REST

    async def _read_page(self, client: WiroClient, start: int) -> TaskPage:
        page = await self._call(partial(client.list_tasks, start, _PAGE))
        now = time.monotonic()
        self._total = page.total if page.total is not None else 0
        jitter = random.uniform(0.95, 1.05)
        for index, glance in enumerate(page.glances):
            if (task := self._watched.get(glance.wiro_task_id)) is None:
                continue
            task.from_end, task.unlisted = self._total - start - index, 0
            if task.knows(glance):
                task.saw_again(now, self._durations, jitter)
            else:
                shown = WiroTask.from_api(page.entries[index])
                task.saw(shown, now, self._durations, jitter)
                task.tell(shown)
        if start == 0:
            self._running_on_top = frozenset(glance.wiro_task_id for glance in page.glances if glance.is_running)
        return page

    async def _read_details(self, client: WiroClient, tasks: Sequence[Watched]) -> None:
        """Ask for tasks one by one, a few at a time, those that waited longest first."""
        tasks = sorted(tasks, key=lambda task: task.looked)[:_DETAILS]
        for first in range(0, len(tasks), IN_FLIGHT):
            some = tasks[first : first + IN_FLIGHT]
            looked = await asyncio.gather(*(self._look_at(client, task) for task in some))
            failures = [error for error in looked if error is not None]
            for error in failures:
                if not (isinstance(error, WiroConnectionError) and self._answered >= self._began):
                    raise error
            if len(failures) == len(some):
                break  # they may be sick, or all of Detail is: the others' turn comes

    async def _look_at(self, client: WiroClient, task: Watched) -> WiroError | None:
        """Read one task; return what keeps the others from being read, too."""
        try:
            look: Look = await self._call(partial(client.get_task, task.wiro_task_id))
        except WiroError as error:
            task.due = time.monotonic() + task.interval
            if self._is_everyones(error):
                return error
            look = error
        now = time.monotonic()
        if isinstance(look, WiroError):
            task.looked = now
        else:
            task.saw(look, now, self._durations, random.uniform(0.95, 1.05))
        task.tell(look)
        return look if isinstance(look, WiroConnectionError) else None

    def _is_everyones(self, error: WiroError) -> bool:
        answered = self._answered >= self._began
        if isinstance(error, WiroAuthenticationError):
            return not (answered and self._renewed)  # else the very same credentials are good for others
        return isinstance(error, (WiroBusyError, WiroConfigurationError)) or (
            isinstance(error, WiroConnectionError) and not answered
        )

    async def _call(self, request: Callable[[], _T]) -> _T:
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, request)
        self._answered = time.monotonic()
        return answer

    def _running(self) -> frozenset[str] | None:
        """Return what is seen to run, on the newest page and among those waited for; None where no page was seen."""
        if self._running_on_top is None:
            return None
        return self._running_on_top | {
            task.wiro_task_id for task in self._watched.values() if task.running and task.from_end is not None
        }

    def _refused(self, error: WiroError) -> None:
        """Read the connection again, which may have new credentials; if it was, tell everyone."""
        self._drop_client()
        self._list_rests = 0
        if isinstance(error, WiroAuthenticationError) and not self._renewed:
            _log.warning("Wiro refuses the credentials, reading the connection again: %s", error)
            self._renewed = True
            return
        self._tell_everyone(error)
        self._pause(None)

    def _failed(self, error: WiroError, due: Sequence[Watched]) -> None:
        self._failures += 1
        self._list_rests = 0  # it is not the list alone that fails
        if self._failures == _BLIPS:
            _log.warning("Wiro's tasks cannot be read, trying on: %s", error)
        if self._failures >= _BLIPS:
            for task in due:
                if task.looked < self._began:
                    task.tell(error)
        self._pause(error.retry_after if isinstance(error, WiroBusyError) else None)

    def _pause(self, asked: float | None) -> None:
        """Let everyone wait longer, the longer the more often it failed."""
        interval = self._interval() or _PLACES_EVERY
        backoff = min(interval * 2.0 ** min(self._failures, 10), max(interval, _LONGEST_PAUSE)) / 2
        self._not_before = time.monotonic() + max(backoff * random.uniform(0.9, 1.1), min(asked or 0.0, _LONGEST_ASKED))

    def _interval(self) -> float:
        """Return the shortest interval that anybody wants; 0 where nobody waits for a task."""
        return min((task.interval for task in self._watched.values()), default=0.0)

    def _tell_everyone(self, error: BaseException) -> None:
        for task in self._watched.values():
            if isinstance(error, WiroError):
                task.tell(error)
            else:
                for mailbox in task.mailboxes:
                    mailbox.put(error)
        for turn in self._places.turns:
            turn.mailbox.put(error)

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


def _is_past(page: TaskPage, wanted: set[str]) -> bool:
    """Tell whether a list that is sorted by number would have shown all of these by now."""
    numbers = [glance.wiro_task_id for glance in page.glances]
    plain = all(number.isdecimal() and len(number) < 20 for number in (*numbers, *wanted))
    return plain and bool(numbers) and int(numbers[-1]) < min(map(int, wanted))


# A loop of its own for each trigger is what `dag.test()` makes.
_watchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, TaskWatcher]] = weakref.WeakKeyDictionary()


def watcher_of(wiro_conn_id: str) -> TaskWatcher:
    """Return the watcher of a connection in the running loop.

    :param wiro_conn_id: the connection.
    """
    watchers = _watchers.setdefault(asyncio.get_running_loop(), {})
    if wiro_conn_id not in watchers:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        # A round is the retry: a request that waits in its thread would keep others from theirs.
        watchers[wiro_conn_id] = TaskWatcher(lambda: WiroHook(wiro_conn_id).aget_client(attempts=1, read_timeout=30))
    return watchers[wiro_conn_id]
