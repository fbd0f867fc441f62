"""What Wiro says about a task, and what it means.

Answers carry numbers as strings or as numbers, leave fields out, and may bring statuses that nobody has documented yet:
reading them never raises. The facts are those of the tool sheet; where it is silent, of Wiro's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from airflow_provider_wiro.exceptions import WiroTaskCancelledError, WiroTaskFailedError

RUNNING_STATUSES = frozenset(
    {
        # the tool sheet's
        "task_queue",
        "task_accept",
        "task_assign",
        "task_preprocess_start",
        "task_preprocess_end",
        "task_start",
        "task_output",
        # Wiro's documentation: the process is over, the task is not
        "task_output_full",
        "task_error_full",
        "task_end",
        "task_postprocess_start",
        # Wiro's documentation: live-session models
        "task_stream_ready",
        "task_stream_end",
        "task_cost",
    }
)
QUEUED_STATUSES = frozenset({"task_queue", "task_accept", "task_assign"})
TERMINAL_STATUSES = frozenset({"task_postprocess_end", "task_cancel", "task_error"})
_REASON_LENGTH = 500


class Outcome(StrEnum):
    """How a task stands: still running, or the way it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether polling can stop."""
        return self is not Outcome.RUNNING


def outcome_of(status: str, pexit: str | None, has_outputs: bool) -> Outcome:
    """Decide what a task's fields mean.

    ``task_postprocess_end`` is reached by success and by failure: ``pexit`` "0" is success and anything else is not
    (Wiro's documentation); where ``pexit`` is missing, as in the tool sheet, outputs tell. ``task_error`` in Detail
    and List is a failure before the run (Wiro's published client). A word that is not known runs on.

    :param status: the task's ``status``.
    :param pexit: the task's ``pexit``, or ``None`` where the answer has none.
    :param has_outputs: whether the task lists any output.
    :return: the outcome.
    """
    if status == "task_postprocess_end":
        succeeded = has_outputs if pexit is None else pexit == "0"
        return Outcome.SUCCEEDED if succeeded else Outcome.FAILED
    if status == "task_error":
        return Outcome.FAILED
    if status == "task_cancel":
        return Outcome.CANCELLED
    return Outcome.RUNNING


@dataclass(frozen=True)
class RunReceipt:
    """What an accepted Run answers."""

    wiro_task_id: str
    """Wiro's id of the task; never to be mixed up with Airflow's ``task_id``."""
    task_token: str = field(repr=False)
    """The ``socketaccesstoken``: whoever has it can act on the task, so it is neither stored nor shown."""


@dataclass(frozen=True)
class WiroOutput:
    """One output of a task."""

    name: str
    content_type: str
    size: int | None
    """Bytes, as Wiro announces them."""
    url: str | None
    """Where the file is; public to whoever has it, kept by Wiro for a limited time. ``None`` for raw content."""
    content: Any = field(default=None, repr=False)
    """The content itself where a model answers with data in place of a file."""

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> WiroOutput:
        """Read one entry of ``outputs``."""
        return cls(
            name=_text(data.get("name")) or "",
            content_type=_text(data.get("contenttype")) or "application/octet-stream",
            size=whole_number(data.get("size")),
            url=_text(data.get("url")),
            content=data.get("content"),
        )


@dataclass(frozen=True)
class WiroTask:
    """A task, as Task/Detail and Task/List tell it."""

    wiro_task_id: str
    status: str
    pexit: str | None = None
    model: str | None = None
    """``owner/name``."""
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The inputs as the answer echoes them; may be empty."""
    outputs: tuple[WiroOutput, ...] = ()
    total_cost: Decimal | None = None
    """US dollars."""
    elapsed_seconds: float | None = None
    created_at: int | None = None
    """Unix seconds by Wiro's clock."""
    reason: str = field(default="", repr=False)
    """The last lines of what the model wrote about its failure."""
    task_token: str | None = field(default=None, repr=False)

    @property
    def outcome(self) -> Outcome:
        """How the task stands."""
        return outcome_of(self.status, self.pexit, bool(self.outputs))

    @property
    def is_known_status(self) -> bool:
        """Whether the status is a documented word."""
        return self.status in RUNNING_STATUSES or self.status in TERMINAL_STATUSES

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> WiroTask:
        """Read one entry of ``tasklist``."""
        owner, project = _text(data.get("modelslugowner")), _text(data.get("modelslugproject"))
        inputs, outputs = data.get("parameters"), data.get("outputs")
        return cls(
            wiro_task_id=_id_of(data),
            status=_text(data.get("status")) or "",
            pexit=_text(data.get("pexit")),
            model=f"{owner}/{project}" if owner and project else None,
            inputs=dict(inputs) if isinstance(inputs, Mapping) else {},
            outputs=tuple(
                WiroOutput.from_api(output)
                for output in (outputs if isinstance(outputs, list) else [])
                if isinstance(output, Mapping)
            ),
            total_cost=_decimal(data.get("totalcost")),
            elapsed_seconds=_number(data.get("elapsedseconds")),
            created_at=whole_number(data.get("createtime")) or None,  # "0" is "never" (tool sheet)
            reason=_reason(data.get("debugerror"), data.get("debugoutput")),
            task_token=_text(data.get("socketaccesstoken")),
        )


@dataclass(frozen=True)
class ServerClock:
    """How Wiro's clock differs from this machine's."""

    offset: float
    """Seconds to add to this machine's time to have Wiro's."""
    uncertainty: float
    """Seconds by which that may be off."""


class Glance(NamedTuple):
    """As much of a listed task as tells whether there is anything new about it."""

    wiro_task_id: str
    status: str

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.status not in TERMINAL_STATUSES


@dataclass(frozen=True)
class TaskPage:
    """One page of Task/List, newest first. Whoever watches thousands reads a glance of each, and few whole."""

    entries: tuple[Mapping[str, Any], ...] = field(repr=False)
    """As the answer has them."""
    total: int | None
    """How many tasks the project has in all, where the answer tells."""
    clock: ServerClock | None = None
    """Wiro's clock, where the answer tells."""

    @cached_property
    def tasks(self) -> tuple[WiroTask, ...]:
        """The tasks."""
        return tuple(map(WiroTask.from_api, self.entries))

    @cached_property
    def glances(self) -> tuple[Glance, ...]:
        """A glance of each task."""
        return tuple(Glance(_id_of(entry), _text(entry.get("status")) or "") for entry in self.entries)


def ensure_succeeded(task: WiroTask) -> None:
    """Raise unless a task ended well.

    :param task: a task that has ended.
    :raises WiroTaskFailedError: it failed.
    :raises WiroTaskCancelledError: it was cancelled or killed.
    """
    if task.outcome is Outcome.FAILED:
        ended = f"{task.status}, pexit {task.pexit}" if task.pexit is not None else task.status
        why = task.reason or "Wiro gives no reason."
        raise WiroTaskFailedError(f"The model failed ({ended}): {why}", wiro_task_id=task.wiro_task_id)
    if task.outcome is Outcome.CANCELLED:
        raise WiroTaskCancelledError(
            "The task was cancelled at Wiro, by a person, by another task, or by Wiro itself.",
            wiro_task_id=task.wiro_task_id,
        )


def _id_of(data: Mapping[str, Any]) -> str:
    return _text(data.get("id")) or _text(data.get("taskid")) or ""


def _text(value: Any) -> str | None:
    text = "" if value is None or isinstance(value, (dict, list)) else str(value).strip()
    return text or None


def _decimal(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    # An exponent of thousands would make int() of it a matter of minutes.
    return number if number.is_finite() and abs(number.adjusted()) < 30 else None


def _number(value: Any) -> float | None:
    number = _decimal(value)
    return None if number is None else float(number)


def whole_number(value: Any) -> int | None:
    """Read a whole number that may be text, missing, or nonsense."""
    number = _decimal(value)
    return None if number is None else int(number)


def _reason(*debug_texts: Any) -> str:
    for text in debug_texts:
        lines = [line.strip() for line in (_text(text) or "").splitlines() if line.strip()]
        if lines:
            return " ".join(lines[-3:])[-_REASON_LENGTH:]
    return ""
