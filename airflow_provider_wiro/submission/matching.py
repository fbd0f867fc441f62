"""Which of the project's tasks is an order's, by the inputs that Wiro echoes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_wiro.api.tasks import WiroTask


@dataclass(frozen=True)
class Sought:
    """The Run that is looked for.

    :param model: ``owner/name``.
    :param inputs: as they were sent.
    :param marked: whether the seed is derived, so that no other order has it.
    :param has_files: whether local files went along, which no echo shows.
    """

    model: str
    inputs: Mapping[str, Any]
    marked: bool
    has_files: bool = False

    def is_of_model(self, task: WiroTask) -> bool:
        """Tell whether a task's model does not rule it out."""
        return task.model is None or task.model.lower() == self.model.lower()

    def is_certain(self, task: WiroTask) -> bool:
        """Tell whether a task is this one beyond doubt: its derived seed, and nothing that speaks against it."""
        return self.marked and _echo(task, "seed") == _plain(self.inputs["seed"]) and not self._differs(task)

    def is_alike(self, task: WiroTask) -> bool:
        """Tell whether a task echoes all that was sent, where no seed marks it."""
        told = all(_echo(task, name) is not None for name in self._compared)
        return not self.marked and not self.has_files and told and self.is_possible(task)

    def is_possible(self, task: WiroTask) -> bool:
        """Tell whether nothing proves that a task is another one."""
        if self.marked and not self.is_mute(task):
            return _echo(task, "seed") == _plain(self.inputs["seed"])
        return not self._differs(task)

    def is_mute(self, task: WiroTask) -> bool:
        """Tell whether a task's echo leaves out what would tell."""
        return _echo(task, "seed") is None if self.marked else not task.inputs

    def is_unclear(self, task: WiroTask) -> bool:
        """Tell whether more of a task's echo could tell what it is."""
        return self.is_of_model(task) and self.is_mute(task) and self.is_possible(task)

    @property
    def _compared(self) -> dict[str, str]:
        # A random seed may be echoed as what was drawn; where Wiro reports to is nothing that it makes.
        compared = {
            name: _plain(value)
            for name, value in self.inputs.items()
            if name != "callbackUrl" and (name, str(value)) != ("seed", "-1")
        }
        return {name: value for name, value in compared.items() if value}

    def _differs(self, task: WiroTask) -> bool:
        return any(_echo(task, name) not in (None, value) for name, value in self._compared.items())


def _echo(task: WiroTask, name: str) -> str | None:
    """Return an input as a task echoes it, ``None`` where it does not."""
    return _plain(task.inputs.get(name)) or None


def _plain(value: Any) -> str:
    """Return an input in the form in which echo and order compare.

    5 is "5" is 5.0, true is "true", a list is the JSON text of it, and white space is folded.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{_plain(key)}:{_plain(item)}" for key, item in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_plain, value)) + "]"
    text = " ".join(str(value).split())
    if text[:1] in ("[", "{"):
        with suppress(ValueError, RecursionError):
            return _plain(json.loads(text))
    return _number(text) or text


def _number(text: str) -> str | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return f"{number.normalize():f}" if number.is_finite() and abs(number.adjusted()) < 30 else None
