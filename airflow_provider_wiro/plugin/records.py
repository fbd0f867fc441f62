"""What the XComs of videos say, made safe: anybody with the right to write XComs can write anything into them."""

from __future__ import annotations

import json
import math
import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from airflow_provider_wiro.page import BATCH_KEY, END_KEY, ORDER_KEY

PREVIEW_KEY = "wiro_video_preview"
"""The XCom of a moving picture that was made from a video."""
STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
OVER = ("succeeded", "failed", "cancelled")
MEDIA_TYPES = frozenset(
    (
        "video/mp4",
        "video/webm",
        "video/quicktime",
        "audio/mpeg",
        "audio/wav",
        "image/webp",
        "image/png",
        "image/jpeg",
        "image/gif",
    )
)
"""What is handed to a browser; nothing that it would run."""

LONGEST_PROMPT = 5000  # characters
LONGEST_ERROR = 1000
_LONGEST_NAME = 300
_LONGEST_ADDRESS = 4000
_LARGEST = 1e12  # of any number here; beyond, it is a mistake or mischief
_MOST = {"records": 1000, "files": 20, "inputs": 40}
_BATCH = re.compile(rf"{BATCH_KEY}[0-9]{{1,6}}")


class Place(NamedTuple):
    """A task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Row:
    """An XCom as it lies in Airflow's database, with its task instance."""

    place: Place
    key: str
    value: str | None
    """JSON text; None where it is too long to be read."""
    time: float
    """When it was pushed, in unix time."""
    state: str | None
    """Of the task instance."""
    label: str | None
    """Its rendered map index."""


@dataclass(frozen=True)
class Record:
    """What one XCom, or one item of a batch's XCom, says of one video."""

    row: Row
    item: int | None
    """Its position in a batch's XCom."""
    wiro_task_id: str | None
    index: int | None
    """Its number in a batch."""
    fields: Mapping[str, Any]
    """What it says, as far as it can be understood. ``inputs``, ``files`` and ``outputs`` are as they came."""

    @property
    def rank(self) -> tuple[bool, float]:
        """What it is to be believed before: an end before an order, then the later one."""
        return self.fields.get("status") in OVER or self.row.key == END_KEY, self.row.time


def records_of(row: Row) -> Iterator[Record]:
    """Yield what an XCom says; nothing, where it is none of ours or cannot be understood.

    :param row: the XCom.
    """
    value = decoded(row.value)
    if row.key in (ORDER_KEY, END_KEY, PREVIEW_KEY):
        if isinstance(value, dict):
            yield _record(row, None, value)
    elif _BATCH.fullmatch(row.key) and isinstance(value, list):
        for item, each in enumerate(value[: _MOST["records"]]):
            if isinstance(each, dict):
                yield _record(row, item, each)


def decoded(value: str | None) -> Any:
    """Return the value of an XCom.

    :param value: the text of the column.
    """
    try:
        found = json.loads(value) if value else None
        # What is written over Airflow's REST API is a JSON text in a JSON text.
        return json.loads(found) if isinstance(found, str) else found
    except (ValueError, RecursionError):
        return None  # an XCom backend's reference, for one


def _record(row: Row, item: int | None, said: Mapping[str, Any]) -> Record:
    fields = {name: value for name, read in _FIELDS.items() if (value := read(said.get(name))) is not None}
    index = item if item is None else whole(said.get("index"))
    return Record(row, item, fields.get("wiro_task_id"), item if index is None else index, fields)


def text(value: Any, longest: int = _LONGEST_NAME) -> str | None:
    """Return a text that can be sent as UTF-8, cut; None for anything else and for an empty one."""
    if not isinstance(value, str) or not value:
        return None
    value = value[:longest]
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def number(value: Any) -> float | None:
    """Return a number that is neither negative nor out of all measure; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """Return a whole number that is neither negative nor out of all measure; None for anything else."""
    return int(value) if number(value) is not None and int(value) == value else None


def money(value: Any) -> Decimal | None:
    """Return an amount; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or len(str(value)[:50]) > 30:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    sane = amount.is_finite() and 0 <= amount <= Decimal(10**12) and -12 <= int(amount.as_tuple().exponent) <= 12
    return amount if sane else None


