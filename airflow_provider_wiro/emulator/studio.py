"""Where the videos are drawn: a queue in this process, the pen in another one.

The other process (``drawing.py``) is niced and reads its orders from a pipe. It ends when the pipe does,
so it outlives nobody: not a server that stops, nor one that is killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_ROOT = str(Path(__file__).parents[2])
_NEEDED = {"av": "PyAV", "PIL": "Pillow"}
_ENOUGH_TO_DIE = 3.0
_REMEMBERED = 256


class MissingLibraryError(ImportError):
    """PyAV or Pillow is not installed."""


def require_libraries() -> None:
    """Make sure that videos can be drawn.

    :raises MissingLibraryError: says what to install.
    """
    missing = [title for name, title in _NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise MissingLibraryError(
            f"The local Wiro draws its videos with {names}, which is not installed. "
            'Please run: pip install "airflow-provider-wiro[emulator]"'
        )


@dataclass(frozen=True)
class Order:
    """What is to be drawn. Equal orders give equal files."""

    prompt: str
    seed: int
    width: int
    height: int
    seconds: int
    fps: int
    watermark: bool = False
    camera_fixed: bool = False


@dataclass
class Drawing:
    """A video that is ready, or will be."""

    data: bytes | None = None
    drawn_at: float | None = None
    problem: str = ""


class Studio:
    """Draws one video after another; what was drawn is not drawn again."""

    def __init__(self) -> None:
        """Prepare; the other process starts with the first order."""
        self._drawings: dict[Order, Drawing] = {}
        self._orders: queue.SimpleQueue[tuple[Order, Drawing] | None] = queue.SimpleQueue()
        self._pen: subprocess.Popen[bytes] | None = None
        self._clerk: threading.Thread | None = None
        self._lock = threading.Lock()

    def draw(self, order: Order) -> Drawing:
        """Return the drawing of an order: one that is there, or one that fills in later.

        :param order: what to draw.
        """
        with self._lock:
            if order not in self._drawings or self._drawings[order].problem:
                self._drawings[order] = drawing = Drawing()
                self._orders.put((order, drawing))
                self._drop_oldest()
            if self._clerk is None:
                work = threading.Thread(target=self._work, args=(self._orders,), name="wiro-studio", daemon=True)
                self._clerk = work
                work.start()
            return self._drawings[order]

    def _drop_oldest(self) -> None:
        # A task keeps its own drawing; this only bounds what is kept for a second order of the same.
        if len(self._drawings) > _REMEMBERED:
            oldest = next(iter(self._drawings))
            if self._drawings[oldest].drawn_at is not None:
                del self._drawings[oldest]

    def close(self) -> None:
        """End the other process. Finished drawings stay, unfinished ones are forgotten; more may be drawn."""
        with self._lock:
            clerk, self._clerk = self._clerk, None
            self._drawings = {order: drawing for order, drawing in self._drawings.items() if drawing.data}
            orders, self._orders = self._orders, queue.SimpleQueue()
            with contextlib.suppress(queue.Empty):
                while True:
                    orders.get_nowait()
            orders.put(None)
            if self._pen is not None:
                # Half a video is of no use to anybody.
                self._pen.kill()
        if clerk is not None:
            clerk.join(_ENOUGH_TO_DIE)

    def _work(self, orders: queue.SimpleQueue[tuple[Order, Drawing] | None]) -> None:
        try:
            while (job := orders.get()) is not None:
                order, drawing = job
                try:
                    drawing.data = self._ask(order)
                except (OSError, EOFError, RuntimeError) as problem:
                    drawing.problem = f"The video could not be drawn: {problem}"
                drawing.drawn_at = time.time()
        finally:
            self._lay_down_pen()

    def _ask(self, order: Order) -> bytes:
        pen = self._take_pen()
        assert pen.stdin is not None
        assert pen.stdout is not None
        try:
            pen.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            pen.stdin.flush()
            head = pen.stdout.read(9)
            if len(head) < 9:
                raise EOFError("the drawing process has ended")
            fine, size = struct.unpack(">?Q", head)
            body = pen.stdout.read(size)
            if len(body) < size:
                raise EOFError("the drawing process has ended")
        except (OSError, EOFError):
            self._lay_down_pen()
            raise
        if not fine:
            raise RuntimeError(body.decode(errors="replace"))
        return body

    def _take_pen(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pen is None:
                # The package may be found here for reasons that do not reach another process.
                path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
                self._pen = subprocess.Popen(
                    [sys.executable, "-P", "-m", "airflow_provider_wiro.emulator.drawing"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": path},
                    # Ctrl-C is for the server, which then ends this.
                    process_group=0,
                )
            return self._pen

    def _lay_down_pen(self) -> None:
        with self._lock:
            pen, self._pen = self._pen, None
        if pen is not None:
            pen.kill()
            pen.communicate()
