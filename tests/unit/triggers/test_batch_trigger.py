"""What the trigger of a batch tells, and when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_provider_wiro.triggers import batch, watcher
from airflow_provider_wiro.triggers._watched import Mailbox
from airflow_provider_wiro.triggers.batch import WiroBatchTrigger


class Stage:
    """A watcher whose news are written down beforehand: seconds from the start, and what comes then."""

    def __init__(self, *news: tuple[float, Any]) -> None:
        self._news = news

    def watch(self, ids: Any, interval: float, longest: float, end_time: float) -> Mailbox:
        mailbox = Mailbox(interval, longest, end_time)
        for seconds, what in self._news:
            asyncio.get_running_loop().call_later(seconds, mailbox.put, what)
        return mailbox

    def take_turn(self, *_: Any) -> None:
        pass

    def leave(self, mailbox: Mailbox) -> None:
        pass


def event_of(monkeypatch: pytest.MonkeyPatch, stage: Stage, **changes: Any) -> tuple[dict[str, Any], float]:
    """Return the trigger's event and the seconds after which it came."""
    monkeypatch.setattr(watcher, "watcher_of", lambda wiro_conn_id: stage)
    arguments = {"ids": ["1", "2"], "poll_interval": 1, "end_time": time.time() + 5, "wanted": 5, "grace": 0.0}
    trigger = WiroBatchTrigger(wiro_conn_id="wiro_default", **{**arguments, **changes})

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload

    began = time.monotonic()
    return asyncio.run(first()), time.monotonic() - began


def test_places_that_come_free_one_after_the_other_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_TOGETHER", 0.4)
    event, seconds = event_of(monkeypatch, Stage((0.1, 1), (0.3, 2), (0.8, 1)))
    assert (event["status"], event["places"]) == ("place", 3)
    assert 0.5 <= seconds < 0.8


def test_no_more_places_are_waited_for_than_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    event, seconds = event_of(monkeypatch, Stage((0.1, 2)), wanted=2)
    assert (event["status"], event["places"]) == ("place", 2)
    assert seconds < 1


def test_the_grace_is_waited_for_and_what_comes_in_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_TOGETHER", 0.1)
    event, seconds = event_of(monkeypatch, Stage((0.0, 1), (0.3, 1), (0.7, 1)), grace=0.5)
    assert event["places"] == 2
    assert 0.5 <= seconds < 0.7
