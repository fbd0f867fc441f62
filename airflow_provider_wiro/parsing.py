"""What can be known of a task while its Dag is parsed, before any template is rendered or any task has run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from os import PathLike
from typing import Any

from airflow.sdk.bases.operator import get_merged_defaults
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial

from airflow_provider_wiro.exceptions import WiroConfigurationError

VERIFY = ("container", "none")
_MOST_DOLLARS = 10**9


class Later:
    """Stands for an argument that will come when the task runs."""


def is_unresolved(value: Any) -> bool:
    """Tell whether a value is known only when the task runs: a template, or the result of another task."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    return not (value is None or isinstance(value, (bool, int, float, bytes, list, tuple, Mapping)))


def is_settled(value: Any) -> bool:
    """Tell whether a value, and each value of a mapping, is known while the Dag is parsed."""
    return not is_unresolved(value) and not (isinstance(value, Mapping) and any(map(is_unresolved, value.values())))


def check_destination(destination: Any, *, needed: bool = False) -> None:
    """Check a destination, as far as it is known.

    :param destination: the argument.
    :param needed: whether it must be given.
    :raises WiroConfigurationError: it is no text and no path, or empty.
    """
    if (destination is None and not needed) or (is_unresolved(destination) and not isinstance(destination, PathLike)):
        return
    if not isinstance(destination, (str, PathLike)) or not str(destination).strip():
        raise WiroConfigurationError(f"destination is {destination!r}, allowed: a folder's path or address.")


def check_verify(verify: Any) -> None:
    """Check how sure one wants to be of a video, as far as it is known.

    :param verify: the argument.
    :raises WiroConfigurationError: it is not allowed.
    """
    if not is_unresolved(verify) and verify not in VERIFY:
        raise WiroConfigurationError(f"verify is {verify!r}, allowed: {', '.join(map(repr, VERIFY))}.")


def amount_of(name: str, value: Any) -> Decimal | None:
    """Return an argument that is an amount of US dollars, as far as it is known.

    :param name: the argument's name.
    :param value: a number, or its text; a float is taken for what it is written as.
    :return: the amount; ``None`` where there is none, or it comes later.
    :raises WiroConfigurationError: it is no such amount.
    """
    if value is None or (is_unresolved(value) and not isinstance(value, Decimal)):
        return None
    is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    is_text = isinstance(value, str) and re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value, re.ASCII)
    amount = Decimal(str(value)) if is_number or is_text else Decimal("NaN")
    if amount.is_finite() and 0 <= amount <= _MOST_DOLLARS:
        return amount
    raise WiroConfigurationError(f"{name} is {value!r}, allowed: US dollars from 0 to {_MOST_DOLLARS}, like 2.50.")


def default_args_here(**given: Any) -> dict[str, Any] | None:
    """Return the default arguments of the Dag and task group that are being written, or ``None`` outside of any.

    :param given: ``dag``, ``task_group`` and ``default_args`` where a task names them itself.
    """
    from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext

    dag = given.get("dag") or DagContext.get_current()
    if dag is None:
        return None
    task_group = given.get("task_group") or TaskGroupContext.get_current(dag)
    return get_merged_defaults(dag, task_group, None, given.get("default_args"))[0]


class CheckedPartial(OperatorPartial):
    """A partial operator that checks its literals as soon as it is mapped.

    Airflow 3.3 makes no instance of a mapped operator before it runs. The operator's class has ``check_arguments``.
    """

    def expand(self, **mapped: Any) -> MappedOperator:
        """Check each literal of a mapped argument by itself, and all others as they are."""
        self._expand_called = True  # else a refusal warns that the task was never mapped
        later = {name: Later() for name in mapped}
        self._check(later)
        for name, values in mapped.items():
            for value in values if isinstance(values, (list, tuple)) else ():
                self._check({**later, name: value})
        return super().expand(**mapped)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        """Check each literal mapping with what it is added to; what another task brings may be any argument."""
        self._expand_called = True
        for mapped in kwargs if isinstance(kwargs, list) else [Later()]:
            self._check(mapped if isinstance(mapped, Mapping) else None)
        return super().expand_kwargs(kwargs, strict=strict)

    def _check(self, mapped: Mapping[str, Any] | None) -> None:
        own = {**(default_args_here(**self.kwargs) or {}), **self.kwargs}
        if mapped is None:
            own = {**{name: Later() for name in ("model", "wait_for_completion")}, **own}
        self.operator_class.check_arguments(**{**own, **(mapped or {})})  # type: ignore[attr-defined]
