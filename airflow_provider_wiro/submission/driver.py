"""Does what :mod:`~airflow_provider_wiro.submission.decision` says: looks, writes, sends.

A write to the store comes before every Run. It is the fence: a process that another try has superseded can still read
(it reads "nothing"), but its write fails, and then it sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.tasks import Outcome, TaskPage, WiroTask
from airflow_provider_wiro.exceptions import (
    WiroAuthenticationError,
    WiroConfigurationError,
    WiroError,
    WiroNotFoundError,
    WiroOrderError,
    WiroRunUnknownError,
)
from airflow_provider_wiro.submission.decision import (
    Action,
    Attempt,
    Decision,
    Listing,
    Look,
    Missing,
    Unreadable,
    decide,
    superfluous,
)
from airflow_provider_wiro.submission.matching import Sought
from airflow_provider_wiro.submission.record import Phase, Record

FENCE = 20.0
"""Seconds from the start of the write within which the Run's inputs must leave, connecting included."""
POST = 60.0
"""Seconds that a Run may take from then on until its answer is there."""
POST_WITH_FILES = 600.0
"""The same where local files go along."""
_FENCES = 5
_PAGE = 100
_PAGES = 100
_DETAILS = 20


class Store(Protocol):
    """Where one order's record is kept: Airflow's task state store."""

    def get(self) -> Any:
        """Return what was stored last, or ``None``.

        :raises WiroStoreError: the store cannot be read.
        """

    def set(self, value: Mapping[str, Any]) -> None:
        """Store durably, or raise.

        :raises WiroStoreError: nothing is known to be stored; a subclass says that another try has taken over.
        """


class Log(Protocol):
    """What is asked of the operator's logger."""

    def info(self, event: str, *args: Any) -> Any:
        """Log what goes as it should."""

    def warning(self, event: str, *args: Any) -> Any:
        """Log what needs no hand yet."""


@dataclass(frozen=True)
class Standing:
    """An order that Wiro has accepted."""

    record: Record
    task: WiroTask | None
    """As it was seen, if it was."""


@dataclass(frozen=True)
class Later:
    """What has to wait until it can be decided."""

    until: float
    """Unix time."""


class _StaleFence(Exception):
    """Too long ago: another try may have taken over since the write."""


