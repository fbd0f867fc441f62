"""The page "Videos" in Airflow's UI: a tab of Dags, Dag runs, tasks and task instances, and a page under Browse.

Every process that loads plugins imports this module, tasks included: what serves the page is imported when it is first
asked for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

_log = logging.getLogger(__name__)
_PLACES = {
    "dag": "videos-dag",
    "dag_run": "videos-run",
    "task": "videos-task",
    "task_instance": "videos-ti",
}


class LazyApp:
    """The page's ASGI application, imported at the first request.

    Where it cannot be imported, every request is answered with 500, the log says why once, and the rest of Airflow
    is as it was.
    """

    def __init__(self) -> None:
        self._app: Any = None
        self._is_broken = False
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _have_nothing_to_start(receive, send)
            return
        app = self._app or await asyncio.to_thread(self._import)
        if app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await _answer_500(send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1011})

    def _import(self) -> Any:
        with self._lock:
            if self._app is None and not self._is_broken:
                try:
                    from airflow_provider_wiro.plugin.app import app

                    self._app = app
                except Exception:
                    self._is_broken = True
                    _log.exception("The page of videos cannot be loaded")
            return self._app


async def _have_nothing_to_start(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _answer_500(send: Any) -> None:
    body = b'{"detail": "The page of videos cannot be loaded; the log of the api-server tells why."}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _react_app(name: str, destination: str, url_route: str, **more: str) -> dict[str, str]:
    return {
        "name": name,
        # relative to the UI's base address, which may have a path
        "bundle_url": "wiro/static/wiro.js",
        "icon": "wiro/static/icon.svg",
        "icon_dark_mode": "wiro/static/icon-dark.svg",
        "destination": destination,
        "url_route": url_route,
        **more,
    }


class WiroPlugin(AirflowPlugin):
    """Tells Airflow where the page is."""

    name = "wiro"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": "/wiro", "name": "Wiro"}]  # noqa: RUF012
    # The name is the tab's label, and the name of a global variable of the browser's.
    react_apps = [  # noqa: RUF012
        _react_app("Wiro videos", "nav", "wiro-videos", category="browse"),
        *(_react_app("Videos", destination, route) for destination, route in _PLACES.items()),
    ]
