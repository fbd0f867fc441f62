"""The page "Videos" in Airflow's UI: a tab of Dags, Dag runs, tasks and task instances, and a page under Browse.

Every process that loads plugins imports this module, tasks included: what serves the page is imported when it is first
asked for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from airflow.plugins_manager import AirflowPlugin

_log = logging.getLogger(__name__)
_PLACES = {
    "dag": "videos-dag",
    "dag_run": "videos-run",
    "task": "videos-task",
    "task_instance": "videos-ti",
}


class LazyApp:
    """The page's ASGI application, imported at the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; where the application cannot be imported, with 500 and a line in the log."""
        if self._app is None:
            try:
                self._app = await asyncio.to_thread(_import_app)
            except Exception:
                _log.exception("The page of videos cannot be loaded")
                if scope["type"] == "http":
                    await _answer_500(send)
                return
        await self._app(scope, receive, send)


def _import_app() -> Any:
    from airflow_provider_wiro.plugin.app import app

    return app


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
