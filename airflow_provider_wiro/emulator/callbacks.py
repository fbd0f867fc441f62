"""Tells callers that their tasks have ended (``callbackUrl``): once, and on this machine only."""

from __future__ import annotations

import ipaddress
import logging
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests

from airflow_provider_wiro.emulator.account import Task
from airflow_provider_wiro.emulator.wire import show, task_answer

_log = logging.getLogger(__name__)
_PATIENCE = 5.0


def is_local(url: str) -> bool:
    """Tell whether a URL leads to a loopback address; the local Wiro calls nobody else."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https"):
            return False
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Callbacks:
    """Sends callbacks from threads of its own."""

    def __init__(self, base: str) -> None:
        """Prepare.

        :param base: where the files are, as the receiver will be told.
        """
        self._base = base
        self._pool = ThreadPoolExecutor(2, "wiro-callback")

    def tell(self, task: Task, now: float) -> None:
        """POST a task that has ended to its ``callbackUrl``, if it has one that is local.

        :param task: the task.
        :param now: unix seconds.
        """
        url = task.parameters.get("callbackUrl", "")
        if is_local(url):
            self._pool.submit(self._post, url, task_answer([show(task, now, self._base)], 1))

    def _post(self, url: str, content: dict[str, object]) -> None:
        try:
            with requests.Session() as session:
                # No proxy and no ~/.netrc: this never leaves the machine.
                session.trust_env = False
                session.post(url, json=content, timeout=_PATIENCE, allow_redirects=False)
        except requests.RequestException as failed:
            _log.warning("The callback to %s failed: %s", url, type(failed).__name__)

    def close(self) -> None:
        """Forget what was not sent yet."""
        self._pool.shutdown(wait=False, cancel_futures=True)
