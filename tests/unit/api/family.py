"""The models of the Seedance family, and what becomes of an input of one of them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wiro.api.seedance import wire_inputs
from airflow_provider_wiro.exceptions import WiroInputError

TEXT = "ByteDance/text-to-video-seedance-v1"
TEXT_LITE = "ByteDance/text-to-video-seedance-lite-v1"
IMAGE_LITE = "ByteDance/image-to-video-seedance-lite-v1"
PRO = "ByteDance/seedance-pro-v1"
FAST = "ByteDance/seedance-v1-pro-fast"
PRO_15 = "ByteDance/seedance-pro-v1.5"
RELATIVES = (TEXT_LITE, IMAGE_LITE, PRO, FAST, PRO_15)
FRAME = "https://example.org/first.png"
CAMERA = {
    TEXT: "camerafixed",
    TEXT_LITE: "camerafixed",
    IMAGE_LITE: "camerafixed",
    PRO: "cameraFixed",
    FAST: "cameraFixed",
    PRO_15: "cameraFixed",
}


def needed(model: str) -> dict[str, Any]:
    return {"prompt": "p", **({"image_url": FRAME} if model == IMAGE_LITE else {})}


def wire_of(model: str, **inputs: Any) -> dict[str, str]:
    """Return what an input becomes, without those that the model cannot do without."""
    always = wire_inputs(model, needed(model))
    return dict(wire_inputs(model, {**needed(model), **inputs}).items() - always.items())


def faults_of(model: str, **inputs: Any) -> list[str]:
    with pytest.raises(WiroInputError) as caught:
        wire_inputs(model, {**needed(model), **inputs})
    assert caught.value.model == model
    for fault in caught.value.faults:
        assert fault in str(caught.value)
    return caught.value.faults
