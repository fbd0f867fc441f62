"""The check that HttpEventTrigger asks for. It reloads this module for every look, so nothing else is here."""

from __future__ import annotations

from typing import Any


async def has_ended(response: Any) -> bool:
    """Tell from the answer of Task/Detail whether the job is over."""
    return bool(response.json()["tasklist"][0]["status"] == "task_postprocess_end")
