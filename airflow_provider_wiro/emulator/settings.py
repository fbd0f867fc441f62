"""Reads settings, wherever they come from: Python, the command line or a control."""

from __future__ import annotations

import ipaddress
import math
from decimal import Decimal, InvalidOperation

_FARTHEST = 100_000_000


def read_balance(value: object) -> Decimal:
    """Return a balance in USD.

    :raises ValueError: it is not a number from 0 to a million.
    """
    try:
        balance = Decimal(str(value))
    except InvalidOperation:
        balance = Decimal("NaN")
    if isinstance(value, bool) or not balance.is_finite() or not 0 <= balance <= 1_000_000:
        raise ValueError(f"the balance must be a number of USD from 0 to 1000000, not {value!r}")
    return balance


def read_limit(value: object) -> int | None:
    """Return how many tasks may be alive at once; None leaves that to the balance.

    :raises ValueError: it is neither None nor a whole number from 0 to a million.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise ValueError(f"the limit must be a whole number from 0 to 1000000, or none, not {value!r}")
    return value


def read_clock_offset(value: object) -> float:
    """Return by how many seconds the clock is wrong.

    :raises ValueError: it is not a number of at most three years.
    """
    offset = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not -_FARTHEST <= offset <= _FARTHEST:
        raise ValueError(f"the clock's offset must be a number of seconds up to {_FARTHEST}, not {value!r}")
    return offset


def read_cdn_host(value: str) -> str:
    """Return the CDN's own address; empty if it has none.

    :raises ValueError: it is not a loopback address.
    """
    try:
        fine = not value or ipaddress.ip_address(value).is_loopback
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f"the CDN's host must be a loopback address like 127.0.0.2, not {value!r}")
    return value
