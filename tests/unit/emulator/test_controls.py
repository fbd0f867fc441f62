from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.emulator.callbacks import is_local
from tests.unit.emulator.support import VIDEO, Caller

# Callbacks


class Receiver(BaseHTTPRequestHandler):
    got: list[dict[str, Any]]
    came: threading.Event

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.came.set()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    handler = type("Handler", (Receiver,), {"got": [], "came": threading.Event()})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/done?x=1", handler
        server.shutdown()
        thread.join()


def test_the_callback_comes_once_at_the_end(caller: Caller, receiver: tuple[str, type[Receiver]]) -> None:
    url, handler = receiver
    taskid = caller.run(callbackUrl=url, **VIDEO)
    # Nobody asks for the task meanwhile.
    assert handler.came.wait(10)
    (task,) = handler.got[0]["tasklist"]
    assert (task["id"], task["status"], task["pexit"]) == (taskid, "task_postprocess_end", "0")
    caller.task(taskid)
    assert len(handler.got) == 1


def test_callbacks_stay_on_this_machine() -> None:
    assert all(is_local(url) for url in ("http://127.0.0.1:1/x", "https://localhost/", "http://[::1]:2/"))
    elsewhere = (
        "http://example.com/",
        "http://10.0.0.1/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1.nip.io/",
        "x",
        "",
    )
    assert not any(is_local(url) for url in elsewhere)


# Ledger and controls


def test_the_same_ledger_over_http_and_connections_counted_once(caller: Caller) -> None:
    before = caller.wiro.ledger()["connections"]
    with requests.Session() as other:
        for _ in range(3):
            caller.ask("Task/List")
            ledger = other.get(f"{caller.wiro.url}/ledger", timeout=5).json()
    assert ledger == caller.wiro.ledger()
    assert ledger["calls"] == {"Task/List": 3}
    assert ledger["connections"] == before + 1


def test_controls_over_http(caller: Caller) -> None:
    def control(what: str, body: object, **headers: str) -> requests.Response:
        return requests.post(f"{caller.wiro.url}/control/{what}", json=body, headers=headers, timeout=5)

    assert control("faults", {"faults": ["list:off"]}).status_code == 200
    assert caller.refusal("Task/List")[2] == "You don't have any permission for this action."
    wrong = control("faults", {"faults": ["list:bad"]})
    assert (wrong.status_code, "is not one of list's kinds" in wrong.json()["error"]) == (400, True)
    assert control("faults", {"faults": "list:off"}).status_code == 400
    assert control("balance", {"balance": "-3"}).status_code == 400
    assert control("nothing", {}).status_code == 400
    assert control("reset", {}, origin="http://evil.example").status_code == 403
    caller.run(prompt="[wiro:hang]")
    assert control("reset", {}).status_code == 200
    assert caller.wiro.ledger()["runs"] == []
    assert caller.wiro.ledger()["faults"] == {}
    assert caller.ask("Task/List")["total"] == "0"


def test_settings_out_of_range_are_refused() -> None:
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"speed": 0}, "speed must be"),
        ({"speed": float("nan")}, "speed must be"),
        ({"port": 70000}, "port must be"),
        ({"balance": -1}, "balance must be"),
        ({"api_key": ""}, "key must not be empty"),
        ({"faults": ["x:y"]}, "is not one of the points"),
    ]
    for settings, message in wrongs:
        with pytest.raises(ValueError, match=message):
            LocalWiro(**settings)
    with pytest.raises(RuntimeError, match="never started"):
        LocalWiro().ledger()


def test_a_port_that_is_taken_is_an_error(wiro: LocalWiro) -> None:
    port = int(wiro.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"), LocalWiro(port=port):
        pass
