"""Which of the project's tasks is an order's, by the inputs that Wiro echoes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_wiro.api.tasks import WiroTask

_WHOLE = re.compile(r"^(-?\d+)\.0+$")


@dataclass(frozen=True)
class Sought:
    """The Run that is looked for.

    :param model: ``owner/name``.
    :param inputs: as they were sent.
    :param marked: whether the seed is derived, so that no other order has it.
    """

    model: str
    inputs: Mapping[str, Any]
    marked: bool

    def is_of_model(self, task: WiroTask) -> bool:
        """Tell whether a task's model does not rule it out."""
        return task.model is None or task.model.lower() == self.model.lower()

    def is_certain(self, task: WiroTask) -> bool:
        """Tell whether a task is this one beyond doubt: its derived seed, and nothing that speaks against it."""
        return self.marked and _echo(task, "seed") == _plain(self.inputs["seed"]) and not self._differs(task)

    def is_alike(self, task: WiroTask) -> bool:
        """Tell whether a task echoes all that was sent, where no seed marks it."""
        return (
            not self.marked and all(_echo(task, name) is not None for name in self._compared) and self.is_possible(task)
        )

    def is_possible(self, task: WiroTask) -> bool:
        """Tell whether nothing proves that a task is another one."""
        if self.marked and not self.is_mute(task):
            return _echo(task, "seed") == _plain(self.inputs["seed"])
        return not self._differs(task)

    def is_mute(self, task: WiroTask) -> bool:
        """Tell whether a task's echo leaves out what would tell."""
        return _echo(task, "seed") is None if self.marked else not task.inputs

    @property
    def _compared(self) -> dict[str, str]:
        # A random seed may be echoed as what was drawn; where Wiro reports to is nothing that it makes.
        return {
            name: _plain(value)
            for name, value in self.inputs.items()
            if name != "callbackUrl" and (name, str(value)) != ("seed", "-1")
        }

    def _differs(self, task: WiroTask) -> bool:
        return any(_echo(task, name) not in (None, value) for name, value in self._compared.items())


def _echo(task: WiroTask, name: str) -> str | None:
    """Return an input as a task echoes it, ``None`` where it does not."""
    return _plain(task.inputs.get(name)) or None


def _plain(value: Any) -> str:
    """Return an input in the form in which echo and order compare: 5 is "5" is 5.0, white space is folded."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return _WHOLE.sub(r"\1", " ".join(str(value).split()))
