"""From the XComs that tasks push to what the page shows: one card for each video, whichever tasks told of it.

Whoever may write XComs can write anything into these: what cannot be read is left out, and nothing of it is trusted.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from statistics import median
from typing import Any, NamedTuple

from airflow_provider_wiro.page import BATCH_KEY, END_KEY, ORDER_KEY, PER_VALUE, PREVIEW_KEY, media_address

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
_OVER_BADLY = frozenset({"failed", "skipped", "upstream_failed", "removed"})
_LIVE = frozenset({"queued", "running"})


class Place(NamedTuple):
    """A task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Row:
    """One XCom, and what Airflow knows of the task instance that pushed it."""

    place: Place
    key: str
    value: Any
    timestamp: datetime
    run_number: int
    """Grows from one Dag run to the next."""
    state: str | None
    label: str | None


@dataclass(frozen=True)
class Filter:
    """Which cards are wanted of those that may be seen."""

    state: str = ""
    search: str = ""
    offset: int = 0
    limit: int = 24


class _Part(NamedTuple):
    """What one XCom tells of one video."""

    row: Row
    facts: Mapping[str, Any]
    item: int | None
    number: int | None
    """Which video of a batch it is."""

    @property
    def is_end(self) -> bool:
        return self.row.key == END_KEY


@dataclass
class Card:
    """One video, as the page shows it."""

    place: Place
    run_number: int
    index: int | None
    status: str = "running"
    wiro_task_id: str | None = None
    model: str | None = None
    prompt: str = ""
    ordered: dict[str, Any] = field(default_factory=dict)
    cost: Decimal | None = None
    seconds: float | None = None
    ordered_at: float | None = None
    error: str | None = None
    reused_from: str | None = None
    label: str | None = None
    wiro_url: str | None = None
    source_url: str | None = None
    poster: dict[str, Any] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)

    @property
    def footage(self) -> float:
        """Seconds of film."""
        if self.status != "succeeded":
            return 0.0
        shown = [_number((file["video"] or {}).get("duration")) for file in self.files]
        return sum(each for each in shown if each) or _number(self.ordered.get("duration")) or 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what the page is told."""
        return {
            "id": "/".join(map(str, (*self.place, self.index))),
            "status": self.status,
            "wiro_task_id": self.wiro_task_id,
            "model": self.model,
            "prompt": self.prompt,
            "ordered": self.ordered,
            "cost": None if self.cost is None else _money(self.cost),
            "seconds": self.seconds,
            "ordered_at": self.ordered_at,
            "error": self.error,
            "reused_from": self.reused_from,
            "index": self.index,
            "ti": self.place._asdict(),
            "label": self.label,
            "wiro_url": self.wiro_url,
            "source_url": self.source_url,
            "poster": self.poster,
            "files": self.files,
        }


def page_of(cards: list[Card], wanted: Filter, *, truncated: bool) -> dict[str, Any]:
    """Return a page of cards, and the sums of all.

    :param cards: all that are in the scope.
    :param wanted: which of them.
    :param truncated: whether there are more that were not read.
    """
    counts = Counter(card.status for card in cards)
    took: dict[str, list[float]] = defaultdict(list)
    for card in cards:
        if card.status == "succeeded" and card.model and card.seconds:
            took[card.model].append(card.seconds)
    words = wanted.search.casefold().split()
    found = [card for card in cards if wanted.state in ("", card.status) and _has(card, words)]
    return {
        "total": len(cards),
        "matching": len(found),
        "truncated": truncated,
        "counts": {status: counts[status] for status in STATUSES},
        "cost": _money(sum((card.cost for card in cards if card.cost is not None), Decimal(0))),
        "footage_seconds": round(sum(card.footage for card in cards), 1),
        "typical_seconds": {model: round(median(seconds), 1) for model, seconds in took.items()},
        "videos": [card.to_json() for card in found[wanted.offset : wanted.offset + wanted.limit]],
    }


def cards_of(rows: Iterable[Row], task_id: str | None = None, map_index: int | None = None) -> list[Card]:
    """Return a card for each video, the newest Dag run's first.

    :param rows: the XComs.
    :param task_id: only such as this task had a part in.
    :param map_index: only such as a task instance of this map index had a part in.
    """
    parts: list[_Part] = []
    previews: list[Row] = []
    for row in rows:
        if row.key == PREVIEW_KEY:
            previews.append(row)
        else:
            parts += _parts_of(row)
    cards = [_card(group) for group in _grouped(parts)]
    _add_posters(cards, previews)
    if task_id is not None or map_index is not None:
        cards = [card for card in cards if any(_is_in(place, task_id, map_index) for place in card.places)]
    cards.sort(key=lambda card: (-card.run_number, card.place.task_id, card.place.map_index, card.index or 0))
    return cards


def decoded(value: Any) -> Any:
    """Return an XCom's value as it was pushed; Airflow's tasks push JSON as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _parts_of(row: Row) -> list[_Part]:
    value = decoded(row.value)
    if row.key in (ORDER_KEY, END_KEY):
        return [_Part(row, value, None, None)] if isinstance(value, Mapping) else []
    chunk = row.key.removeprefix(BATCH_KEY)
    if row.key == chunk or re.fullmatch("[0-9]{1,6}", chunk) is None or not isinstance(value, list):
        return []
    first = int(chunk) * PER_VALUE
    return [
        _Part(row, facts, item, first + item if (number := _whole(facts.get("index"))) is None else number)
        for item, facts in enumerate(value)
        if isinstance(facts, Mapping)
    ]


