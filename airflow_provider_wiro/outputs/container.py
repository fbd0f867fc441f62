"""What a video file says of itself: the few boxes of an MP4 that tell size, duration, frame rate and codec.

No decoder is needed for that, and none is asked for: whoever fetches videos on a worker wants a small installation.
The layout is that of ISO/IEC 14496-12. Nothing here trusts the file: every length is held against what is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

_LARGEST_INDEX = 64 << 20  # bytes of a `moov` box that are read: an hour of video has some 2 MB
_MOST_BOXES = 1_000_000  # outermost ones: ten hours in fragments of a frame have as many, and a lie has millions


class UnreadableVideoError(ValueError):
    """A file is no whole MP4; the text says why."""


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says of itself; ``None`` where it does not."""

    width: int
    """Pixels, as shown."""
    height: int
    """Pixels, as shown."""
    duration: float | None
    """Seconds."""
    frame_rate: float | None
    """Frames per second, on average."""
    codec: str
    """Four characters, such as ``avc1`` for H.264."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as they go into manifest and XCom."""
        return asdict(self)


@dataclass(frozen=True)
class _Box:
    kind: bytes
    body: memoryview

    def children(self, skip: int = 0) -> Iterator[_Box]:
        """Yield the boxes inside, after as many bytes as `skip` says."""
        rest = self.body[skip:]
        while len(rest) >= 8:
            head, length = 8, int.from_bytes(rest[:4])
            if length == 1 and len(rest) >= 16:
                head, length = 16, int.from_bytes(rest[8:16])
            elif length == 0:
                length = len(rest)
            if not head <= length <= len(rest):
                raise UnreadableVideoError(f"the box {bytes(rest[4:8])!r} does not fit into {self.kind!r}")
            yield _Box(bytes(rest[4:8]), rest[head:length])
            rest = rest[length:]

    def find(self, *path: bytes) -> _Box | None:
        """Return the first box under a path."""
        box: _Box | None = self
        for kind in path:
            if box is None:
                return None
            box = next((child for child in box.children() if child.kind == kind), None)
        return box

    def number(self, start: int, size: int) -> int:
        """Return an unsigned number of the body."""
        if start + size > len(self.body):
            raise UnreadableVideoError(f"the box {self.kind!r} is too short")
        return int.from_bytes(self.body[start : start + size])


def read_video(path: Path) -> VideoFacts:
    """Read what an MP4 or QuickTime file says of its video.

    :param path: the file.
    :raises UnreadableVideoError: it is no such file, it is not whole, or it has no video.
    :raises OSError: it cannot be read.
    """
    with path.open("rb") as file:
        index, has_media = _read_index(file, os.fstat(file.fileno()).st_size)
    for track in index.children():
        handler = track.find(b"mdia", b"hdlr") if track.kind == b"trak" else None
        if handler is not None and bytes(handler.body[8:12]) == b"vide":
            if not has_media:
                raise UnreadableVideoError("it has an index and no media")
            return _read_track(track, index)
    raise UnreadableVideoError("it has no video track")


def _read_index(file: BinaryIO, size: int) -> tuple[_Box, bool]:
    """Walk through a file's outermost boxes, which must fill it; return ``moov``, and whether there are media."""
    position, index, has_media, boxes = 0, None, False, 0
    while position + 8 <= size:
        boxes += 1
        if boxes > _MOST_BOXES:
            raise UnreadableVideoError(f"it has more than {_MOST_BOXES} boxes")
        file.seek(position)
        kind, length, begin = _read_head(file.read(16), size - position)
        if boxes == 1 and kind not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            raise UnreadableVideoError("it does not begin as an MP4 does")
        if not kind.strip(b"\0"):
            break  # padding at the end
        if length < begin or position + length > size:
            raise UnreadableVideoError(f"it ends inside of its box {kind!r}")
        if kind == b"moov" and index is None:
            if length > _LARGEST_INDEX:
                raise UnreadableVideoError(f"its index has {length} bytes, more than a video's has")
            file.seek(position + begin)
            index = _Box(kind, memoryview(file.read(length - begin)))
        has_media = has_media or (kind == b"mdat" and length > begin)
        position += length
    if index is None:
        raise UnreadableVideoError("it has no index (moov)")
    return index, has_media


