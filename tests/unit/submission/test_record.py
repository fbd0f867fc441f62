"""What is remembered of an order, and what makes two orders the same."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from airflow_provider_wiro.submission.record import Phase, Place, Record, derived_seed, logical_key

PLACE = Place("nightly", "scheduled__2026-05-01T00:00:00+00:00", "videos", 3)
HOST = "https://api.wiro.ai/v1"
MODEL = "ByteDance/text-to-video-seedance-v1"
INPUTS: dict[str, Any] = {"prompt": "A secret plot", "duration": "5", "watermark": "true"}
FILES = {"inputImageUrl": "/data/first.png"}
KEY = logical_key(PLACE, HOST, MODEL, INPUTS, FILES)

FULL = Record(
    key=KEY,
    phase=Phase.RECEIPT,
    max_tries=3,
    try_number=2,
    generation=1,
    first=1.25,
    until=2.5,
    since=3.5,
    submitted_at=4.5,
    wiro_task_id="11",
    failures=1,
    doubts=2,
    history=("9", "10"),
)

# The record


def through_the_store(record: Record) -> Record:
    return Record.from_json(json.loads(json.dumps(record.to_json())))


@pytest.mark.parametrize("phase", list(Phase))
def test_a_record_survives_the_store(phase: Phase) -> None:
    assert through_the_store(replace(FULL, phase=phase)) == replace(FULL, phase=phase)
    bare = Record(KEY, phase, 0, 1)
    assert through_the_store(bare) == bare
    assert type(through_the_store(bare).phase) is Phase


def test_a_record_is_stored_as_plain_json_with_its_version() -> None:
    stored = FULL.to_json()
    assert stored["v"] == 1
    assert set(stored) == {"v", *(field.name for field in fields(Record))}
    assert (type(stored["phase"]), stored["phase"], stored["history"]) == (str, "receipt", ["9", "10"])


def test_a_record_tells_neither_prompt_nor_file_nor_place() -> None:
    stored = json.dumps(FULL.to_json())
    for secret in ("plot", "first.png", "nightly", "videos", "scheduled", "wiro.ai"):
        assert secret not in stored


GOOD = FULL.to_json()


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(None, id="nothing"),
        pytest.param("", id="no text"),
        pytest.param(json.dumps(GOOD), id="text"),
        pytest.param([], id="a list"),
        pytest.param(7, id="a number"),
        pytest.param({}, id="an empty mapping"),
        pytest.param({**GOOD, "v": 2}, id="a later version"),
        pytest.param({**GOOD, "v": "1"}, id="a version in words"),
        pytest.param({**GOOD, "phase": "sent"}, id="an unknown phase"),
        pytest.param({**GOOD, "phase": None}, id="no phase"),
        pytest.param({**GOOD, "history": None}, id="no history"),
        pytest.param({**GOOD, "history": 5}, id="a number for history"),
        *(
            pytest.param({name: GOOD[name] for name in GOOD if name != lost}, id=f"without {lost}")
            for lost in GOOD
            if lost != "v"
        ),
    ],
)
def test_what_is_no_record(stored: Any) -> None:
    with pytest.raises(ValueError, match="."):
        Record.from_json(stored)


@pytest.mark.parametrize(
    "wrong",
    [{"first": "soon"}, {"until": None}, {"since": []}, {"failures": "1"}, {"doubts": None}, {"generation": "x"}],
    ids=str,
)
def test_a_record_with_something_else_for_a_number_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="."):
        Record.from_json({**GOOD, **wrong})


def test_what_a_later_package_adds_is_passed_over() -> None:
    assert Record.from_json({**GOOD, "more": 1}) == FULL


@pytest.mark.parametrize("phase", list(Phase))
def test_an_order_is_unfinished_until_no_run_of_it_can_exist(phase: Phase) -> None:
    assert replace(FULL, phase=phase).unfinished is (phase is not Phase.OPEN)


def test_an_accepted_order_counts_from_its_submission_or_from_the_clear_after_it() -> None:
    sent = replace(FULL, phase=Phase.INTENT, wiro_task_id=None)
    accepted = sent.accepted("12", 100.0)
    assert (accepted.phase, accepted.wiro_task_id, accepted.submitted_at) == (Phase.RECEIPT, "12", 100.0)
    assert accepted.since == 100.0
    assert replace(sent, since=500.0).accepted("12", 100.0).since == 500.0


def test_what_is_left_behind_is_remembered_once_and_in_order() -> None:
    left = FULL.left("12", "9", failed=2)
    assert left.history == ("9", "10", "11", "12")
    assert (left.phase, left.wiro_task_id, left.failures) == (Phase.OPEN, None, 3)
    assert left.left() == left
    assert Record(KEY, Phase.INTENT, 3, 1).left().history == ()


# The key


def test_a_key_is_64_hexadecimal_digits_that_never_change() -> None:
    assert re.fullmatch("[0-9a-f]{64}", KEY)
    simple = logical_key(Place("d", "r", "t"), "https://h/v1", "a/b", {"prompt": "p", "n": 5})
    assert simple == "7ee203348908837450be2e77b6cfc48b216a23269c82eee4d1cf17a4bf41f6cc"


SAME: list[tuple[str, dict[str, Any]]] = [
    ("another order of inputs", {"inputs": dict(reversed(INPUTS.items()))}),
    ("numbers", {"inputs": {**INPUTS, "duration": 5}}),
    ("where to report to", {"inputs": {**INPUTS, "callbackUrl": "https://example.org/a"}}),
    ("capitals in the model", {"model": MODEL.upper()}),
]
OTHER: list[tuple[str, dict[str, Any]]] = [
    ("Dag", {"place": replace(PLACE, dag_id="weekly")}),
    ("run", {"place": replace(PLACE, run_id="manual__1")}),
    ("task", {"place": replace(PLACE, task_id="video")}),
    ("map index", {"place": replace(PLACE, map_index=4)}),
    ("unmapped task", {"place": replace(PLACE, map_index=-1)}),
    ("host", {"base_url": "https://api.example.org/v1"}),
    ("model", {"model": "ByteDance/seedance-pro-v1"}),
    ("prompt", {"inputs": {**INPUTS, "prompt": "Another plot"}}),
    ("number", {"inputs": {**INPUTS, "duration": "10"}}),
    ("input more", {"inputs": {**INPUTS, "seed": "7"}}),
    ("input less", {"inputs": {"prompt": INPUTS["prompt"]}}),
    ("file", {"files": {"inputImageUrl": "/data/second.png"}}),
    ("use of the file", {"files": {"inputImageLastUrl": "/data/first.png"}}),
    ("order without files", {"files": None}),
    ("address in place of a file", {"files": None, "inputs": {**INPUTS, **FILES}}),
]


def key_of(**changes: Any) -> str:
    usual: dict[str, Any] = {"place": PLACE, "base_url": HOST, "model": MODEL, "inputs": INPUTS, "files": FILES}
    return logical_key(**{**usual, **changes})


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in SAME])
def test_the_same_order_with(changes: dict[str, Any]) -> None:
    assert key_of(**changes) == KEY


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in OTHER])
def test_another_order_by_its(changes: dict[str, Any]) -> None:
    assert key_of(**changes) != KEY


def test_all_these_orders_differ_from_each_other() -> None:
    keys = [key_of(**changes) for _, changes in OTHER]
    assert len(set(keys)) == len(keys)


def test_names_do_not_run_into_each_other() -> None:
    assert key_of(place=Place("a", "bc", "d")) != key_of(place=Place("ab", "c", "d"))
    assert key_of(inputs={"a": "b", "c": "d"}) != key_of(inputs={"a": "b, c: d"})
    assert key_of(inputs={"a": "1"}, files=None) != key_of(inputs={}, files={"a": "1"})


def test_no_files_are_no_files() -> None:
    assert key_of(files={}) == key_of(files=None)


# The derived seed


def test_seeds_have_31_bits_and_all_of_them() -> None:
    seeds = [derived_seed(logical_key(PLACE, HOST, MODEL, {"n": number}), 0) for number in range(10_000)]
    assert all(0 <= seed < 2**31 - 1 for seed in seeds)
    assert len(set(seeds)) >= len(seeds) - 2
    for quarter in range(4):
        assert 2300 < sum(quarter == seed * 4 // 2**31 for seed in seeds) < 2700


def test_each_generation_has_its_seed() -> None:
    seeds = {derived_seed(KEY, generation) for generation in range(100)}
    assert len(seeds) == 100


def test_a_seed_never_changes() -> None:
    # A package that derives another one would not find its predecessor's Runs.
    assert [derived_seed("5e" * 32, generation) for generation in (0, 1, 10)] == [2018865371, 1920067229, 1207593416]