class Submission:
    """Brings one order to Wiro once.

    :param client: the project's client.
    :param store: keeps the record.
    :param log: gets a line for everything that is decided.
    :param killed: tells whether Airflow has ended this process; asked right before anything is sent.
    :param claimed: returns the ids that siblings in the same mapped task call theirs.
    :param admit: asked before anything is sent or stopped for a new Run; raises what forbids it.
    """

    def __init__(
        self,
        client: WiroClient,
        store: Store,
        log: Log,
        *,
        killed: Callable[[], bool] = lambda: False,
        claimed: Callable[[], frozenset[str]] = frozenset,
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        self.record: Record | None = None
        self._client = client
        self._store = store
        self._log = log
        self._killed = killed
        self._claimed = claimed
        self._admit = admit

    def load(self) -> Record | None:
        """Read the record.

        :raises WiroStoreError: the store cannot be read.
        """
        stored = self._store.get()
        try:
            self.record = None if stored is None else Record.from_json(stored)
        except ValueError as error:
            self._log.warning("The record of this order cannot be read, Wiro is asked instead: %s", error)
            self.record = None
        return self.record

    def proceed(self, attempt: Attempt, files: Mapping[str, Any] | None = None) -> Standing | Later:
        """Go on with the order as far as it can be known now.

        :param attempt: the try.
        :param files: input name and path of local files that go along.
        :return: the accepted order, or when to call again.
        :raises WiroStoreError: the record cannot be read or written; nothing was sent after that.
        :raises WiroRunUnknownError: a Run may exist, and nothing tells; nothing is sent again.
        :raises WiroOrderError: the order cannot go on; the text says why.
        :raises WiroError: Wiro refused, and nothing was accepted.
        """
        look: Look = None
        began = time.time()
        while True:
            # What a look did not show may have come since it began.
            decision = decide(self.record, attempt, look, began)
            began = time.time()
            if decision.why and decision.action is not Action.REFUSE:
                self._log.info("%s", decision.why)
            if decision.action is Action.READ:
                look = self._read(decision)
            elif decision.action is Action.LIST:
                look = self._list(decision.since, attempt, self.record)
            elif decision.action is Action.WAIT:
                return Later(decision.until)
            elif decision.action is Action.REFUSE:
                raise self._refusal(decision)
            elif decision.action is Action.SUBMIT:
                self._admit()
                self._stop(decision.stop)
                self._submit(decision.record, attempt, files)
                began = time.time()
                look = None
                if self.record is not None and self.record.phase is Phase.RECEIPT:
                    return self._stand(self.record, attempt, None, is_new=True)
            else:
                assert decision.record is not None
                if decision.record != self.record:
                    self._write(decision.record)
                self._stop(decision.stop)
                is_new = decision.action is Action.ADOPT
                return self._stand(decision.record, attempt, decision.task, is_new)

    def finish(self) -> None:
        """Note that what the order made has been delivered; a store that fails now loses nothing."""
        if self.record is not None and self.record.phase is Phase.RECEIPT:
            self._try_to_write(replace(self.record, phase=Phase.DONE))

    def sweep(self, attempt: Attempt) -> None:
        """Stop a second Run of this order that Wiro accepted later than it should have.

        It costs a look at the list, and only where a Run was sent after one whose outcome had been unknown.
        """
        if self.record is None or not self.record.doubts or not attempt.marked:
            return
        look = self._list(self.record.first, attempt, self.record)
        if isinstance(look, Listing):
            self._stop(superfluous(self.record, attempt, look))

    def _stand(self, record: Record, attempt: Attempt, task: WiroTask | None, is_new: bool) -> Standing | Later:
        """Go on with the recorded task; where a second Run may have been accepted, look for that."""
        if is_new and record.doubts and attempt.marked:
            self._log.info("Looking once more after %g s whether another Run was accepted, too.", attempt.settle)
            return Later(time.time() + attempt.settle)
        self.sweep(attempt)
        return Standing(record, task)

    def _submit(self, record: Record | None, attempt: Attempt, files: Mapping[str, Any] | None) -> None:
        """Send a Run behind a fence; afterwards the record tells its outcome."""
        assert record is not None
        inputs = attempt.sought(record).inputs
        if attempt.marked:
            self._log.info("Ordering a run of %s with seed %s", attempt.model, inputs["seed"])
        else:
            self._log.info("Ordering a run of %s", attempt.model)
        for _ in range(_FENCES):
            started = time.monotonic(), time.time()
            self._fence(record, attempt, files)
            try:
                receipt = self._client.run(attempt.model, inputs, files, partial(self._check, started))
            except _StaleFence:
                self._log.warning("Connecting took too long since the intent was written: writing it again.")
                continue
            except WiroRunUnknownError as error:
                self._log.warning("The outcome of the Run is not known, looking for it at Wiro: %s", error.message)
                assert self.record is not None
                # The connection has ended: nothing of it is on its way any more.
                self._try_to_write(replace(self.record, until=min(self.record.until, time.time())))
                return
            except WiroError:
                self._try_to_write(record.left())
                raise
            assert self.record is not None
            self._write(self.record.accepted(receipt.wiro_task_id, time.time()))
            return
        self._try_to_write(record.left())
        raise WiroOrderError("Airflow's store or the connection to Wiro is too slow: nothing was sent.", retryable=True)

    def _fence(self, record: Record, attempt: Attempt, files: Mapping[str, Any] | None) -> None:
        now = time.time()
        self._write(
            replace(
                record,
                phase=Phase.INTENT,
                try_number=attempt.try_number,
                first=record.first if record.doubts else now,
                until=now + FENCE + (POST_WITH_FILES if files else POST),
            )
        )

    def _check(self, started: tuple[float, float]) -> None:
        """Raise if the inputs must not leave now."""
        if self._killed():
            raise WiroOrderError("Airflow ended this process before anything was ordered.", retryable=True)
        # A machine that sleeps stops one of the two clocks.
        if max(time.monotonic() - started[0], time.time() - started[1]) > FENCE:
            raise _StaleFence

    def _write(self, record: Record) -> None:
        self._store.set(record.to_json())
        self.record = record

    def _try_to_write(self, record: Record) -> None:
        """Write what makes the next try quicker, and not safer."""
        self.record = record
        try:
            self._store.set(record.to_json())
        except WiroError as error:
            self._log.warning("The record of this order is behind, the next try looks at Wiro: %s", error)

    def _read(self, decision: Decision) -> Look:
        assert decision.record is not None
        try:
            return self._client.get_task(decision.record.wiro_task_id)
        except WiroNotFoundError:
            return Missing()
        except WiroError as error:
            return self._unreadable(error)

    def _list(self, since: float, attempt: Attempt, record: Record | None) -> Listing | Unreadable:
        """Read every page of the project's tasks back to a moment."""
        mine = record if record is not None and record.key == attempt.key else None
        sought = attempt.sought(mine or Record(attempt.key, Phase.OPEN, attempt.max_tries, attempt.try_number))
        tasks: dict[str, WiroTask] = {}
        start, clock = 0, None
        try:
            for _ in range(_PAGES):
                page = self._client.list_tasks(start, _PAGE)
                clock = clock or page.clock
                known = len(tasks)
                tasks |= {task.wiro_task_id: task for task in page.tasks}
                start += len(page.tasks)
                listing = Listing((), clock)
                earliest = since + listing.offset - listing.skew
                if _ends(page, start, earliest):
                    break
                if len(tasks) == known:
                    return Unreadable("its list repeats itself.")
            else:
                return Unreadable(f"there are more than {_PAGES * _PAGE} tasks to look through.")
            recent = [task for task in tasks.values() if task.created_at is None or task.created_at >= earliest]
            echoed = self._with_echo(recent, sought)
        except WiroError as error:
            return self._unreadable(error)
        unclear = any(map(sought.is_unclear if attempt.marked else sought.is_possible, echoed))
        claimed = self._claimed() if attempt.mapped and unclear else frozenset()
        return Listing(tuple(echoed), clock, claimed)

    def _with_echo(self, tasks: list[WiroTask], sought: Sought) -> list[WiroTask]:
        """Ask one by one for the tasks whose inputs the list leaves out: Detail may tell them."""
        told: list[WiroTask] = []
        asked = 0
        for task in tasks:
            if sought.is_unclear(task) and asked < _DETAILS:
                asked += 1
                with suppress(WiroNotFoundError):
                    task = replace(task, inputs=self._client.get_task(task.wiro_task_id).inputs)
            told.append(task)
        return told

    def _unreadable(self, error: WiroError) -> Unreadable:
        """Take a failed look for what it is: nothing is known. Refused credentials end the try."""
        if isinstance(error, (WiroAuthenticationError, WiroConfigurationError)):
            raise error
        return Unreadable(error.message)

    def _stop(self, ids: Sequence[str]) -> None:
        if ids and self.record is not None:
            self._write(self.record)  # a try that was superseded fails here, and stops nothing
        for wiro_task_id in ids:
            try:
                task = self._client.stop_task(wiro_task_id)
            except WiroError as error:
                self._log.warning("Wiro task %s is superfluous and could not be stopped: %s", wiro_task_id, error)
                continue
            billed = "and is billed" if task.outcome is Outcome.SUCCEEDED else "and is not billed"
            billed = "and goes on: kill it at Wiro" if task.outcome is Outcome.RUNNING else billed
            self._log.warning("Wiro task %s is superfluous: it is %s %s.", wiro_task_id, task.outcome.value, billed)

    def _refusal(self, decision: Decision) -> WiroError:
        """Return the error of an order that cannot go on."""
        single = decision.candidates[0] if len(decision.candidates) == 1 else None
        known = self.record is not None and self.record.phase is not Phase.INTENT
        kind = WiroOrderError if known or not (decision.candidates or decision.retryable) else WiroRunUnknownError
        return kind(decision.why, wiro_task_id=single, advice=decision.advice, retryable=decision.retryable)


def _ends(page: TaskPage, start: int, earliest: float) -> bool:
    """Tell whether no page after this one can have a task of the time in question."""
    if not page.tasks or (page.total is not None and start >= page.total):
        return True
    created = [task.created_at for task in page.tasks if task.created_at is not None]
    # A list that is not newest first, as it was asked for, is read to its end.
    return bool(created) and created[-1] < earliest and created == sorted(created, reverse=True)
