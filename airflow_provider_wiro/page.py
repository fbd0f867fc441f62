"""What the page "Videos" in Airflow's UI is told: small XComs beside the one that a task returns.

They are for looking at, and nothing else reads them: one that cannot be pushed is logged, and fails nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk.exceptions import AirflowRescheduleException, AirflowTaskTimeout

from airflow_provider_wiro.exceptions import WiroError, WiroTaskCancelledError
from airflow_provider_wiro.links import WiroVideoLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_wiro.waiting import Log

ORDER_KEY = "wiro_video"
"""The XCom of who orders: what was ordered, and that it is being made."""
END_KEY = "wiro_video_end"
"""The XCom of who learns how it ended."""
BATCH_KEY = "wiro_videos_"
"""The XComs of a batch, numbered: of each, as many videos as :data:`PER_VALUE`."""
PER_VALUE = 64
PREVIEW_KEY = "wiro_video_preview"
"""The XCom of who made a moving picture of a video."""

# By their names on the wire. A list of what is shown, not of what is hidden: an input of some other model may be a
# secret, and an address may hold one.
_SHOWN = (
    "prompt",
    "negativePrompt",
    "resolution",
    "ratio",
    "aspectRatio",
    "duration",
    "fps",
    "seed",
    "watermark",
    "cameraFixed",
    "generateAudio",
    "width",
    "height",
    "style",
)
_LONGEST = 5000  # characters of an input; Wiro takes longer prompts than anybody reads on a page
_ENDED = ("wiro_task_id", "model", "total_cost", "elapsed_seconds", "reused_from")
_OF_FILE = ("uri", "name", "size", "content_type", "video")


def media_address(place: Mapping[str, Any], key: str, item: int | None, file: int) -> str:
    """Return the address of a file's bytes, relative to the UI's base address: it names a task instance, no path.

    :param place: ``dag_id``, ``run_id``, ``task_id`` and ``map_index`` of the task instance that told of the file.
    :param key: the XCom in which it did.
    :param item: in a batch, the position of the video, else ``None``.
    :param file: the position of the file.
    """
    position = {} if item is None else {"item": item}
    return f"wiro/media?{urlencode({**place, 'key': key, **position, 'file': file})}"


def shown_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those inputs that the page shows.

    :param inputs: by name on the wire.
    """
    plain = {name: inputs[name] for name in _SHOWN if isinstance(inputs.get(name), (str, int, float))}
    return {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in plain.items()}


def order_of(model: str, inputs: Mapping[str, Any], status: str, **more: Any) -> dict[str, Any]:
    """Return what is told of an order.

    :param model: ``owner/name``.
    :param inputs: as they are sent.
    :param status: ``queued`` or ``running``.
    :param more: ``wiro_task_id``, ``url``, ``ordered_at`` (unix time in seconds), as far as they are known.
    """
    return {"status": status, "model": model, "inputs": shown_inputs(inputs), **more}


def end_of(facts: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is told of a task that has succeeded.

    :param facts: what the Airflow task returns of it.
    :param inputs: as Wiro echoes them, where nobody here has ordered it.
    """
    told: dict[str, Any] = {"status": "succeeded", **{name: facts[name] for name in _ENDED if name in facts}}
    if "reused_from" in facts:
        del told["wiro_task_id"]  # that task is another order's
    told["outputs"] = [output for output in facts.get("outputs", ()) if output.get("url")][:1]
    told["files"] = [{name: file[name] for name in _OF_FILE if name in file} for file in facts.get("files", ())]
    return told | ({"inputs": shown_inputs(inputs)} if inputs else {})


def failure_of(error: BaseException, wiro_task_id: str | None) -> dict[str, Any]:
    """Return what is told of a video that will not come.

    :param error: why.
    :param wiro_task_id: its task, where there is one.
    """
    status = "cancelled" if isinstance(error, WiroTaskCancelledError) else "failed"
    why = error.message if isinstance(error, WiroError) else f"{type(error).__name__}: {error}"
    return {"status": status, "wiro_task_id": wiro_task_id, "error": why[:1000]}


def tell(context: Context, log: Log, key: str, value: Any) -> None:
    """Push one of these XComs; where a video can be seen now, the button that leads to it as well.

    :param context: Airflow's context.
    :param log: is told where it cannot be pushed.
    :param key: of the XCom.
    :param value: see above.
    """
    try:
        context["ti"].xcom_push(key=key, value=value)
        if key.startswith(BATCH_KEY) or value["status"] == "succeeded":
            link = WiroVideoLink()
            context["ti"].xcom_push(key=link.xcom_key, value=link.address(context["ti"]))
    except Exception as error:
        log.warning("The page of videos is not told (%s): %s: %s", key, type(error).__name__, error)


@contextmanager
def failures_told(context: Context, log: Log, wiro_task_id: Callable[[], str | None]) -> Iterator[None]:
    """Tell of whatever ends a task here.

    :param context: Airflow's context.
    :param log: see :func:`tell`.
    :param wiro_task_id: returns the Wiro task, where one is known by then.
    """
    try:
        yield
    except AirflowRescheduleException:
        raise
    except (Exception, AirflowTaskTimeout) as error:
        tell(context, log, END_KEY, failure_of(error, wiro_task_id()))
        raise


def tell_batch(context: Context, log: Log, changed: Mapping[int, Mapping[str, Any]], *, anew: bool) -> None:
    """Tell of those videos of a batch of which there is something new.

    :param context: Airflow's context.
    :param log: see :func:`tell`.
    :param changed: what is told of each, by its index.
    :param anew: whether nothing that was told before stands.
    """
    ti = context["ti"]
    for number in sorted({index // PER_VALUE for index in changed}):
        key, first = f"{BATCH_KEY}{number}", number * PER_VALUE
        known: dict[int, Any] = {}
        if not anew:
            try:
                stands = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=key)
                known = {video["index"]: video for video in stands or ()}
            except Exception as error:
                log.warning("What the page of videos was told cannot be read: %s: %s", type(error).__name__, error)
        known |= {i: {**known.get(i, {}), **changed[i], "index": i} for i in changed if i // PER_VALUE == number}
        tell(context, log, key, [known[index] for index in sorted(known) if first <= index < first + PER_VALUE])
