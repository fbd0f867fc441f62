from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, MODELS, wire_inputs
from airflow_provider_wiro.exceptions import WiroInputError
from tests.unit.api.family import (
    CAMERA,
    FAST,
    FRAME,
    IMAGE_LITE,
    PRO,
    PRO_15,
    RELATIVES,
    TEXT,
    TEXT_LITE,
    faults_of,
    needed,
    wire_of,
)

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro

RESOLUTIONS = {TEXT: ["480p", "720p"]} | dict.fromkeys(RELATIVES, ["480p", "720p", "1080p"])
SIX = ["16:9", "4:3", "1:1", "3:4", "9:16", "21:9"]
RATIOS = {
    TEXT: [*SIX, "9:21"],
    TEXT_LITE: [*SIX, "9:21", "adaptive"],
    IMAGE_LITE: [*SIX, "9:21", "adaptive"],
    PRO: [*SIX, "adaptive"],
    FAST: [*SIX, "adaptive"],
    PRO_15: [*SIX, "adaptive"],
}


def test_the_family_is_known_by_name() -> None:
    assert DEFAULT_MODEL == TEXT
    assert set(MODELS) == {TEXT, *RELATIVES}


def accepted() -> list[tuple[str, str, Any, dict[str, str]]]:
    rows: list[tuple[str, str, Any, dict[str, str]]] = []
    for model in MODELS:
        rows += [(model, "resolution", value, {"resolution": value}) for value in RESOLUTIONS[model]]
        rows += [(model, "ratio", value, {"ratio": value}) for value in RATIOS[model]]
        rows += [(model, "duration", value, {"duration": "5"}) for value in (5, "5", 5.0, " 5")]
        rows += [(model, "duration", value, {"duration": "10"}) for value in (10, "10", 10.0)]
        for name in ("watermark", "camera_fixed", "camerafixed", "cameraFixed"):
            wire = "watermark" if name == "watermark" else CAMERA[model]
            rows += [(model, name, value, {wire: "true"}) for value in (True, "true", "True", "TRUE")]
            rows += [(model, name, value, {wire: "false"}) for value in (False, "false", "False")]
        for name in ("callback_url", "callbackUrl"):
            url = "http://127.0.0.1:8000/done?a=b&c=%20"
            rows += [(model, name, url, {"callbackUrl": url}), (model, name, "", {})]
    rows += [(TEXT, "fps", value, {"fps": "24"}) for value in (24, "24", 24.0)]
    rows += [(TEXT, "fps", value, {"fps": "16"}) for value in (16, "16")]
    for model in (PRO, FAST, PRO_15):
        rows += [(model, name, FRAME, {"inputImageUrl": FRAME}) for name in ("image_url", "inputImageUrl")]
    for model in (IMAGE_LITE, PRO, PRO_15):
        rows += [(model, name, FRAME, {"inputImageLastUrl": FRAME}) for name in ("last_image_url", "inputImageLastUrl")]
    for name in ("generate_audio", "generateAudio"):
        rows += [(PRO_15, name, True, {"generateAudio": "true"}), (PRO_15, name, "false", {"generateAudio": "false"})]
    return rows


@pytest.mark.parametrize(("model", "name", "value", "wire"), accepted())
def test_what_each_model_takes_and_how_it_is_sent(model: str, name: str, value: Any, wire: dict[str, str]) -> None:
    assert wire_of(model, **{name: value}) == wire


@pytest.mark.parametrize("model", list(MODELS))
def test_what_is_left_out_is_left_to_wiro(model: str) -> None:
    names = ("resolution", "ratio", "duration", "fps", "watermark", "seed", "camera_fixed", "callback_url")

    assert wire_of(model, **dict.fromkeys(names)) == {}


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (-1, "-1"),
        (0, "0"),
        (7, "7"),
        ("7", "7"),
        (" 7 ", "7"),
        (7.0, "7"),
        ("-1", "-1"),
        (2**32 - 1, "4294967295"),
        (None, None),
        ("", None),
        ("None", None),
        ("null", None),
    ],
)
@pytest.mark.parametrize("model", list(MODELS))
def test_seeds_that_are_taken(model: str, value: Any, wire: str | None) -> None:
    assert wire_of(model, seed=value) == ({} if wire is None else {"seed": wire})


@pytest.mark.parametrize(
    "value",
    [2**32, -2, 7.5, "7.5", True, False, "seven", "0x7", "1e3", "--1", "٧", [7], {}, float("nan"), float("inf"), b"7"],
)
def test_seeds_that_are_refused(value: Any) -> None:
    (fault,) = faults_of(TEXT, seed=value)

    assert fault.startswith(f"seed is {value!r}, allowed: ")
    assert "4294967295" in fault
    assert "-1" in fault


@pytest.mark.parametrize("value", ["9" * 5000, 10**5000], ids=["text", "number"])
@pytest.mark.parametrize("name", ["seed", "duration"])
def test_endless_numbers_are_refused_like_any_other(name: str, value: Any) -> None:
    (fault,) = faults_of(TEXT, **{name: value})

    assert fault.startswith(f"{name} is ")
    assert len(fault) < 300


