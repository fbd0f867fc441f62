"""What the tests of the protocol share: one order, its moments, its looks, and what a decision says in few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_wiro.api.tasks import ServerClock, WiroTask
from airflow_provider_wiro.submission.decision import Action, Attempt, Decision, Listing, Look, decide
from airflow_provider_wiro.submission.record import Phase, Record, derived_seed

KEY = "5e" * 32
OTHER_KEY = "07" * 32
MODEL = "ByteDance/text-to-video-seedance-v1"
INPUTS = {"prompt": "A ferry at dawn", "duration": "5"}
SEED = str(derived_seed(KEY, 0))

RUN_STARTED = 1_799_990_000.0
FIRST = 1_800_000_000.0  # the fence
UNTIL = FIRST + 80  # nothing is on its way any more
FINAL = UNTIL + 60  # what is not accepted by now never will be
EARLY = FIRST + 100
LATE = FINAL + 1
MOMENTS = {RUN_STARTED: "the run's start", FIRST: "first", FINAL: "final", EARLY + 20: "20 s on", LATE + 20: "20 s on"}

RIGHT = ServerClock(0.0, 0.5)


def attempt(**changes: Any) -> Attempt:
    """The second try of an order with a derived seed."""
    usual: dict[str, Any] = {
        "key": KEY,
        "model": MODEL,
        "inputs": INPUTS,
        "try_number": 2,
        "max_tries": 3,
        "retries": 3,
        "run_started": RUN_STARTED,
        "looking_since": FIRST + 90,
        "marked": True,
    }
    return Attempt(**{**usual, **changes})


def weak(**changes: Any) -> Attempt:
    """The same with a seed of the user's: other orders may have these inputs, too."""
    return attempt(**{"marked": False, "inputs": {**INPUTS, "seed": "7"}, **changes})


def record(phase: Phase, **changes: Any) -> Record:
    """What the first try has left."""
    usual: dict[str, Any] = {"key": KEY, "max_tries": 3, "try_number": 1, "first": FIRST, "until": UNTIL}
    if phase in (Phase.RECEIPT, Phase.DONE):
        usual |= {"wiro_task_id": "11", "submitted_at": FIRST + 2, "since": FIRST + 2}
    return Record(phase=phase, **{**usual, **changes})


def intent(**changes: Any) -> Record:
    return record(Phase.INTENT, **changes)


def receipt(**changes: Any) -> Record:
    return record(Phase.RECEIPT, **changes)


ENDS = {
    "runs": ("task_start", ""),
    "is queued": ("task_queue", None),
    "succeeded": ("task_postprocess_end", "0"),
    "failed": ("task_postprocess_end", "1"),
    "broke": ("task_error", "1"),
    "cancelled": ("task_cancel", ""),
    "is in no known status": ("task_rehearsal", None),
}


def task(number: int = 11, end: str = "runs", **changes: Any) -> WiroTask:
    """The order's task, as Wiro shows it."""
    status, pexit = ENDS[end]
    usual: dict[str, Any] = {"model": MODEL, "inputs": {**INPUTS, "seed": SEED}, "created_at": int(FIRST) + 2}
    return WiroTask(str(number), status, pexit, **{**usual, **changes})


def mute(number: int = 11, end: str = "runs", **changes: Any) -> WiroTask:
    return task(number, end, **{"inputs": {}, **changes})


def listing(*tasks: WiroTask, clock: ServerClock | None = RIGHT, claimed: Iterable[int] = ()) -> Listing:
    return Listing(tasks, clock, frozenset(map(str, claimed)))


def brief(decision: Decision) -> str:
    """Say a decision in few words: the action, and what of it differs from the usual."""
    words = [decision.action.value]
    if decision.action is Action.LIST:
        words.append(f"since {MOMENTS.get(decision.since, decision.since)}")
    if decision.action is Action.WAIT:
        words.append(f"until {MOMENTS.get(decision.until, decision.until)}")
    if decision.action in (Action.ATTACH, Action.ADOPT, Action.DELIVER):
        words.append(_task_of(decision))
    if decision.action is Action.SUBMIT and decision.record is not None:
        told = ("generation", "failures", "doubts")
        words += [f"{name} {getattr(decision.record, name)}" for name in told if getattr(decision.record, name)]
        words += [f"left {' '.join(decision.record.history)}"] if decision.record.history else []
    words += [f"candidates {' '.join(decision.candidates)}"] if decision.candidates else []
    words += ["retryable"] if decision.retryable else []
    words += [f"stop {' '.join(decision.stop)}"] if decision.stop else []
    return ", ".join(words)


def _task_of(decision: Decision) -> str:
    known = decision.record.wiro_task_id if decision.record else None
    if decision.task is None:
        return f"{known} unseen"
    return f"{known}" if known == decision.task.wiro_task_id else f"{known} with {decision.task.wiro_task_id}"


def decided(stored: Record | None, asks: Attempt, look: Look, now: float) -> str:
    return brief(decide(stored, asks, look, now))
