"""The account behind the API: its tasks, its money, the ledger. Nothing here knows HTTP or what time it is.

Billing, limits and what may be cancelled are Wiro's documentation's. All methods are called from one thread,
the event loop's. Tasks move by themselves on the clock; :meth:`Account.settle` notices what has ended since.
"""

from __future__ import annotations

import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any, Protocol

from airflow_provider_wiro.emulator.catalogue import Model
from airflow_provider_wiro.emulator.lifecycle import (
    CANCELLABLE,
    TERMINAL,
    Plan,
    make_plan,
    read_marks,
    wiro_seconds,
)


class Video(Protocol):
    """What is being drawn: filled in from elsewhere."""

    data: bytes | None
    drawn_at: float | None
    problem: str


class RefusedError(Exception):
    """A request that Wiro answers with ``result: false``."""

    def __init__(self, code: int, message: str, http: int = 200) -> None:
        """Keep what the envelope will say.

        :param code: the error code of Wiro's documentation.
        :param message: its words.
        :param http: the HTTP status.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.http = http


NO_TASK = (1, "There is no task yet.")


@dataclass
class Task:
    """One accepted run."""

    number: int
    model: Model
    parameters: dict[str, str]
    created: float
    speed: float
    plan: Plan
    price: Decimal
    video: Video | None = None
    skew: float = 0.0
    foreign: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(40).replace("-", "").replace("_", "")[:30])
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    key: str = field(default_factory=lambda: "-".join(secrets.token_hex(4) for _ in range(8)))
    stopped: float | None = None
    billed: bool = False
    deleted: bool = False

    @property
    def taskid(self) -> str:
        """The id as Wiro sends it."""
        return str(self.number)

    def told(self, moment: float | None) -> str:
        """Return a moment as the account's clock had it when the task was accepted; ``"0"`` for none."""
        return "0" if moment is None else str(int(moment + self.skew))

    @property
    def prompt(self) -> str:
        """The prompt, empty if there is none."""
        return self.parameters.get("prompt", "")

    def pexit(self, now: float) -> str:
        """Return the exit code of a task that has ended: empty before, and where it was stopped."""
        if self.stopped is not None or self.status(now) not in TERMINAL:
            return ""
        return "1" if self.problem else self.plan.pexit

    @property
    def problem(self) -> str:
        """Why the task fails; empty if it does not."""
        return self.plan.debugerror or (self.video.problem if self.video else "")

    def _drawn_at(self) -> float | None:
        if self.video is None:
            return 0.0
        return None if self.video.drawn_at is None else (self.video.drawn_at - self.created) * self.speed

    def status(self, now: float) -> str:
        """Return the status at a moment (unix seconds)."""
        return "task_cancel" if self.stopped is not None else self._course(now)[0]

    def _course(self, now: float) -> tuple[str, float]:
        return self.plan.at((now - self.created) * self.speed, self._drawn_at())

    def time_of(self, status: str, now: float) -> float | None:
        """Return when the task reached a status (unix seconds), None if it has not."""
        until = now if self.stopped is None else self.stopped
        if status == "task_cancel" and self.stopped is not None:
            return self.stopped
        offset = self.plan.begins(status)
        if offset is None:
            return None
        full = self.plan.begins("task_output_full")
        delay = self._course(until)[1] if full is not None and full <= offset else 0.0
        reached = self.created + (offset + delay) / self.speed
        return reached if reached <= until else None

    def ended(self, now: float) -> float | None:
        """Return when the task ended (unix seconds), None while it lives."""
        status = self.status(now)
        return self.time_of(status, now) if status in TERMINAL else None

    def elapsed(self, now: float) -> float:
        """Return for how many Wiro seconds the model has been running, or ran."""
        start = self.time_of("task_start", now)
        if start is None:
            return 0.0
        end = self.time_of("task_end", now) or self.stopped or now
        return (end - start) * self.speed


