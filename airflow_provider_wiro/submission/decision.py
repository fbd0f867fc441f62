"""What an order's next step is. Pure: what is remembered and what was seen go in, one decision comes out.

Two questions come first, `read` and `list`: the caller answers them and asks again. Every row of the tables in
``docs/exactly-once.md`` is a case of :func:`decide`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from airflow_provider_wiro.api.tasks import Outcome, ServerClock, WiroTask
from airflow_provider_wiro.submission.matching import Sought
from airflow_provider_wiro.submission.record import Phase, Record, derived_seed

SKEW = 5.0
"""Seconds by which two clocks may differ beside what was measured."""
SKEW_UNMEASURED = 120.0
"""The same where Wiro's answers tell no date."""
NOT_FOUND_PATIENCE = 60.0
"""Seconds after a Run in which Wiro may not know its task yet (Wiro's documentation, code 1)."""
LOOK_PATIENCE = 900.0
"""Seconds of looking for an order's Run in vain until the try ends."""
LOOK_AGAIN = 20.0
"""Seconds between two looks while Wiro does not answer."""
CLAIM_PATIENCE = 30.0
"""Seconds after which a task in the list is no sibling's that has only just ordered it."""
MAX_FAILURES = 3
"""How often Wiro may end an order without success until only a clear orders again."""
MAX_RESENT = 2
"""How often one try sends again what was sent and proved absent."""

ON_UNKNOWN = ("fail", "adopt", "resubmit")
ON_CLEAR = ("reattach", "resubmit")


class Action(StrEnum):
    """What to do next."""

    READ = "read"
    """Read the recorded task, then decide again."""
    LIST = "list"
    """List the project's tasks since `since`, then decide again."""
    SUBMIT = "submit"
    """Write the intent, then send a Run."""
    ATTACH = "attach"
    """Go on with the recorded task, which runs or cannot be read now."""
    ADOPT = "adopt"
    """Record the task that was found as this order's."""
    DELIVER = "deliver"
    """The recorded task has succeeded."""
    WAIT = "wait"
    """Look again at `until`."""
    REFUSE = "refuse"
    """Stop, and say why."""


@dataclass(frozen=True)
class Decision:
    """One step."""

    action: Action
    record: Record | None = None
    """For submit, attach, adopt and deliver: the record to go on with."""
    task: WiroTask | None = None
    """For attach, adopt and deliver: the task, where it was seen."""
    since: float = 0.0
    """For list: unix time by this machine."""
    until: float = 0.0
    """For wait: unix time by this machine."""
    why: str = ""
    """What the log, or the error, says."""
    candidates: tuple[str, ...] = ()
    """For refuse: the ids that may be this order's."""
    stop: tuple[str, ...] = ()
    """Tasks that are this order's and superfluous: to be cancelled or killed."""
    advice: str = ""
    """For refuse: what a retry and a clear will do, and what a person can."""
    retryable: bool = False
    """For refuse: whether a later try may know more."""


@dataclass(frozen=True)
class Attempt:
    """The try that asks, and what its operator says."""

    key: str
    model: str
    inputs: Mapping[str, Any]
    """As they are sent, but for the seed where `marked` derives one."""
    try_number: int
    max_tries: int
    retries: int
    """The task's: what `max_tries` is until somebody clears it."""
    run_started: float
    """Unix time at which the Dag run began."""
    looking_since: float
    """Unix time at which this try began to look for its Run."""
    marked: bool
    """Whether the seed is derived from the key, so that no other order has these inputs."""
    mapped: bool = False
    has_files: bool = False
    settle: float = 60.0
    """Seconds after a Run's connection has ended in which Wiro may still accept it."""
    on_unknown: str = "fail"
    on_clear: str = "reattach"

    def sought(self, record: Record) -> Sought:
        """Return the Run of an order as it is, or was, sent."""
        seed = {"seed": str(derived_seed(self.key, record.generation))} if self.marked else {}
        return Sought(self.model, {**self.inputs, **seed}, self.marked, self.has_files)

    @property
    def twins(self) -> bool:
        """Whether a sibling in the same mapped task may have ordered the very same."""
        return self.mapped and not self.marked

    @property
    def is_first(self) -> bool:
        """Whether nothing can have been ordered before."""
        return self.try_number <= 1 and self.max_tries <= self.retries


