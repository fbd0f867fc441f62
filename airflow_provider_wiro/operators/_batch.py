"""How a batch orders, follows and fetches: every order by itself, a few dozen at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.tasks import Outcome, WiroTask, ensure_succeeded
from airflow_provider_wiro.exceptions import (
    ACCOUNT_IS_FULL,
    WiroAuthenticationError,
    WiroBalanceError,
    WiroBusyError,
    WiroConfigurationError,
    WiroError,
    WiroInputError,
    WiroNotFoundError,
    WiroOrderError,
    WiroOutputError,
    WiroStoreError,
    WiroTaskError,
    WiroTaskTimeoutError,
)
from airflow_provider_wiro.submission.decision import NOT_FOUND_PATIENCE, Attempt
from airflow_provider_wiro.submission.driver import Later, Submission
from airflow_provider_wiro.submission.record import Phase, Record
from airflow_provider_wiro.submission.shelf import Shelf
from airflow_provider_wiro.waiting import Log, describe, log_not_stopped, log_stopped

AT_ONCE = 16
"""Orders that are sent, read or fetched at once; the client keeps as many connections."""
_PAGE = 100


class State(StrEnum):
    """How far an order of the batch has come in this try."""

    WANTED = "wanted"
    """To be ordered, or to be gone on with where an earlier try has ordered it."""
    LATER = "later"
    """Its Run's outcome is not known yet."""
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Terms:
    """What holds for every order of a batch."""

    timeout: float
    cancel_on_timeout: bool
    fetch: Callable[[WiroTask, Mapping[str, Any], Attempt, Log], dict[str, Any]]
    """Stores the files of a task that has succeeded, unless they are there; returns its facts."""
    killed: Callable[[], bool]
    admit: Callable[[], None]
    """Raises if all orders together may not be sent."""
    task_url: Callable[[str], str]
    """Returns the page of a Wiro task."""


@dataclass(eq=False)
class Item:
    """One order of the batch."""

    index: int
    """Its place in `videos`."""
    attempt: Attempt
    submission: Submission
    log: Log
    state: State = State.WANTED
    until: float = 0.0
    """Unix time of the next look at a Run whose outcome is not known."""
    facts: dict[str, Any] | None = None
    error: str = ""
    retryable: bool = True

    @property
    def is_reused(self) -> bool:
        """Whether an equal request has been delivered before."""
        return self.facts is not None and "reused_from" in self.facts

    @property
    def record(self) -> Record | None:
        """What is remembered of it."""
        return self.submission.record

    @property
    def wiro_task_id(self) -> str | None:
        """Wiro's id of its task, where it has one."""
        return self.record.wiro_task_id if self.record is not None else None


class Prefixed:
    """A log whose lines say which video they are about.

    :param log: the operator's.
    :param index: the video's place in `videos`.
    """

    def __init__(self, log: Log, index: int) -> None:
        self._log = log
        self._prefix = f"Video {index}: "

    def info(self, event: str, *args: Any) -> Any:
        """Log what goes as it should."""
        self._log.info(self._prefix + event, *args)

    def warning(self, event: str, *args: Any) -> Any:
        """Log what needs no hand yet."""
        self._log.warning(self._prefix + event, *args)

    def error(self, event: str, *args: Any) -> Any:
        """Log what needs a hand."""
        self._log.error(self._prefix + event, *args)


