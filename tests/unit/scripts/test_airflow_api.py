from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.airflow_api import AirflowApi, AirflowApiError

TOTAL = 230


class Handler(BaseHTTPRequestHandler):
    """As much of an api-server as the client's own logic needs."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/auth/token":
            self.answer(201, {"access_token": "t0ken"})
        elif self.headers["Authorization"] != "Bearer t0ken":
            self.answer(401, {"detail": "who are you?"})
        elif parts.path.endswith("/taskInstances"):
            start = int(parse_qs(parts.query)["offset"][0])
            page = [{"task_id": f"t{number}"} for number in range(start, min(start + 100, TOTAL))]
            self.answer(200, {"task_instances": page, "total_entries": TOTAL})
        elif "/logs/" in parts.path:
            frames = [{"filename": "dag.py", "lineno": 7, "name": "work"}]
            error = {"exc_type": "ValueError", "exc_value": "boom", "frames": frames}
            first = {"event": "::group::Pre Execute"}
            second = {"timestamp": "T", "level": "error", "event": "Task failed", "error_detail": [error]}
            self.answer(200, {"content": [first, second]})
        else:
            self.answer(404, {"detail": f"no {parts.path}"})

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[AirflowApi]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = AirflowApi(f"http://127.0.0.1:{server.server_port}")
        yield client
        client.close()
        server.shutdown()
        thread.join()


def test_task_instances_are_read_to_the_last_page(api: AirflowApi) -> None:
    found = api.task_instances("dag", "run")
    assert [ti["task_id"] for ti in found] == [f"t{number}" for number in range(TOTAL)]


def test_a_log_shows_the_traceback_below_the_message(api: AirflowApi) -> None:
    assert api.log("dag", "run", "task").splitlines() == [
        "::group::Pre Execute",
        "T error Task failed",
        '  File "dag.py", line 7, in work',
        "  ValueError: boom",
    ]


def test_a_refusal_carries_airflows_words_and_the_quoted_path(api: AirflowApi) -> None:
    with pytest.raises(AirflowApiError, match="HTTP 404.*no /api/v2/dags/a%2Fb/dagRuns/r%2B1"):
        api.run_state("a/b", "r+1")


def test_nobody_listening_is_the_same_kind_of_error() -> None:
    with pytest.raises(AirflowApiError, match="GET /auth/token"):
        AirflowApi("http://127.0.0.1:1").import_errors()