def _grouped(parts: list[_Part]) -> Iterable[list[_Part]]:
    """Put together what is told of the same video: by Wiro's id, else by the task instance."""
    ids = {part.row.place: _text(part.facts.get("wiro_task_id"), 100) for part in parts if not part.is_end}
    ids |= {
        part.row.place: known
        for part in parts
        if part.is_end and (known := _text(part.facts.get("wiro_task_id"), 100)) is not None
    }
    groups: dict[Any, list[_Part]] = defaultdict(list)
    for part in parts:
        place = part.row.place
        known = _text(part.facts.get("wiro_task_id"), 100)
        if part.number is None and known is None:
            known = ids.get(place)
        same = (place.dag_id, place.run_id, known) if known else (place, part.number)
        groups[same].append(part)
    return groups.values()


def _card(parts: list[_Part]) -> Card:
    parts.sort(key=lambda part: (part.is_end, part.row.timestamp))
    first, latest = parts[0], parts[-1]
    card = Card(first.row.place, first.row.run_number, first.number, label=_text(first.row.label, 250))
    card.places = {part.row.place for part in parts}
    for part in parts:
        _add(card, part)
    if card.status == "succeeded":
        card.error = None
    elif card.status in _LIVE and latest.row.state in _OVER_BADLY:
        card.status, card.error = "failed", "The task ended before the video did."
    return card


def _add(card: Card, part: _Part) -> None:
    """Take over what a part tells."""
    facts = part.facts
    status = facts.get("status")
    card.status = status if isinstance(status, str) and status in STATUSES else card.status
    card.wiro_task_id = _text(facts.get("wiro_task_id"), 100) or card.wiro_task_id
    card.model = _text(facts.get("model"), 200) or card.model
    card.error = _text(facts.get("error"), 1000) or card.error
    card.reused_from = _text(facts.get("reused_from"), 100) or card.reused_from
    card.wiro_url = _link(facts.get("url")) or card.wiro_url
    card.cost = _amount(facts.get("total_cost"), card.cost)
    card.seconds = _number(facts.get("elapsed_seconds"), card.seconds)
    card.ordered_at = _number(facts.get("ordered_at"), card.ordered_at)
    inputs = facts.get("inputs")
    if isinstance(inputs, Mapping):
        card.prompt = _text(inputs.get("prompt"), 5000) or card.prompt
        shown = {str(name)[:50]: _text(value, 200) for name, value in list(inputs.items())[:20] if name != "prompt"}
        card.ordered |= {name: value for name, value in shown.items() if value is not None}
    outputs = facts.get("outputs")
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], Mapping):
        card.source_url = _link(outputs[0].get("url")) or card.source_url
    files = facts.get("files")
    if isinstance(files, list) and files:
        each = enumerate(files[:50])
        card.files = [_file(part.row, part.item, number, file) for number, file in each if isinstance(file, Mapping)]


def _file(row: Row, item: int | None, number: int, file: Mapping[str, Any]) -> dict[str, Any]:
    video = file.get("video")
    return {
        "media": media_address(row.place._asdict(), row.key, item, number),
        "name": _text(file.get("name"), 250) or f"{number + 1}",
        "content_type": _text(file.get("content_type"), 100) or "",
        "size": _whole(file.get("size")),
        "uri": _text(file.get("uri"), 2000),
        "video": _film(video) if isinstance(video, Mapping) else None,
    }


def _film(video: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {name: _whole(video.get(name)) for name in ("width", "height")}
    rates = {name: _number(video.get(name)) for name in ("duration", "frame_rate")}
    return {**sizes, **rates, "codec": _text(video.get("codec"), 50)}


def _add_posters(cards: list[Card], previews: list[Row]) -> None:
    by_id = {(card.place.dag_id, card.place.run_id, card.wiro_task_id): card for card in cards if card.wiro_task_id}
    for row in previews:
        value = decoded(row.value)
        known = _text(value.get("wiro_task_id"), 100) if isinstance(value, Mapping) else None
        card = by_id.get((row.place.dag_id, row.place.run_id, known)) if known else None
        if card is None:
            continue
        card.places.add(row.place)
        files = value.get("files")
        if isinstance(files, list) and files and isinstance(files[0], Mapping):
            card.poster = _file(row, None, 0, files[0])


def _is_in(place: Place, task_id: str | None, map_index: int | None) -> bool:
    return task_id in (None, place.task_id) and map_index in (None, place.map_index)


def _has(card: Card, words: list[str]) -> bool:
    text = " ".join(filter(None, (card.prompt, card.label, card.wiro_task_id))).casefold() if words else ""
    return all(word in text for word in words)


def _text(value: Any, longest: int) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip() if isinstance(value, (str, int, float)) else ""
    # half a character cannot be sent, and NUL means something to databases only
    return text[:longest].encode("utf-8", "replace").decode().replace("\0", "") or None


def _number(value: Any, otherwise: float | None = None) -> float | None:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        return otherwise
    return number if 0 <= number < 1e12 else otherwise


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _amount(value: Any, otherwise: Decimal | None) -> Decimal | None:
    try:
        amount = Decimal(str(value)) if isinstance(value, (str, int, float)) else Decimal("NaN")
    except InvalidOperation:
        return otherwise
    return amount if amount.is_finite() and 0 <= amount < 10**9 and amount.adjusted() > -15 else otherwise


def _money(amount: Decimal) -> str:
    """Return an amount with as many decimals as it has, two at least."""
    return f"{amount.quantize(Decimal('0.01')) if amount == round(amount, 2) else amount.normalize():f}"


def _link(value: Any) -> str | None:
    text = _text(value, 2000)
    return text if text is not None and text.startswith(("https://", "http://")) else None
