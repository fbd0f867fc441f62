"""What a run will cost: every method that can be known, and nothing made up where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.api.pricing import estimate_cost
from airflow_provider_wiro.api.seedance import MODELS, SeedanceModel, wire_inputs

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.api.tasks import WiroTask
    from airflow_provider_wiro.emulator.local import LocalWiro

ORDERS = [
    (spec, resolution, duration)
    for spec in MODELS.values()
    for resolution in spec.resolutions
    for duration in spec.durations
]


def entry(price: Any = 0.5, method: Any = "cpr", /, **inputs: Any) -> dict[str, Any]:
    return {"inputs": inputs, "price": price, "priceMethod": method}


def facts(*entries: Any, slug: str = "someone/something", **defaults: Any) -> dict[str, Any]:
    owner, _, project = slug.partition("/")
    items = [{"id": name, "default": default} for name, default in defaults.items()]
    return {
        "slugowner": owner,
        "slugproject": project,
        "dynamicprice": json.dumps(list(entries)),
        "parameters": [{"title": "", "items": items}],
        "cps": "0.0001",
        "approximatelycost": "0.3",
    }


@pytest.mark.parametrize(
    ("told", "inputs", "cost"),
    [
        (facts(entry(0.1)), {}, "0.1"),
        (facts(entry(7)), {"anything": "at all"}, "7"),
        (facts(entry(0)), {}, "0"),
        (facts(entry(0.1, duration="5"), entry(0.2, duration="10")), {"duration": "10"}, "0.2"),
        (facts(entry(0.1, duration="5"), entry(0.2, duration="10"), duration="5"), {}, "0.1"),
        (facts(entry(0.1, duration="5"), entry(0.2, duration="10"), duration="5"), {"duration": None}, "0.1"),
        (facts(entry(0.1, duration=5)), {"duration": "5"}, "0.1"),
        (facts(entry(0.1, duration=5.0)), {"duration": 5}, "0.1"),
        (facts(entry(0.1, scale=2.5)), {"scale": "2.5"}, "0.1"),
        (facts(entry(0.1, audio=True), entry(0.05, audio=False)), {"audio": "false"}, "0.05"),
        (facts(entry(0.1, audio="true")), {"audio": True}, "0.1"),
        (facts(entry(0.3), entry(0.1, size="S"), entry(0.2, size="S", hd="1")), {"size": "S", "hd": "1"}, "0.2"),
        (facts(entry(0.3), entry(0.1, size="S")), {"size": "L"}, "0.3"),
        (facts(entry(0.1, a="1"), entry(0.1, b="1")), {"a": "1", "b": "1"}, "0.1"),
        (facts(entry(0.12, "cpo"), slug="ByteDance/seedance-pro-v1"), {}, "0.12"),
        (facts(entry(0.12, "cpo"), slug="bytedance/Seedance-Pro-V1"), {"samples": "3"}, "0.12"),
        (facts(entry(0.12, "cpo")), {"samples": "3"}, "0.36"),
        (facts(entry(0.12, "cpo"), samples=2), {}, "0.24"),
        (facts(entry(0.03, "cp-outputVideoLength")), {"duration": "10"}, "0.3"),
        (facts(entry(0.03, "cp-outputVideoLength"), duration="5"), {}, "0.15"),
        (facts(entry(0.03, "cp-outputVideoLength")), {"duration": 2.5}, "0.075"),
    ],
)
def test_what_can_be_known_is_exact(told: dict[str, Any], inputs: dict[str, Any], cost: str) -> None:
    assert estimate_cost(told, inputs) == Decimal(cost)


def test_a_list_that_is_no_text_is_read_as_well() -> None:
    assert estimate_cost({"dynamicprice": [entry(0.1)]}, {}) == Decimal("0.1")


@pytest.mark.parametrize("method", ["cps", "cpt", "cp-pixel", "cp-promptlength", "cp-audiosecondslength", "cp-new", ""])
def test_other_methods_are_unknown(method: str) -> None:
    assert estimate_cost(facts(entry(0.1, method)), {"duration": "5", "samples": "1"}) is None


@pytest.mark.parametrize(
    ("told", "inputs"),
    [
        (facts(), {}),
        (facts(entry(0.1, duration="5")), {"duration": "10"}),
        (facts(entry(0.1, duration="5"), entry(0.2, duration="10")), {}),
        (facts(entry(0.3), entry(0.1, size="S")), {}),  # it may be an S
        (facts(entry(0.3), entry(0.1, size="S"), size=None), {}),
        (facts(entry(0.1, a="1"), entry(0.2, b="1")), {"a": "1", "b": "1"}),
        (facts(entry(0.1, a="1"), entry(0.2, "cpt", b="1")), {"a": "1", "b": "1"}),
        (facts(entry(0.3), entry(0.1, "cps", size="S")), {"size": "S"}),
        (facts(entry(0.1, images="QUANTITY:1"), entry(0.2, images="QUANTITY:3")), {"images": "https://a/1.png"}),
        (facts({**entry(0.1), "priceExtra": 0.05}), {}),
        (facts({**entry(0.1), "priceInput": 0.05}), {}),
        (facts(entry(0.1, "cpo")), {}),
        (facts(entry(0.1, "cpo")), {"samples": "many"}),
        (facts(entry(0.1, "cpo")), {"samples": "0"}),
        (facts(entry(0.1, "cp-outputVideoLength")), {}),
        (facts(entry(0.1, "cp-outputVideoLength")), {"duration": "-1"}),
        (facts(entry(0.1, "cp-outputVideoLength")), {"duration": "auto"}),
        (facts(entry(0.1, "cp-outputVideoLength")), {"duration": "99999999"}),
        (facts(entry(0.1, "cp-outputVideoLength")), {"duration": "٥"}),
    ],
)
def test_what_is_left_open_stays_unknown(told: dict[str, Any], inputs: dict[str, Any]) -> None:
    assert estimate_cost(told, inputs) is None


@pytest.mark.parametrize("price", [-0.1, "0.1", None, True, [], {}, float("nan"), float("inf"), 1e300, 1e-30])
def test_a_price_that_is_none_is_unknown(price: Any) -> None:
    assert estimate_cost(facts(entry(price)), {}) is None


@pytest.mark.parametrize(
    "dynamicprice",
    [
        None,
        "",
        "free",
        "null",
        "{}",
        "3",
        "[1]",
        '["a"]',
        "[[]]",
        '[{"price": 1, "priceMethod": "cpr"}]',
        '[{"inputs": [], "price": 1, "priceMethod": "cpr"}]',
        '[{"inputs": {}, "price": 1, "priceMethod": "cpr"}, 7]',
        '[{"inputs": {}, "price": 1e999999999999999999999, "priceMethod": "cpr"}]',
        '[{"inputs": {}, "price": 1e-999999999, "priceMethod": "cpr"}]',
        '[{"inputs": {"a": 1e999999}, "price": 1, "priceMethod": "cpr"}]',
        '[{"inputs": {}, "price": 0.123456789012345678901234567890, "priceMethod": "cpr"}]',
        '[{"inputs": {}, "price": 1, "priceMethod": ["cpr"]}]',
        '[{"inputs": {}, "price": 1' + "0" * 5000 + ', "priceMethod": "cpr"}]',
        "[" * 100_000,
        {"inputs": {}},
        object(),
        float("nan"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_hostile_answer_is_unknown(dynamicprice: Any) -> None:
    assert estimate_cost({"dynamicprice": dynamicprice}, {"a": "1"}) is None


@pytest.mark.parametrize("parameters", [None, "x", 3, [3], [{"items": 3}], [{"items": [3, {"id": []}, {"id": "a"}]}]])
def test_odd_parameters_tell_no_default(parameters: Any) -> None:
    assert estimate_cost({**facts(entry(0.1)), "parameters": parameters}, {}) == Decimal("0.1")
    assert estimate_cost({**facts(entry(0.1, a="1")), "parameters": parameters}, {}) is None


def test_a_tiny_zero_is_a_zero_that_can_be_written_out() -> None:
    told = {"dynamicprice": '[{"inputs": {}, "price": 0e-999999, "priceMethod": "cpr"}]'}
    assert f"{estimate_cost(told, {}):f}" == "0"


def test_the_example_of_wiro_s_documentation() -> None:
    tiers = {("480p", "5"): "0.06", ("720p", "5"): "0.13", ("1080p", "5"): "0.29", ("1080p", "10"): "0.58"}
    told = facts(*(entry(float(price), resolution=r, duration=d) for (r, d), price in tiers.items()))
    for (resolution, duration), price in tiers.items():
        assert estimate_cost(told, {"resolution": resolution, "duration": duration}) == Decimal(price)
    assert estimate_cost(told, {"resolution": "480p", "duration": "10"}) is None


@pytest.mark.parametrize(("spec", "resolution", "duration"), ORDERS, ids=lambda value: getattr(value, "name", value))
def test_the_local_wiro_bills_what_was_estimated(
    wiro: LocalWiro,
    client: WiroClient,
    until: Callable[..., WiroTask],
    spec: SeedanceModel,
    resolution: str,
    duration: str,
) -> None:
    frame = {"image_url": "https://example.org/frame.png"} if spec.needs_first_frame else {}
    inputs = wire_inputs(spec.name, {"prompt": "A price tag", "resolution": resolution, "duration": duration, **frame})
    estimate = estimate_cost(client.get_model(spec.name), inputs)
    ended = until(client.run(spec.name, inputs).wiro_task_id)
    assert estimate is not None
    assert Decimal(str(ended.total_cost)) == estimate > 0
