"""Order videos of the Seedance models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, MODELS, find_model, wire_inputs
from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroInputError
from airflow_provider_wiro.links import WiroVideoLink
from airflow_provider_wiro.operators._elsewhere import seconds
from airflow_provider_wiro.operators._many import OrdersMany
from airflow_provider_wiro.operators.wiro import WiroRunOperator
from airflow_provider_wiro.parsing import Later, amount_of, check_destination, check_verify, is_unresolved
from airflow_provider_wiro.templating import DataFromOtherTasks
from airflow_provider_wiro.waiting import default_deferrable

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
# Of what a video of a batch leaves out: as SeedanceRunOperator's.
_DEFAULTS = {
    "resolution": "480p",
    "ratio": "16:9",
    "duration": 5,
    "fps": _DEFAULT_FPS,
    "watermark": False,
    "camera_fixed": False,
}
_MOST_FAULTS = 20
_BATCH_DOC_MD = """\
Makes many videos at [Wiro](https://wiro.ai) in one task. The XCom `return_value` holds the sums and the address of the
manifest, a file with a line for each video.
"""


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

    template_fields: Sequence[str] = (
        *INPUTS,
        "model",
        "wiro_conn_id",
        "destination",
        "verify",
        "on_unknown",
        "on_clear",
        "max_cost",
    )
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


class SeedanceBatchOperator(DataFromOtherTasks, OrdersMany):
    """Makes many videos in one task, for volumes where a task instance for each would be too dear.

    Every video is an order of its own, made once whatever crashes, as by
    :class:`~airflow_provider_wiro.operators.wiro.WiroRunOperator`; as many run at a time as the account admits. All
    wait in one trigger. A video that fails stops no other, and a retry makes only what is missing. The files are those
    of :class:`~airflow_provider_wiro.operators.wiro.WiroFetchOutputsOperator`; beside them is the manifest
    ``batch-<run id>-<task id>.jsonl``, with a line of JSON for each video: ``index`` in `videos`, ``status``
    (``succeeded`` or ``failed``), ``wiro_task_id``, ``model``, ``inputs``, ``submitted_at``, ``total_cost``,
    ``elapsed_seconds``, ``files``, ``error``. It returns ``manifest`` (its address), ``videos``, ``succeeded``,
    ``failed``, ``total_cost`` (US dollars, decimal string) and ``failures``, the first 20 of them with ``index`` and
    ``error``; where the task fails, the same is the XCom ``batch``.

    :param videos: a mapping for each video: inputs of :class:`SeedanceRunOperator` (``prompt``, ``resolution``, …) and
        perhaps its ``model``; what is left out has the defaults given there. (templated)
    :param destination: folder for the files, as for
        :class:`~airflow_provider_wiro.operators.wiro.WiroFetchOutputsOperator`. (templated)
    :param model: the model of the videos that name none; default ``ByteDance/text-to-video-seedance-v1``. (templated)
    :param verify: whether a video has to be whole and as ordered, as for
        :class:`~airflow_provider_wiro.operators.wiro.WiroFetchOutputsOperator`: ``container`` (default) or ``none``.
        (templated)
    :param delete_remote: whether a video's files are deleted at Wiro once they are stored; default False.
    :param reuse: whether a video whose model and inputs are equal to one that has been delivered to the same
        `destination` before is taken from there and not paid again; default False. Its line has ``reused_from``.
    :param min_success_ratio: which share of the videos must succeed for the task to, from 0 to 1; default 1.
    :param wiro_conn_id: the connection; default ``wiro_default``. (templated)
    :param deferrable: wait in the triggerer and not on a worker; default True, or what the environment variable
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` says.
    :param poll_interval: seconds (or a timedelta) between two looks while a video may end at any moment; default 15.
    :param max_poll_interval: seconds (or a timedelta) between two looks while none is expected to end; default: four
        times `poll_interval`.
    :param timeout: seconds (or a timedelta) from a video's submission until the waiting for it ends; default 3600. So
        long, too, the batch waits for a place in the account from the last one that it got.
    :param cancel_on_kill: whether the remote tasks are stopped when somebody ends this Airflow task; default True.
    :param cancel_on_timeout: whether a remote task is stopped when `timeout` has passed; default True.
    :param on_unknown: as for :class:`~airflow_provider_wiro.operators.wiro.WiroRunOperator`; default ``fail``, here
        only the video. (templated)
    :param on_clear: as there; default ``reattach``. (templated)
    :param settle: as there; default 60.
    :param max_cost: US dollars that all videos together may cost, but for those that `reuse` answers; as there, and
        asked once before the first Run; default ``None``: anything. (templated)
    :raises WiroInputError: a video's inputs are not allowed; every fault is listed, and nothing is sent.
    :raises WiroCostError: the videos would cost more than `max_cost`, or that cannot be known; nothing was sent.
    :raises WiroBatchError: too few videos succeeded; a retry makes what is missing.
    :raises WiroStoreError: Airflow's task state store does not answer; nothing is sent after that.
    :raises AirflowFailException: in place of any error that a retry cannot mend; its text begins with the error's name.
    """

    template_fields: Sequence[str] = (
        "videos",
        "destination",
        "verify",
        "model",
        "wiro_conn_id",
        "on_unknown",
        "on_clear",
        "max_cost",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"videos": "json"}
    operator_extra_links = (WiroVideoLink(),)
    custom_operator_name = "Wiro batch"
    ui_color = "#d9c7f7"

    def __init__(
        self,
        *,
        videos: Any,
        destination: str,
        model: str = DEFAULT_MODEL,
        min_success_ratio: float = 1.0,
        verify: str = "container",
        delete_remote: bool = False,
        reuse: bool = False,
        wiro_conn_id: str = "wiro_default",
        deferrable: bool = default_deferrable(),
        poll_interval: float | timedelta = 15.0,
        max_poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = 3600.0,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        on_unknown: str = "fail",
        on_clear: str = "reattach",
        settle: float | timedelta = 60.0,
        max_cost: Decimal | float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"doc_md": _BATCH_DOC_MD, **kwargs})
        self.videos = videos
        self.destination = destination
        self.verify = verify
        self.delete_remote = delete_remote
        self.reuse = reuse
        self.model = model
        self.min_success_ratio = min_success_ratio
        self.wiro_conn_id = wiro_conn_id
        self.deferrable = deferrable
        self.poll_interval = seconds(poll_interval)
        self.max_poll_interval = None if max_poll_interval is None else seconds(max_poll_interval)
        self.timeout = seconds(timeout)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_unknown = on_unknown
        self.on_clear = on_clear
        self.settle = seconds(settle)
        self.max_cost = max_cost
        self.check_arguments(
            videos=videos,
            destination=destination,
            model=model,
            min_success_ratio=min_success_ratio,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            timeout=timeout,
            settle=settle,
            max_cost=max_cost,
            on_unknown=on_unknown,
            on_clear=on_clear,
            verify=verify,
        )

    @classmethod
    def check_arguments(cls, **arguments: Any) -> None:
        """Check the arguments that are known when the Dag is parsed.

        :param arguments: some or all of the operator's arguments.
        :raises WiroConfigurationError: one of them is not allowed.
        """
        cls.check_seconds(arguments)
        cls.check_policies(arguments.get("on_unknown", "fail"), arguments.get("on_clear", "reattach"))
        check_verify(arguments.get("verify", "container"))
        amount_of("max_cost", arguments.get("max_cost"))
        check_destination(arguments.get("destination"), needed="destination" in arguments)
        ratio = arguments.get("min_success_ratio", 1.0)
        is_number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
        if not isinstance(ratio, Later) and not (is_number and 0 <= ratio <= 1):
            raise WiroConfigurationError(f"min_success_ratio is {ratio!r}, allowed: a number from 0 to 1.")
        videos = arguments.get("videos", Later())
        if not is_unresolved(videos):
            wire_videos(videos, arguments.get("model", DEFAULT_MODEL), is_unresolved)

    def wire_videos(self) -> list[tuple[str, dict[str, Any]]]:
        """Return model and inputs of every video, as they are sent; every template is rendered by now.

        :raises WiroInputError: a video's inputs are not allowed; every fault is listed.
        """
        return wire_videos(self.videos, self.model)


def wire_videos(
    videos: Any, default_model: Any, unresolved: Callable[[Any], bool] = lambda value: False
) -> list[tuple[str, dict[str, Any]]]:
    """Return model and inputs of videos, as they are sent.

    :param videos: a mapping of inputs for each, perhaps with its ``model``.
    :param default_model: the model of those that name none.
    :param unresolved: tells what comes later and is not checked; default: nothing.
    :raises WiroConfigurationError: it is no list of them.
    :raises WiroInputError: inputs are not allowed; every fault is listed.
    """
    if not isinstance(videos, Sequence) or isinstance(videos, (str, bytes)):
        raise WiroConfigurationError(f"videos is {type(videos).__name__}, allowed: a list of mappings.")
    wire: list[tuple[str, dict[str, Any]]] = []
    faults: list[str] = []
    for index, video in enumerate(videos):
        if unresolved(video):
            continue
        if not isinstance(video, Mapping):
            faults.append(f"videos[{index}] is {video!r}, allowed: a mapping of inputs")
            continue
        model = video.get("model") or default_model
        inputs = {**_DEFAULTS, **{name: value for name, value in video.items() if name != "model"}}
        if unresolved(model):
            continue
        try:
            wire.append((str(model), dict(wire_inputs(model, _without_default_rate(model, inputs), unresolved))))
        except WiroInputError as error:
            faults += [f"videos[{index}]: {fault}" for fault in error.faults]
    if faults:
        more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        raise WiroInputError(str(default_model), [*faults[:_MOST_FAULTS], *more])
    return wire
