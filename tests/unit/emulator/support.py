"""A caller that signs by itself: no line of the provider is used here."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import time
from typing import Any

import requests

from airflow_provider_wiro.emulator import LocalWiro

KEY, SECRET = "test-key", "test-secret"
SEEDANCE = "ByteDance/text-to-video-seedance-v1"
# The same everywhere, so that it is drawn once.
VIDEO = {"prompt": "A kite over the dunes", "seed": "7"}
FAST = 1_000_000.0


class Caller:
    """A client of the local Wiro."""

    def __init__(self, wiro: LocalWiro, key: str = KEY, secret: str = SECRET) -> None:
        self.wiro = wiro
        self.key, self.secret = key, secret
        self.http = requests.Session()
        self.http.trust_env = False
        self._nonces = itertools.count(1_000)

    def headers(self, nonce: str = "") -> dict[str, str]:
        nonce = nonce or str(next(self._nonces))
        signature = hmac.new(self.key.encode(), (self.secret + nonce).encode(), hashlib.sha256).hexdigest()
        return {"x-api-key": self.key, "x-nonce": nonce, "x-signature": signature}

    def post(self, path: str, body: object = None, **more: Any) -> requests.Response:
        more.setdefault("headers", self.headers())
        if "files" not in more and "data" not in more:
            more["json"] = {} if body is None else body
        return self.http.post(f"{self.wiro.base_url}/{path}", timeout=10, allow_redirects=False, **more)

    def ask(self, path: str, **body: object) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == 200
        content: dict[str, Any] = answer.json()
        return content

    def refusal(self, path: str, body: object = None, **more: Any) -> tuple[int, int, str]:
        answer = self.post(path, body, **more)
        content = answer.json()
        assert content["result"] is False
        (error,) = content["errors"]
        return answer.status_code, error["code"], error["message"]

    def run(self, model: str = SEEDANCE, **inputs: object) -> str:
        content = self.ask(f"Run/{model}", **({"prompt": "A kite"} | inputs))
        assert content["result"] is True, content
        taskid: str = content["taskid"]
        return taskid

    def task(self, taskid: str) -> dict[str, Any]:
        (task,) = self.ask("Task/Detail", taskid=taskid)["tasklist"]
        return dict(task)

    def wait(self, taskid: str, *statuses: str, within: float = 60) -> dict[str, Any]:
        wanted = statuses or ("task_postprocess_end", "task_cancel", "task_error")
        deadline = time.monotonic() + within
        while (task := self.task(taskid))["status"] not in wanted:
            assert time.monotonic() < deadline, f"still {task['status']}"
            time.sleep(0.01)
        return task

    def video(self) -> dict[str, Any]:
        """A task that has a video."""
        return self.wait(self.run(**VIDEO))
