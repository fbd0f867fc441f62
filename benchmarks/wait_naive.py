"""The trigger that one writes in ten minutes: a session for each task, and a question for each task and second."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent


class NaiveTrigger(BaseTrigger):
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
        return f"{__name__}.NaiveTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the task has ended."""
        aiohttp = importlib.import_module("aiohttp")
        connection = await BaseHook.aget_connection(self.conn_id)
        key, secret = connection.password or "", connection.extra_dejson["api_secret"]
        async with aiohttp.ClientSession() as session:
            while True:
                nonce = str(time.time_ns())
                signature = hmac.new(key.encode(), f"{secret}{nonce}".encode(), hashlib.sha256).hexdigest()
                headers = {"x-api-key": key, "x-nonce": nonce, "x-signature": signature}
                body = {"taskid": self.task_id}
                async with session.post(f"{connection.host}/Task/Detail", json=body, headers=headers) as response:
                    task = (await response.json())["tasklist"][0]
                if task["status"] == "task_postprocess_end":
                    status = "succeeded" if task["pexit"] == "0" else "failed"
                    yield TriggerEvent({"status": status})  # type: ignore[no-untyped-call]
                    return
                await asyncio.sleep(self.interval)
