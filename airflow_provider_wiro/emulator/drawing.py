"""Draws the videos: a program of its own, orders from standard input, MP4s to standard output.

An order is a line of JSON (see ``studio.Order``). The answer is one byte (1 fine, 0 failed), the length as
eight bytes, and the file, or what went wrong. The program ends when its input does, in the middle of a video,
too.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import sys
import tempfile
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

from airflow_provider_wiro.emulator.scenery import Scene
from airflow_provider_wiro.emulator.studio import Order

_NICE = 5
_CRF = "27"
_SMPTE170M = 6


def encode(order: Order) -> bytes:
    """Return the MP4 (H.264, yuv420p, faststart) of an order.

    :param order: the order.
    """
    scene = Scene(order)
    with tempfile.TemporaryDirectory(prefix="wiro-local-") as folder:
        path = Path(folder, "0.mp4")
        # A file, because faststart moves the index to the front in a second pass.
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=order.fps)
            stream.width, stream.height, stream.pix_fmt = order.width, order.height, "yuv420p"
            stream.thread_count = 1
            stream.options = {
                "preset": "ultrafast",
                "crf": _CRF,
                "bf": "0",
                "g": str(order.fps * 5),
                "threads": "1",
            }
            stream.codec_context.colorspace = _SMPTE170M
            stream.time_base = Fraction(1, order.fps)
            frame = av.VideoFrame(order.width, order.height, "yuv420p")
            # As wide as the encoder's own memory, padding included, so that the bytes fit as they are.
            canvas = [Image.new("L", (plane.line_size, plane.height)) for plane in frame.planes]
            for number in range(order.seconds * order.fps):
                scene.draw(number, canvas)
                for plane, picture in zip(frame.planes, canvas, strict=True):
                    plane.update(picture.tobytes())
                frame.pts, frame.time_base = number, Fraction(1, order.fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _orders(lines: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    # Whoever gave the orders is gone.
    os._exit(0)


def main() -> None:
    """Draw what is ordered until the input ends."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICE)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_orders, args=(lines,), daemon=True).start()
    out = sys.stdout.buffer
    while True:
        try:
            fields: dict[str, Any] = json.loads(lines.get())
            fine, body = True, encode(Order(**fields))
        except Exception as problem:  # whatever it is, the order must be answered
            fine, body = False, f"{type(problem).__name__}: {problem}".encode()
        out.write(struct.pack(">?Q", fine, len(body)) + body)
        out.flush()


if __name__ == "__main__":
    main()
