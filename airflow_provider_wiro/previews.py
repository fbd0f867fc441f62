"""A small moving picture of a video, for the places in Airflow's UI that show pictures but no players.

Such a place is the question that a person answers (``HITLOperator``): its text may have pictures in it. Making them
needs the extra ``previews``: PyAV looks into the video, Pillow draws the animated WebP.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroOutputError
from airflow_provider_wiro.links import WiroVideoLink
from airflow_provider_wiro.page import PREVIEW_KEY, media_address

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath
    from av import VideoFrame
    from av.container import InputContainer
    from PIL.Image import Image

LONGER_SIDE = 240
"""Pixels of a preview's longer side."""
MOST_BYTES = 60_000
"""A preview is smaller than this."""
_SECONDS = 3
_RATE = 8  # pictures a second
_MOST_PACKETS = 1000  # three seconds have a few hundred, even of a quick camera
# A playlist would name other files and hosts, and few bytes may claim a picture that no memory holds.
_OPENS_ONLY = {"format_whitelist": "mov,matroska"}
_DECODES_ONLY = {"max_pixels": str(32 << 20)}
# Each smaller than the one before: one of how many pictures is kept, and in which quality (of 100).
_ATTEMPTS = ((1, 70), (1, 45), (1, 25), (2, 25), (3, 10))
_SHRINK = (1, 2, 4)


class _Picture(NamedTuple):
    """A moment of the video."""

    at: float
    """Milliseconds after the first."""
    image: Image


def make_preview(source: str | PathLike[str], destination: str | PathLike[str] | None = None) -> dict[str, Any]:
    """Make an animated WebP of the first three seconds of a video, at most 240 pixels wide and high.

    It appears whole or not at all, as ``<name of the video>.preview.webp``; making it again replaces it.

    :param source: the video (MP4, QuickTime, WebM, Matroska): a local path, or an address that Airflow's object storage
        understands, such as ``files[0]["uri"]`` of what a fetch returns.
    :param destination: the folder of the preview, a path or an address; default: the video's.
    :return: ``uri``, ``name``, ``size`` in bytes (less than 60,000) and ``content_type`` of the preview.
    :raises WiroConfigurationError: the extra is not installed, or an argument cannot be used.
    :raises WiroOutputError: the video cannot be read, or the preview cannot be written.
    """
    _check_extra()
    # Not above: they bring the network with them, and whoever writes a Dag imports this module.
    from airflow_provider_wiro.outputs.store import open_folder, publish, staging, write_staged

    if not isinstance(source, (str, PathLike)) or not str(source).strip("/ "):
        raise WiroConfigurationError(f"source is {source!r}, allowed: the path or address of a video.")
    video = open_folder(source, "source")
    folder = video.parent if destination is None else open_folder(destination)
    path = folder / f"{video.stem}.preview.webp"
    content = next(each for each in _encoded(_read(video)) if len(each) < MOST_BYTES)
    with staging(folder, None) as place:
        write_staged(place / path.name, content)
        publish(place / path.name, path, None)
    return {"uri": str(path), "name": path.name, "size": len(content), "content_type": "image/webp"}


def show_preview(video: Mapping[str, Any], destination: str | PathLike[str] | None = None) -> dict[str, Any]:
    """Make a preview inside an Airflow task, and let Airflow's UI show it.

    The api-server reads it from where the option ``[wiro] ui_media_roots`` allows; without that, nothing is shown.

    :param video: what the task that fetched the video has returned.
    :param destination: see :func:`make_preview`.
    :return: ``wiro_task_id``, ``files`` (the preview, as :func:`make_preview` returns it) and two addresses for
        Markdown in Airflow's UI: ``image``, the preview, and ``watch``, the page that plays the video.
    :raises WiroConfigurationError: as :func:`make_preview`.
    :raises WiroOutputError: as :func:`make_preview`, or nothing was fetched that is a video.
    """
    from airflow.sdk import get_current_context

    files = [file for file in video.get("files") or () if str(file.get("content_type")).startswith("video/")]
    wiro_task_id = video.get("wiro_task_id")
    if not files:
        raise WiroOutputError(
            "No fetched file is a video.",
            wiro_task_id=wiro_task_id,
            retryable=False,
            advice="Give what a task with a destination, or WiroFetchOutputsOperator, has returned.",
        )
    told = {"wiro_task_id": wiro_task_id, "files": [make_preview(files[0]["uri"], destination)]}
    ti: Any = get_current_context()["ti"]
    ti.xcom_push(key=PREVIEW_KEY, value=told)
    place = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    return {**told, "image": media_address(place, PREVIEW_KEY, None, 0), "watch": WiroVideoLink.address(ti)}