@dataclass(frozen=True)
class Missing:
    """The recorded task was asked for, and Wiro has none of that id."""


@dataclass(frozen=True)
class Unreadable:
    """Wiro was asked and did not answer usably: nothing is known, least of all absence."""

    why: str


@dataclass(frozen=True)
class Listing:
    """The project's tasks since the moment that was asked for: every page of them."""

    tasks: tuple[WiroTask, ...]
    clock: ServerClock | None = None
    claimed: frozenset[str] = field(default_factory=frozenset)
    """The ids that siblings in the same mapped task call theirs."""

    @property
    def skew(self) -> float:
        """Seconds by which a time of this machine and one of Wiro's may differ after correction."""
        return SKEW_UNMEASURED if self.clock is None else SKEW + self.clock.uncertainty

    @property
    def offset(self) -> float:
        """Seconds to add to this machine's time to have Wiro's."""
        return 0.0 if self.clock is None else self.clock.offset


Look = WiroTask | Missing | Unreadable | Listing | None
"""What the last question brought; ``None`` before any."""


def decide(record: Record | None, attempt: Attempt, look: Look, now: float) -> Decision:
    """Return the next step.

    :param record: what the store holds, or ``None``.
    :param attempt: the try that asks.
    :param look: what was seen.
    :param now: unix time.
    """
    if record is None or record.key != attempt.key:
        return _without_record(record, attempt, look, now)
    if record.max_tries != attempt.max_tries:
        record = _cleared(record, attempt, now)
        if attempt.on_clear == "resubmit":
            return _resubmit(record, attempt, look, now)
    if record.phase is Phase.OPEN:
        return _submit(record)
    if isinstance(look, Listing) or record.phase is Phase.INTENT:
        return _reconcile(record, attempt, look, now, record.until + attempt.settle)
    return _follow(record, attempt, look, now)


def _without_record(record: Record | None, attempt: Attempt, look: Look, now: float) -> Decision:
    """Decide where the store has nothing of this order, or another order's record."""
    if record is not None and record.max_tries == attempt.max_tries and record.unfinished:
        known = f"Wiro task {record.wiro_task_id}" if record.wiro_task_id else "a Run whose outcome is not known"
        return Decision(
            Action.REFUSE,
            why=f"The inputs are not those of try {record.try_number}, which ordered {known}. That order stands, and "
            "another one would be paid, too.",
            advice="Airflow does not retry this. A clear orders the new inputs, and pays for them. What was ordered "
            "can be had with WiroTaskSensor and WiroFetchOutputsOperator.",
            candidates=(record.wiro_task_id,) if record.wiro_task_id else (),
        )
    since = now if attempt.max_tries > attempt.retries else 0.0
    fresh = Record(attempt.key, Phase.OPEN, attempt.max_tries, attempt.try_number, since=since)
    if attempt.is_first:
        return _submit(fresh)
    # A clear or a failover may have taken the record away: the Run itself is still at Wiro.
    return _reconcile(replace(fresh, first=attempt.run_started), attempt, look, now, now)


def _cleared(record: Record, attempt: Attempt, now: float) -> Record:
    return replace(record, max_tries=attempt.max_tries, failures=0, since=now)


def _resubmit(record: Record, attempt: Attempt, look: Look, now: float) -> Decision:
    """Order a new video after a clear, in place of the old one, which is looked for if its id is not known."""
    mine: tuple[str, ...] = () if record.wiro_task_id is None else (record.wiro_task_id,)
    if record.phase is Phase.INTENT:
        if isinstance(look, Unreadable):
            return _look_again(look, attempt, now)
        if not isinstance(look, Listing):
            return Decision(Action.LIST, since=record.first)
        sought = attempt.sought(record)
        found = [task for task in _candidates(record, sought, look) if sought.is_certain(task)]
        final = record.until + attempt.settle
        if not found and now < final:
            return Decision(Action.WAIT, until=final, why=_not_yet_known(final - now))
        mine = tuple(task.wiro_task_id for task in found)
    anew = replace(record.left(*mine), generation=record.generation + 1, doubts=0, resent=0)
    return replace(_submit(anew, "It was cleared with on_clear='resubmit'."), stop=mine)


