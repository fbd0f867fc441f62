"""The triggers that one writes in ten minutes: a question for each task and second.

One asks with `requests` in a thread, as the package's own client does, and a session that is kept; one with aiohttp,
the best that can be done by asking for each task by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import requests
from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

Ask = Callable[[str, dict[str, str], dict[str, str]], Awaitable[Any]]


class _ByHand(BaseTrigger):
    """Waits until a Wiro task has ended.

    :param conn_id: a connection of type ``wiro``.
    :param task_id: Wiro's id of the task.
    :param interval: seconds between two looks.
    """

    def __init__(self, conn_id: str, task_id: str, interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id, self.task_id, self.interval = conn_id, task_id, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        arguments = {"conn_id": self.conn_id, "task_id": self.task_id, "interval": self.interval}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the task has ended."""
        connection: Any = await BaseHook.aget_connection(self.conn_id)
        key, secret = str(connection.password), connection.extra_dejson["api_secret"]
        async with self.asking() as ask:
            while True:
                nonce = str(time.time_ns())
                signature = hmac.new(key.encode(), f"{secret}{nonce}".encode(), hashlib.sha256).hexdigest()
                headers = {"x-api-key": key, "x-nonce": nonce, "x-signature": signature}
                answer = await ask(f"{connection.host}/Task/Detail", headers, {"taskid": str(self.task_id)})
                task = answer["tasklist"][0]
                if task["status"] == "task_postprocess_end":
                    status = "succeeded" if task["pexit"] == "0" else "failed"
                    yield TriggerEvent({"status": status})  # type: ignore[no-untyped-call]
                    return
                await asyncio.sleep(self.interval)

    def asking(self) -> AbstractAsyncContextManager[Ask]:
        """Return what sends a request, for as long as it is needed."""
        raise NotImplementedError


class ThreadTrigger(_ByHand):
    """Asks with `requests`, in a thread."""

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        """Keep a session."""
        with requests.Session() as session:

            def ask(url: str, headers: dict[str, str], body: dict[str, str]) -> Any:
                return session.post(url, json=body, headers=headers).json()

            yield lambda *what: asyncio.to_thread(ask, *what)


class AiohttpTrigger(_ByHand):
    """Asks with aiohttp."""

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        """Keep a session."""
        async with importlib.import_module("aiohttp").ClientSession() as session:

            async def ask(url: str, headers: dict[str, str], body: dict[str, str]) -> Any:
                async with session.post(url, json=body, headers=headers) as response:
                    return await response.json()

            yield ask
