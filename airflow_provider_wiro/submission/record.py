"""What is remembered of an order, and what makes two orders the same."""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

_VERSION = 1
# Never part of an order's identity: where Wiro reports to does not change what it makes.
_CALLBACK = "callbackUrl"


class Phase(StrEnum):
    """How far an order has come."""

    OPEN = "open"
    """No Run of it can exist that is, or will be, billed: refused with certainty, or ended without success."""
    INTENT = "intent"
    """A Run may have been sent."""
    RECEIPT = "receipt"
    """Wiro accepted a Run, and its id is known."""
    DONE = "done"
    """What it made has been delivered."""


@dataclass(frozen=True)
class Record:
    """What is remembered of one task instance's order: no prompt, no credential, no token."""

    key: str
    """The logical key: see :func:`logical_key`."""
    phase: Phase
    max_tries: int
    """Airflow's, when this was written; only a clear changes it."""
    try_number: int
    """The try that wrote this."""
    generation: int = 0
    """How often a clear has ordered a new video in place of the old one."""
    first: float = 0.0
    """Unix time since when a Run of this order may exist that is not in `history`."""
    until: float = 0.0
    """Unix time until which a Run may be on its way."""
    since: float = 0.0
    """Unix time from which `timeout` counts: the submission, or the clear that re-attached."""
    submitted_at: float = 0.0
    """Unix time of the Run that was accepted."""
    wiro_task_id: str | None = None
    failures: int = 0
    """How many Runs have ended without success since the last clear."""
    doubts: int = 0
    """How often a Run was sent after one whose outcome had been unknown."""
    resent: int = 0
    """How often the try that wrote this has done so."""
    history: tuple[str, ...] = ()
    """The ids of Runs that this order has left behind."""

    @property
    def unfinished(self) -> bool:
        """Whether a Run of this order exists, or may."""
        return self.phase is not Phase.OPEN

    def accepted(self, wiro_task_id: str, at: float) -> Record:
        """Return the record of an order that Wiro has accepted."""
        return replace(self, phase=Phase.RECEIPT, wiro_task_id=wiro_task_id, submitted_at=at, since=max(at, self.since))

    def left(self, *wiro_task_ids: str, failed: int = 0) -> Record:
        """Return the record of an order whose Runs so far are over.

        :param wiro_task_ids: what is left behind, beside the one that it holds.
        :param failed: how many of them ended without success.
        """
        gone = (*self.history, *((self.wiro_task_id,) if self.wiro_task_id else ()), *wiro_task_ids)
        return replace(
            self,
            phase=Phase.OPEN,
            wiro_task_id=None,
            failures=self.failures + failed,
            history=tuple(dict.fromkeys(gone)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as it is stored."""
        return {"v": _VERSION, **asdict(self), "phase": self.phase.value, "history": list(self.history)}

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Read a stored record.

        :raises ValueError: it is not one, or is one of a later version of this package.
        """
        if not isinstance(stored, Mapping) or stored.get("v") != _VERSION:
            raise ValueError("it is not a record of this version")
        try:
            known = {field.name: stored[field.name] for field in fields(cls)}
            for name in ("max_tries", "try_number", "generation", "failures", "doubts", "resent"):
                known[name] = operator.index(known[name])
            for name in ("first", "until", "since", "submitted_at"):
                known[name] = math.fsum([known[name]])
            return cls(**{**known, "phase": Phase(known["phase"]), "history": tuple(map(str, known["history"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Place:
    """Which task instance orders: where an order belongs in Airflow."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


def logical_key(
    place: Place,
    base_url: str,
    model: str,
    inputs: Mapping[str, Any],
    files: Mapping[str, Any] | None = None,
    *,
    twin: int | None = None,
) -> str:
    """Return what makes two tries the same order.

    Credentials are not part of it: whoever renews a key between two tries must not pay again.

    :param place: the task instance.
    :param base_url: the API's address.
    :param model: ``owner/name``.
    :param inputs: the inputs as they are sent.
    :param files: input name and path of the files that go along.
    :param twin: in a batch, how many equal orders come before this one; so it does not matter where in the batch an
        order stands.
    :return: 64 hexadecimal digits.
    """
    sent = {name: value for name, value in inputs.items() if name != _CALLBACK}
    sent = {name: value if isinstance(value, (dict, list)) else str(value) for name, value in sent.items()}
    sent |= {f"file {name}": str(path) for name, path in (files or {}).items()}
    parts = [place.dag_id, place.run_id, place.task_id, place.map_index, base_url, model.lower(), sent]
    parts += [] if twin is None else [twin]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def derived_seed(key: str, generation: int) -> int:
    """Return the seed that marks an order: Wiro echoes it, so that the order's Run is known again.

    :param key: the logical key.
    :param generation: the record's.
    :return: a whole number of 31 bits.
    """
    return int(hashlib.sha256(f"{key}{generation}".encode()).hexdigest()[:8], 16) % (2**31 - 1)
