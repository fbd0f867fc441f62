"""How a task lives: the statuses in their order, on a clock, and the marks that force an end.

Nothing runs here. A :class:`Plan` is a table of (status, offset in Wiro seconds), and the status is read off
it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

# Order and words: the tool sheet for those up to task_output, Wiro's documentation for the rest. The share of
# a task's whole time at which each begins is invented.
STAGES: tuple[tuple[str, float], ...] = (
    ("task_queue", 0.0),
    ("task_accept", 0.03),
    ("task_assign", 0.05),
    ("task_preprocess_start", 0.08),
    ("task_preprocess_end", 0.11),
    ("task_start", 0.14),
    ("task_output", 0.20),
    ("task_output_full", 0.88),
    ("task_end", 0.91),
    ("task_postprocess_start", 0.94),
    ("task_postprocess_end", 1.0),
)
CANCELLABLE = frozenset({"task_queue", "task_accept", "task_assign"})
TERMINAL = frozenset({"task_postprocess_end", "task_cancel", "task_error"})
UNKNOWN_STATUS = "task_rehearsal"
REFUSAL = (
    "The request failed because the input text may contain sensitive information "
    "that violates the content policy. Please change the prompt and try again."
)
BROKEN = "The task could not be started: no worker was able to load the model."

_MARK = re.compile(r"\[wiro:(fail|error|cancel|hang|unknown|slow=(\d{1,6}(?:\.\d{1,3})?))\]")
_RESOLUTION_FACTOR = {"480p": 1.0, "720p": 1.6, "1080p": 2.6}


@dataclass(frozen=True)
class Marks:
    """What the prompt asks the local Wiro to do to its task."""

    end: str | None = None
    seconds: float | None = None
    unknown: bool = False


def read_marks(prompt: str) -> Marks:
    """Return the marks in a prompt; of several ends the first one counts."""
    end: str | None = None
    seconds: float | None = None
    unknown = False
    for found in _MARK.finditer(prompt):
        word = found.group(1)
        if word == "unknown":
            unknown = True
        elif found.group(2) is not None:
            seconds = float(found.group(2))
        elif end is None:
            end = word
    return Marks(end, seconds, unknown)


@dataclass(frozen=True)
class Plan:
    """The course of one task: statuses with their beginnings in Wiro seconds, the last one terminal."""

    stages: tuple[tuple[str, float], ...]
    pexit: str
    debugerror: str = ""
    hangs: bool = False

    def begins(self, status: str) -> float | None:
        """Return when a status begins, in Wiro seconds after the run; None if the task never gets there."""
        return next((offset for name, offset in self.stages if name == status), None)

    def at(self, seconds: float, drawn_at: float | None) -> tuple[str, float]:
        """Return the status at a moment, and by how much the drawing delays what comes after it.

        :param seconds: Wiro seconds since the run was accepted.
        :param drawn_at: Wiro seconds at which the output was ready, None if it is not.
        """
        reached, delay = self.stages[0][0], 0.0
        for name, offset in self.stages[1:]:
            if name == "task_output_full":
                if self.hangs or drawn_at is None:
                    return reached, math.inf
                # The output may be late, and everything behind it then is, too.
                delay = max(0.0, drawn_at - offset)
            if seconds < offset + delay:
                break
            reached = name
        return reached, delay


def wiro_seconds(taskid: int, parameters: Mapping[str, str], *, video: bool) -> float:
    """Return how long a run takes in Wiro seconds: about 60 for 480p and 5 s, give or take 10 % by its id."""
    jitter = 0.9 + 0.2 * hashlib.sha256(str(taskid).encode()).digest()[0] / 255
    if not video:
        return 5.0 * jitter
    longer = 1.6 if parameters.get("duration") == "10" else 1.0
    return 60.0 * jitter * longer * _RESOLUTION_FACTOR[parameters.get("resolution", "480p")]


def make_plan(marks: Marks, seconds: float) -> Plan:
    """Return the course of a task.

    :param marks: the marks of its prompt.
    :param seconds: its whole time in Wiro seconds, unless a mark says otherwise.
    """
    whole = seconds if marks.seconds is None else marks.seconds
    stages = [(name, share * whole) for name, share in STAGES]
    if marks.unknown:
        stages.insert(5, (UNKNOWN_STATUS, 0.125 * whole))
    if marks.end == "fail":
        return Plan(tuple(stages), "1", REFUSAL)
    if marks.end == "error":
        return Plan((*stages[:4], ("task_error", stages[4][1])), "1", BROKEN)
    if marks.end == "cancel":
        return Plan((*stages[:3], ("task_cancel", stages[3][1])), "")
    return Plan(tuple(stages), "0", hangs=marks.end == "hang")
