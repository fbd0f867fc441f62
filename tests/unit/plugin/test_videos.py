"""What several tasks tell of the same video, put together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_wiro.plugin.videos import Card, Filter, Place, Row, cards_of, page_of

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
ORDER = {"status": "running", "wiro_task_id": "7", "model": "o/m", "inputs": {"prompt": "A boat", "ratio": "1:1"}}
END = {"status": "succeeded", "wiro_task_id": "7", "total_cost": "0.1", "elapsed_seconds": 40}


def xcom(key: str, value: Any, task_id: str = "submit", state: str | None = "success", **more: Any) -> Row:
    known = {"map_index": -1, "after": 0, "run": 1, "label": None, **more}
    place = Place("dag", f"run_{known['run']}", task_id, known["map_index"])
    return Row(place, key, value, NOW + timedelta(seconds=known["after"]), known["run"], state, known["label"])


def only(rows: list[Row]) -> Card:
    (card,) = cards_of(rows)
    return card


def test_an_end_completes_its_order_whoever_tells_it() -> None:
    card = only([xcom("wiro_video_end", END, "wait", after=60), xcom("wiro_video", ORDER)])
    assert (card.status, card.prompt, str(card.cost), card.seconds) == ("succeeded", "A boat", "0.1", 40.0)
    assert (card.place.task_id, {place.task_id for place in card.places}) == ("submit", {"submit", "wait"})


def test_a_later_end_wins_and_what_it_leaves_out_stays() -> None:
    late = {"status": "failed", "wiro_task_id": "7", "error": "no disk", "total_cost": None}
    card = only(
        [xcom("wiro_video", ORDER), xcom("wiro_video_end", late, "fetch", after=90), xcom("wiro_video_end", END)]
    )
    assert (card.status, card.error, str(card.cost)) == ("failed", "no disk", "0.1")


def test_an_error_is_forgotten_when_a_later_task_succeeds() -> None:
    early = {"status": "failed", "wiro_task_id": "7", "error": "no disk"}
    card = only([xcom("wiro_video_end", early, "fetch"), xcom("wiro_video_end", END, "again", after=90)])
    assert (card.status, card.error) == ("succeeded", None)


def test_values_may_be_text_as_airflow_stores_them() -> None:
    assert only([xcom("wiro_video", '{"status": "queued", "inputs": {"prompt": "A boat"}}')]).status == "queued"
    assert cards_of([xcom("wiro_video", "s3://somewhere/else"), xcom("wiro_video_end", "[" * 100_000)]) == []


def test_an_end_without_an_id_is_its_own_task_s() -> None:
    end = {"status": "succeeded", "reused_from": "3", "total_cost": "0"}
    rows = [xcom("wiro_video", {**ORDER, "wiro_task_id": None}, map_index=i) for i in range(2)]
    rows += [xcom("wiro_video_end", end, map_index=i) for i in range(2)]
    cards = cards_of(rows)
    assert [(card.status, card.reused_from, card.prompt) for card in cards] == [("succeeded", "3", "A boat")] * 2


def test_a_failure_without_an_id_belongs_to_the_order_of_its_task() -> None:
    assert only([xcom("wiro_video", ORDER), xcom("wiro_video_end", {"status": "failed", "error": "x"})]).error == "x"


def test_the_same_id_in_another_run_is_another_card() -> None:
    assert len(cards_of([xcom("wiro_video", ORDER, run=1), xcom("wiro_video", ORDER, run=2)])) == 2


@pytest.mark.parametrize("state", ["failed", "skipped", "upstream_failed", "removed"])
def test_what_nobody_waits_for_any_more_is_not_running(state: str) -> None:
    card = only([xcom("wiro_video", ORDER, state=state)])
    assert (card.status, card.error) == ("failed", "The task ended before the video did.")
    waits = [xcom("wiro_video", ORDER), xcom("wiro_video", {**ORDER}, "wait", state, after=5)]
    assert only(waits).status == "failed"
    assert only([xcom("wiro_video", ORDER), xcom("wiro_video", ORDER, "wait", "deferred", after=5)]).status == "running"


def test_a_batch_has_a_card_for_each_video() -> None:
    value = [{**ORDER, **END, "wiro_task_id": str(i), "index": i} for i in (64, 65)]
    value.append({"status": "queued", "index": 66, "inputs": {"prompt": "Waits"}})
    cards = cards_of([xcom("wiro_videos_1", value, "batch", "deferred")])
    assert [(card.index, card.status) for card in cards] == [(64, "succeeded"), (65, "succeeded"), (66, "queued")]


def test_the_newest_run_comes_first_then_the_order_of_the_table() -> None:
    rows = [
        xcom("wiro_video", {**ORDER, "wiro_task_id": f"{i}{r}"}, run=r, map_index=i) for r in (1, 2) for i in (1, 0)
    ]
    assert [(c.place.run_id, c.place.map_index) for c in cards_of(rows)] == [
        ("run_2", 0),
        ("run_2", 1),
        ("run_1", 0),
        ("run_1", 1),
    ]


def test_a_moving_picture_belongs_to_its_video() -> None:
    preview = {"wiro_task_id": "7", "files": [{"uri": "/v/7.webp", "content_type": "image/webp"}]}
    card = only([xcom("wiro_video", ORDER), xcom("wiro_video_preview", preview, "preview", map_index=3)])
    assert card.poster is not None
    assert "task_id=preview&map_index=3&key=wiro_video_preview" in card.poster["media"]


def test_sums_are_of_all_and_know_only_what_is_known() -> None:
    rows = [xcom("wiro_video", {**ORDER, "wiro_task_id": str(i)}, map_index=i) for i in range(4)]
    costs = ["0.1", "0.205", None, "nonsense"]
    rows += [
        xcom("wiro_video_end", {**END, "wiro_task_id": str(i), "total_cost": cost}, map_index=i)
        for i, cost in enumerate(costs)
    ]
    found = page_of(cards_of(rows), Filter(limit=1), truncated=False)
    assert (found["cost"], found["total"], len(found["videos"])) == ("0.305", 4, 1)
    assert found["typical_seconds"] == {"o/m": 40.0}
    assert page_of(cards_of(rows), Filter(search="BOAT"), truncated=False)["matching"] == 4
    assert page_of(cards_of(rows), Filter(search="boat ship"), truncated=False)["matching"] == 0
    assert page_of([], Filter(), truncated=False)["cost"] == "0.00"