def _submit(record: Record, why: str = "") -> Decision:
    if record.failures >= MAX_FAILURES:
        return Decision(
            Action.REFUSE,
            why=f"Wiro ended {record.failures} Runs of this order without success, the last one {record.history[-1]}; "
            "none of them is billed.",
            advice="Airflow does not retry this. A clear orders anew.",
        )
    return Decision(Action.SUBMIT, record, why=why)


def _follow(record: Record, attempt: Attempt, look: Look, now: float) -> Decision:
    """Decide where the order's task is known by its id."""
    if look is None:
        return Decision(Action.READ, record, why=_before(record, attempt, f"ordered Wiro task {record.wiro_task_id}"))
    if isinstance(look, Missing):
        if record.phase is Phase.DONE:
            return Decision(
                Action.REFUSE,
                why=f"Wiro task {record.wiro_task_id} was delivered, and Wiro has it no more.",
                advice="Airflow does not retry this. A clear with on_clear='resubmit' orders, and pays for, a new one.",
                candidates=(str(record.wiro_task_id),),
            )
        if now >= record.submitted_at + NOT_FOUND_PATIENCE:
            return Decision(Action.LIST, since=record.first)
    if not isinstance(look, WiroTask) or look.outcome is Outcome.RUNNING:
        return Decision(Action.ATTACH, record, look if isinstance(look, WiroTask) else None)
    if look.outcome is Outcome.SUCCEEDED:
        return Decision(Action.DELIVER, record, look)
    ended = f"Wiro task {record.wiro_task_id} ended without success ({look.status}) and is not billed."
    if record.doubts:  # an earlier Run may have been accepted late, and have succeeded
        return Decision(Action.LIST, since=record.first, why=ended)
    return _submit(record.left(failed=1), ended)


def _reconcile(record: Record, attempt: Attempt, look: Look, now: float, final: float) -> Decision:
    """Decide where the outcome of a Run is not known: look for it among the project's tasks.

    :param final: unix time after which a Run of this order that is not there will never be.
    """
    if isinstance(look, Unreadable):
        return _look_again(look, attempt, now)
    if not isinstance(look, Listing):
        before = _before(record, attempt, "may have sent a Run: looking for it among Wiro's tasks")
        unknown = "Nothing is recorded of an order: looking for one among Wiro's tasks."
        return Decision(Action.LIST, since=record.first, why=before if record.phase is not Phase.OPEN else unknown)
    sought = attempt.sought(record)
    found = sorted(_candidates(record, sought, look), key=_age)
    ours = [task for task in found if sought.is_certain(task)]
    good = [task for task in ours if task.outcome in (Outcome.RUNNING, Outcome.SUCCEEDED)]
    if good:
        return _adopt(record, look, good[0], good[1:])
    forgiven = record.phase is Phase.OPEN and record.since > 0  # by a clear that took the record away
    over = record.left(*(task.wiro_task_id for task in ours), failed=0 if forgiven else len(ours))
    if ours and (record.phase is Phase.RECEIPT or not record.doubts):  # every Run that was sent is over
        return _submit(over)
    if now < final:
        return Decision(Action.WAIT, until=final, why=_not_yet_known(final - now))
    suspects = [
        task
        for task in found
        if task not in ours
        and task.wiro_task_id not in look.claimed
        and _in_window(task, look, final)
        and sought.is_possible(task)
    ]
    if suspects:
        unclaimed = max(task.created_at or 0 for task in suspects) - look.offset + CLAIM_PATIENCE
        if attempt.mapped and now < unclaimed:
            return Decision(Action.WAIT, until=unclaimed, why="A sibling may yet call one of these tasks its own.")
        return _judge(over, attempt, look, suspects)
    absent = "No Run of this order is among Wiro's tasks: it is sent now."
    return _submit_after_doubt(over, attempt, absent) if record.phase is Phase.INTENT else _submit(over, absent)


