from __future__ import annotations

import pytest

from airflow_provider_wiro.api.seedance import MODELS, find_model, wire_inputs
from airflow_provider_wiro.exceptions import WiroInputError
from tests.unit.api.family import FAST, FRAME, IMAGE_LITE, PRO, PRO_15, RELATIVES, TEXT, TEXT_LITE, faults_of, wire_of


@pytest.mark.parametrize("model", RELATIVES)
def test_relatives_have_no_frame_rate(model: str) -> None:
    assert wire_of(model, fps=None) == {}
    (fault,) = faults_of(model, fps=24)
    assert fault.startswith("fps is not an input")


@pytest.mark.parametrize("model", [TEXT, TEXT_LITE])
@pytest.mark.parametrize("name", ["image_url", "last_image_url", "inputImageUrl"])
def test_text_models_take_no_frame(model: str, name: str) -> None:
    (fault,) = faults_of(model, **{name: FRAME})

    assert "is not an input" in fault


def test_pro_fast_takes_no_last_frame() -> None:
    (fault,) = faults_of(FAST, last_image_url=FRAME)

    assert "is not an input" in fault


@pytest.mark.parametrize("model", [TEXT, TEXT_LITE, IMAGE_LITE, PRO, FAST])
def test_only_1_5_makes_sound(model: str) -> None:
    (fault,) = faults_of(model, generate_audio=True)

    assert fault.startswith("generate_audio is not an input")


@pytest.mark.parametrize("model", [PRO, FAST, IMAGE_LITE, PRO_15])
def test_a_wrong_frame_address(model: str) -> None:
    (fault,) = faults_of(model, image_url="/home/me/first.png")

    assert fault.startswith("image_url is '/home/me/first.png', allowed: ")


@pytest.mark.parametrize("nothing", [None, "", "  ", "None", "null"])
def test_the_image_model_needs_a_frame(nothing: str | None) -> None:
    with pytest.raises(WiroInputError, match="image_url is missing"):
        wire_inputs(IMAGE_LITE, {"prompt": "p", "image_url": nothing})


@pytest.mark.parametrize("model", [PRO, FAST])
def test_the_pro_models_make_do_with_a_frame(model: str) -> None:
    assert wire_inputs(model, {"image_url": FRAME}) == {"inputImageUrl": FRAME}


@pytest.mark.parametrize("nothing", [None, "", "  ", "None", "null"])
@pytest.mark.parametrize("model", [PRO, FAST])
def test_the_pro_models_need_a_prompt_or_a_frame(model: str, nothing: str | None) -> None:
    with pytest.raises(WiroInputError, match="prompt is missing"):
        wire_inputs(model, {"image_url": nothing})


@pytest.mark.parametrize("model", [IMAGE_LITE, PRO_15])
def test_the_others_need_a_prompt_beside_the_frame(model: str) -> None:
    with pytest.raises(WiroInputError, match="prompt is missing"):
        wire_inputs(model, {"image_url": FRAME})


def test_an_unknown_model_is_named_with_those_that_exist() -> None:
    with pytest.raises(WiroInputError) as caught:
        wire_inputs("ByteDance/seedance-v9", {"prompt": "p"})

    for part in ("'ByteDance/seedance-v9'", *MODELS, "WiroRunOperator"):
        assert part in str(caught.value)


def test_models_are_found_whatever_their_capitals() -> None:
    assert find_model(PRO.upper()) is MODELS[PRO]
    assert find_model("seedance-pro-v1") is None
    assert wire_inputs(TEXT.lower(), {"prompt": "p", "fps": 16}) == {"prompt": "p", "fps": "16"}