def _check_extra() -> None:
    try:
        import av  # noqa: F401
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise WiroConfigurationError(
            f"Previews need PyAV and Pillow ({error}).",
            advice='Install them where the task runs: pip install "airflow-provider-wiro[previews]"',
        ) from error


def _read(video: ObjectStoragePath) -> list[_Picture]:
    """Return the pictures of the first seconds, as small as they will be shown."""
    import av

    try:
        with (
            video.open("rb") as file,  # type: ignore[no-untyped-call]
            av.open(file, options=_OPENS_ONLY | _DECODES_ONLY) as container,
        ):
            pictures = _chosen(_frames(container))
    except Exception as error:  # every store has errors of its own, and so has every way to be no video
        raise WiroOutputError(
            f"{video} cannot be read as a video: {type(error).__name__}: {error}.",
            retryable=not isinstance(error, av.FFmpegError),
            advice="Is it a whole video? WiroFetchOutputsOperator fetches it again.",
        ) from error
    if not pictures:
        raise WiroOutputError(f"{video} has no pictures in it.", retryable=False, advice="Is it a video?")
    return pictures


def _frames(container: InputContainer) -> Iterator[VideoFrame]:
    for stream in container.streams.video[:1]:
        stream.codec_context.options = _DECODES_ONLY
        for packet in islice(container.demux(stream), _MOST_PACKETS):
            yield from packet.decode()


def _chosen(frames: Iterator[VideoFrame]) -> list[_Picture]:
    """Return eight pictures of each second, until there are enough."""
    found: list[_Picture] = []
    began, latest = 0.0, -1
    for number, frame in enumerate(islice(frames, _MOST_PACKETS)):
        at = number / 24 if frame.time is None else frame.time
        began = began if found else at
        slot = int((at - began) * _RATE + 0.01)
        if slot >= _SECONDS * _RATE:
            break
        if slot > latest:
            latest = slot
            found.append(_Picture((at - began) * 1000, _small(frame)))
    return found


def _small(frame: VideoFrame) -> Image:
    """Return a frame as a small picture; it is never a large one in between."""
    longer = max(frame.width, frame.height, LONGER_SIDE)
    width, height = (max(2, round(side * LONGER_SIDE / longer)) for side in (frame.width, frame.height))
    image: Image = frame.reformat(width, height, "rgb24", interpolation="AREA").to_image()  # type: ignore[no-untyped-call]
    return image


def _encoded(pictures: list[_Picture]) -> Iterator[bytes]:
    """Yield animations, each smaller than the one before."""
    for shrink in _SHRINK:
        for every, quality in _ATTEMPTS:
            kept = pictures[::every]
            ends = [picture.at for picture in kept[1:]] + [pictures[-1].at + 1000 / _RATE]
            images = [picture.image.reduce(shrink) for picture in kept]
            buffer = io.BytesIO()
            images[0].save(
                buffer,
                "WEBP",
                save_all=True,
                append_images=images[1:],
                duration=[round(end - picture.at) for picture, end in zip(kept, ends, strict=True)],
                loop=0,
                quality=quality,
                method=4,
            )
            yield buffer.getvalue()
