"""Many triggers at once on one local Wiro, and what is asked of it meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow.triggers.base import BaseTrigger

from airflow_provider_wiro.api.auth import WiroAuth
from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.tasks import TaskPage, WiroTask
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.triggers import watcher
from airflow_provider_wiro.triggers.watcher import TaskWatcher
from airflow_provider_wiro.triggers.wiro import WiroTaskTrigger

MODEL = "local/echo-text"
# When a task ends, as a share of its whole time: what the marks of the local Wiro do.
ENDS = {
    "": ("succeeded", 1.0),
    "[wiro:fail]": ("failed", 1.0),
    "[wiro:cancel]": ("cancelled", 0.08),
    "[wiro:error]": ("failed", 0.11),
}


def order(wiro: LocalWiro, seconds: float, count: int = 1, mark: str = "") -> list[str]:
    """Run tasks that take so many real seconds at a local Wiro of speed 1000; no call of the API is counted."""
    return wiro.run_foreign(count=count, model=MODEL, prompt=f"[wiro:slow={seconds * 1000:.0f}] {mark}")


def trigger(wiro_task_id: str, interval: float = 0.2, patience: float = 20.0, **changes: Any) -> WiroTaskTrigger:
    arguments: dict[str, Any] = {
        "wiro_conn_id": "wiro_default",
        "wiro_task_id": wiro_task_id,
        "poll_interval": interval,
        "max_poll_interval": interval,
        "end_time": time.time() + patience,
        "grace": 0.0,
    }
    return WiroTaskTrigger(**(arguments | changes))


@dataclass
class Heard:
    """What came of one trigger."""

    words: list[str] = field(default_factory=list)
    at: float = 0.0
    """Unix time of the last event."""


async def listen(one: BaseTrigger) -> Heard:
    """Run a trigger to its end."""
    heard = Heard()
    async for event in one.run():
        assert isinstance(event.payload, dict)
        heard.words.append(event.payload["status"])
        heard.at = time.time()
    return heard


async def listen_to_all(ids: Iterable[str], interval: float = 0.2, **changes: Any) -> dict[str, Heard]:
    """Wait for tasks, with one trigger for each."""
    ids = list(ids)
    return dict(
        zip(ids, await asyncio.gather(*(listen(trigger(one, interval, **changes)) for one in ids)), strict=True)
    )


def words(heard: dict[str, Heard]) -> dict[str, list[str]]:
    return {wiro_task_id: one.words for wiro_task_id, one in heard.items()}


def all_succeeded(ids: Iterable[str]) -> dict[str, list[str]]:
    return dict.fromkeys(ids, ["succeeded"])


def calls(wiro: LocalWiro) -> tuple[int, int]:
    """Return how often List and Detail were asked."""
    counted = wiro.ledger()["calls"]
    return counted.get("Task/List", 0), counted.get("Task/Detail", 0)


def pollers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "wiro-watcher"]


async def until(true: Callable[[], bool], patience: float = 5.0) -> None:
    give_up_at = time.monotonic() + patience
    while not true():
        assert time.monotonic() < give_up_at, "it never came true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """Measure for how many seconds the loop was held up at a time."""
    held: list[float] = []

    async def measure() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            held.append(time.monotonic() - before - 0.005)

    measuring = asyncio.create_task(measure())
    try:
        yield held
    finally:
        measuring.cancel()


class Client(WiroClient):
    """Asks the local Wiro, and may hide tasks from the list, or fail: what the real server cannot be made to do."""

    def __init__(self, wiro: LocalWiro) -> None:
        super().__init__(WiroAuth("local-key", "local-secret"), wiro.base_url, attempts=1)
        self.hidden: frozenset[str] | None = frozenset()
        """What the list does not show; ``None``: it is empty."""
        self.detail_fails: Callable[[str], Exception | None] = lambda wiro_task_id: None
        self.between_pages: Callable[[], None] = lambda: None
        self.starts: list[int] = []
        self.details: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self.closed = 0
        self._lock = threading.Lock()

    def list_tasks(self, start: int = 0, limit: int = 100, model: str | None = None) -> TaskPage:
        self.starts.append(start)
        if self.hidden is None:
            return TaskPage((), 0)
        page = super().list_tasks(start, limit, model)
        self.between_pages()
        if not self.hidden:
            return page
        assert (page.total or 0) <= limit + start, "only what is on one page can be hidden"
        shown = tuple(entry for entry in page.entries if str(entry["id"]) not in self.hidden)
        return TaskPage(shown, (page.total or 0) - len(self.hidden))

    def get_task(self, wiro_task_id: str | None = None, task_token: str | None = None) -> WiroTask:
        assert wiro_task_id is not None
        with self._lock:
            self.details.append(wiro_task_id)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            error = self.detail_fails(wiro_task_id)
            if error is not None:
                raise error
            return super().get_task(wiro_task_id, task_token)
        finally:
            with self._lock:
                self.in_flight -= 1

    def close(self) -> None:
        self.closed += 1
        super().close()


def install(connect: Callable[[], Awaitable[WiroClient]]) -> TaskWatcher:
    """Let the triggers of the running loop share a watcher that connects like this."""
    made = TaskWatcher(connect)
    watcher._watchers.setdefault(asyncio.get_running_loop(), {})["wiro_default"] = made
    return made


def use(client: WiroClient) -> TaskWatcher:
    async def connect() -> WiroClient:
        return client

    return install(connect)