def money(amount: Decimal) -> str:
    """Return USD with two decimals, more where they are needed."""
    return f"{amount.normalize():f}" if amount != amount.quantize(Decimal("0.01")) else f"{amount:.2f}"


class Account:
    """One Wiro account with one project."""

    def __init__(self, balance: Decimal, speed: float, clock: Callable[[], float]) -> None:
        """Open an account.

        :param balance: USD.
        :param speed: Wiro seconds that pass in a real second.
        :param clock: the time in unix seconds.
        """
        self.balance = self._opening = balance
        self.speed = speed
        self.clock = clock
        self.now = clock()
        # By how much the clock is wrong that callers see; tasks, and the ledger, go by the right one.
        self.skew = 0.0
        self.fixed_limit: int | None = None
        self.billed_total = Decimal(0)
        self.tasks: dict[int, Task] = {}
        self.calls: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.stops: Counter[str] = Counter({"cancelled": 0, "killed": 0})
        self.nonces: set[str] = set()
        self.reused_nonces = 0
        self.connections = 0
        self.cdn_requests = 0
        self.cdn_bytes = 0
        self.leaked_headers: set[str] = set()
        self.ended: list[Task] = []
        self._live: dict[int, Task] = {}
        self._by_token: dict[str, Task] = {}
        self._by_key: dict[str, Task] = {}
        # After a new start, no id may be one that an Airflow still remembers from before.
        self._next = int((self.now - 1_700_000_000) * 100)

    def forget(self) -> Account:
        """Return this account as it was opened: no tasks, no counts. Its ids go on, none is given twice.

        What was set stays: balance, limit and clock.
        """
        fresh = Account(self._opening, self.speed, self.clock)
        fresh._next = max(self._next, fresh._next)
        fresh.skew, fresh.fixed_limit = self.skew, self.fixed_limit
        return fresh

    def set_balance(self, balance: Decimal) -> None:
        """Set the balance in USD, also the one that :meth:`forget` goes back to."""
        self.balance = self._opening = balance

    @property
    def limit(self) -> int | None:
        """How many tasks may be alive at once, None for any number (Wiro's documentation, unless it was set)."""
        if self.fixed_limit is not None:
            return self.fixed_limit
        if self.balance > 250:
            return None
        return max(1, int((self.balance * Decimal("0.10")).to_integral_value(ROUND_DOWN)))

    def told_now(self) -> float:
        """Return the time that callers are told (unix seconds)."""
        return self.clock() + self.skew

    def admit(self, model: Model, parameters: Mapping[str, str]) -> Decimal:
        """Return the price of a run that the account may start now.

        :raises RefusedError: code 97 if the balance does not cover it, code 96 if too many tasks are alive.
        """
        self.settle()
        price = model.price(parameters)
        if price > self.balance:
            raise RefusedError(97, "Insufficient balance")
        if self.limit is not None and len(self._live) >= self.limit:
            raise RefusedError(
                96,
                "You have reached your concurrent task limit. With your current balance of "
                f"${self.balance:.2f}, you can run up to {self.limit} tasks at the same time. "
                "Add funds to increase your limit.",
            )
        return price

    def accept(
        self,
        model: Model,
        parameters: dict[str, str],
        draw: Callable[[int], Video | None] = lambda _: None,
        *,
        foreign: bool = False,
    ) -> Task:
        """Start a run and return its task.

        :param model: what to run.
        :param parameters: checked inputs.
        :param draw: starts the drawing for a task id.
        :param foreign: somebody else's in the same project.
        :raises RefusedError: see :meth:`admit`.
        """
        price = self.admit(model, parameters)
        number, self._next = self._next, self._next + 1
        marks = read_marks(parameters.get("prompt", ""))
        plan = make_plan(marks, wiro_seconds(number, parameters, video=model.video))
        video = draw(number) if plan.pexit == "0" and not plan.hangs else None
        task = Task(number, model, parameters, self.now, self.speed, plan, price, video, self.skew, foreign)
        self.tasks[number] = self._live[number] = self._by_token[task.token] = self._by_key[task.key] = task
        return task

    def settle(self) -> None:
        """Move ``now`` to the present, and bill what has ended since the last time.

        Whatever is answered afterwards is answered for this ``now``: a task seen as ended has been billed.
        """
        self.now = now = self.clock()
        for task in [task for task in self._live.values() if task.status(now) in TERMINAL]:
            del self._live[task.number]
            self.ended.append(task)
            if task.pexit(now) == "0":
                task.billed = True
                self.balance -= task.price
                self.billed_total += task.price

    def find(self, taskid: str = "", token: str = "") -> Task:
        """Return a task by id or token.

        :raises RefusedError: code 1, there is none.
        """
        self.settle()
        task = self._by_token.get(token) if token else None
        if task is None and taskid.isascii() and taskid.isdigit() and len(taskid) < 20:
            task = self.tasks.get(int(taskid))
        if task is None:
            raise RefusedError(*NO_TASK)
        return task

    def find_file(self, key: str) -> bytes | None:
        """Return the video behind a CDN key; None if there is none, not yet, or no more."""
        self.settle()
        task = self._by_key.get(key)
        if task is None or task.deleted or task.video is None or task.pexit(self.now) != "0":
            return None
        return task.video.data

    def newest(self, name: str = "") -> list[Task]:
        """Return all tasks, newest first; only those whose model's slug contains a name."""
        self.settle()
        found = [task for task in self.tasks.values() if name.lower() in task.model.slug.lower()]
        return found[::-1]

    def cancel(self, task: Task) -> None:
        """Stop a task that no worker has begun.

        :raises RefusedError: code 1 in any other status.
        """
        if task.status(self.now) not in CANCELLABLE:
            raise RefusedError(1, "Task is not in a cancellable state.")
        self._stop(task, "cancelled")

    def kill(self, task: Task) -> None:
        """Stop a task that is running.

        :raises RefusedError: code 1 for one that is queued or over.
        """
        status = task.status(self.now)
        if status in CANCELLABLE or status in TERMINAL:
            raise RefusedError(1, f"Task could not be killed: it is in {status}")
        self._stop(task, "killed")

    def _stop(self, task: Task, how: str) -> None:
        task.stopped = self.now
        self.stops[how] += 1
        self.settle()

    def delete_files(self, task: Task) -> None:
        """Delete a task's files; again and again if asked (Wiro's documentation).

        :raises RefusedError: code 1 for a task that is not over.
        """
        if task.status(self.now) not in TERMINAL:
            raise RefusedError(1, "Task is not in a deletable state.")
        task.deleted = True

    def ledger(self, faults: Mapping[str, int]) -> dict[str, Any]:
        """Return all that happened, for people and for tests to judge by.

        :param faults: the faults that happened.
        """
        self.settle()
        now = self.now
        return {
            "runs": [
                {
                    "taskid": task.taskid,
                    "model": task.model.slug,
                    "parameters": dict(task.parameters),
                    "created": round(task.created, 3),
                    "ended": None if (end := task.ended(now)) is None else round(end, 3),
                    "status": task.status(now),
                    "pexit": task.pexit(now),
                    "billed": task.billed,
                    "cost": money(task.price if task.billed else Decimal(0)),
                    "stopped_by_request": task.stopped is not None,
                    "foreign": task.foreign,
                }
                for task in self.tasks.values()
            ],
            "billed_total": money(self.billed_total),
            "balance": money(self.balance),
            "calls": dict(self.calls),
            "refusals": dict(self.refusals),
            "connections": self.connections,
            "reused_nonces": self.reused_nonces,
            "cdn": {
                "requests": self.cdn_requests,
                "bytes": self.cdn_bytes,
                "leaked_headers": sorted(self.leaked_headers),
            },
            "stops": dict(self.stops),
            "faults": dict(faults),
        }
