"""Is it what was ordered? A video's own words held against the order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_wiro.api.seedance import OrderedVideo, ordered_video
from airflow_provider_wiro.outputs.container import VideoFacts

# What is taken for the size that was ordered: Wiro passes the order on, and its models round.
_PIXELS, _RATIO = 0.15, 0.05
_SECONDS, _FRAMES = 0.5, 1.0


def differences(model: str, inputs: Mapping[str, Any], video: VideoFacts) -> tuple[list[str], list[str]]:
    """Compare a video with its order.

    :param model: ``owner/name``; a model that is not of the Seedance family orders nothing that can be compared.
    :param inputs: the order's inputs, by name on the wire.
    :param video: what the file says of itself.
    :return: what is not as ordered, and what is only a little off; each with both values.
    """
    ordered = ordered_video(model, inputs)
    if ordered is None:
        return [], []
    wrong, near = _pixels(ordered, video)
    for name, wanted, got, off, unit in (
        ("duration", ordered.duration, video.duration, _SECONDS, " s"),
        ("fps", ordered.frame_rate, video.frame_rate, _FRAMES, ""),
    ):
        if wanted is not None and got is not None and abs(got - wanted) > off:
            wrong.append(f"{name}: ordered {wanted:g}{unit}, the file has {got:g}{unit}")
    return wrong, near


def _pixels(ordered: OrderedVideo, video: VideoFacts) -> tuple[list[str], list[str]]:
    if ordered.pixels is None or ordered.pixels == (video.width, video.height):
        return [], []
    width, height = ordered.pixels
    said = f"pixels: ordered {width}×{height}, the file has {video.width}×{video.height}"
    area = video.width * video.height / (width * height)
    ratio = (video.width / video.height) / (width / height)
    close = abs(area - 1) <= _PIXELS and abs(ratio - 1) <= _RATIO
    return ([], [said]) if close else ([said], [])
