"""The plugin is there in every process, and its application only where it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_wiro import plugin


def ask(app: plugin.LazyApp) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send))
    return sent


def test_what_cannot_be_imported_is_an_answer_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise ImportError("another version of Airflow")

    monkeypatch.setattr(plugin, "_import_app", broken)
    start, body = ask(plugin.LazyApp())
    assert start["status"] == 500
    assert b"the log of the api-server tells why" in body["body"]
    assert b"another version" not in body["body"]
    assert "another version of Airflow" in caplog.text


def test_it_is_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    monkeypatch.setattr(plugin, "_import_app", lambda: imports.append(1) or app)
    lazy = plugin.LazyApp()
    assert [ask(lazy)[0]["status"] for _ in range(2)] == [204, 204]
    assert imports == [1]


def test_every_place_has_an_address_of_its_own() -> None:
    routes = [entry["url_route"] for entry in plugin.WiroPlugin.react_apps]
    assert len(set(routes)) == len(routes) == 5
    assert all(not entry["bundle_url"].startswith("/") for entry in plugin.WiroPlugin.react_apps)
