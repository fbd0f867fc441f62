"""What must not confuse the cards: late orders, missing ids, odd values."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_wiro.plugin.videos import Card, Filter, Place, Row, cards_of, page_of

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)


def xcom(
    key: str,
    value: Any,
    task_id: str = "make",
    *,
    at: int = 0,
    state: str = "success",
    map_index: int = -1,
    run: int = 1,
) -> Row:
    place = Place("films", f"run {run}", task_id, map_index)
    return Row(place, key, value, BEGIN + timedelta(seconds=at), run, state, None)


def order(**more: Any) -> dict[str, Any]:
    return {"status": "running", "wiro_task_id": "1", "inputs": {"prompt": "A fox", "duration": "5"}, **more}


def end(**more: Any) -> dict[str, Any]:
    return {"status": "succeeded", "wiro_task_id": "1", "total_cost": "0.14", **more}


def only(*rows: Row) -> Card:
    [card] = cards_of(rows)
    return card


def test_an_end_stands_whatever_is_told_of_the_order_afterwards() -> None:
    assert only(xcom("wiro_video_end", end()), xcom("wiro_video", order(), "submit", at=9)).status == "succeeded"


def test_what_is_reused_or_waited_without_an_id_is_one_card_with_its_order() -> None:
    reused = end(reused_from="7")
    del reused["wiro_task_id"]
    assert only(xcom("wiro_video", order()), xcom("wiro_video_end", reused)).reused_from == "7"
    queued = order(status="queued")
    del queued["wiro_task_id"]
    assert only(xcom("wiro_video", queued), xcom("wiro_video_end", end())).wiro_task_id == "1"


@pytest.mark.parametrize("state", ["success", "running", "deferred", "up_for_retry", "restarting"])
def test_a_task_that_may_go_on_does(state: str) -> None:
    assert only(xcom("wiro_video", order(), state=state)).status == "running"


def test_items_of_a_batch_without_numbers_are_counted() -> None:
    told = [{"status": "queued"}, "nonsense", {"status": "running"}]
    cards = cards_of([xcom("wiro_videos_0", told), xcom("wiro_videos_1", told), xcom("wiro_videos_x", told)])
    found = [(card.index, card.status) for card in cards]
    assert found == [(0, "queued"), (2, "running"), (64, "queued"), (66, "running")]


def test_facts_of_a_film_are_numbers() -> None:
    video = {"width": 864, "height": 480, "duration": 5.04, "frame_rate": 24.0, "codec": "h264", "other": 1}
    [file] = only(xcom("wiro_video_end", end(files=[{"uri": "/a", "video": video}]))).files
    assert file["video"] == {"width": 864, "height": 480, "duration": 5.04, "frame_rate": 24.0, "codec": "h264"}


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", " javascript:x", "data:text/html,x", "//host/x", "/x", {"a": 1}]
)
def test_only_addresses_of_the_web_are_links(url: Any) -> None:
    card = only(xcom("wiro_video_end", end(url=url, outputs=[{"url": url}])))
    assert (card.wiro_url, card.source_url) == (None, None)


def test_long_texts_are_cut() -> None:
    card = only(xcom("wiro_video", order(status="failed", error="e" * 2000, inputs={"prompt": "p" * 9000})))
    assert (len(card.prompt), len(card.error or "")) == (5000, 1000)


@pytest.mark.parametrize("value", ["xcom_s3://bucket/key", '"', "[" * 100_000, "9" * 5000, None, 5, True, [], "null"])
@pytest.mark.parametrize("key", ["wiro_video", "wiro_video_end", "wiro_video_preview", "wiro_videos_0"])
def test_what_an_xcom_backend_keeps_elsewhere_shows_nothing(key: str, value: Any) -> None:
    assert cards_of([xcom(key, value)]) == []


def test_sums_are_of_all_and_the_page_of_those_wanted() -> None:
    rows = [
        xcom("wiro_video_end", end(wiro_task_id=str(n), elapsed_seconds=n, model="m"), map_index=n) for n in range(5)
    ]
    rows.append(xcom("wiro_video", order(wiro_task_id="9"), map_index=9))
    found = page_of(cards_of(rows), Filter("succeeded", "", 1, 2), truncated=False)
    assert (found["total"], found["matching"], len(found["videos"]), found["cost"]) == (6, 5, 2, "0.70")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
