"""Videos out of records: which ones belong together, which of them to believe, and what the page is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from statistics import median
from typing import Any
from urllib.parse import urlencode

from airflow_provider_wiro.page import END_KEY
from airflow_provider_wiro.plugin.records import (
    MEDIA_TYPES,
    PREVIEW_KEY,
    STATUSES,
    File,
    Place,
    Record,
    files_of,
    footage,
    ordered_of,
    prompt_of,
    web_address,
)

ENDED_EARLY = "The task ended before the video did."
_ENDED_BADLY = ("failed", "skipped", "upstream_failed", "removed")

Served = Callable[[str], bool]
"""Tells whether what lies at an address may be handed out."""


@dataclass(frozen=True)
class Filter:
    """Which videos of a scope are wanted.

    :param state: a status; any by default.
    :param search: a text in its prompt, model, error or names; anything by default.
    """

    state: str | None = None
    search: str | None = None

    def fits(self, video: Video) -> bool:
        """Tell whether a video is wanted."""
        if self.state is not None and video.status != self.state:
            return False
        return not self.search or self.search.casefold() in video.words


class Video:
    """All that is known of one video.

    :param records: what is said of it, at least one that is no preview.
    :param previews: pictures made of it.
    """

    def __init__(self, records: Sequence[Record], previews: Sequence[Record] = ()) -> None:
        by_time = sorted(records, key=lambda record: record.row.time)
        orders = [record for record in by_time if record.row.key != END_KEY]
        self.first = (orders or by_time)[0]
        self.previews = sorted(previews, key=lambda record: record.row.time)
        self.places = {record.row.place for record in (*by_time, *previews)}
        self.fields: dict[str, Any] = {}
        self.sources: dict[str, Record] = {}
        for record in sorted(records, key=lambda record: record.rank):
            self.fields |= record.fields
            self.sources |= dict.fromkeys(record.fields, record)
        self.status = self.fields.get("status") or ("running" if "wiro_task_id" in self.fields else "queued")
        self.error = self.fields.get("error") if self.status in ("failed", "cancelled") else None
        if self.status in ("queued", "running") and by_time[-1].row.state in _ENDED_BADLY:
            self.status, self.error = "failed", ENDED_EARLY

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What was ordered, as it came."""
        found: Mapping[str, Any] = self.fields.get("inputs", {})
        return found

    @property
    def order(self) -> tuple[str, int, int]:
        """Its place among the videos of a Dag run."""
        place = self.first.row.place
        return place.task_id, place.map_index, -1 if self.first.index is None else self.first.index

    @property
    def id(self) -> str:
        """A name that stays the same from its order to its end."""
        index = () if self.first.index is None else (str(self.first.index),)
        return "/".join((*map(str, self.first.row.place), *index))

    @cached_property
    def words(self) -> str:
        """What a search looks through."""
        files = [file.name for _, file in files_of(self.fields.get("files"))]
        plain = [self.fields.get(name) for name in ("wiro_task_id", "model", "reused_from")]
        place = self.first.row.place
        found = (prompt_of(self.inputs), self.error, self.first.row.label, *plain, *files, *place[:3])
        return "\n".join(word for word in found if word).casefold()

    def is_of(self, task_id: str | None, map_index: int | None) -> bool:
        """Tell whether a task, or one of its instances, has to do with it.

        :param task_id: the task; any if None.
        :param map_index: the map index; any if None.
        """
        if task_id is None and map_index is None:
            return True
        return any(
            task_id in (None, place.task_id) and map_index in (None, place.map_index)  # fmt: skip
            for place in self.places
        )

    def seen(self, served: Served) -> dict[str, Any]:
        """Return what the page is told of it.

        :param served: tells which files are handed out.
        """
        get = self.fields.get
        cost = get("total_cost")
        return {
            "id": self.id,
            "status": self.status,
            "wiro_task_id": get("wiro_task_id"),
            "model": get("model"),
            "prompt": prompt_of(self.inputs),
            "ordered": ordered_of(self.inputs),
            "cost": None if cost is None else f"{cost:f}",
            "seconds": get("elapsed_seconds"),
            "ordered_at": get("ordered_at"),
            "error": self.error,
            "reused_from": get("reused_from"),
            "index": self.first.index,
            "ti": self.first.row.place._asdict(),
            "label": self.first.row.label,
            "wiro_url": get("url"),
            "poster": self._poster(served),
            "files": self._files(served),
            "source_url": self._source(),
        }

    def _files(self, served: Served) -> list[dict[str, Any]]:
        return [
            {
                "media": media_address(self.sources["files"], position, file, served),
                "name": file.name,
                "content_type": file.content_type,
                "size": file.size,
                "video": file.video,
            }
            for position, file in files_of(self.fields.get("files"))
        ]

    def _poster(self, served: Served) -> str | None:
        for record in reversed(self.previews):
            for position, file in files_of(record.fields.get("files")):
                if (file.content_type or "").startswith("image/"):
                    return media_address(record, position, file, served)
        return None

    def _source(self) -> str | None:
        outputs = self.fields.get("outputs") or [None]
        return web_address(outputs[0].get("url")) if isinstance(outputs[0], dict) else None


