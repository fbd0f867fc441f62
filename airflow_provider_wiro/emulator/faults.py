"""Faults on demand: what goes wrong, where, how often.

A fault is written ``POINT:KIND[:option=value...]``, for example ``run:error_after:rate=0.02`` or
``cdn:cut:times=1``. Options:

* ``rate``: the share of requests that are hit, 0 to 1 (default 1);
* ``times``: how many requests are hit at most (default: no limit);
* ``seconds``: real seconds, with a meaning by kind: how long ``slow`` takes (default 5), how much later
  ``late`` accepts (2), what ``rate_limit`` asks for in ``Retry-After`` (1), for how long after a run
  ``early`` denies it (2);
* ``match``: only runs whose prompt contains this text (point ``run``).

Most kinds say what they do. At ``run``, ``*_before`` fails before anything was accepted, ``*_after`` after it,
and ``late`` resets the connection and accepts later; ``slow`` does at once what was asked, and then waits with
the answer. ``rate_limit`` is 429 with ``Retry-After``. ``no_date`` leaves the ``Date`` header out of whatever
is answered. ``list:off`` refuses the list for want of a permission; ``list:no_createtime`` and ``list:int_ids``
show its tasks without that field, and with a JSON number for an id. ``tool:no_prices`` leaves the prices
out of what is told about a model. ``echo:off`` shows tasks with ``{}`` for
their parameters, ``echo:off_in_list`` in the list only, ``echo:partial`` with all but the ``seed``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_READ = ("error", "reset", "slow", "rate_limit", "truncated", "html", "redirect", "no_date")
KINDS: dict[str, tuple[str, ...]] = {
    "run": (
        "error_before",
        "error_after",
        "reset_before",
        "reset_after",
        "late",
        "rate_limit",
        "slow",
        "truncated",
        "html",
        "redirect",
        "no_date",
    ),
    "detail": (*_READ, "no_pexit", "early"),
    "list": (*_READ, "off", "no_pexit", "no_createtime", "int_ids"),
    "cancel": _READ,
    "kill": _READ,
    "tool": (*_READ, "no_prices"),
    "cdn": ("cut", "error", "expired", "wrong_size", "html", "slow", "reset", "hostile_name"),
    "echo": ("off", "off_in_list", "partial"),
    "any": _READ,
}
_SECONDS = {"slow": 5.0, "late": 2.0, "rate_limit": 1.0, "early": 2.0}
# What `any` means where a point has another word for it.
_ANY = {("run", "error"): "error_before", ("run", "reset"): "reset_before"}
_NOT_FOR_ANY = frozenset({"echo"})


class FaultSpecError(ValueError):
    """A fault is not written as it should be; the message says what is allowed."""


@dataclass
class Fault:
    """One fault and how often it may still happen."""

    point: str
    kind: str
    rate: float = 1.0
    times: int | None = None
    seconds: float = 0.0
    match: str = ""
    dice: random.Random = field(default_factory=random.Random, repr=False)

    def hits(self, point: str, prompt: str | None) -> bool:
        """Tell whether this fault happens to a request; throws the dice if it concerns the request."""
        if self.point != point and (self.point != "any" or point in _NOT_FOR_ANY):
            return False
        if self.match and self.match not in (prompt or ""):
            return False
        if self.times == 0:
            return False
        return self.dice.random() < self.rate

    def kind_at(self, point: str) -> str:
        """Return what this fault is called at a point: ``any:reset`` is ``reset_before`` at ``run``."""
        return _ANY.get((point, self.kind), self.kind)


def _number(spec: str, name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise FaultSpecError(f"fault {spec!r}: {name} must be a number from {low:g} to {high:g}, not {text!r}")
    return value


def _options(spec: str, point: str, kind: str, words: Sequence[str]) -> dict[str, str]:
    allowed = ["rate", "times"]
    allowed += ["seconds"] if kind in _SECONDS else []
    allowed += ["match"] if point == "run" else []
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in allowed or name in options:
            raise FaultSpecError(f"fault {spec!r}: {word!r} is not one of the options {', '.join(allowed)}")
        options[name] = value
    return options


def parse_fault(spec: str, seed: int = 0) -> Fault:
    """Return the fault that a specification describes.

    :param spec: ``POINT:KIND[:option=value...]``. ``match`` comes last where its text has a colon.
    :param seed: makes ``rate`` hit the same requests every time.
    :raises FaultSpecError: naming what is allowed.
    """
    head, _, match = spec.partition(":match=")
    words = head.split(":")
    point, kind = words[0], words[1] if len(words) > 1 else ""
    if point not in KINDS:
        raise FaultSpecError(f"fault {spec!r}: {point!r} is not one of the points {', '.join(KINDS)}")
    if kind not in KINDS[point]:
        raise FaultSpecError(f"fault {spec!r}: {kind!r} is not one of {point}'s kinds {', '.join(KINDS[point])}")
    options = _options(spec, point, kind, [*words[2:], *([f"match={match}"] if match else [])])
    fault = Fault(point, kind, seconds=_SECONDS.get(kind, 0.0), match=options.get("match", ""))
    fault.dice = random.Random(f"{seed}:{spec}")
    if "rate" in options:
        fault.rate = _number(spec, "rate", options["rate"], 0, 1)
    if "times" in options:
        times = _number(spec, "times", options["times"], 1, 1e9)
        if times != int(times):
            raise FaultSpecError(f"fault {spec!r}: times must be a whole number")
        fault.times = int(times)
    if "seconds" in options:
        fault.seconds = _number(spec, "seconds", options["seconds"], 0, 3600)
    return fault


class Faults:
    """The faults that are switched on, and a count of those that happened."""

    def __init__(self, specs: Sequence[str] = (), seed: int = 0) -> None:
        """Switch on these faults.

        :param specs: see :func:`parse_fault`; of several that hit one request, the first happens.
        :param seed: makes rates reproducible.
        """
        self._seed = seed
        self.happened: Counter[str] = Counter()
        self.set(specs)

    def set(self, specs: Sequence[str]) -> None:
        """Replace all faults; the counts stay.

        :raises FaultSpecError: for the first specification that is wrong; nothing has changed then.
        """
        self._faults = [parse_fault(spec, self._seed + number) for number, spec in enumerate(specs)]

    def pick(self, point: str, *kinds: str, prompt: str | None = None) -> Fault | None:
        """Return the fault that is to happen to this request, None for none. :meth:`happen` counts it.

        :param point: where the request is: ``run``, ``detail``, ...
        :param kinds: only these kinds, as they are called at the point; none given: any kind.
        :param prompt: of the run.
        """
        for fault in self._faults:
            if kinds and fault.kind_at(point) not in kinds:
                continue
            if fault.hits(point, prompt):
                return fault
        return None

    def happen(self, fault: Fault, point: str) -> None:
        """Count a fault that really happens now, and use up one of its times."""
        if fault.times is not None:
            fault.times -= 1
        self.happened[f"{point}:{fault.kind_at(point)}"] += 1
