from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import av
import pytest

from scripts.demo_report import Shape, dollars, local_path, ordered_shape, probe, read_videos, table

MODEL = "ByteDance/text-to-video-seedance-v1"
INPUTS = {
    "prompt": "A fox\ncrosses  the snow",
    "resolution": "480p",
    "ratio": "1:1",
    "duration": "5",
    "fps": "16",
}
ORDERED = Shape(640, 640, 80, 16)


def draw(file: Path, shape: Shape) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=shape.fps, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, "yuv420p"
        frame = av.VideoFrame(shape.width, shape.height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for number in range(shape.frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_manifest(folder: Path, file: Path, number: int = 1) -> str:
    manifest = folder / f"{number}.json"
    item = {"uri": file.as_uri(), "name": file.name, "content_type": "video/mp4"}
    manifest.write_text(json.dumps({"model": MODEL, "total_cost": "0.10", "inputs": INPUTS, "files": [item]}))
    return manifest.as_uri()


def test_what_was_ordered_is_read_from_the_inputs() -> None:
    assert ordered_shape(MODEL, INPUTS) == ORDERED
    assert ordered_shape(MODEL, INPUTS | {"ratio": "9:16", "fps": "24"}) == Shape(480, 864, 120, 24)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(LookupError, match="some/body"):
        ordered_shape("some/body", INPUTS)


def test_a_video_is_measured_frame_by_frame(tmp_path: Path) -> None:
    draw(tmp_path / "a b.mp4", ORDERED)
    assert probe(tmp_path / "a b.mp4") == ORDERED


def test_a_video_as_ordered_has_no_faults_and_one_that_is_not_has_words(tmp_path: Path) -> None:
    good, bad = tmp_path / "good one.mp4", tmp_path / "bad.mp4"
    draw(good, ORDERED)
    draw(bad, Shape(320, 640, 79, 24))
    videos = read_videos([write_manifest(tmp_path, good, 1), write_manifest(tmp_path, bad, 2)])

    assert videos[0].faults == []
    assert videos[1].faults == [
        "320×640 instead of 640×640",
        "24 fps instead of 16",
        "79 frames instead of 80",
    ]


@pytest.mark.parametrize(("frames", "right"), [(79, False), (80, True), (81, True), (82, False)])
def test_one_frame_more_is_let_pass(frames: int, right: bool) -> None:
    assert (Shape(640, 640, frames, 16).faults(ORDERED) == []) is right


def test_a_missing_and_a_broken_file_are_faults(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"<html>not a video</html>")
    uris = [write_manifest(tmp_path, broken, 1), write_manifest(tmp_path, tmp_path / "gone.mp4", 2)]

    assert [video.faults[0].split(":")[0] for video in read_videos(uris)] == ["unreadable", "unreadable"]


def test_the_table_sums_the_costs_and_cuts_long_prompts(tmp_path: Path) -> None:
    draw(tmp_path / "v.mp4", ORDERED)
    videos = read_videos([write_manifest(tmp_path, tmp_path / "v.mp4", number) for number in (1, 2)])
    lines = table(videos, prompt_width=8).splitlines()

    assert lines[1].split() == ["v.mp4", "A", "fox", "c…", "640×640", "5.0", "$0.10"]
    assert lines[-1].split()[:3] == ["$0.20", "in", "total,"]
    assert len({line.index("$") for line in lines[1:]}) == 1


@pytest.mark.parametrize("uri", ["file:///srv/a%20b.mp4", "/srv/a b.mp4"])
def test_a_files_address_and_a_plain_path_mean_the_same(uri: str) -> None:
    assert local_path(uri) == Path("/srv/a b.mp4")


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "$0.00"), ("0.1", "$0.10"), ("1.540", "$1.54"), ("0.0123", "$0.0123"), ("3E+1", "$30.00")],
)
def test_amounts_have_their_cents(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text