def _before(record: Record, attempt: Attempt, what: str) -> str:
    """Say what an earlier try has done; the present one has said it itself."""
    return f"Try {record.try_number} {what}." if record.try_number != attempt.try_number else ""


def _not_yet_known(seconds: float) -> str:
    return f"The outcome of the Run is not known yet. Looking again in {seconds:.0f} s, when it is certain."


def _look_again(look: Unreadable, attempt: Attempt, now: float) -> Decision:
    if now >= attempt.looking_since + LOOK_PATIENCE:
        return _not_yet(f"Wiro does not tell its tasks: {look.why}")
    return Decision(Action.WAIT, until=now + LOOK_AGAIN, why=f"Wiro does not tell its tasks now: {look.why}")


def _submit_after_doubt(record: Record, attempt: Attempt, why: str) -> Decision:
    """Send again what was sent and is not there; `doubts` makes the next looks find one that comes late."""
    resent = record.resent if record.try_number == attempt.try_number else 0
    if resent >= MAX_RESENT:
        return _not_yet(f"{resent + 1} Runs brought no usable answer, and none was accepted.")
    return _submit(replace(record, doubts=record.doubts + 1, resent=resent + 1), why)


def _judge(record: Record, attempt: Attempt, listing: Listing, suspects: list[WiroTask]) -> Decision:
    """Decide where there are tasks that may be this order's, and nothing proves it."""
    alike = [task for task in suspects if attempt.sought(record).is_alike(task)]
    if len(suspects) == len(alike) == 1 and not attempt.twins:
        return _adopt(record, listing, alike[0])
    if attempt.on_unknown == "adopt" and len(suspects) == 1:
        return _adopt(record, listing, suspects[0])
    if attempt.on_unknown == "resubmit":
        return _submit_after_doubt(record, attempt, "Sending a Run again although it may be paid twice.")
    ids = tuple(task.wiro_task_id for task in suspects)
    several = "one of " if len(ids) > 1 else ""
    return Decision(
        Action.REFUSE,
        why=f"The outcome of a Run is not known, and {several}Wiro task {', '.join(ids)} may be it.",
        advice="Airflow does not retry this: nothing is sent again and nothing is paid twice. Look at these tasks at "
        "Wiro; then clear this task with on_unknown='adopt' to take the only one that it may be, or with "
        "on_unknown='resubmit' to order anew although it may be paid.",
        candidates=ids,
    )


def _not_yet(why: str) -> Decision:
    return Decision(
        Action.REFUSE,
        why=why,
        advice="A retry, or a clear, looks at Wiro again before it sends anything.",
        retryable=True,
    )


def _adopt(record: Record, listing: Listing, task: WiroTask, others: Iterable[WiroTask] = ()) -> Decision:
    created = record.first if task.created_at is None else task.created_at - listing.offset
    return Decision(
        Action.ADOPT,
        record.accepted(task.wiro_task_id, created),
        task,
        why=f"Wiro task {task.wiro_task_id} is this order's Run. It is gone on with, and paid once.",
        stop=tuple(other.wiro_task_id for other in others if other.outcome is Outcome.RUNNING),
    )


def superfluous(record: Record, attempt: Attempt, listing: Listing) -> list[str]:
    """Return the tasks that are this order's, run, and are not the recorded one: a late second Run."""
    sought = attempt.sought(record)
    return [
        task.wiro_task_id
        for task in _candidates(record, sought, listing)
        if task.outcome is Outcome.RUNNING and task.wiro_task_id != record.wiro_task_id and sought.is_certain(task)
    ]


def _candidates(record: Record, sought: Sought, listing: Listing) -> list[WiroTask]:
    """Return the tasks that time, model and history do not rule out."""
    earliest = record.first + listing.offset - listing.skew
    return [
        task
        for task in listing.tasks
        if task.wiro_task_id not in record.history
        and sought.is_of_model(task)
        and (task.created_at is None or task.created_at >= earliest)
    ]


def _in_window(task: WiroTask, listing: Listing, final: float) -> bool:
    return task.created_at is None or task.created_at <= final + listing.offset + listing.skew


def _age(task: WiroTask) -> tuple[float, int, str]:
    return task.created_at or 0, len(task.wiro_task_id), task.wiro_task_id