class Batch:
    """Brings many orders to Wiro and their files home, as far as it can be done now.

    :param items: the orders.
    :param shelf: keeps their records.
    :param client: the project's client.
    :param log: the operator's.
    :param terms: what holds for every order.
    """

    def __init__(self, items: Sequence[Item], shelf: Shelf, client: WiroClient, log: Log, terms: Terms) -> None:
        self.items = items
        self.refusal: WiroBusyError | None = None
        """Why not everything is ordered yet."""
        self.accepted = 0
        """How many orders Wiro has accepted since `advance` was called."""
        self._shelf = shelf
        self._client = client
        self._log = log
        self._terms = terms
        self._places: int | None = None
        self._no_money: WiroBalanceError | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def load(self, resumed: bool, is_over: Callable[[Item], bool]) -> None:
        """Read what is remembered, and take up every order where it was left.

        :param resumed: whether the same try goes on after a wait.
        :param is_over: tells whether an order that was delivered needs nothing more.
        :raises WiroStoreError: the store cannot be read.
        :raises WiroOrderError: without a clear, other orders than before.
        """
        self._shelf.load()
        self._remember_new()
        for item in self.items:
            record = item.submission.load()
            failure = self._shelf.failure(item.attempt.key)
            same = record is not None and record.max_tries == item.attempt.max_tries
            if failure is not None and failure["try"] == _try_of(item):
                item.state, item.error = State.FAILED, failure["error"]
                item.retryable = failure["retryable"]
            elif record is not None and same and record.phase is Phase.DONE and (resumed or is_over(item)):
                item.state = State.DONE
            elif resumed and record is not None and record.phase is Phase.RECEIPT:
                item.state = State.RUNNING

    def check_budget(self) -> None:
        """Refuse everything at once while nothing is ordered; later, each order is refused by itself.

        :raises WiroCostError: together they cost too much, or nobody can tell how much.
        """
        if self.queued() and not any(item.record is not None and item.record.unfinished for item in self.items):
            self._terms.admit()

    def advance(self, places: int | None) -> None:
        """Order, look, fetch: whatever can be done now without waiting.

        :param places: how many orders may be sent; ``None`` for as many as Wiro accepts.
        :raises WiroStoreError: nothing more may be sent.
        :raises WiroAuthenticationError: Wiro refuses the credentials.
        """
        self._places, self.refusal, self.accepted = places, None, 0
        looks = self._look()
        due = [item for item in self.items if self._is_due(item)]
        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(due)))) as threads:
            steps = [threads.submit(self._step, item, looks.get(item.wiro_task_id or "")) for item in due]
            try:
                for step in as_completed(steps):
                    step.result()
            except BaseException:
                self._stopped = True
                for step in steps:
                    step.cancel()
                raise

    def running(self) -> list[str]:
        """Return Wiro's ids of what runs."""
        return [str(item.wiro_task_id) for item in self.items if item.state is State.RUNNING]

    def queued(self) -> list[Item]:
        """Return what is not ordered yet."""
        return [item for item in self.items if item.state is State.WANTED]

    def unknown(self) -> list[Item]:
        """Return what is looked at again later, as the outcome of a Run is not known yet."""
        return [item for item in self.items if item.state is State.LATER]

    def next_moment(self) -> float | None:
        """Return the unix time at which something is to be done whatever happens, if there is one."""
        moments = [item.until for item in self.unknown()]
        moments += [self._deadline(item) for item in self.items if item.state is State.RUNNING]
        return min(moments, default=None)

    @property
    def is_over(self) -> bool:
        """Whether every order has ended, well or not."""
        return all(item.state in (State.DONE, State.FAILED) for item in self.items)

    def give_up_queued(self, why: WiroError) -> None:
        """Let everything fail that is not ordered yet."""
        for item in self.queued():
            self.fail(item, why)

    def stop(self, patience: float) -> None:
        """Stop what runs.

        :param patience: seconds for each.
        """
        with ThreadPoolExecutor(AT_ONCE) as threads:
            steps = {threads.submit(self._client.stop_task, one, patience): one for one in self.running()}
            for step in as_completed(steps):
                try:
                    log_stopped(self._log, step.result())
                except WiroError as error:
                    log_not_stopped(self._log, steps[step], error)

    def collect(self, item: Item) -> dict[str, Any]:
        """Return the facts of an order that is done, fetching again what is gone from its folder."""
        if item.facts is None:
            task = self._client.get_task(item.wiro_task_id)
            ensure_succeeded(task)
            item.facts = self._deliver(item, task)
        return item.facts

    def _remember_new(self) -> None:
        """Note every order before the first one is sent: one without a record was never sent."""
        known = self._shelf.records()
        mine = {item.attempt.key for item in self.items}
        new = [item.attempt for item in self.items if item.attempt.key not in known]
        if not new:
            return
        left = [
            record
            for key, record in known.items()
            if key not in mine and record.unfinished and record.max_tries == new[0].max_tries
        ]
        if left:
            ids = ", ".join(str(record.wiro_task_id) for record in left[:10] if record.wiro_task_id)
            raise WiroOrderError(
                f"{len(left)} orders of an earlier try are not in `videos` any more ({ids or 'without ids yet'}), and "
                f"{len(new)} are new. What was ordered stands, and the new ones would be paid, too.",
                advice="Airflow does not retry this. A clear orders the new inputs, and pays for them.",
            )
        if known or new[0].is_first:
            cleared = new[0].max_tries > new[0].retries
            since = time.time() if cleared else 0.0
            self._shelf.add(Record(one.key, Phase.OPEN, one.max_tries, one.try_number, since=since) for one in new)

    def _is_due(self, item: Item) -> bool:
        if item.state is State.LATER:
            return time.time() >= item.until
        return item.state in (State.WANTED, State.RUNNING)

    def _look(self) -> dict[str, WiroTask]:
        """Read what runs from the list, a hundred at once; what it does not show is read by itself."""
        wanted = set(self.running())
        seen: dict[str, WiroTask] = {}
        start = vain = 0
        try:
            while wanted and vain < len(wanted):
                page = self._client.list_tasks(start, _PAGE)
                found = {task.wiro_task_id: task for task in page.tasks if task.wiro_task_id in wanted}
                seen |= found
                wanted -= found.keys()
                vain += not found
                start += len(page.tasks)
                if not page.tasks or (page.total is not None and start >= page.total):
                    break
        except (WiroAuthenticationError, WiroConfigurationError):
            raise
        except WiroError as error:
            self._log.warning("Wiro does not tell its tasks, each is asked for by itself: %s", error)
        return seen

    def _step(self, item: Item, look: WiroTask | None) -> None:
        """Bring one order as far as it can be brought now."""
        if self._stopped:
            return
        try:
            if item.state is State.RUNNING:
                self._follow(item, look or self._client.get_task(item.wiro_task_id))
                return
            if not self._may_send(item):
                return
            known = item.wiro_task_id
            standing = item.submission.proceed(item.attempt)
            new = item.wiro_task_id
            if new is not None and new != known:
                item.log.info("Wiro task %s has the order: %s", new, self._terms.task_url(new))
            if isinstance(standing, Later):
                item.state, item.until = State.LATER, standing.until
                return
            item.state = State.RUNNING
            with self._lock:
                self.accepted += 1
            if standing.task is not None:
                self._follow(item, standing.task)
        except WiroBusyError as error:
            self._busy(item, error)
        except WiroBalanceError as error:
            self._no_money = error
            self.fail(item, error)
        except WiroError as error:
            self._failed(item, error)

    def _may_send(self, item: Item) -> bool:
        """Tell whether an order may go on that may send a Run."""
        if item.record is not None and item.record.phase is not Phase.OPEN:
            return True  # it is looked for first
        with self._lock:
            if self._no_money is not None:
                self.fail(item, self._no_money)
                return False
            if self.refusal is not None or self._terms.killed() or self._places == 0:
                return False
            if self._places is not None:
                self._places -= 1
        return True

    def _follow(self, item: Item, task: WiroTask) -> None:
        """Deliver a task that succeeded, raise for one that did not, stop one that is late."""
        if task.outcome is Outcome.RUNNING and time.time() >= self._deadline(item):
            task = self._time_out(item, task)
        if task.outcome is Outcome.RUNNING:
            return
        ensure_succeeded(task)
        item.facts = self._deliver(item, task)
        if item.record is not None and item.record.doubts:
            item.submission.sweep(item.attempt)
        item.submission.finish()
        item.state = State.DONE

    def _deliver(self, item: Item, task: WiroTask) -> dict[str, Any]:
        return self._terms.fetch(task, describe(task, {"model": item.attempt.model}), item.attempt, item.log)

    def _time_out(self, item: Item, task: WiroTask) -> WiroTask:
        late = f"It did not end within {self._terms.timeout:g} s"
        if self._terms.cancel_on_timeout:
            task = self._client.stop_task(task.wiro_task_id)
            log_stopped(item.log, task)
        if task.outcome is Outcome.RUNNING:
            raise WiroTaskTimeoutError(f"{late} and goes on at Wiro.", wiro_task_id=task.wiro_task_id, retryable=True)
        if task.outcome is not Outcome.SUCCEEDED:
            raise WiroTaskTimeoutError(f"{late} and was stopped.", wiro_task_id=task.wiro_task_id, retryable=True)
        return task

    def _busy(self, item: Item, error: WiroBusyError) -> None:
        """Leave an order for later: the account is full, or asks for fewer requests."""
        if item.state is State.RUNNING:
            return  # it was only looked at
        item.state = State.WANTED
        with self._lock:
            first = self.refusal is None
            if first or error.code == ACCOUNT_IS_FULL:
                self.refusal = error
        if first:
            self._log.info("Not everything is ordered yet, waiting: %s", error.message)

    def _failed(self, item: Item, error: WiroError) -> None:
        everyones = isinstance(error, (WiroAuthenticationError, WiroConfigurationError))
        if isinstance(error, WiroStoreError) or (everyones and not isinstance(error, WiroInputError)):
            raise error
        if isinstance(error, WiroNotFoundError):
            error.retryable = True  # the next try looks through the list before it calls a task gone
        passing = error.retryable and not isinstance(error, (WiroTaskError, WiroOutputError))
        if item.state is State.RUNNING and passing and not self._is_gone(item, error):
            item.log.warning("It cannot be read now, waiting on: %s", error)
            return
        self.fail(item, error)

    @staticmethod
    def _is_gone(item: Item, error: WiroError) -> bool:
        """Tell whether Wiro does not know a task that it must know by now."""
        accepted_at = item.record.submitted_at if item.record is not None else 0.0
        return isinstance(error, WiroNotFoundError) and time.time() >= accepted_at + NOT_FOUND_PATIENCE

    def fail(self, item: Item, error: WiroError) -> None:
        """Let an order fail in this try, and remember why."""
        item.state, item.error, item.retryable = State.FAILED, f"{type(error).__name__}: {error}", error.retryable
        item.log.error("%s", item.error)
        if item.record is not None:
            note = {"try": _try_of(item), "error": item.error, "retryable": error.retryable}
            self._shelf.fail(item.attempt.key, note)

    def _deadline(self, item: Item) -> float:
        return (item.record.since if item.record is not None else time.time()) + self._terms.timeout


def _try_of(item: Item) -> str:
    """Return what tells this try from all others, clears included."""
    return f"{item.attempt.max_tries}/{item.attempt.try_number}"
