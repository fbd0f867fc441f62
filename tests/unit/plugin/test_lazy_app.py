"""The door to the page: what stands behind it is imported when somebody comes, and may be broken."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from types import ModuleType
from typing import Any

import pytest

from airflow_provider_wiro.plugin import LazyApp, WiroPlugin

APP = "airflow_provider_wiro.plugin.app"


async def _real(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(APP)
    module.app = _real  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, APP, module)


@pytest.fixture
def is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, APP, None)  # which makes the import fail


async def _asked(app: LazyApp, kind: str, *received: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    waiting = [{"type": each} for each in received]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": kind, "method": "GET", "path": "/api/videos"}, receive, send)
    return sent


def asked(app: LazyApp, kind: str = "http", *received: str) -> list[dict[str, Any]]:
    """Return what is sent in answer to a request."""
    return asyncio.run(_asked(app, kind, *received))


@pytest.mark.usefixtures("works")
def test_the_real_app_answers() -> None:
    assert asked(LazyApp())[0]["status"] == 204


@pytest.mark.usefixtures("works")
def test_many_who_come_first_are_all_answered() -> None:
    app, statuses, start = LazyApp(), [], threading.Barrier(8)

    def come() -> None:
        start.wait()
        statuses.append(asked(app)[0]["status"])

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [204] * 8


@pytest.mark.usefixtures("is_broken")
def test_a_broken_app_is_a_500_and_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = LazyApp()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            start, body = asked(app)
            assert start["status"] == 500
            assert b"the log of the api-server tells why" in body["body"]
            assert APP.encode() not in body["body"]
    assert [record.getMessage() for record in caplog.records] == ["The page of videos cannot be loaded"]
    assert APP in caplog.text


@pytest.mark.usefixtures("is_broken")
def test_a_websocket_to_a_broken_app_is_closed() -> None:
    assert asked(LazyApp(), "websocket", "websocket.connect") == [{"type": "websocket.close", "code": 1011}]


@pytest.mark.usefixtures("is_broken")
def test_airflow_starts_and_stops_whatever_becomes_of_the_page() -> None:
    sent = asked(LazyApp(), "lifespan", "lifespan.startup", "lifespan.shutdown")
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_tabs_have_addresses_of_their_own_and_none_that_forgets_the_base_path() -> None:
    routes = [tab["url_route"] for tab in WiroPlugin.react_apps]
    assert sorted(routes) == ["videos-dag", "videos-run", "videos-task", "videos-ti", "wiro-videos"]
    for tab in WiroPlugin.react_apps:
        assert all(tab[name].startswith("wiro/static/") for name in ("bundle_url", "icon", "icon_dark_mode"))
