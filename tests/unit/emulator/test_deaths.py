"""Clients that die at any moment, as they do when somebody kills workers."""

from __future__ import annotations

import json
import logging
import socket
import struct
import time
from typing import Any

import pytest

from airflow_provider_wiro.emulator import LocalWiro
from tests.unit.emulator.support import SEEDANCE, Caller

BODY = json.dumps({"prompt": "A kite [wiro:hang]"}).encode()


def request(caller: Caller) -> bytes:
    headers = {"host": "x", **caller.headers(), "content-length": str(len(BODY))}
    lines = [f"POST /v1/Run/{SEEDANCE} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + BODY


def send_and_die(wiro: LocalWiro, data: bytes, *, rudely: bool) -> None:
    host, port = wiro.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        if rudely:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(data)
        # The server is to have read what came before the end of the connection.
        time.sleep(0.1)


def wait_for_runs(wiro: LocalWiro, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 5
    while len(runs := wiro.ledger()["runs"]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return list(runs)


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize("kind", ["slow", "reset_after", "error_after", "late"])
def test_a_run_survives_its_client(caller: Caller, kind: str, rudely: bool, caplog: pytest.LogCaptureFixture) -> None:
    seconds = ":seconds=0.3" if kind in ("slow", "late") else ""
    caller.wiro.set_faults([f"run:{kind}{seconds}"])
    with caplog.at_level(logging.WARNING):
        send_and_die(caller.wiro, request(caller), rudely=rudely)
        (run,) = wait_for_runs(caller.wiro, 1)
        time.sleep(0.4)
    assert caller.wait(run["taskid"], "task_output")["status"] == "task_output"
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_half_a_request_is_no_run_and_no_noise(
    caller: Caller, share: float, rudely: bool, caplog: pytest.LogCaptureFixture
) -> None:
    data = request(caller)
    with caplog.at_level(logging.WARNING):
        send_and_die(caller.wiro, data[: int(share * len(data))], rudely=rudely)
        time.sleep(0.1)
        assert caller.ask("Task/List")["total"] == "0"
    assert [record.getMessage() for record in caplog.records] == []
    assert caller.run(prompt="A kite [wiro:hang]")
