"""What the demo's videos turned out to be, held against what their manifests say was ordered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import av

from airflow_provider_wiro.emulator.catalogue import find_model, pixels

# Wiro's documentation warns of a clip that is a frame longer than ordered.
FRAMES_TOO_MANY = 1


@dataclass(frozen=True)
class Shape:
    """The measures of a video: pixels, frames, and frames per second."""

    width: int
    height: int
    frames: int
    fps: int

    @property
    def seconds(self) -> float:
        """How long the video plays."""
        return self.frames / self.fps

    @property
    def pixels(self) -> str:
        """Width and height as a person writes them."""
        return f"{self.width}×{self.height}"

    def faults(self, ordered: Shape) -> list[str]:
        """Return in what this video is not as ordered, in words; nothing if all is well.

        :param ordered: what it should be.
        """
        faults = []
        if self.pixels != ordered.pixels:
            faults.append(f"{self.pixels} instead of {ordered.pixels}")
        if self.fps != ordered.fps:
            faults.append(f"{self.fps} fps instead of {ordered.fps}")
        if not 0 <= self.frames - ordered.frames <= FRAMES_TOO_MANY:
            faults.append(f"{self.frames} frames instead of {ordered.frames}")
        return faults


@dataclass(frozen=True)
class Video:
    """One video of the batch, and what is wrong with it (nothing, usually)."""

    file: Path
    prompt: str
    cost: Decimal
    made: Shape | None
    faults: Sequence[str]


def ordered_shape(model: str, inputs: Mapping[str, str]) -> Shape:
    """Return what a run's inputs ask for.

    :param model: the model's slug, ``owner/project``.
    :param inputs: its inputs as they were sent.
    :raises LookupError: if the local Wiro has no such model.
    """
    known = find_model(*model.split("/", 1))
    if known is None:
        raise LookupError(f"the local Wiro has no model {model}")
    width, height = pixels(known.pixels_of, inputs["resolution"], inputs["ratio"])
    fps = int(inputs["fps"])
    return Shape(width, height, int(inputs["duration"]) * fps, fps)


def probe(file: Path) -> Shape:
    """Read a video through, frame by frame, and return its measures.

    :param file: the video.
    :raises av.error.FFmpegError: if it cannot be decoded.
    :raises ValueError: if it has no video stream, or none that tells its speed.
    """
    with av.open(str(file)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        stream = container.streams.video[0]
        if stream.average_rate is None:
            raise ValueError("no frame rate")
        frames = sum(1 for _ in container.decode(stream))
        return Shape(stream.width, stream.height, frames, round(float(stream.average_rate)))


def local_path(uri: str) -> Path:
    """Return the file that a ``file://`` address or a plain path means.

    :param uri: the address.
    """
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(uri)


def read_videos(manifests: Iterable[str]) -> list[Video]:
    """Probe every video that the manifests name.

    :param manifests: their addresses.
    """
    return [video for uri in manifests for video in _videos_of(local_path(uri))]


def _videos_of(file: Path) -> list[Video]:
    manifest: dict[str, Any] = json.loads(file.read_text())
    inputs = manifest["inputs"]
    ordered = ordered_shape(manifest["model"], inputs)
    videos = []
    for position, item in enumerate(manifest["files"]):
        path = local_path(item["uri"])
        made, faults = _judge(path, ordered)
        # what a run costs is told once, however many files it gave
        cost = Decimal(manifest["total_cost"]) if position == 0 else Decimal(0)
        videos.append(Video(path, inputs["prompt"], cost, made, faults))
    return videos


def _judge(file: Path, ordered: Shape) -> tuple[Shape | None, list[str]]:
    try:
        made = probe(file)
    except (OSError, ValueError) as error:  # FFmpeg's errors are either
        return None, [f"unreadable: {error}"]
    return made, made.faults(ordered)


def dollars(amount: Decimal) -> str:
    """Return an amount with its cents, and with more digits only where it has more.

    :param amount: USD.
    """
    return f"${amount.quantize(Decimal('0.01')) if amount == round(amount, 2) else amount:f}"


def table(videos: Sequence[Video], prompt_width: int = 44) -> str:
    """Return the videos as lines of text, one each and the sum below.

    :param videos: what to show.
    :param prompt_width: how many characters of a prompt are shown; 44 by default.
    """
    rows = [("file", "prompt", "pixels", "seconds", "cost", "")]
    for video in videos:
        prompt = " ".join(video.prompt.split())
        prompt = prompt if len(prompt) <= prompt_width else prompt[: prompt_width - 1].rstrip() + "…"
        made = (video.made.pixels, f"{video.made.seconds:.1f}") if video.made else ("?", "?")
        rows.append((video.file.name, prompt, *made, dollars(video.cost), "; ".join(video.faults)))
    total = sum((video.cost for video in videos), Decimal(0))
    rows.append(("", "", "", "", dollars(total), "in total, at the local Wiro's made-up prices"))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column in (3, 4) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
