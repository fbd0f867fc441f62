"""The models that the local Wiro offers: their inputs, prices and pixels.

Inputs and options of `ByteDance/text-to-video-seedance-v1` are its tool sheet's, those of its relatives are the ones
that Wiro's published n8n nodes show. Pixels are ByteDance's own table for the family. **The prices are made
up**: they only have the shape of Wiro's (``dynamicprice``), so that budgets can be tried out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

_SEED_MAX = 2**32 - 1
_DEFAULT_PROMPT = "A lighthouse keeper waters tomatoes on the gallery while the first ferry of the day passes below."


class BadInputError(ValueError):
    """A run's inputs are not what the model takes; the message is the one that Wiro documents."""


@dataclass(frozen=True)
class Input:
    """One input of a model, as the tool sheet describes it."""

    name: str
    kind: str
    default: str | None = None
    options: tuple[str, ...] = ()
    required: bool = False
    low: int | None = None
    high: int | None = None

    def check(self, value: object) -> str | None:
        """Return the value in the wire's form, None where the input is absent.

        :param value: what arrived: a string, a JSON number or None. JSON booleans are not the sheet's form.
        :raises BadInputError: with Wiro's documented words, or words in their style for an option.
        """
        if value is None or (value == "" and not self.required):
            return None
        if isinstance(value, (list, dict)) or (isinstance(value, bool) and self.kind != "number"):
            raise BadInputError(f"Request parameter [{self.name}] must be a string")
        if self.kind == "number":
            return self._check_number(value)
        text = str(value)
        if self.options and text not in self.options:
            raise BadInputError(f"Request parameter [{self.name}] must be one of {', '.join(self.options)}")
        return text

    def _check_number(self, value: object) -> str | None:
        # The sheet prints `false` as the default of a number that is not set, and so do its own forms.
        if value is False or value == "false":
            return None
        text = str(value).strip()
        if not re.fullmatch(r"[+-]?\d{1,20}(\.\d*)?", text):
            raise BadInputError(f"Request parameter [{self.name}] must be integer or float")
        if self.low is not None and self.high is not None and not self.low <= float(text) <= self.high:
            raise BadInputError(f"Request parameter [{self.name}] must be between {self.low} and {self.high}")
        return text

    def sheet(self) -> dict[str, object]:
        """Return this input as an item of ``/Tool/Detail``'s ``parameters``."""
        item: dict[str, object] = {
            "id": self.name,
            "type": self.kind,
            "label": self.name,
            "required": self.required,
            "advanced": False,
            "default": self.default,
        }
        if self.options:
            item["options"] = [{"value": option, "label": option} for option in self.options]
        return item


@dataclass(frozen=True)
class Model:
    """One model of the catalogue."""

    number: int
    owner: str
    project: str
    description: str
    categories: tuple[str, ...]
    inputs: tuple[Input, ...]
    prices: tuple[tuple[tuple[tuple[str, str], ...], str], ...]
    video: bool = True
    pixels_of: str = "1.0"
    refusal: tuple[int, str] | None = None

    @property
    def slug(self) -> str:
        """The name that a run is addressed to: ``owner/project``."""
        return f"{self.owner}/{self.project}"

    @cached_property
    def dynamicprice(self) -> str:
        """The prices as Wiro sends them: a JSON string holding a list (Wiro's documentation)."""
        return json.dumps(
            [{"inputs": dict(inputs), "price": float(price), "priceMethod": "cpr"} for inputs, price in self.prices]
        )

    def price(self, parameters: Mapping[str, str]) -> Decimal:
        """Return what a run with these inputs costs in USD; absent inputs count with their defaults."""
        full = {item.name: item.default for item in self.inputs} | dict(parameters)
        for inputs, price in self.prices:
            if all(full.get(name) == value for name, value in inputs):
                return Decimal(price)
        raise LookupError(f"{self.slug} has no price for {full}")

    def check(self, arrived: Mapping[str, object], files: Mapping[str, str]) -> dict[str, str]:
        """Return the run's parameters in the wire's form, inputs that nobody knows included.

        :param arrived: the body's fields.
        :param files: URLs of the files that came along, by field name.
        :raises BadInputError: for the first input that is missing or refused.
        """
        checked: dict[str, str] = {}
        for item in self.inputs:
            value = item.check(files.get(item.name, arrived.get(item.name)))
            if item.required and (value is None or not value.strip()):
                kind = "files" if item.kind == "fileinput" else "parameter"
                raise BadInputError(f"Request {kind} [{item.name}] required")
            if value is not None:
                checked[item.name] = value
        known = {item.name for item in self.inputs}
        for name, more in {**arrived, **files}.items():
            if name not in known and more is not None:
                checked[name] = more if isinstance(more, str) else json.dumps(more)
        return checked

    def tool(self) -> dict[str, object]:
        """Return the model as ``/Tool/Detail`` and ``/Tool/List`` show it."""
        return {
            "id": str(self.number),
            "title": self.project,
            "slugowner": self.owner,
            "slugproject": self.project,
            "cleanslugowner": self.owner.lower(),
            "cleanslugproject": self.project.lower(),
            "description": self.description,
            "computingtime": "60 seconds" if self.video else "5 seconds",
            "categories": list(self.categories),
            "tags": [],
            "parameters": [{"title": "", "subtitle": "", "items": [item.sheet() for item in self.inputs]}],
            "dynamicprice": self.dynamicprice,
            "approximatelycost": self.prices[0][1],
            "cps": "0.0001",
            "marketplace": 1,
            "onlymembers": "1",
        }


