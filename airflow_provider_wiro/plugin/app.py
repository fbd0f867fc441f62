"""What the page asks for: the videos that somebody may see, and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from sqlalchemy import Text, case, cast, func, select

from airflow_provider_wiro.plugin import media
from airflow_provider_wiro.plugin.videos import Filter, Place, Row, cards_of, decoded, page_of

_STATIC = Path(__file__).with_name("static")
_TYPES = {"wiro.js": "text/javascript", "icon.svg": "image/svg+xml", "icon-dark.svg": "image/svg+xml"}
# XComs that are read for a page at most: three of each of 2,000 videos, and some. An item of a batch counts as one,
# and so does each piece of a long text.
_MOST = 8000
_PIECE = 8 << 10
# More characters than 64 videos with the longest prompts have, escaped twice: what is longer is none of ours.
_LONGEST = 8 << 20
# What a database takes for a whole number.
_LARGEST = 2**31 - 1
# All keys that begin with "wiro_video", in the order of the index.
_KEYS = ("wiro_video", "wiro_videp")
_PER_PAGE = 200
_TEXT = cast(XComModel.value, Text)
_VALUE = case((func.length(_TEXT) <= _LONGEST, _TEXT))


def _plain(request: Request) -> None:
    """Refuse a NUL, which no name has and which PostgreSQL does not even take for a comparison."""
    if any("\0" in value for value in request.query_params.values()):
        raise HTTPException(404, "There is no such thing: no name has a NUL in it.")


# On the application and not on each route: none can be forgotten. FastAPI's own pages would have no such check.
app = FastAPI(dependencies=[Depends(get_user), Depends(_plain)], docs_url=None, redoc_url=None, openapi_url=None)
_may_read = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


def _given(text: str | None) -> str | None:
    """Return a parameter, or ``None`` where Airflow left its name in the address as the page has no such thing."""
    return None if not text or (text.startswith("{") and text.endswith("}")) else text


def _number(text: str | None, name: str = "map_index", least: int = -1, status: int = 422) -> int | None:
    given = _given(text)
    if given is None:
        return None
    if re.fullmatch(r"-?[0-9]{1,10}", given) and least <= int(given) <= _LARGEST:
        return int(given)
    raise HTTPException(status, f"{name} is {given[:50]!r}, allowed: a whole number from {least} to {_LARGEST}.")


@app.get("/api/videos")
def list_videos(
    user: GetUserDep,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: str | None = None,
    state: str = "",
    search: Annotated[str, Query(max_length=500)] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=_PER_PAGE)] = 24,
) -> Response:
    """Return the videos of a scope that the user may see."""
    dags = _visible_dags(user, _given(dag_id))
    index = _number(map_index)
    rows, truncated = _at_most(_MOST, _read(dags, _given(run_id))) if dags else ([], False)
    cards = cards_of(rows, _given(task_id), index)
    found = page_of(cards, Filter(state, search, offset, limit), truncated=truncated)
    roots = media.allowed_roots()
    for card in found["videos"]:
        for file in card["files"]:
            file["media"] = _address(file, roots)
            del file["uri"]
        card["poster"] = card["poster"] and _address(card["poster"], roots, "image/")
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


def _address(file: Mapping[str, Any], roots: media.Roots, kind: str = "") -> Any:
    """Return where the page gets a file, or ``None`` where it is not served."""
    content_type = file["content_type"]
    served = content_type in media.TYPES and content_type.startswith(kind) and file["uri"] and roots.admit(file["uri"])
    return file["media"] if served else None


def _at_most(most: int, rows: Iterator[Row]) -> tuple[list[Row], bool]:
    """Return the first rows with their values decoded, and whether there are more than may be read."""
    taken: list[Row] = []
    for row in rows:
        value = decoded(decoded(row.value))
        most -= max(1, len(value) if isinstance(value, list) else 0, len(row.value or "") // _PIECE)
        if most < 0:
            return taken, True
        taken.append(replace(row, value=value))
    return taken, False


def _visible_dags(user: Any, wanted: str | None) -> list[str]:
    """Return the Dags that have told of videos, and whose XComs the user may read."""
    with create_session() as session:
        query = select(XComModel.dag_id).where(XComModel.key >= _KEYS[0], XComModel.key < _KEYS[1]).distinct()
        if wanted is not None:
            query = query.where(XComModel.dag_id == wanted)
        found = list(session.scalars(query))
    allowed = [dag_id for dag_id in found if _is_allowed(user, dag_id)]
    if wanted is not None and not allowed and not _is_allowed(user, wanted):
        raise HTTPException(403, "Forbidden")
    return allowed


def _is_allowed(user: Any, dag_id: str) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    manager: Any = get_auth_manager()
    return bool(manager.is_authorized_dag(method="GET", access_entity=DagAccessEntity.XCOM, details=details, user=user))


def _read(dags: list[str], run_id: str | None) -> Iterator[Row]:
    """Yield the XComs that tell of videos, the newest Dag run's first, and one more than may be shown."""
    query = (
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.key,
            _VALUE,
            XComModel.timestamp,
            XComModel.dag_run_id,
            TaskInstance.state,
            TaskInstance._rendered_map_index,
        )
        .join(
            TaskInstance,
            (TaskInstance.dag_id == XComModel.dag_id)
            & (TaskInstance.run_id == XComModel.run_id)
            & (TaskInstance.task_id == XComModel.task_id)
            & (TaskInstance.map_index == XComModel.map_index),
        )
        .where(XComModel.key >= _KEYS[0], XComModel.key < _KEYS[1], XComModel.dag_id.in_(dags))
        .order_by(XComModel.dag_run_id.desc())
        .limit(_MOST + 1)
        .execution_options(yield_per=500)
    )
    if run_id is not None:
        query = query.where(XComModel.run_id == run_id)
    with create_session() as session:
        for dag_id, run, task_id, map_index, key, value, timestamp, number, state, label in session.execute(query):
            place = Place(dag_id, run, task_id, map_index)
            state = None if state is None else str(state)
            yield Row(place, key, value, timestamp, number, state, label)


