"""The Seedance models' inputs: what they are called, what they allow, and how they are sent.

``ByteDance/text-to-video-seedance-v1`` follows the tool sheet. Its relatives follow Wiro's published n8n nodes
(2026-03), which send no frame rate and spell the camera input ``cameraFixed`` for the *pro* models. Everything is sent
as text, as the tool sheet does: ``"5"``, ``"24"``, ``"false"``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_wiro.exceptions import WiroInputError

DEFAULT_MODEL = "ByteDance/text-to-video-seedance-v1"
MAX_SEED = 2**32 - 1  # ByteDance's documentation of the model; -1 is "random" (tool sheet)

_RATIOS = ("16:9", "4:3", "1:1", "3:4", "9:16", "21:9")
_DIGITS = 18  # more than any input has; Python's own limit for text is an error of another kind
_NO_VALUE = frozenset({"", "None", "null"})  # what a template makes of None


@dataclass(frozen=True)
class SeedanceModel:
    """What one model of the family takes."""

    name: str
    resolutions: tuple[str, ...] = ("480p", "720p", "1080p")
    ratios: tuple[str, ...] = (*_RATIOS, "adaptive")
    durations: tuple[str, ...] = ("5", "10")
    """Seconds."""
    frame_rates: tuple[str, ...] = ()
    """Frames per second; empty where the model has no such input."""
    camera_fixed: str = "cameraFixed"
    """How the model spells that input."""
    first_frame: bool = True
    last_frame: bool = False
    audio: bool = False
    needs_prompt: bool = True
    """Whether a prompt is needed even where a first frame is given."""
    needs_first_frame: bool = False


MODELS: Mapping[str, SeedanceModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            SeedanceModel(
                DEFAULT_MODEL,
                resolutions=("480p", "720p"),
                ratios=(*_RATIOS, "9:21"),
                frame_rates=("24", "16"),
                camera_fixed="camerafixed",
                first_frame=False,
            ),
            SeedanceModel(
                "ByteDance/text-to-video-seedance-lite-v1",
                ratios=(*_RATIOS, "9:21", "adaptive"),
                camera_fixed="camerafixed",
                first_frame=False,
            ),
            SeedanceModel(
                "ByteDance/image-to-video-seedance-lite-v1",
                ratios=(*_RATIOS, "9:21", "adaptive"),
                camera_fixed="camerafixed",
                last_frame=True,
                needs_first_frame=True,
            ),
            SeedanceModel("ByteDance/seedance-pro-v1", last_frame=True, needs_prompt=False),
            SeedanceModel("ByteDance/seedance-v1-pro-fast", needs_prompt=False),
            SeedanceModel("ByteDance/seedance-pro-v1.5", last_frame=True, audio=True),
        )
    }
)

# Pixels by resolution and ratio: ByteDance's documentation of the models. The upright ones are the others turned.
_PIXELS = {
    "480p": {"16:9": (864, 480), "4:3": (736, 544), "1:1": (640, 640), "21:9": (960, 416)},
    "720p": {"16:9": (1248, 704), "4:3": (1120, 832), "1:1": (960, 960), "21:9": (1504, 640)},
    "1080p": {"16:9": (1920, 1088), "4:3": (1664, 1248), "1:1": (1440, 1440), "21:9": (2176, 928)},
}
_PIXELS_OF_1_5 = {
    "480p": {"16:9": (864, 496), "4:3": (752, 560), "1:1": (640, 640), "21:9": (992, 432)},
    "720p": {"16:9": (1280, 720), "4:3": (1112, 834), "1:1": (960, 960), "21:9": (1470, 630)},
    "1080p": {"16:9": (1920, 1080), "4:3": (1664, 1248), "1:1": (1440, 1440), "21:9": (2206, 946)},
}

# An operator's argument -> its names on the wire, where they differ.
_WIRE_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "camera_fixed": ("camerafixed", "cameraFixed"),
        "callback_url": ("callbackUrl",),
        "image_url": ("inputImageUrl",),
        "last_image_url": ("inputImageLastUrl",),
        "generate_audio": ("generateAudio",),
    }
)
_ARGUMENT_OF = {wire: argument for argument, wires in _WIRE_NAMES.items() for wire in wires}


class _Fault(Exception):
    """A value that an input does not take; the text says what is allowed."""


def find_model(name: str) -> SeedanceModel | None:
    """Return the model of that name, upper and lower case alike, or ``None`` if it is not of this family."""
    return next((model for key, model in MODELS.items() if key.lower() == name.lower()), None)


def wire_inputs(
    model: str, inputs: Mapping[str, Any], unresolved: Callable[[Any], bool] = lambda value: False
) -> dict[str, str]:
    """Check inputs against a model and return them as they are sent.

    :param model: one of :data:`MODELS`.
    :param inputs: values by argument name (``camera_fixed``) or by name on the wire (``camerafixed``); text, whole
        numbers and booleans are taken where they are unambiguous; ``None`` leaves an optional input to Wiro.
    :param unresolved: tells which values cannot be judged yet (templates, results of other tasks); they are passed
        over, and left out of what is returned.
    :return: name on the wire and text, for every input that has a value.
    :raises WiroInputError: the model or any value is not allowed; every fault is listed.
    """
    spec = find_model(str(model))
    if spec is None:
        raise WiroInputError(
            model, [f"model is {model!r}, allowed: {_listed(MODELS)} (WiroRunOperator runs any other model)"]
        )
    fields = _fields(spec)
    faults: list[str] = []
    values = _by_argument({k: v for k, v in inputs.items() if v is not None}, fields, faults, unresolved)
    wire: dict[str, str] = {}
    for argument, (name, convert) in fields.items():
        value = values.get(argument)
        if unresolved(value):
            continue
        try:
            text = convert(value)
        except _Fault as fault:
            faults.append(f"{argument} is {_shown(value)}, allowed: {fault}")
        else:
            if text is not None:
                wire[name] = text
    faults.extend(_missing(spec, values))
    if faults:
        raise WiroInputError(spec.name, faults)
    return wire


@dataclass(frozen=True)
class OrderedVideo:
    """What a video should be like; ``None`` where the order does not say."""

    pixels: tuple[int, int] | None
    """Width and height."""
    duration: float | None
    """Seconds."""
    frame_rate: float | None
    """Frames per second."""


def ordered_video(model: str, inputs: Mapping[str, Any]) -> OrderedVideo | None:
    """Return what an order asks its video to be like.

    :param model: ``owner/name``.
    :param inputs: the inputs by name on the wire, as they are sent or as Wiro echoes them.
    :return: ``None`` for a model that is not of this family.
    """
    spec = find_model(model)
    if spec is None:
        return None
    across, _, down = str(inputs.get("ratio", "")).strip().partition(":")
    upright = across.isdigit() and down.isdigit() and int(across) < int(down)
    table = _PIXELS_OF_1_5 if spec.audio else _PIXELS
    sizes = table.get(str(inputs.get("resolution", "")).strip(), {})
    pixels = sizes.get(f"{down}:{across}" if upright else f"{across}:{down}")
    return OrderedVideo(
        pixels=(pixels[1], pixels[0]) if pixels and upright else pixels,
        duration=_positive(inputs.get("duration")),
        frame_rate=_positive(inputs.get("fps")),
    )


def _positive(value: Any) -> float | None:
    number = _whole(str(value)) if value is not None else None
    return float(number) if number is not None and number > 0 else None


def _fields(spec: SeedanceModel) -> dict[str, tuple[str, Callable[[Any], str | None]]]:
    """Return argument -> (name on the wire, converter), in the tool sheet's order."""
    fields: dict[str, tuple[str, Callable[[Any], str | None]]] = {
        "prompt": ("prompt", _prompt),
        "resolution": ("resolution", _choice(spec.resolutions)),
        "ratio": ("ratio", _choice(spec.ratios)),
        "duration": ("duration", _choice(spec.durations)),
        "watermark": ("watermark", _switch),
        "seed": ("seed", _seed),
        "camera_fixed": (spec.camera_fixed, _switch),
        "callback_url": ("callbackUrl", _url),
    }
    if spec.frame_rates:
        fields["fps"] = ("fps", _choice(spec.frame_rates))
    if spec.first_frame:
        fields["image_url"] = ("inputImageUrl", _url)
    if spec.last_frame:
        fields["last_image_url"] = ("inputImageLastUrl", _url)
    if spec.audio:
        fields["generate_audio"] = ("generateAudio", _switch)
    return fields