def media_address(record: Record, position: int, file: File, served: Served) -> str | None:
    """Return the address of a file's bytes, relative to Airflow's; None where they are not handed out.

    :param record: what names the file.
    :param position: which of its files it is.
    :param file: the file.
    :param served: tells whether its address may be handed out.
    """
    if file.uri is None or file.content_type not in MEDIA_TYPES or not served(file.uri):
        return None
    query: dict[str, Any] = {**record.row.place._asdict(), "key": record.row.key}
    if record.item is not None:
        query["item"] = record.item
    return f"wiro/media?{urlencode({**query, 'file': position})}"


def videos_of(records: Iterable[Record]) -> list[Video]:
    """Return the videos that the records of one Dag run are about, in the order of their tasks.

    :param records: of one Dag run.
    """
    told = list(records)
    # A video that waits for its place has no id yet, and one that is reused has none of its own.
    ids = {_slot(record): record.wiro_task_id for record in sorted(told, key=_time) if record.wiro_task_id}
    together: defaultdict[Any, list[Record]] = defaultdict(list)
    for record in told:
        slot = _slot(record)
        together[record.wiro_task_id or ids.get(slot) or slot].append(record)
    videos = []
    for group in together.values():
        records_here = [record for record in group if record.row.key != PREVIEW_KEY]
        if records_here:
            previews = [record for record in group if record.row.key == PREVIEW_KEY]
            videos.append(Video(records_here, previews))
    return sorted(videos, key=lambda video: video.order)


def _slot(record: Record) -> tuple[Place, int | None]:
    return record.row.place, record.index


def _time(record: Record) -> float:
    return record.row.time


def answer(
    videos: Sequence[Video], wanted: Filter, served: Served, *, offset: int, limit: int, truncated: bool
) -> dict[str, Any]:
    """Return what the page is told of a scope.

    :param videos: all of the scope, in order.
    :param wanted: which of them to show.
    :param served: tells which files are handed out.
    :param offset: how many of the wanted ones to pass over.
    :param limit: how many to show.
    :param truncated: whether there are more than were read.
    """
    matching = [video for video in videos if wanted.fits(video)]
    counts = dict.fromkeys(STATUSES, 0)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    cost, film = Decimal(0), 0.0
    for video in videos:
        counts[video.status] += 1
        cost += video.fields.get("total_cost", 0)
        if video.status == "succeeded":
            film += footage(video.fields.get("files"), video.inputs)
            if "model" in video.fields and "elapsed_seconds" in video.fields:
                seconds[video.fields["model"]].append(video.fields["elapsed_seconds"])
    return {
        "total": len(videos),
        "matching": len(matching),
        "truncated": truncated,
        "counts": counts,
        "cost": f"{cost:f}",
        "footage_seconds": round(film, 3),
        "typical_seconds": {model: round(median(each), 1) for model, each in seconds.items()},
        "videos": [video.seen(served) for video in matching[offset : offset + limit]],
    }