@app.api_route("/media", methods=["GET", "HEAD"], dependencies=[_may_read])
def read_media(
    request: Request,
    dag_id: str,
    run_id: str,
    task_id: str,
    key: str,
    map_index: str | None = None,
    item: str | None = None,
    file: str | None = None,
) -> Response:
    """Return a file of a video, or where it is."""
    index = _number(map_index, status=404)
    told = _told(Place(dag_id, run_id, task_id, -1 if index is None else index), key)
    positions = [_number(text, name, 0, 404) or 0 for name, text in (("item", item), ("file", file))]
    facts = media.pick(told, key, *positions)
    if facts is None:
        raise HTTPException(404, "There is no such file.")
    return media.answer(facts, request)


def _told(place: Place, key: str) -> Any:
    if not media.is_key(key):
        return None
    query = select(_VALUE).where(
        XComModel.dag_id == place.dag_id,
        XComModel.run_id == place.run_id,
        XComModel.task_id == place.task_id,
        XComModel.map_index == place.map_index,
        XComModel.key == key,
    )
    with create_session() as session:
        return decoded(decoded(session.scalars(query).first()))


@app.get("/watch")
def watch(dag_id: str, run_id: str, task_id: str, map_index: str | None = None) -> Response:
    """Lead to the tab "Videos" of a task instance: where the button "Watch" leads, which knows no base address."""
    index = _number(map_index)
    mapped = "" if index is None or index < 0 else f"/mapped/{index}"
    dag, run, task = (quote(part, safe="") for part in (dag_id, run_id, task_id))
    return RedirectResponse(f"../dags/{dag}/runs/{run}/tasks/{task}{mapped}/plugin/videos-ti", 307)


@app.get("/static/{name}")
def static(name: str) -> Response:
    """Return a part of the page itself."""
    if name not in _TYPES:
        raise HTTPException(404, "There is no such file.")
    headers = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(_STATIC / name, media_type=_TYPES[name], headers=headers)
