"""The web app behind the page "Videos". It needs a login everywhere, and for a Dag's videos the right to its XComs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

from airflow_provider_wiro.plugin.media import NotServed, serve, served
from airflow_provider_wiro.plugin.reading import Scope, read_videos, read_xcom, readable
from airflow_provider_wiro.plugin.records import STATUSES, Place
from airflow_provider_wiro.plugin.videos import Filter, answer

_STATIC = {path.name: path for path in Path(__file__).with_name("static").iterdir() if path.suffix in (".js", ".svg")}
_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}
_LARGEST = 2**31 - 1  # of what a database takes for an integer
_MOST = 200  # videos in one answer

# A dependency of the whole app: no route can be forgotten. It does not cover FastAPI's own pages, so there are none.
app = FastAPI(dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None)

User = Annotated[BaseUser, Depends(get_user)]
Asked = Annotated[str | None, Query()]


def _given(value: str | None) -> str | None:
    """Return a part of an address; None where Airflow had nothing to put in for it."""
    if not value or re.fullmatch(r"\{[A-Z_]+\}", value):
        return None
    return value


def _number(name: str, value: str | None, least: int, most: int) -> int | None:
    value = _given(value)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,10}", value) or not least <= int(value) <= most:
        raise HTTPException(400, f"{name} is {value[:50]!r}; allowed are whole numbers from {least} to {most}.")
    return int(value)


def _text(name: str, value: str | None) -> str | None:
    value = _given(value)
    if value is not None and "\0" in value:
        raise HTTPException(400, f"{name} has a NUL in it, which no name has.")
    return value


@app.get("/api/videos")
def videos(
    user: User,
    dag_id: Asked = None,
    run_id: Asked = None,
    task_id: Asked = None,
    map_index: Asked = None,
    state: Asked = None,
    search: Asked = None,
    offset: Asked = None,
    limit: Asked = None,
) -> Response:
    """Return the videos of all Dags, of a Dag, of a run, of a task or of a task instance."""
    scope = Scope(
        _text("dag_id", dag_id),
        _text("run_id", run_id),
        _text("task_id", task_id),
        _number("map_index", map_index, -1, _LARGEST),
    )
    state = _given(state)
    if state not in (None, *STATUSES):
        raise HTTPException(400, f"state is {str(state)[:50]!r}; allowed are {', '.join(STATUSES)}.")
    start = _number("offset", offset, 0, _LARGEST) or 0
    count = _number("limit", limit, 0, _MOST)
    with create_session(scoped=False) as session:
        if scope.dag_id is not None and not readable([scope.dag_id], user, session):
            raise HTTPException(403, "Forbidden")
        found, truncated = read_videos(scope, user, session)
    wanted = Filter(state, _given(search))
    told = answer(found, wanted, served, offset=start, limit=24 if count is None else count, truncated=truncated)
    return JSONResponse(told, headers={"Cache-Control": "no-store"})


@app.api_route("/media", methods=["GET", "HEAD"])
def media(
    request: Request,
    user: User,
    dag_id: str = "",
    run_id: str = "",
    task_id: str = "",
    map_index: Asked = None,
    key: str = "",
    item: Asked = None,
    file: Asked = None,
) -> Response:
    """Return the bytes of a file that an XCom names."""
    if "\0" in dag_id + run_id + task_id + key:
        raise HTTPException(404, "Not found")
    with create_session(scoped=False) as session:
        if not readable([dag_id], user, session):
            raise HTTPException(403, "Forbidden")
        try:
            index = _number("map_index", map_index, -1, _LARGEST)
            numbers = _number("item", item, 0, _LARGEST), _number("file", file, 0, _LARGEST) or 0
        except HTTPException as error:
            raise HTTPException(404, error.detail) from None
        place = Place(dag_id, run_id, task_id, -1 if index is None else index)
        value = read_xcom(place, key, session)
    try:
        return serve(value, key, *numbers, method=request.method, headers=request.headers)
    except NotServed as error:
        raise HTTPException(error.status, str(error)) from None


@app.get("/watch")
def watch(dag_id: str, run_id: str, task_id: str, map_index: Asked = None) -> Response:
    """Lead to the tab "Videos" of a task instance."""
    index = _number("map_index", map_index, -1, _LARGEST)
    parts = ["dags", dag_id, "runs", run_id, "tasks", task_id]
    if not {".", ".."}.isdisjoint(parts):
        raise HTTPException(404, "Not found")
    if index is not None and index >= 0:
        parts += ["mapped", str(index)]
    path = "/".join(quote(part, safe="") for part in (*parts, "plugin", "videos-ti"))
    return RedirectResponse(f"../{path}", 307)


@app.get("/static/{name}")
def static(name: str) -> Response:
    """Return a file of the page."""
    path = _STATIC.get(name)
    if path is None:
        raise HTTPException(404, "Not found")
    headers: dict[str, Any] = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)
