from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wiro.api.seedance import wire_inputs
from airflow_provider_wiro.exceptions import WiroInputError
from tests.unit.api.family import IMAGE_LITE, PRO, TEXT, faults_of


class Later:
    """A value that is known when the task runs; nothing may be asked of it before."""

    def __bool__(self) -> bool:
        raise AssertionError("judged")


def is_later(value: Any) -> bool:
    return isinstance(value, Later) or (isinstance(value, str) and "{{" in value)


NAMES = {
    "prompt",
    "resolution",
    "ratio",
    "duration",
    "fps",
    "watermark",
    "seed",
    "camera_fixed",
    "callback_url",
}


@pytest.mark.parametrize("name", [*sorted(NAMES), "camerafixed", "callbackUrl", "not_even_an_input"])
@pytest.mark.parametrize("value", [Later(), "{{ params.value }}"], ids=["object", "template"])
def test_what_is_not_known_yet_is_passed_over_and_left_out(name: str, value: Any) -> None:
    wire = wire_inputs(TEXT, {"prompt": "p", name: value}, is_later)

    assert wire == ({} if name == "prompt" else {"prompt": "p"})


def test_what_is_known_is_judged_beside_what_is_not() -> None:
    with pytest.raises(WiroInputError) as caught:
        wire_inputs(TEXT, {"prompt": Later(), "duration": 6, "seed": "{{ x }}"}, is_later)

    assert [fault.split(" ")[0] for fault in caught.value.faults] == ["duration"]


def test_a_frame_that_is_not_known_yet_counts_as_one() -> None:
    assert wire_inputs(IMAGE_LITE, {"prompt": "p", "image_url": Later()}, is_later) == {"prompt": "p"}
    assert wire_inputs(PRO, {"image_url": "{{ x }}"}, is_later) == {}


def test_a_template_that_was_not_rendered_is_refused_when_it_is_sent() -> None:
    (fault,) = faults_of(TEXT, seed="{{ params.seed }}")

    assert fault.startswith("seed is '{{ params.seed }}'")
