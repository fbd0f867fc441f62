"""What a video file says of itself, and whether that is what was ordered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_wiro.api.tasks import WiroTask
from tests.unit.fetching import Fetching, assert_output_error, file_at, names, task_of
from tests.unit.films import box, film, u32

if TYPE_CHECKING:
    from airflow_provider_wiro.outputs.container import VideoFacts
    from tests.unit.conftest import Answer, Lines, Scripting

MODEL = "ByteDance/text-to-video-seedance-v1"
ORDER = {"prompt": "A kite", "resolution": "480p", "ratio": "16:9", "duration": "5", "fps": "24"}


def read(folder: Path, data: bytes) -> VideoFacts:
    from airflow_provider_wiro.outputs.container import read_video

    path = folder / "film.mp4"
    path.write_bytes(data)
    return read_video(path)


def test_the_local_wiros_videos_are_read(video: WiroTask, fetch: Fetching, folder: Path) -> None:
    (file,) = fetch(video, folder, verify="container")["files"]
    about = file["video"]
    assert (about["width"], about["height"], about["codec"]) == (864, 480, "avc1")
    assert about["duration"] == pytest.approx(5, abs=0.1)
    assert about["frame_rate"] == pytest.approx(float(video.inputs["fps"]), abs=0.1)


@pytest.mark.parametrize("index_first", [True, False])
def test_an_index_at_the_start_or_the_end(tmp_path: Path, index_first: bool) -> None:
    about = read(tmp_path, film(1248, 704, 10, 24, index_first=index_first, codec=b"hvc1"))
    assert (about.width, about.height, about.duration, about.frame_rate) == (1248, 704, 10.0, 24.0)
    assert about.codec == "hvc1"


def test_a_video_that_is_shown_turned(tmp_path: Path) -> None:
    about = read(tmp_path, film(864, 480, turned=True))
    assert (about.width, about.height) == (480, 864)


def test_padding_at_the_end_is_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, film() + bytes(100)).width == 864


FILM = film()
BROKEN = {
    "nothing": (b"", "no index"),
    "text": (b"This is no film, but a line of text.", "does not begin"),
    "only its first half": (FILM[: len(FILM) // 2], "ends inside"),
    "all but its last byte": (FILM[:-1], "ends inside"),
    "no index": (box(b"ftyp", b"isom") + box(b"mdat", bytes(99)), "no index"),
    "an index and no media": (film(media=b""), "no media"),
    "sound only": (film(handler=b"soun"), "no video track"),
    "no pixels": (film(width=0), "pixels"),
    "a box that is larger than what it is in": (FILM.replace(b"mdia", b"mdi", 1) + b"x", "box"),
    "a length of zero inside": (box(b"ftyp", b"isom") + box(b"moov", u32(3) + b"trak") + FILM, "does not fit"),
    "an index of four gigabytes": (box(b"ftyp", b"isom") + u32(0xFFFFFFFF) + b"moov", "ends inside"),
    "a table of times that is cut": (FILM.replace(b"stts" + u32(0, 1), b"stts" + u32(0, 9)), "times"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_whole_video(tmp_path: Path, name: str) -> None:
    from airflow_provider_wiro.outputs.container import UnreadableVideoError

    data, says = BROKEN[name]
    with pytest.raises(UnreadableVideoError, match=says):
        read(tmp_path, data)


def test_no_cut_and_no_flipped_byte_is_more_than_an_error(tmp_path: Path) -> None:
    """Whatever the file, the answer is facts or a refusal, and comes at once."""
    from airflow_provider_wiro.outputs.container import UnreadableVideoError

    short = film(media=b"x" * 20)
    refused = 0
    for position in range(len(short)):
        for data in (short[:position], short[:position] + bytes([short[position] ^ 0xFF]) + short[position + 1 :]):
            try:
                read(tmp_path, data)
            except UnreadableVideoError:
                refused += 1
    assert refused > len(short)


NOT_AS_ORDERED = {
    "480p as 720p": ({}, film(1248, 704), ["864×480", "1248×704"]),
    "16:9 as 1:1": ({}, film(640, 640), ["864×480", "640×640"]),
    "upright as lying": ({"ratio": "9:16"}, film(864, 480), ["480×864", "864×480"]),
    "5 s as 10 s": ({}, film(seconds=10), ["5 s", "10 s"]),
    "24 fps as 16": ({}, film(fps=16), ["24", "16"]),
    "720p as 480p": ({"resolution": "720p"}, film(864, 480), ["1248×704", "864×480"]),
    "10 s as 5 s": ({"duration": "10"}, film(), ["10 s", "5 s"]),
    "9:21 as 21:9": ({"ratio": "9:21"}, film(960, 416), ["416×960", "960×416"]),
}


@pytest.mark.parametrize("name", NOT_AS_ORDERED)
def test_what_is_not_as_ordered_is_not_stored(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path, name: str
) -> None:
    changes, data, both = NOT_AS_ORDERED[name]
    server = scripted(answer(data, 200, {"Content-Type": "video/mp4"}))
    task = task_of(file_at(server.url, len(data)), model=MODEL, inputs={**ORDER, **changes})
    error = assert_output_error(fetch.verifying(), task, folder)
    assert not error.retryable
    assert all(value in str(error) for value in both)
    assert "paid" in str(error)
    assert names(folder.parent) == []
    assert fetch(task, folder, verify="none")["files"][0]["size"] == len(data)


AS_ORDERED = {
    "exactly": ({}, film()),
    "a frame more": ({}, film(frames=121)),
    "upright": ({"ratio": "9:16"}, film(480, 864)),
    "an order that nobody knows any more": ({name: None for name in ORDER}, film(1920, 1088, 10, 30)),
    "a ratio that adapts": ({"ratio": "adaptive"}, film(1000, 500)),
}


@pytest.mark.parametrize("name", AS_ORDERED)
def test_what_is_as_ordered_is_stored(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path, lines: Lines, name: str
) -> None:
    changes, data = AS_ORDERED[name]
    server = scripted(answer(data, 200, {"Content-Type": "video/mp4"}))
    task = task_of(file_at(server.url, len(data)), model=MODEL, inputs={**ORDER, **changes})
    assert fetch(task, folder, verify="container")["files"][0]["video"]["codec"] == "avc1"
    assert "not quite" not in str(lines.all)


def test_what_is_a_little_off_is_stored_with_one_warning(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path, lines: Lines
) -> None:
    data = film(854, 480)
    server = scripted(answer(data, 200, {"Content-Type": "video/mp4"}))
    task = task_of(file_at(server.url, len(data)), model=MODEL, inputs=ORDER)
    fetch(task, folder, verify="container")
    assert sum("864×480" in str(line) and "854×480" in str(line) for line in lines.all) == 1


def test_a_model_without_a_table_only_has_to_make_a_video(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    server = scripted(answer(film(123, 456, 2, 12), 200, {"Content-Type": "video/mp4"}))
    task = task_of(file_at(server.url, None), model="somebody/something", inputs=ORDER)
    about = fetch(task, folder, verify="container")["files"][0]["video"]
    assert (about["width"], about["height"], about["frame_rate"]) == (123, 456, 12.0)
    half = FILM[: len(FILM) // 2]
    server.answers = [answer(half, 200, {"Content-Type": "video/mp4"})]
    task = task_of(file_at(server.url, len(half)), wiro_task_id="4712", model="somebody/something")
    assert "no whole video" in str(assert_output_error(fetch.verifying(), task, folder))
    assert "4712.mp4" not in names(folder)
