from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.emulator.callbacks import is_local
from tests.unit.emulator.support import KEY, SECRET, SEEDANCE, VIDEO, Caller

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
        ({"limit": -1}, "limit must be"),
        ({"limit": 1.5}, "limit must be"),
        ({"clock_offset": float("nan")}, "clock's offset must be"),
        ({"cdn_host": "10.0.0.1"}, "CDN's host must be a loopback address"),
        ({"cdn_host": "localhost"}, "CDN's host must be a loopback address"),
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


def control(wiro: LocalWiro, what: str, body: object) -> requests.Response:
    return requests.post(f"{wiro.url}/control/{what}", json=body, timeout=5)


def test_the_limit_need_not_follow_the_balance() -> None:
    with LocalWiro(api_key=KEY, api_secret=SECRET, speed=0.001, balance=500, limit=2) as wiro:
        caller = Caller(wiro)
        caller.run()
        caller.run()
        assert caller.refusal(f"Run/{SEEDANCE}", {"prompt": "x"}) == (
            200,
            96,
            "You have reached your concurrent task limit. With your current balance of $500.00, you can run up to "
            "2 tasks at the same time. Add funds to increase your limit.",
        )
        assert control(wiro, "limit", {"limit": 3}).json() == {"limit": 3}
        caller.run()
        assert caller.refusal(f"Run/{SEEDANCE}", {"prompt": "x"})[1] == 96
        wiro.reset()
        wiro.set_limit(0)
        assert caller.refusal(f"Run/{SEEDANCE}", {"prompt": "x"})[1] == 96
        assert control(wiro, "limit", {"limit": "3"}).status_code == 400
        assert control(wiro, "limit", {"limit": None}).json() == {"limit": None}
        assert caller.run()


def test_what_others_run(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    mine = caller.run(**VIDEO)
    (first,) = slow_wiro.run_foreign(prompt=VIDEO["prompt"], seed=VIDEO["seed"])
    others = control(slow_wiro, "foreign", {"model": "local/echo-text", "prompt": "Hi", "count": 2}).json()["taskids"]
    (default,) = control(slow_wiro, "foreign", {}).json()["taskids"]
    listed = {task["id"]: task for task in caller.ask("Task/List")["tasklist"]}
    assert list(listed) == [default, *others[::-1], first, mine]
    assert listed[first]["parameters"] == listed[mine]["parameters"] == VIDEO
    assert listed[others[0]]["modelslugproject"] == "echo-text"
    ledger = slow_wiro.ledger()
    assert [run["taskid"] for run in ledger["runs"] if not run["foreign"]] == [mine]
    assert len(ledger["runs"]) == 5
    assert ledger["calls"]["Run"] == 1


def test_others_obey_the_same_rules(slow_wiro: LocalWiro) -> None:
    slow_wiro.set_limit(3)
    for wrong in ({"model": "x"}, {"model": "a/b/c"}, {"count": 0}, {"count": "x"}, {"duration": 7}, {"prompt": ""}):
        assert control(slow_wiro, "foreign", wrong).status_code == 400
    refused = control(slow_wiro, "foreign", {"count": 4})
    assert (refused.status_code, "up to 3 tasks" in refused.json()["error"]) == (400, True)
    assert Caller(slow_wiro).refusal(f"Run/{SEEDANCE}", {"prompt": "x"})[1] == 96


def test_equal_videos_of_others_are_drawn_once(wiro: LocalWiro) -> None:
    caller = Caller(wiro)
    tasks = [caller.wait(taskid) for taskid in wiro.run_foreign(count=2)]
    films = {requests.get(task["outputs"][0]["url"], timeout=5).content for task in tasks}
    assert len(films) == 1
    assert "seed" not in tasks[0]["parameters"]


def test_who_stopped_a_task(caller: Caller) -> None:
    mine = caller.run(prompt="[wiro:hang]")
    caller.wait(mine, "task_output")
    caller.ask("Task/Kill", taskid=mine)
    caller.wait(caller.run(prompt="[wiro:cancel]"))
    runs = caller.wiro.ledger()["runs"]
    assert [run["status"] for run in runs] == ["task_cancel", "task_cancel"]
    assert [run["stopped_by_request"] for run in runs] == [True, False]


def test_a_long_ledger_comes_quickly(wiro: LocalWiro) -> None:
    wiro.run_foreign(model="local/echo-text", count=500)
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert len(requests.get(f"{wiro.url}/ledger", timeout=5).json()["runs"]) == 500
        took.append(time.monotonic() - began)
    assert min(took) < 0.25