REFUSED = [
    ("resolution", "1080p", ["'480p'", "'720p'"]),
    ("resolution", "480", ["'480p'"]),
    ("resolution", 480, ["'480p'"]),
    ("resolution", "480P", ["'480p'"]),
    ("resolution", True, ["'480p'"]),
    ("resolution", ["480p"], ["'480p'"]),
    ("ratio", "adaptive", ["'9:21'"]),
    ("ratio", "16:10", ["'16:9'"]),
    ("ratio", 1.0, ["'1:1'"]),
    ("duration", 7, ["'5', '10'"]),
    ("duration", "5s", ["'5', '10'"]),
    ("duration", 5.5, ["'5', '10'"]),
    ("duration", True, ["'5', '10'"]),
    ("duration", -5, ["'5', '10'"]),
    ("duration", [], ["'5', '10'"]),
    ("fps", 30, ["'24', '16'"]),
    ("watermark", 1, ["True or False"]),
    ("watermark", 0, ["True or False"]),
    ("watermark", "yes", ["True or False"]),
    ("camera_fixed", "1", ["True or False"]),
    ("camera_fixed", [], ["True or False"]),
    ("callback_url", "example.org/done", ["http or https"]),
    ("callback_url", "ftp://example.org/done", ["http or https"]),
    ("callback_url", "http://", ["http or https"]),
    ("callback_url", "http://[", ["http or https"]),
    ("callback_url", 5, ["http or https"]),
    ("prompt", "", ["not empty"]),
    ("prompt", " \n\t", ["not empty"]),
    ("prompt", 5, ["not empty"]),
    ("prompt", ["a"], ["not empty"]),
]


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: Any, allowed: list[str]) -> None:
    (fault,) = faults_of(TEXT, **{name: value})

    assert fault.startswith(f"{name} is {value!r}, allowed: ")
    for part in allowed:
        assert part in fault.partition("allowed: ")[2]


@pytest.mark.parametrize("wire_name", ["camerafixed", "cameraFixed", "callbackUrl"])
def test_a_wrong_value_by_its_wire_name(wire_name: str) -> None:
    (fault,) = faults_of(TEXT, **{wire_name: 5})

    assert "is 5, allowed: " in fault


def test_all_faults_at_once() -> None:
    with pytest.raises(WiroInputError) as caught:
        wire_inputs(TEXT, {"resolution": "4k", "duration": 6, "seed": "x", "watermark": "maybe", "bogus": 1})

    heads = sorted(fault.split(" ")[0] for fault in caught.value.faults)
    assert heads == ["bogus", "duration", "prompt", "resolution", "seed", "watermark"]
    assert TEXT in str(caught.value)


def test_a_long_wrong_value_is_cut() -> None:
    (fault,) = faults_of(TEXT, ratio="x" * 5000)

    assert len(fault) < 300


def test_a_missing_prompt() -> None:
    for inputs in ({}, {"prompt": None}):
        with pytest.raises(WiroInputError, match="prompt is missing"):
            wire_inputs(TEXT, inputs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"camera_fixed": True}, {"camerafixed": True}),
        ({"camerafixed": True}, {"cameraFixed": False}),
        ({"callback_url": "http://a.b/"}, {"callbackUrl": "http://a.b/"}),
    ],
)
def test_an_input_given_by_both_names(one: dict[str, Any], other: dict[str, Any]) -> None:
    (fault,) = faults_of(TEXT, **one, **other)

    assert "given twice" in fault
    assert next(iter(other)) in fault


@pytest.mark.parametrize("name", ["promt", "size", "CAMERA_FIXED", "taskid", ""])
def test_an_unknown_input_is_named_with_those_that_exist(name: str) -> None:
    (fault,) = faults_of(TEXT, **{name: "x"})

    assert fault.startswith(f"{name} is not an input")
    assert "'prompt'" in fault


PROMPTS = [
    "{braces} {{ jinja }} {% raw %} {# note #} %(old)s $HOME `ls`",
    "\"double\" 'single' “curly” \\backslash\\ &amp; <b>bold</b>",
    "🎬 a lighthouse 👩🏽‍🚀 at dawn 🇹🇷",
    "\u202eرجل يقود دراجة عند الفجر\u202c 東京の夜明け",
    "line one\nline two\r\n\ttabbed\n",
    "  leading and trailing spaces  ",
    "x" * 1_200,
    "é\u0301 e\u0301 \u00e9 \ufeff \u00a0 \u2028",
    "None",
    "true",
    "5",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_arrives_as_it_is(client: WiroClient, wiro: LocalWiro, prompt: str) -> None:
    inputs = wire_inputs(TEXT, {"prompt": prompt})
    assert inputs == {"prompt": prompt}

    # A toy that takes any prompt: nothing has to be drawn.
    receipt = client.run("local/echo-text", inputs)

    assert client.get_task(receipt.wiro_task_id).inputs["prompt"] == prompt
    (run,) = wiro.ledger()["runs"]
    assert run["parameters"] == {"prompt": prompt}


def test_the_local_wiro_takes_what_is_sent(client: WiroClient, until: Callable[..., Any]) -> None:
    given = {
        "prompt": "[wiro:fail] a lighthouse",
        "resolution": "720p",
        "ratio": "9:21",
        "duration": 10,
        "fps": 16,
        "watermark": True,
        "seed": 2**32 - 1,
        "camera_fixed": True,
    }
    task = until(client.run(TEXT, wire_inputs(TEXT, given)).wiro_task_id)

    assert task.inputs == {
        "prompt": "[wiro:fail] a lighthouse",
        "resolution": "720p",
        "ratio": "9:21",
        "duration": "10",
        "fps": "16",
        "watermark": "true",
        "seed": "4294967295",
        "camerafixed": "true",
    }


@pytest.mark.parametrize("model", RELATIVES)
def test_the_local_wiro_takes_what_is_sent_to_relatives(client: WiroClient, model: str) -> None:
    given = {
        **needed(model),
        "prompt": "[wiro:fail] x",
        "resolution": "1080p",
        "ratio": "adaptive",
        "camera_fixed": False,
    }
    receipt = client.run(model, wire_inputs(model, given))

    assert client.get_task(receipt.wiro_task_id).inputs[CAMERA[model]] == "false"