def _read_head(head: bytes, rest: int) -> tuple[bytes, int, int]:
    """Return a box's kind, its length, of which there are `rest` bytes at most, and where in it the body begins."""
    length = int.from_bytes(head[:4])
    if length == 1:
        return head[4:8], int.from_bytes(head[8:16]), 16
    return head[4:8], length or rest, 8


def _read_track(track: _Box, index: _Box) -> VideoFacts:
    header, entry = track.find(b"mdia", b"mdhd"), track.find(b"mdia", b"minf", b"stbl", b"stsd")
    if header is None or entry is None:
        raise UnreadableVideoError("its video track is not described")
    sample = next(entry.children(skip=8), None)
    if sample is None:
        raise UnreadableVideoError("its video track names no codec")
    width, height = sample.number(24, 2), sample.number(26, 2)
    if not width or not height:
        raise UnreadableVideoError(f"its video has {width}×{height} pixels")
    if _is_turned(track):
        width, height = height, width
    long = header.number(0, 1) == 1
    duration, frames = _seconds(header, 24 if long else 16, header.number(20 if long else 12, 4)), 0
    times = track.find(b"mdia", b"minf", b"stbl", b"stts")
    if index.find(b"mvex") is not None:  # fragments follow, and the track's own words are of what comes before them
        duration = _fragments_duration(index)
    elif times is not None:
        frames = _frames(times)
    return VideoFacts(
        width=width,
        height=height,
        duration=None if duration is None else round(duration, 3),
        frame_rate=round(frames / duration, 3) if frames and duration else None,
        codec=sample.kind.decode("ascii", "replace"),
    )


def _frames(times: _Box) -> int:
    count = times.number(4, 4)
    if 8 + 8 * count > len(times.body):
        raise UnreadableVideoError("its table of times is cut")
    return sum(times.number(8 + 8 * entry, 4) for entry in range(count))


def _is_turned(track: _Box) -> bool:
    """Tell whether the video is shown turned by a quarter."""
    header = track.find(b"tkhd")
    if header is None:
        return False
    matrix = 52 if header.number(0, 1) == 1 else 40
    return header.number(matrix, 4) == 0 and header.number(matrix + 4, 4) != 0


def _fragments_duration(index: _Box) -> float | None:
    """Return the duration that a file in fragments announces, if it does."""
    whole, movie = index.find(b"mvex", b"mehd"), index.find(b"mvhd")
    if whole is None or movie is None:
        return None
    return _seconds(whole, 4, movie.number(20 if movie.number(0, 1) == 1 else 12, 4))


def _seconds(box: _Box, start: int, scale: int) -> float | None:
    """Return the duration that a box has at a place; its version says how wide, and nothing but ones is unknown."""
    size = 8 if box.number(0, 1) == 1 else 4
    ticks = box.number(start, size)
    return ticks / scale if scale and ticks and ticks != (1 << 8 * size) - 1 else None


_STARTS: Mapping[str, tuple[int, tuple[bytes, ...]]] = {
    "video/mp4": (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    "video/quicktime": (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    "video/webm": (0, (b"\x1a\x45\xdf\xa3",)),
    "video/x-matroska": (0, (b"\x1a\x45\xdf\xa3",)),
    "image/png": (0, (b"\x89PNG\r\n\x1a\n",)),
    "image/jpeg": (0, (b"\xff\xd8\xff",)),
    "image/gif": (0, (b"GIF87a", b"GIF89a")),
    "image/webp": (8, (b"WEBP",)),
    "audio/wav": (8, (b"WAVE",)),
    "audio/x-wav": (8, (b"WAVE",)),
}


def is_indexed(content_type: str) -> bool:
    """Tell whether :func:`read_video` reads files of a type."""
    return content_type.partition(";")[0].strip().lower() in ("video/mp4", "video/quicktime")


def contradiction(content_type: str, start: bytes) -> str | None:
    """Return why a file cannot be of its type, or ``None`` where nothing speaks against it.

    :param content_type: as Wiro announces it.
    :param start: the file's first bytes.
    """
    if not start:
        return "it is empty"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return "it is a page, not a file"
    offset, allowed = _STARTS.get(content_type.partition(";")[0].strip().lower(), (0, ()))
    if allowed and not start[offset:].startswith(allowed):
        return f"it does not begin as {content_type} does, but with {start[:12]!r}"
    return None
