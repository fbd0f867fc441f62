"""Order videos of the Seedance models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, MODELS, find_model, wire_inputs
from airflow_provider_wiro.exceptions import WiroInputError
from airflow_provider_wiro.operators.wiro import WiroRunOperator
from airflow_provider_wiro.parsing import Later, is_unresolved

INPUTS = (
    "prompt",
    "resolution",
    "ratio",
    "duration",
    "fps",
    "watermark",
    "seed",
    "camera_fixed",
    "callback_url",
    "image_url",
    "last_image_url",
    "generate_audio",
)
_DEFAULT_FPS = 24


class SeedanceRunOperator(WiroRunOperator):
    """Orders one video of a Seedance model; waits for it and fetches it if asked to.

    What it returns and raises is that of :class:`~airflow_provider_wiro.operators.wiro.WiroRunOperator`. The inputs,
    their defaults and options are those of the tool sheet; for its relatives, of Wiro's published n8n nodes. Text,
    whole numbers and booleans are taken where they are unambiguous (``5``, ``"5"``, ``True``, ``"true"``), so that
    templates and tables fit.

    A prompt written into the Dag is a template, as everywhere in Airflow; one that arrives from another task is sent
    as it is.

    :param prompt: what the video shows. (templated)
    :param resolution: ``480p`` or ``720p``; the relatives also ``1080p``; default ``480p``. (templated)
    :param ratio: ``16:9``, ``4:3``, ``1:1``, ``3:4``, ``9:16``, ``21:9`` or ``9:21``; default ``16:9``. (templated)
    :param duration: 5 or 10 seconds; default 5. (templated)
    :param fps: 24 or 16 frames per second; default 24, the only rate of the relatives. (templated)
    :param watermark: whether the video shows one; default False. (templated)
    :param seed: default ``None``: derived from the task instance and its inputs, so that the video is reproducible and
        its Run is known again at Wiro after any crash. A whole number from 0 to 2^32-1, or -1 for a random video, gives
        that strength up: where the outcome of a Run is lost, equal orders cannot be told apart, and a mapped task then
        follows `on_unknown`. (templated)
    :param camera_fixed: whether the camera stands still; default False. (templated)
    :param callback_url: address that Wiro POSTs to when the task ends; default none. (templated)
    :param model: the model; default ``ByteDance/text-to-video-seedance-v1``. (templated)
    :param image_url: address of the first frame, for the relatives that take one; default none. (templated)
    :param last_image_url: address of the last frame, for the relatives that take one; default none. (templated)
    :param generate_audio: whether to make sound, ``ByteDance/seedance-pro-v1.5`` only; default ``None``: Wiro's
        choice. (templated)
    """

    template_fields: Sequence[str] = (*INPUTS, "model", "wiro_conn_id", "destination", "on_unknown", "on_clear")
    template_fields_renderers = {"prompt": "md"}
    custom_operator_name = "Wiro video"

    def __init__(
        self,
        *,
        prompt: Any,
        resolution: Any = "480p",
        ratio: Any = "16:9",
        duration: Any = 5,
        fps: Any = _DEFAULT_FPS,
        watermark: Any = False,
        seed: Any = None,
        camera_fixed: Any = False,
        callback_url: Any = None,
        model: str = DEFAULT_MODEL,
        image_url: Any = None,
        last_image_url: Any = None,
        generate_audio: Any = None,
        **kwargs: Any,
    ) -> None:
        self.prompt = prompt
        self.resolution = resolution
        self.ratio = ratio
        self.duration = duration
        self.fps = fps
        self.watermark = watermark
        self.seed = seed
        self.camera_fixed = camera_fixed
        self.callback_url = callback_url
        self.image_url = image_url
        self.last_image_url = last_image_url
        self.generate_audio = generate_audio
        super().__init__(model=model, inputs={}, **kwargs)
        self.check_inputs({"model": model, **self._inputs()})

    @classmethod
    def check_inputs(cls, arguments: Mapping[str, Any]) -> None:
        """Check the inputs among the arguments, as far as they are known.

        :param arguments: some or all of the operator's arguments; one that is absent is taken to come later.
        :raises WiroInputError: an input is not allowed.
        """
        model = arguments.get("model", DEFAULT_MODEL)
        inputs = {name: arguments.get(name, Later()) for name in INPUTS}
        faults: list[WiroInputError] = []
        candidates = list(MODELS) if is_unresolved(model) else [model]
        for candidate in candidates:
            try:
                wire_inputs(candidate, _without_default_rate(candidate, dict(inputs)), is_unresolved)
            except WiroInputError as fault:
                faults.append(fault)
        # Of a model that is not known yet, only what no model takes is a fault.
        if len(faults) == len(candidates):
            raise faults[0]

    def wire_inputs(self) -> dict[str, Any]:
        """Return the inputs as they are sent; every template is rendered by now.

        :raises WiroInputError: an input is not allowed.
        """
        return dict(wire_inputs(self.model, _without_default_rate(self.model, self._inputs())))

    def _inputs(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in INPUTS}


def _without_default_rate(model: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Leave the default frame rate out for a model that has no such input: it is what that model makes."""
    spec = find_model(model)
    if spec and not spec.frame_rates and str(inputs["fps"]) == str(_DEFAULT_FPS):
        inputs["fps"] = None
    return inputs