def web_address(value: Any) -> str | None:
    """Return an address that a link may lead to; None for anything else, such as ``javascript:``."""
    if not isinstance(value, str) or len(value) > _LONGEST_ADDRESS or not value.isprintable() or " " in value:
        return None
    return text(value, _LONGEST_ADDRESS) if value.lower().startswith(("http://", "https://")) else None


def _identity(value: Any) -> str | None:
    return str(value) if whole(value) is not None else text(value)


def _status(value: Any) -> str | None:
    return value if isinstance(value, str) and value in STATUSES else None


def _filled(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, kind) and value else None


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "status": _status,
    "wiro_task_id": _identity,
    "model": text,
    "inputs": _filled(dict),
    "url": web_address,
    "ordered_at": number,
    "total_cost": money,
    "elapsed_seconds": number,
    "outputs": _filled(list),
    "files": _filled(list),
    "error": lambda value: text(value, LONGEST_ERROR),
    "reused_from": _identity,
}


def prompt_of(inputs: Mapping[str, Any]) -> str | None:
    """Return the prompt of what was ordered."""
    return text(inputs.get("prompt"), LONGEST_PROMPT)


def ordered_of(inputs: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return the rest of what was ordered: plain values by name."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in list(inputs.items())[: _MOST["inputs"]]:
        plain = _plain(value)
        if name != "prompt" and plain is not None:
            found[text(name) or ""] = plain
    return found


def _plain(value: Any) -> str | int | float | bool | None:
    if isinstance(value, str):
        return text(value, LONGEST_ERROR)
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) <= _LARGEST:  # which no NaN is
        return value
    return None


@dataclass(frozen=True)
class File:
    """A file that was stored."""

    uri: str | None
    name: str | None
    content_type: str | None
    size: int | None
    video: dict[str, Any] | None


def file_of(files: Any, position: int) -> File | None:
    """Return one of the files that a record names; None where there is no such file.

    :param files: the field ``files`` of the record.
    :param position: which; the first is 0.
    """
    if not isinstance(files, list) or not 0 <= position < min(len(files), _MOST["files"]):
        return None
    said = files[position]
    if not isinstance(said, dict):
        return None
    uri = said.get("uri")
    uri = uri if isinstance(uri, str) and 0 < len(uri) <= _LONGEST_ADDRESS else None
    return File(uri, text(said.get("name")), _content_type(said, uri), whole(said.get("size")), _video(said))


def files_of(files: Any) -> list[tuple[int, File]]:
    """Return the files that a record names, each with its position."""
    count = min(len(files), _MOST["files"]) if isinstance(files, list) else 0
    return [(position, file) for position in range(count) if (file := file_of(files, position))]


def _content_type(said: Mapping[str, Any], uri: str | None) -> str | None:
    told = text(said.get("content_type"))
    if told is None:
        return mimetypes.guess_type(uri)[0] if uri else None
    return told.partition(";")[0].strip().lower()


def _video(said: Mapping[str, Any]) -> dict[str, Any] | None:
    video = said.get("video")
    if not isinstance(video, dict):
        return None
    known = {name: number(video.get(name)) for name in ("width", "height", "duration", "frame_rate")}
    found: dict[str, Any] = {name: int(v) if v.is_integer() else v for name, v in known.items() if v is not None}
    codec = text(video.get("codec"))
    return (found | ({"codec": codec} if codec else {})) or None


def footage(files: Any, inputs: Mapping[str, Any]) -> float:
    """Return the seconds of film in a record's files, else those that were ordered.

    :param files: the field ``files``.
    :param inputs: the field ``inputs``.
    """
    durations = [number((file.video or {}).get("duration")) or 0.0 for _, file in files_of(files)]
    if any(durations):
        return math.fsum(durations)
    ordered = inputs.get("duration")
    if isinstance(ordered, str):
        amount = money(ordered)
        ordered = float(amount) if amount is not None else None
    return number(ordered) or 0.0
