"""What is read of Airflow's database for the page, and who may read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Text, and_, case, cast, func, select

from airflow_provider_wiro.plugin.records import Place, Row, records_of
from airflow_provider_wiro.plugin.videos import Video, videos_of

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from sqlalchemy.orm import Session

MOST_XCOMS = 10_000
"""How many are read at most, those of the newest Dag runs."""
MOST_VIDEOS = 20_000
_LONGEST = 8 << 20  # characters of one XCom: more than 64 videos with the longest prompts, escaped twice
_MOST_TEXT = 64 << 20  # characters of all together: an api-server has other things to remember

# An index has this range; what only looks like one of ours is passed over when it is read.
_KEYS = and_(XComModel.key >= "wiro_video", XComModel.key < "wiro_videp")
_TEXT = cast(XComModel.value, Text)
_VALUE = case((func.length(_TEXT) <= _LONGEST, _TEXT))


@dataclass(frozen=True)
class Scope:
    """Whose videos are wanted; None means any."""

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None


def readable(dag_ids: Iterable[str], user: BaseUser, session: Session) -> set[str]:
    """Return those Dags of which a user may read the XComs.

    :param dag_ids: the Dags.
    :param user: who asks.
    :param session: of Airflow's database.
    """
    wanted = set(dag_ids)
    teams = DagModel.get_dag_id_to_team_name_mapping(list(wanted), session=session) if wanted else {}
    manager = get_auth_manager()
    return {
        dag_id
        for dag_id in wanted
        if manager.is_authorized_dag(
            method="GET",
            access_entity=DagAccessEntity.XCOM,
            details=DagDetails(id=dag_id, team_name=teams.get(dag_id)),
            user=user,
        )
    }


def read_videos(scope: Scope, user: BaseUser, session: Session) -> tuple[list[Video], bool]:
    """Return the videos of a scope that a user may see, newest Dag run first, and whether there are more.

    :param scope: whose.
    :param user: who asks.
    :param session: of Airflow's database.
    """
    runs = _runs(scope, session)
    allowed = readable({run.dag_id for run in runs}, user, session)
    chosen, truncated = _newest([run for run in runs if run.dag_id in allowed])
    rows, cut = _rows(chosen, session)
    videos: list[Video] = []
    for _, each in groupby(rows, key=lambda row: row.place[:2]):
        of_run = videos_of(record for row in each for record in records_of(row))
        videos += [video for video in of_run if video.is_of(scope.task_id, scope.map_index)]
        if len(videos) > MOST_VIDEOS:
            return videos[:MOST_VIDEOS], True
    return videos, truncated or cut


def _runs(scope: Scope, session: Session) -> Sequence[Any]:
    query = (
        select(DagRun.id, DagRun.dag_id, DagRun.run_after, func.count().label("xcoms"))
        .join(XComModel, XComModel.dag_run_id == DagRun.id)
        .where(_KEYS)
        .group_by(DagRun.id, DagRun.dag_id, DagRun.run_after)
        .order_by(DagRun.run_after.desc(), DagRun.id.desc())
    )
    if scope.dag_id is not None:
        query = query.where(DagRun.dag_id == scope.dag_id)
    if scope.run_id is not None:
        query = query.where(DagRun.run_id == scope.run_id)
    return session.execute(query).all()


def _newest(runs: Sequence[Any]) -> tuple[list[int], bool]:
    """Return as many of the newest Dag runs as may be read, at least one, and whether any is left."""
    chosen: list[int] = []
    xcoms = 0
    for run in runs:
        xcoms += run.xcoms
        if chosen and xcoms > MOST_XCOMS:
            return chosen, True
        chosen.append(run.id)
    return chosen, False


def _rows(run_ids: Sequence[int], session: Session) -> tuple[list[Row], bool]:
    """Return the XComs of some Dag runs, in the order of these, and whether some are left out."""
    query = (
        select(
            XComModel.dag_run_id,
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.key,
            XComModel.timestamp,
            _VALUE.label("value"),
            TaskInstance.state,
            TaskInstance.rendered_map_index,
        )
        .join(
            TaskInstance,
            and_(
                TaskInstance.dag_id == XComModel.dag_id,
                TaskInstance.run_id == XComModel.run_id,
                TaskInstance.task_id == XComModel.task_id,
                TaskInstance.map_index == XComModel.map_index,
            ),
        )
        .where(XComModel.dag_run_id.in_(run_ids), _KEYS)
        .limit(MOST_XCOMS + 1)
    )
    rank = {run_id: position for position, run_id in enumerate(run_ids)}
    found: list[tuple[int, Row]] = []
    size = 0
    for xcom in session.execute(query.execution_options(yield_per=500)):
        size += len(xcom.value or "")
        if len(found) == MOST_XCOMS or size > _MOST_TEXT:
            return _sorted(found), True
        place = Place(xcom.dag_id, xcom.run_id, xcom.task_id, xcom.map_index)
        time = xcom.timestamp.timestamp()
        row = Row(place, xcom.key, xcom.value, time, xcom.state, xcom.rendered_map_index)
        found.append((rank[xcom.dag_run_id], row))
    return _sorted(found), False


def _sorted(found: list[tuple[int, Row]]) -> list[Row]:
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def read_xcom(place: Place, key: str, session: Session) -> str | None:
    """Return the JSON text of one XCom; None where there is none.

    :param place: its task instance.
    :param key: its key.
    :param session: of Airflow's database.
    """
    query = select(_VALUE).where(
        XComModel.dag_id == place.dag_id,
        XComModel.run_id == place.run_id,
        XComModel.task_id == place.task_id,
        XComModel.map_index == place.map_index,
        XComModel.key == key,
    )
    return session.scalars(query).first()
