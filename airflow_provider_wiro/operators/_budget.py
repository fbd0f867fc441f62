"""What orders are going to cost together, and whether that is within what they may."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_wiro.exceptions import WiroCostError
from airflow_provider_wiro.parsing import amount_of

if TYPE_CHECKING:
    from airflow_provider_wiro.hooks.wiro import WiroHook
    from airflow_provider_wiro.waiting import Log

Order = tuple[str, Mapping[str, Any]]
"""A model, and inputs by their names on the wire."""
_SHOWN = ("resolution", "duration")


@dataclass(frozen=True)
class Kind:
    """Orders of one price."""

    model: str
    what: str
    """Resolution and length, where they are inputs."""
    each: Decimal | None
    """US dollars; ``None``: unknown."""


@dataclass(frozen=True)
class Estimate:
    """What orders are going to cost.

    :param kinds: how many there are of each kind, in the order in which they first appear.
    """

    kinds: Mapping[Kind, int]

    @property
    def count(self) -> int:
        """How many orders there are."""
        return sum(self.kinds.values())

    @property
    def unknown(self) -> int:
        """Of how many of them nobody can tell what they cost."""
        return sum(count for kind, count in self.kinds.items() if kind.each is None)

    @property
    def known(self) -> Decimal:
        """US dollars for all others together."""
        return sum((kind.each * count for kind, count in self.kinds.items() if kind.each is not None), Decimal(0))

    def within(self, limit: Decimal) -> bool:
        """Tell whether it is certain that they cost no more than that.

        :param limit: US dollars.
        """
        return not self.unknown and self.known <= limit


def estimate(hook: WiroHook, orders: Iterable[Order]) -> Estimate:
    """Estimate what orders are going to cost if all succeed; each model is asked for once.

    :param hook: asks Wiro.
    :param orders: the orders.
    :raises WiroError: Wiro does not tell.
    """
    kinds: Counter[Kind] = Counter()
    for model, inputs in orders:
        seconds = {"duration": " s"}
        shown = [f"{inputs[name]}{seconds.get(name, '')}" for name in _SHOWN if inputs.get(name) is not None]
        kinds[Kind(model, ", ".join(shown), hook.estimate_cost(model, inputs))] += 1
    return Estimate(kinds)


def dollars(amount: Decimal) -> str:
    """Return an amount as people write it: two digits after the point, more where there are more.

    :param amount: US dollars.
    """
    exact = amount.normalize()
    return f"${exact if -exact.as_tuple().exponent > 2 else exact.quantize(Decimal('0.01')):f}"  # type: ignore[operator]


class Budget:
    """Lets orders go only if all of them together are within what they may cost.

    :param hook: asks Wiro, once and only when something is to be sent.
    :param max_cost: the operator's argument, rendered; ``None`` lets everything go.
    :param orders: returns all of them.
    :param log: the operator's.
    :raises WiroConfigurationError: `max_cost` is no amount.
    """

    def __init__(self, hook: WiroHook, max_cost: Any, orders: Callable[[], Sequence[Order]], log: Log) -> None:
        self._limit = amount_of("max_cost", max_cost)
        self._hook = hook
        self._orders = orders
        self._log = log
        self._estimate: Estimate | None = None
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Return if an order may go.

        :raises WiroCostError: together they cost too much, or nobody can tell how much.
        :raises WiroError: Wiro does not tell the prices.
        """
        if self._limit is None:
            return
        with self._lock:
            if self._estimate is None:
                self._estimate = estimate(self._hook, self._orders())
                if self._estimate.within(self._limit):
                    self._log.info(
                        "Estimated: %s. max_cost is %s.", dollars(self._estimate.known), dollars(self._limit)
                    )
        if not self._estimate.within(self._limit):
            raise _too_much(self._estimate, self._limit)


def _too_much(estimate: Estimate, limit: Decimal) -> WiroCostError:
    allowed = f"max_cost is {dollars(limit)}"
    if estimate.known > limit:
        each = "1 order is" if estimate.count == 1 else f"{estimate.count} orders together are"
        return WiroCostError(f"{each} estimated to cost {dollars(estimate.known)}, and {allowed}.")
    models = sorted({kind.model for kind in estimate.kinds if kind.each is None})
    return WiroCostError(
        f"What {estimate.unknown} of {estimate.count} orders cost cannot be known before they run "
        f"({', '.join(models)}), and {allowed}.",
        advice="Nothing is billed. Where the price may be anything, leave `max_cost` out, or ask a person.",
    )