# 16:9, 4:3, 1:1 and 21:9; the other ratios are these, mirrored.
_PIXELS: dict[str, dict[str, tuple[tuple[int, int], ...]]] = {
    "1.0": {
        "480p": ((864, 480), (736, 544), (640, 640), (960, 416)),
        "720p": ((1248, 704), (1120, 832), (960, 960), (1504, 640)),
        "1080p": ((1920, 1088), (1664, 1248), (1440, 1440), (2176, 928)),
    },
    "1.5": {
        "480p": ((864, 496), (752, 560), (640, 640), (992, 432)),
        "720p": ((1280, 720), (1112, 834), (960, 960), (1470, 630)),
        "1080p": ((1920, 1080), (1664, 1248), (1440, 1440), (2206, 946)),
    },
}
_WIDE = ("16:9", "4:3", "1:1", "21:9")


def pixels(family: str, resolution: str, ratio: str) -> tuple[int, int]:
    """Return width and height that the Seedance family gives for a resolution and a ratio.

    :param family: ``1.0`` or ``1.5``.
    :param resolution: ``480p``, ``720p`` or ``1080p``.
    :param ratio: ``16:9``, ``4:3``, ``1:1``, ``21:9`` or one of these turned; ``adaptive`` counts as
        ``16:9``.
    """
    sizes = dict(zip(_WIDE, _PIXELS[family][resolution], strict=True))
    if ratio == "adaptive":
        ratio = "16:9"
    if ratio in sizes:
        return sizes[ratio]
    width, height = sizes[":".join(reversed(ratio.split(":")))]
    return height, width


def _select(name: str, default: str, *others: str) -> Input:
    return Input(name, "select", default, (default, *others))


_RATIOS = ("16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "9:21")
_PROMPT = Input("prompt", "textarea", _DEFAULT_PROMPT, required=True)
_TAIL = (
    _select("watermark", "false", "true"),
    Input("seed", "number", low=-1, high=_SEED_MAX),
    _select("camerafixed", "false", "true"),
    Input("callbackUrl", "url"),
)
_FIRST_FRAME = Input("inputImageUrl", "fileinput")
_LAST_FRAME = Input("inputImageLastUrl", "fileinput")


def _seedance_inputs(*before: Input, resolutions: tuple[str, ...], ratios: tuple[str, ...]) -> tuple[Input, ...]:
    return (
        *before,
        _select("resolution", *resolutions),
        _select("ratio", *ratios),
        _select("duration", "5", "10"),
        _select("fps", "24", "16"),
        *_TAIL,
    )


def _prices(**by_resolution: str) -> tuple[tuple[tuple[tuple[str, str], ...], str], ...]:
    """Ten seconds cost twice what five do."""
    entries = []
    for resolution, price in by_resolution.items():
        for duration, factor in (("5", 1), ("10", 2)):
            inputs = (("resolution", resolution.lstrip("p") + "p"), ("duration", duration))
            entries.append((inputs, str(Decimal(price) * factor)))
    return tuple(entries)


def _relative(
    number: int, project: str, text: str, *before: Input, pixels_of: str = "1.0", more: tuple[Input, ...] = ()
) -> Model:
    inputs = _seedance_inputs(*before, resolutions=("480p", "720p", "1080p"), ratios=(*_RATIOS, "adaptive"))
    return Model(
        number,
        "ByteDance",
        project,
        text,
        ("tool", "image-to-video" if "image" in project else "text-to-video", "partner", "ByteDance"),
        (*inputs, *more),
        _prices(p480="0.12", p720="0.26", p1080="0.58"),
        pixels_of=pixels_of,
    )


def _closed(number: int, project: str, refusal: tuple[int, str]) -> Model:
    text = "A toy that refuses every run, to see what that looks like."
    return Model(number, "local", project, text, ("tool",), (_PROMPT,), (((), "0.01"),), False, refusal=refusal)


MODELS: tuple[Model, ...] = (
    Model(
        1201,
        "ByteDance",
        "text-to-video-seedance-v1",
        "Videos of 5 or 10 seconds from a text, in 480p or 720p.",
        ("tool", "text-to-video", "partner", "ByteDance"),
        _seedance_inputs(_PROMPT, resolutions=("480p", "720p"), ratios=_RATIOS),
        _prices(p480="0.10", p720="0.22"),
    ),
    _relative(1202, "text-to-video-seedance-lite-v1", "The lighter Seedance: videos from a text.", _PROMPT),
    _relative(
        1203,
        "image-to-video-seedance-lite-v1",
        "The lighter Seedance: videos from a first frame and, if wanted, a last one.",
        Input("inputImageUrl", "fileinput", required=True),
        _LAST_FRAME,
        _PROMPT,
    ),
    _relative(1204, "seedance-pro-v1", "The larger Seedance.", _FIRST_FRAME, _LAST_FRAME, _PROMPT),
    _relative(1205, "seedance-v1-pro-fast", "The larger Seedance, quicker.", _FIRST_FRAME, _PROMPT),
    _relative(
        1206,
        "seedance-pro-v1.5",
        "The larger Seedance with sound (the local Wiro draws silent films).",
        _FIRST_FRAME,
        _LAST_FRAME,
        _PROMPT,
        pixels_of="1.5",
        more=(_select("generateAudio", "true", "false"),),
    ),
    Model(
        1299,
        "local",
        "echo-text",
        "A toy that says back what it was told: a model without files.",
        ("tool", "llm"),
        (_PROMPT, Input("callbackUrl", "url")),
        (((), "0.01"),),
        video=False,
    ),
    _closed(1298, "members-only", (98, "sign in to run this model")),
    _closed(1297, "not-accessible", (1, "tool-not-accessible")),
)


def find_model(owner: str, project: str) -> Model | None:
    """Return the model of that slug, however it is capitalised; None for an unknown one."""
    slug = f"{owner}/{project}".lower()
    return next((model for model in MODELS if model.slug.lower() == slug), None)
