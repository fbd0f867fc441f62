"""The README's picture: one frame of each video of a folder.

python -m scripts.contact_sheet videos/2026-11-23 docs/demo.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
from PIL import Image, ImageOps

COLUMNS = 4
CELL = (320, 200)
GAP = 8
BACKGROUND = (17, 20, 28)


def frame_of(video: Path) -> Image.Image:
    """Return the frame in the middle of a video."""
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
        picture: Image.Image = frames[len(frames) // 2].to_image()  # type: ignore[no-untyped-call]
    return picture


def sheet(videos: list[Path]) -> Image.Image:
    """Return one picture with a frame of each video, in rows of four.

    :param videos: MP4 files.
    """
    rows = -(-len(videos) // COLUMNS)
    size = (COLUMNS * (CELL[0] + GAP) + GAP, rows * (CELL[1] + GAP) + GAP)
    picture = Image.new("RGB", size, BACKGROUND)
    for index, video in enumerate(videos):
        row, column = divmod(index, COLUMNS)
        cell = ImageOps.pad(frame_of(video), CELL, color=BACKGROUND)
        picture.paste(cell, (GAP + column * (CELL[0] + GAP), GAP + row * (CELL[1] + GAP)))
    return picture


if __name__ == "__main__":
    folder, target = sys.argv[1:]
    sheet(sorted(Path(folder).glob("*.mp4"))).save(target, quality=82, optimize=True)
