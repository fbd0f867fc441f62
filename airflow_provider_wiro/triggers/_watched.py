"""What a watcher knows of one task that is waited for, and when it is worth another look."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_wiro.api.tasks import QUEUED_STATUSES, Glance, Outcome, WiroTask
from airflow_provider_wiro.exceptions import WiroBusyError, WiroConnectionError, WiroError

Look = WiroTask | WiroError
"""A task as it was seen, or why it could not be."""

# How many runs tell how long a model's shortest is, and the share of that in which none is expected to end.
_FEWEST, _MOST, _SHARE = 3, 50, 0.9


class Durations:
    """How long the runs of each model have taken at least, learnt from those that were seen from begin to end."""

    def __init__(self) -> None:
        self._runs: dict[str | None, deque[float]] = defaultdict(lambda: deque(maxlen=_MOST))

    def add(self, model: str | None, seconds: float) -> None:
        """Note that a run took at least so many seconds."""
        self._runs[model].append(seconds)

    def shortest(self, model: str | None) -> float:
        """Return the seconds in which no run of a model is expected to end; 0 while too few are known."""
        runs = self._runs.get(model, ())
        return min(runs) * _SHARE if len(runs) >= _FEWEST else 0.0


class Mailbox:
    """Where one trigger gets what is new, and how often it wants to know.

    As slim as it can be, and the watcher keeps the time for it: a thousand queues and timers of asyncio would make the
    garbage collector walk through all of Airflow.

    :param interval: seconds between two looks where a task may end at any moment.
    :param longest: seconds between two looks where it is not expected to.
    :param end_time: unix time at which the waiting ends.
    """

    __slots__ = ("_news", "_reader", "end_time", "interval", "longest")

    def __init__(self, interval: float, longest: float, end_time: float) -> None:
        self.interval = interval
        self.longest = longest
        self.end_time = end_time
        self._news: list[Any] = []
        self._reader: asyncio.Future[None] | None = None

    @property
    def has_news(self) -> bool:
        """Whether something waits to be read."""
        return bool(self._news)

    def put(self, news: Any) -> None:
        """Add a pair of id and look, a number of free places, or what ends the watcher."""
        self._news.append(news)
        self.wake()

    def wake(self) -> None:
        """Let the reader look at news and clock."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def next(self) -> Any:
        """Return what came first, or ``None`` at the end time; an exception is raised."""
        while not self._news:
            if time.time() >= self.end_time:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        news = self._news.pop(0)
        if isinstance(news, BaseException):
            raise news
        return news


@dataclass(eq=False, slots=True)
class Watched:
    """One task that is waited for. All times are of the monotonic clock."""

    wiro_task_id: str
    due: float
    """When the next look is due."""
    mailboxes: list[Mailbox] = field(default_factory=list)
    looked: float = -math.inf
    """When it was seen last."""
    from_end: int | None = None
    """Its place in the list, counted from the end that does not move, where it is known."""
    unlisted: int = 0
    """For how many rounds the list, which does not show it, is not searched for it."""
    running: bool = True
    interval: float = math.inf
    """Seconds between two looks where it may end at any moment."""
    longest: float = math.inf
    """Seconds between two looks where it is not expected to."""
    _status: str | None = None
    _model: str | None = None
    _is_queued: bool = False
    _in_trouble: bool = False
    _queued_at: float | None = None
    _ran_from: float | None = None
    _ran_to: float = 0.0

    def join(self, mailbox: Mailbox, due: float) -> None:
        """Let one more trigger know what is new, beginning with what is known already."""
        self.mailboxes.append(mailbox)
        self.interval = min(self.interval, mailbox.interval)
        self.longest = min(self.longest, mailbox.longest)
        self.due = min(self.due, due)
        self._status = None

    def tell(self, look: Look) -> None:
        """Pass a look on where it is news: another status, the first trouble, the end of it."""
        if isinstance(look, WiroTask):
            news = self._in_trouble or look.status != self._status
            self._in_trouble, self._status = False, look.status
        else:
            # What does not pass by itself, and how long a task has been missing, is the waiter's to judge.
            news = not self._in_trouble or not isinstance(look, (WiroBusyError, WiroConnectionError))
            self._in_trouble = True
        if news:
            for mailbox in self.mailboxes:
                mailbox.put((self.wiro_task_id, look))

    def knows(self, glance: Glance) -> bool:
        """Tell whether a glance has nothing new."""
        return self.running and not self._in_trouble and glance.status == self._status

    def saw(self, task: WiroTask, now: float, durations: Durations, jitter: float) -> None:
        """Take a look at the task in, and decide when the next one is due."""
        self.running, self._model = task.outcome is Outcome.RUNNING, task.model
        if task.outcome is Outcome.SUCCEEDED and self._ran_from is not None:
            durations.add(task.model, self._ran_to - self._ran_from)
        self._is_queued = task.status in QUEUED_STATUSES
        self.saw_again(now, durations, jitter)

    def saw_again(self, now: float, durations: Durations, jitter: float) -> None:
        """Note that the task is as it was, and decide when the next look is due."""
        self.looked = now
        if not self.running:
            self.due = math.inf
            return
        shortest = durations.shortest(self._model)
        if self._is_queued:
            self._queued_at = now
            may_end = now + shortest
        else:
            self._ran_from, self._ran_to = self._ran_from or now, now
            may_end = now if self._queued_at is None else self._queued_at + shortest
        self.due = now + max(self.interval, min(self.longest, may_end - now)) * jitter


def windows(ranks: Sequence[int], size: int) -> list[int]:
    """Return the first places of the fewest pages that show all of some places of a list.

    :param ranks: the places, in order.
    :param size: how many places a page shows.
    """
    starts: list[int] = []
    for rank in ranks:
        if not starts or rank >= starts[-1] + size:
            starts.append(rank)
    return starts
