"""What a run will cost, going by the prices that Wiro tells of its model.

The rules are those of Wiro's documentation of ``dynamicprice``. Whatever they leave open stays unknown: an estimate
that guesses is worse than none where somebody sets a limit by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_wiro.api.seedance import find_model

_MOST = 1_000_000  # US dollars or outputs; no run has more, and a larger number is a mistake or malice
_LONGEST = 3600  # seconds of one video
_SAMPLES = "samples"  # how Wiro's image models call the number of outputs
# Several entries of one model may tell what a list of input files costs by their number, which no input here tells.
_BY_NUMBER = "QUANTITY:"


class _Unknown(Exception):
    """Something that the price depends on is not told."""


def estimate_cost(model_facts: Mapping[str, Any], inputs: Mapping[str, Any]) -> Decimal | None:
    """Return what a run is going to cost if it succeeds, or ``None`` where that cannot be known.

    Known are prices for each request (``cpr``), for each output (``cpo``; a Seedance run has one, another model's as
    many as its input ``samples`` says) and for each second of video (``cp-outputVideoLength``, by the input
    ``duration``). Prices by running time, tokens, pixels and the like are not known before the run. Where several
    entries apply, the one with the most inputs counts; where that leaves several, they must agree.

    :param model_facts: what :meth:`~airflow_provider_wiro.api.client.WiroClient.get_model` returns.
    :param inputs: the run's inputs by their names on the wire; one that is left out has the default that the model
        tells of it.
    :return: US dollars, exactly; never negative.
    """
    try:
        run = {**_defaults(model_facts), **{name: _text(value) for name, value in inputs.items() if value is not None}}
        applying = [entry for entry in _entries(model_facts.get("dynamicprice")) if _applies(entry["inputs"], run)]
        most = max((len(entry["inputs"]) for entry in applying), default=0)
        best = [entry for entry in applying if len(entry["inputs"]) == most]
        amounts = {_amount(entry, model_facts, run) for entry in best}
    except _Unknown:
        return None
    return amounts.pop() if len(amounts) == 1 else None


def _entries(told: Any) -> list[Mapping[str, Any]]:
    """Return the entries of ``dynamicprice``: text that holds a list, by the documentation also the list itself."""
    try:
        text = told if isinstance(told, str) else json.dumps(told)
        entries = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
    except (ValueError, ArithmeticError, TypeError, RecursionError):
        raise _Unknown from None
    if not isinstance(entries, list):
        raise _Unknown
    for entry in entries:
        # One that cannot be read may be the one that applies.
        if not isinstance(entry, dict) or not isinstance(entry.get("inputs"), dict):
            raise _Unknown
    return entries


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _defaults(model_facts: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for group in _list(model_facts.get("parameters")):
        for item in _list(group.get("items")):
            name, default = item.get("id"), item.get("default")
            if isinstance(name, str) and default is not None and default != "":
                found[name] = _text(default)
    return found


def _list(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def _applies(wanted: Mapping[str, Any], run: Mapping[str, str]) -> bool:
    """Tell whether a run has all inputs of an entry.

    :raises _Unknown: it may, as an input is neither given nor told.
    """
    open_questions = 0
    for name, value in wanted.items():
        text = _text(value)
        if text.startswith(_BY_NUMBER) or name not in run:
            open_questions += 1
        elif run[name] != text:
            return False
    if open_questions:
        raise _Unknown
    return True


def _text(value: Any) -> str:
    """Return a value as it is written on the wire."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal) and value.is_finite() and abs(value) < _MOST and value == value.to_integral_value():
        return str(int(value))
    return str(value)


def _amount(entry: Mapping[str, Any], model_facts: Mapping[str, Any], run: Mapping[str, str]) -> Decimal:
    price, method = entry.get("price"), entry.get("priceMethod")
    if not isinstance(price, Decimal) or not price.is_finite() or not 0 <= price <= _MOST or _is_odd(price):
        raise _Unknown
    if entry.get("priceExtra") or entry.get("priceInput"):
        raise _Unknown  # known of prices by pixels only
    if method == "cpr":
        times = Decimal(1)
    elif method == "cpo":
        is_seedance = find_model(f"{model_facts.get('slugowner')}/{model_facts.get('slugproject')}") is not None
        times = Decimal(1) if is_seedance else _number(run.get(_SAMPLES), _MOST)
    elif method == "cp-outputVideoLength":
        times = _number(run.get("duration"), _LONGEST)
    else:
        raise _Unknown
    return price * times if price else Decimal(0)


def _is_odd(price: Decimal) -> bool:
    """Tell whether a number has more digits than one reckons exactly with, or more zeros in front than one writes."""
    return len(price.as_tuple().digits) > 20 or (bool(price) and price.adjusted() < -12)


def _number(text: str | None, most: int) -> Decimal:
    if text is None or not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", text, re.ASCII) or not 0 < Decimal(text) <= most:
        raise _Unknown
    return Decimal(text)
