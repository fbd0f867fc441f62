from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_wiro.api.tasks import WiroTask
from airflow_provider_wiro.exceptions import WiroConfigurationError
from airflow_provider_wiro.waiting import describe, read_event, read_reference, submitted

# What users and triggers hand over


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("4711", ("4711", None)),
        (" 4711\n", ("4711", None)),
        (4711, ("4711", None)),
        ({"wiro_task_id": "4711", "model": "a/b", "submitted_at": "x"}, ("4711", None)),
        ({"wiro_task_id": 4711}, ("4711", None)),
        ({"task_token": "t0ken"}, (None, "t0ken")),
        ({"wiro_task_id": None, "task_token": "t0ken"}, (None, "t0ken")),
        ({"wiro_task_id": "", "task_token": "t0ken"}, (None, "t0ken")),
        ({"wiro_task_id": "4711", "task_token": "t0ken"}, ("4711", None)),
    ],
)
def test_references_to_a_task(given: Any, expected: tuple[str | None, str | None]) -> None:
    assert read_reference(given) == expected


@pytest.mark.parametrize(
    "given",
    [None, "", "  ", True, False, 4.5, b"4711", [], ["4711"], {}, {"id": "4711"}, {"wiro_task_id": []}, object()],
    ids=repr,
)
def test_what_is_no_reference_to_a_task(given: Any) -> None:
    with pytest.raises(WiroConfigurationError, match="allowed: "):
        read_reference(given)


def test_a_wrong_reference_shows_no_values_of_a_mapping() -> None:
    with pytest.raises(WiroConfigurationError) as caught:
        read_reference({"token": "t0ken", 5: "x"})

    assert "t0ken" not in str(caught.value)
    assert "'5', 'token'" in str(caught.value)


@pytest.mark.parametrize("word", ["succeeded", "failed", "cancelled", "timeout", "refused"])
def test_events(word: str) -> None:
    assert read_event({"wiro_task_id": "4711", "status": word}) == ("4711", word)
    assert read_event({"wiro_task_id": "4711", "status": word, "more": 1}) == ("4711", word)


@pytest.mark.parametrize(
    "event",
    [
        None,
        "succeeded",
        [],
        {},
        {"status": "succeeded"},
        {"wiro_task_id": "4711"},
        {"wiro_task_id": 4711, "status": "succeeded"},
        {"wiro_task_id": "4711", "status": "success"},
        {"wiro_task_id": "4711", "status": None},
        {"wiro_task_id": "4711", "status": []},
        {"wiro_task_id": "4711", "status": {"a": 1}},
        {"wiro_task_id": [], "status": "succeeded"},
    ],
    ids=str,
)
def test_what_is_no_event(event: Any) -> None:
    with pytest.raises(WiroConfigurationError, match="event"):
        read_event(event)


# What goes into XCom


def test_what_a_submitted_task_is_known_by() -> None:
    facts = submitted("4711", "a/b", 1745000007.4)

    assert set(facts) == {"wiro_task_id", "model", "submitted_at"}
    assert (facts["wiro_task_id"], facts["model"]) == ("4711", "a/b")
    assert facts["submitted_at"] == "2025-04-18T18:13:27Z"


ENDED = {
    "id": "4711",
    "socketaccesstoken": "capability",
    "status": "task_postprocess_end",
    "pexit": "0",
    "createtime": "1745000007",
    "totalcost": "0.100000000000",
    "elapsedseconds": "6.0000",
    "modelslugowner": "ByteDance",
    "modelslugproject": "seedance-pro-v1",
    "parameters": {"prompt": "confidential"},
    "outputs": [
        {"name": "0.mp4", "contenttype": "video/mp4", "size": "5", "url": "https://cdn1.wiro.ai/0.mp4"},
        {"contenttype": "raw", "content": {"answer": "confidential"}},
    ],
}


def test_what_an_ended_task_is_known_by() -> None:
    facts = describe(WiroTask.from_api(ENDED))

    assert facts == {
        "wiro_task_id": "4711",
        "model": "ByteDance/seedance-pro-v1",
        "submitted_at": "2025-04-18T18:13:27Z",
        "status": "succeeded",
        "total_cost": "0.1",
        "elapsed_seconds": 6.0,
        "outputs": [
            {"name": "0.mp4", "content_type": "video/mp4", "size": 5, "url": "https://cdn1.wiro.ai/0.mp4"},
            {"name": "", "content_type": "raw", "size": None, "url": None},
        ],
    }
    shown = json.dumps(facts)
    assert "capability" not in shown
    assert "confidential" not in shown


def test_what_is_known_fills_what_the_answer_leaves_out() -> None:
    known = {"wiro_task_id": "1", "model": "a/b", "submitted_at": "2026-01-01T00:00:00Z"}
    bare = describe(WiroTask("4711", "task_cancel"), known)

    assert (bare["wiro_task_id"], bare["model"], bare["status"]) == ("4711", "a/b", "cancelled")
    assert bare["submitted_at"] == "2026-01-01T00:00:00Z"
    assert (bare["total_cost"], bare["elapsed_seconds"], bare["outputs"]) == (None, None, [])
    full = describe(WiroTask.from_api(ENDED), known)
    assert (full["model"], full["submitted_at"]) == ("ByteDance/seedance-pro-v1", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("cost", "shown"),
    [("0", "0"), ("0.000000", "0"), ("100", "100"), ("1E+2", "100"), ("0.00000012", "0.00000012"), ("1.50", "1.5")],
)
def test_costs_are_plain_decimals(cost: str, shown: str) -> None:
    assert describe(WiroTask.from_api({**ENDED, "totalcost": cost}))["total_cost"] == shown


@pytest.mark.parametrize(
    "created", ["0", 0, None, "", "1745000007000", "1745000007000000", "9" * 20, "-99999999999999", "-1"]
)
def test_an_odd_time_of_creation_is_left_out_or_told(created: Any) -> None:
    submitted_at = describe(WiroTask.from_api({**ENDED, "createtime": created}))["submitted_at"]

    # "0" is "never".
    assert submitted_at is None or (isinstance(submitted_at, str) and created not in ("0", 0))
