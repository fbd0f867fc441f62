"""Stub."""
from __future__ import annotations
from starlette.responses import HTMLResponse, Response
from airflow_provider_wiro.emulator.account import Account, Task


def front(account: Account, base: str) -> Response:
    """Return."""
    return HTMLResponse("x")


def one(account: Account, task: Task | None) -> Response:
    """Return."""
    return HTMLResponse("x")
