from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
import requests

from airflow_provider_wiro.emulator import studio
from airflow_provider_wiro.emulator.catalogue import pixels
from airflow_provider_wiro.emulator.drawing import encode
from airflow_provider_wiro.emulator.lettering import fit, own, printable, wrap
from airflow_provider_wiro.emulator.studio import MissingLibraryError, Order, Studio, require_libraries
from tests.unit.emulator.support import Caller

# Wiro has no table of its own: ByteDance's, copied here by hand.
SMALL = {
    "16:9": (864, 480),
    "4:3": (736, 544),
    "1:1": (640, 640),
    "3:4": (544, 736),
    "9:16": (480, 864),
    "21:9": (960, 416),
    "9:21": (416, 960),
}


def probe(data: bytes) -> tuple[int, int, int, Fraction | None]:
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        frames = len(list(container.decode(stream)))
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        return stream.width, stream.height, frames, stream.average_rate


def draw(**order: object) -> bytes:
    plain: dict[str, object] = {
        "prompt": "A kite",
        "seed": 1,
        "width": 416,
        "height": 240,
        "seconds": 5,
        "fps": 16,
    }
    return encode(Order(**(plain | order)))  # type: ignore[arg-type]


def test_pixels() -> None:
    assert {ratio: pixels("1.0", "480p", ratio) for ratio in SMALL} == SMALL
    assert pixels("1.0", "480p", "adaptive") == (864, 480)
    assert pixels("1.0", "720p", "3:4") == (832, 1120)
    assert pixels("1.0", "1080p", "9:21") == (928, 2176)
    assert pixels("1.5", "480p", "9:16") == (496, 864)
    assert pixels("1.5", "720p", "21:9") == (1470, 630)
    assert pixels("1.5", "1080p", "16:9") == (1920, 1080)


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        *[("text-to-video-seedance-v1", {"ratio": ratio}, (*size, 120, 24)) for ratio, size in SMALL.items()],
        ("text-to-video-seedance-v1", {"fps": "16", "duration": "10"}, (864, 480, 160, 16)),
        ("text-to-video-seedance-v1", {"resolution": "720p", "fps": "16"}, (1248, 704, 80, 16)),
        ("seedance-pro-v1", {"resolution": "1080p", "fps": "16", "ratio": "9:16"}, (1088, 1920, 80, 16)),
        ("seedance-pro-v1.5", {"ratio": "21:9", "resolution": "720p", "fps": "16"}, (1470, 630, 80, 16)),
    ],
)
def test_what_was_ordered_is_drawn(
    caller: Caller, model: str, inputs: dict[str, object], expected: tuple[int, int, int, int]
) -> None:
    task = caller.wait(caller.run(f"ByteDance/{model}", seed="1", **inputs))
    data = requests.get(task["outputs"][0]["url"], timeout=5).content
    width, height, frames, fps = expected
    assert probe(data) == (width, height, frames, Fraction(fps))
    # faststart: the index comes before the pictures.
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    if inputs.get("resolution", "480p") == "480p" and "duration" not in inputs:
        assert len(data) < 300_000


def test_pictures_differ_by_prompt_and_seed_and_move() -> None:
    def pictures(data: bytes) -> list[bytes]:
        with av.open(io.BytesIO(data), "r") as container:
            return [bytes(frame.planes[0]) for frame in container.decode(video=0)]

    first = pictures(draw())
    assert len(set(first)) > 70
    assert first[40] != pictures(draw(seed=2))[40]
    assert first[40] != pictures(draw(prompt="A boat"))[40]
    assert first[40] != pictures(draw(watermark=True))[40]
    assert first[40] != pictures(draw(camera_fixed=True))[40]
    assert draw() == draw()


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "word " * 1500,
        "x" * 3000,
        "一只猫在雨中的霓虹街道上行走" * 30,
        "🐈‍⬛ кот قط \u202e rtl \x00\x1b[31m \ud800 \n\n tab\t end",
        "   ",
    ],
)
def test_no_text_is_too_much(prompt: str) -> None:
    assert probe(draw(prompt=prompt))[:3] == (416, 240, 80)


def test_text_is_wrapped_shrunk_and_cut() -> None:
    font = own(20)
    lines = wrap("The cyclist passes through dappled light under a bridge " + "x" * 200, font, 300)
    assert all(font.getlength(line) <= 300 for line in lines)
    assert lines[0].startswith("The cyclist")
    assert "".join(lines).count("x") == 200
    assert fit("short", 300, 100, 30)[0].size == 30
    smaller, whole = fit("word " * 40, 300, 150, 30)
    assert smaller.size < 30
    assert " ".join(whole).split() == ["word"] * 40
    smallest, cut = fit("word " * 900, 300, 100, 30)
    assert (smallest.size, cut[-1][-3:]) == (11, "...")
    assert len(cut) * 11 * 1.3 <= 100
    assert printable("a\x00\u202eb\ud800\n c") == "a b? c"


def test_a_drawing_that_fails_says_so_and_the_next_one_works() -> None:
    there = Studio()
    try:
        # H.264 in yuv420p has no odd sizes.
        bad = there.draw(Order("x", 1, 417, 241, 5, 16))
        good = there.draw(Order("x", 1, 416, 240, 5, 16))
        again = there.draw(Order("x", 1, 416, 240, 5, 16))
        while good.drawn_at is None:
            assert there._clerk is not None
            there._clerk.join(0.02)
        assert again is good
        assert good.data is not None
        assert (bad.data, bad.problem.startswith("The video could not be drawn: ")) == (None, True)
    finally:
        there.close()


def test_a_lost_drawing_process_fails_one_video_which_may_be_ordered_again() -> None:
    there = Studio()
    try:
        order = Order("x", 1, 416, 240, 5, 16)
        first = there.draw(order)
        clerk = there._clerk
        assert clerk is not None
        while there._pen is None:
            clerk.join(0.01)
        there._pen.kill()
        while first.drawn_at is None:
            clerk.join(0.02)
        second = there.draw(order)
        while second.drawn_at is None:
            clerk.join(0.02)
        assert "has ended" in first.problem or "pipe" in first.problem.lower()
        assert second.data is not None
        pen = there._pen
    finally:
        there.close()
    assert pen.poll() is not None


def test_missing_libraries_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio, "_NEEDED", {"PIL": "Pillow", "av_that_nobody_has": "PyAV"})
    with pytest.raises(MissingLibraryError, match=r'PyAV.*pip install "airflow-provider-wiro\[emulator\]"'):
        require_libraries()
