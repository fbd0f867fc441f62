"""Small MP4s, box by box: what tests need is what a file says of itself, not what it shows."""

from __future__ import annotations


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4) + kind + body


def u16(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2) for number in numbers)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4) for number in numbers)


def film(
    width: int = 864,
    height: int = 480,
    seconds: float = 5.0,
    fps: float = 24.0,
    *,
    frames: int | None = None,
    codec: bytes = b"avc1",
    turned: bool = False,
    index_first: bool = True,
    handler: bytes = b"vide",
    media: bytes = bytes(range(256)) * 40,
) -> bytes:
    """Return a whole MP4 that claims to be such a video."""
    scale = 12_288
    count = round(seconds * fps) if frames is None else frames
    matrix = u32(0, 0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000) if turned else u32(
        0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000
    )  # fmt: skip
    ticks = round(count / fps * scale)
    sample = box(codec, bytes(6), u16(1), bytes(16), u16(width, height), bytes(50))
    table = box(
        b"stbl", box(b"stsd", u32(0, 1), sample), box(b"stts", u32(0, 1, count, round(scale / fps)))
    )  # fmt: skip
    track = box(
        b"trak",
        box(b"tkhd", u32(0, 0, 0, 1, 0, ticks), bytes(16), matrix, u32(width << 16, height << 16)),
        box(
            b"mdia",
            box(b"mdhd", u32(0, 0, 0, scale, ticks, 0)),
            box(b"hdlr", u32(0, 0), handler, bytes(13)),
            box(b"minf", table),
        ),
    )
    index = box(b"moov", box(b"mvhd", u32(0, 0, 0, 1000, round(count / fps * 1000)), bytes(80)), track)
    data = box(b"mdat", media)
    start = box(b"ftyp", b"isom", u32(512), b"isomiso2avc1mp41")
    return start + (index + data if index_first else data + index)
