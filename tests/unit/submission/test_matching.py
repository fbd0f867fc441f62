"""Which task is an order's: by what Wiro echoes, in whatever form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from airflow_provider_wiro.api.tasks import WiroTask
from airflow_provider_wiro.submission.matching import Sought

MODEL = "ByteDance/text-to-video-seedance-v1"
SENT = {"prompt": "A ferry at dawn", "duration": "5", "watermark": "true", "seed": "1234"}


def sought(marked: bool = True, **changes: Any) -> Sought:
    return Sought(MODEL, {**SENT, **changes}, marked)


def echoed(inputs: Mapping[str, Any], model: str | None = MODEL) -> WiroTask:
    return WiroTask("11", "task_start", model=model, inputs=inputs)


def verdicts(order: Sought, task: WiroTask) -> str:
    """Say what an order makes of a task: its verdicts that are true."""
    words = ("certain", "alike", "possible", "mute")
    return " ".join(word for word in words if getattr(order, f"is_{word}")(task))


FORMS: list[tuple[str, dict[str, Any]]] = [
    ("as sent", {}),
    ("numbers", {"duration": 5, "seed": 1234}),
    ("fractions", {"duration": 5.0, "seed": "1234.0"}),
    ("more noughts", {"duration": "5.00", "seed": 1234.0}),
    ("a boolean", {"watermark": True}),
    ("space around", {"prompt": "  A ferry at dawn\n", "seed": " 1234 "}),
    ("space inside", {"prompt": "A ferry\r\n at\tdawn"}),
    ("more inputs", {"ratio": "16:9", "fps": 24, "odd": None, "list": [1]}),
    ("where to report to", {"callbackUrl": "https://example.org/other"}),
]


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in FORMS])
def test_the_same_inputs_are_told_as(changes: dict[str, Any]) -> None:
    task = echoed({**SENT, **changes})
    assert verdicts(sought(), task) == "certain possible"
    assert verdicts(sought(marked=False), task) == "alike possible"


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in FORMS])
def test_the_same_inputs_are_sent_as(changes: dict[str, Any]) -> None:
    known = {name: value for name, value in changes.items() if name in SENT or name == "callbackUrl"}
    assert verdicts(sought(**known), echoed(SENT)) == "certain possible"
    assert verdicts(sought(marked=False, **known), echoed(SENT)) == "alike possible"


OTHERS: list[tuple[str, dict[str, Any], str, str]] = [
    ("another seed", {"seed": "1235"}, "", ""),
    ("another seed as a number", {"seed": 1235}, "", ""),
    ("a longer seed", {"seed": "12340"}, "", ""),
    ("a fraction of a seed", {"seed": "1234.5"}, "", ""),
    ("another prompt", {"prompt": "A tram"}, "possible", ""),
    ("capitals in the prompt", {"prompt": "A Ferry at dawn"}, "possible", ""),
    ("another boolean", {"watermark": False}, "possible", ""),
    ("another number", {"duration": "10"}, "possible", ""),
]


@pytest.mark.parametrize(
    ("changes", "marked", "unmarked"), [pytest.param(changes, *more, id=name) for name, changes, *more in OTHERS]
)
def test_other_inputs_with(changes: dict[str, Any], marked: str, unmarked: str) -> None:
    task = echoed({**SENT, **changes})
    assert verdicts(sought(), task) == marked
    assert verdicts(sought(marked=False), task) == unmarked


GAPS: list[tuple[str, dict[str, Any], str, str]] = [
    ("nothing", {}, "possible mute", "possible mute"),
    ("the seed alone", {"seed": "1234"}, "certain possible", "possible"),
    ("another seed alone", {"seed": "1"}, "", ""),
    ("all but the seed", {name: SENT[name] for name in SENT if name != "seed"}, "possible mute", "possible"),
    ("all but the seed, of another", {"prompt": "A tram"}, "mute", ""),
    ("an empty seed", {**SENT, "seed": ""}, "possible mute", "possible"),
    ("no seed", {**SENT, "seed": None}, "possible mute", "possible"),
    ("empty inputs", dict.fromkeys(SENT, ""), "possible mute", "possible"),
    ("what nobody sent", {"odd": "1"}, "possible mute", "possible"),
]


@pytest.mark.parametrize(
    ("echo", "marked", "unmarked"), [pytest.param(echo, *more, id=name) for name, echo, *more in GAPS]
)
def test_an_echo_of(echo: dict[str, Any], marked: str, unmarked: str) -> None:
    assert verdicts(sought(), echoed(echo)) == marked
    assert verdicts(sought(marked=False), echoed(echo)) == unmarked


@pytest.mark.parametrize("seed", ["-1", -1])
@pytest.mark.parametrize("drawn", ["-1", "99", None])
def test_a_random_seed_may_be_told_as_anything(seed: Any, drawn: Any) -> None:
    order = sought(marked=False, seed=seed)
    assert verdicts(order, echoed({**SENT, "seed": drawn})) == "alike possible"
    assert not order.is_possible(echoed({**SENT, "seed": drawn, "prompt": "A tram"}))


def test_minus_one_is_random_as_a_seed_only() -> None:
    assert not sought(marked=False, duration="-1").is_possible(echoed(SENT))


def test_where_wiro_reports_to_is_no_part_of_an_order() -> None:
    order = sought(marked=False, callbackUrl="https://example.org/a")
    for echo in (SENT, {**SENT, "callbackUrl": "https://example.org/b"}, {**SENT, "callbackUrl": ""}):
        assert order.is_alike(echoed(echo))


def test_an_input_that_was_sent_empty_need_not_be_told() -> None:
    for order in (sought(ratio=""), sought(marked=False, ratio="")):
        assert order.is_possible(echoed(SENT))
    assert sought(ratio="").is_certain(echoed(SENT))
    assert sought(marked=False, ratio="").is_alike(echoed(SENT))


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("0.5", 0.5),
        ("0.50", 0.5),
        ("1e-07", "0.0000001"),
        ([1, 2], [1, 2]),
        (["a", "b"], '["a", "b"]'),
        ({"a": 1}, '{"a": 1}'),
        ([True], "[true]"),
    ],
    ids=str,
)
def test_another_way_to_write_the_same_proves_nothing(sent: Any, told: Any) -> None:
    order = Sought("local/echo-text", {"prompt": "x", "odd": sent}, marked=False)
    assert order.is_possible(echoed({"prompt": "x", "odd": told}))


@pytest.mark.parametrize(
    ("model", "same"),
    [
        (MODEL, True),
        (MODEL.upper(), True),
        (MODEL.lower(), True),
        (None, True),
        ("ByteDance/text-to-video-seedance-v1.5", False),
        ("Other/text-to-video-seedance-v1", False),
        ("", False),
    ],
)
def test_models(model: str | None, same: bool) -> None:
    assert sought().is_of_model(echoed(SENT, model)) is same
