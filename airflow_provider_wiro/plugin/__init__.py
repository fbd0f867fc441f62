"""The page "Videos" of Airflow's UI. Every Airflow process loads this module, so it is nearly nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

_BROKEN = b"The page of videos cannot be loaded; the log of Airflow's api-server tells why.\n"


class LazyApp:
    """An ASGI app that imports the real one at its first request.

    Tasks, the scheduler and the triggerer load plugins too, and FastAPI and Airflow's models are not theirs to carry.
    Where the real app cannot be imported, it answers 500, and the rest of Airflow is as it was.
    """

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._failed = False
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _nothing_to_start(receive, send)
            return
        app = self._app
        if app is None and not self._failed:
            app = await asyncio.to_thread(self._load)
        if app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_BROKEN))]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _BROKEN})
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1011})

    def _load(self) -> ASGIApp | None:
        with self._lock:
            if self._app is None and not self._failed:
                try:
                    from airflow_provider_wiro.plugin.app import app

                    self._app = app
                except Exception:
                    # told once: the next import would fail in the same way
                    self._failed = True
                    log.exception("The page of videos (/wiro) cannot be loaded")
            return self._app


async def _nothing_to_start(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _tab(destination: str, url_route: str, **more: str) -> dict[str, str]:
    # addresses without a leading slash: Airflow may live under a path
    return {
        "name": "Wiro videos",
        "bundle_url": "wiro/static/wiro.js",
        "destination": destination,
        "url_route": url_route,
        "icon": "wiro/static/icon.svg",
        "icon_dark_mode": "wiro/static/icon-dark.svg",
        **more,
    }


class WiroPlugin(AirflowPlugin):
    """Adds the page "Videos" to the menu *Browse*, and a tab of it to Dags, Dag runs, tasks and task instances."""

    name = "wiro"
    fastapi_apps: ClassVar[list[Any]] = [{"app": LazyApp(), "url_prefix": "/wiro", "name": "Wiro"}]
    react_apps: ClassVar[list[Any]] = [
        _tab("nav", "wiro-videos", category="browse"),
        _tab("dag", "videos-dag"),
        _tab("dag_run", "videos-run"),
        _tab("task", "videos-task"),
        _tab("task_instance", "videos-ti"),
    ]