def _by_argument(
    inputs: Mapping[str, Any], fields: Mapping[str, Any], faults: list[str], unresolved: Callable[[Any], bool]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in inputs.items():
        argument = _ARGUMENT_OF.get(name, name)
        if argument in values:
            faults.append(f"{argument} is given twice, the second time as {name}")
        elif argument in fields:
            values[argument] = value
        elif not unresolved(value):
            faults.append(f"{name} is not an input of this model, allowed: {_listed(fields)}")
    return values


def _missing(spec: SeedanceModel, values: Mapping[str, Any]) -> list[str]:
    faults = []
    frame = values.get("image_url")
    has_frame = spec.first_frame and not _is_none(frame)
    if values.get("prompt") is None and (spec.needs_prompt or not has_frame):
        faults.append("prompt is missing, allowed: the text of the video to make")
    if spec.needs_first_frame and not has_frame:
        faults.append("image_url is missing, allowed: the http or https address of the first frame")
    return faults


def _prompt(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise _Fault("text that is not empty")
    return value


def _choice(options: tuple[str, ...]) -> Callable[[Any], str | None]:
    def convert(value: Any) -> str | None:
        if _is_none(value):
            return None
        number = _whole(value)
        text = value if number is None else str(number)
        if text not in options:
            raise _Fault(_listed(options))
        return str(text)

    return convert


def _switch(value: Any) -> str | None:
    if _is_none(value):
        return None
    if isinstance(value, (bool, str)) and str(value).lower() in ("true", "false"):
        return str(value).lower()
    raise _Fault("True or False")


def _seed(value: Any) -> str | None:
    if _is_none(value):
        return None
    number = _whole(value)
    if number is None or not -1 <= number <= MAX_SEED:
        raise _Fault(f"a whole number from 0 to {MAX_SEED}, or -1 for random")
    return str(number)


def _whole(value: Any) -> int | None:
    """Return a value as a whole number, or ``None`` if it is not plainly one."""
    # True is an int to Python and a switch to a person; 5.0 is what a table with an empty cell makes of 5.
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, int):
        return value if abs(value) < 10**_DIGITS else None
    text = re.sub(r"\.0+$", "", value.strip()) if isinstance(value, str) else ""
    return int(text) if re.fullmatch(rf"-?[0-9]{{1,{_DIGITS}}}", text) else None


def _is_none(value: Any) -> bool:
    """Tell whether a value stands for none: an empty cell of a table, or what a template makes of None."""
    return value is None or (isinstance(value, str) and value.strip() in _NO_VALUE)


def _url(value: Any) -> str | None:
    if _is_none(value):
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise _Fault("an http or https address")
    return str(value)


def _listed(options: Any) -> str:
    return ", ".join(repr(option) for option in options)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"  # Python does not write them out
    return text if len(text) <= 80 else f"{text[:77]}..."
