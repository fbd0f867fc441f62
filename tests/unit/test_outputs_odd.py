"""What writers of videos, networks and people do that is odd, and allowed."""

from __future__ import annotations

import os
import signal
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroError
from airflow_provider_wiro.outputs import download, store
from airflow_provider_wiro.outputs.container import UnreadableVideoError, VideoFacts, read_video
from airflow_provider_wiro.outputs.sources import Sources
from tests.unit import hostile_cdn as cdn
from tests.unit.fetching import Fetching, assert_output_error, file_at, names, task_of
from tests.unit.films import box, film, u32

if TYPE_CHECKING:
    from tests.unit.conftest import Answer, Scripting


def drawn(path: Path, container: str, options: dict[str, str], seconds: int = 2) -> Path:
    """Draw a video of 24 frames a second and a keyframe every half second."""
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream("libx264", rate=24, options={"g": "12"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(24 * seconds):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([2 * number]) * plane.buffer_size)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


WRITERS: dict[str, tuple[str, dict[str, str], float | None]] = {
    "at once": ("mp4", {}, 2.0),
    "index first": ("mp4", {"movflags": "faststart"}, 2.0),
    "QuickTime": ("mov", {}, 2.0),
    "fragments, of which the index knows nothing": ("mp4", {"movflags": "frag_keyframe+empty_moov"}, None),
    "fragments, of which the index knows the first": ("mp4", {"movflags": "frag_keyframe"}, None),
    "fragments with an index of their own": ("mp4", {"movflags": "frag_keyframe+empty_moov+global_sidx"}, None),
    "fragments that are put together at the end": ("mp4", {"movflags": "hybrid_fragmented"}, 2.0),
    "a stream, whose duration is unknown": ("ismv", {}, None),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_real_file_does_not_say_is_not_made_up(tmp_path: Path, writer: str) -> None:
    container, options, seconds = WRITERS[writer]
    about = read_video(drawn(tmp_path / "film", container, options))
    assert (about.width, about.height, about.codec) == (320, 240, "avc1")
    assert (about.duration, about.frame_rate) == (seconds, seconds and 24.0)


def test_a_video_in_fragments_is_as_ordered_where_nothing_says_otherwise(
    tmp_path: Path, scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    """The duration of the first fragment is not the video's: a paid video is not refused for it."""
    data = drawn(tmp_path / "film", "mp4", {"movflags": "frag_keyframe"}, seconds=5).read_bytes()
    server = scripted(answer(data, 200, {"Content-Type": "video/mp4"}))
    order = {"prompt": "A kite", "duration": "5", "fps": "24", "resolution": "480p", "ratio": "adaptive"}
    task = task_of(file_at(server.url, len(data)), model="ByteDance/text-to-video-seedance-v1", inputs=order)
    (file,) = fetch(task, folder, verify="container")["files"]
    assert file["video"]["duration"] is None


def slowly(*pieces: bytes, every: float = 0.02, seconds: float = 15.0) -> cdn.Route:
    """Send the first piece, then the second again and again."""

    def answer(exchange: cdn.Exchange) -> None:
        exchange.body(pieces[0])
        for _ in range(int(seconds / every)):
            exchange.body(pieces[1])
            time.sleep(every)

    return answer


START = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
DRIPS = {
    "a head": slowly(START, b"X"),
    "lines of a head": slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the length of a chunk": slowly(START + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x"),
    "what follows the last chunk": slowly(START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    "a film of unknown size": slowly(START + b"\r\n" + film(), b"x"),
}


@pytest.fixture
def server() -> Iterator[cdn.HostileCdn]:
    with cdn.hostile_cdn() as running:
        yield running


@pytest.mark.parametrize("drip", DRIPS)
def test_no_way_to_be_slow_lasts_longer_than_a_download_may(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, drip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LONGEST", 0.4)
    server.routes["/film"] = DRIPS[drip]
    began = time.monotonic()
    error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film", None)), folder)
    assert time.monotonic() - began < 5
    assert "not there after" in str(error)
    assert not error.retryable
    assert names(folder) == []


@pytest.mark.parametrize("secure", [False, True])
def test_airflows_own_limit_ends_the_downloads(
    server: cdn.HostileCdn,
    fetch: Fetching,
    folder: Path,
    secure: bool,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is raised in the main thread, which then waits for the others."""
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    url = server.url.replace("http:", "https:") if secure else server.url
    server.routes["/film"] = slowly(START + b"\r\n" + film(), b"x" * 1000)
    server.routes["/mute"] = lambda exchange: time.sleep(15)
    began = time.monotonic()

    def over(*_: object) -> None:
        raise AirflowTaskTimeout

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(AirflowTaskTimeout):
            fetch(task_of(*(file_at(f"{url}{path}", None) for path in ("/film", "/mute"))), folder)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 5
    assert server.asked == {"/film": 1, "/mute": 1}
    assert names(folder) == []


def read(folder: Path, data: bytes) -> VideoFacts:
    (folder / "film").write_bytes(data)
    return read_video(folder / "film")


@pytest.mark.parametrize("says", [5.0, None])
def test_a_duration_of_nothing_but_ones_is_unknown(tmp_path: Path, says: float | None) -> None:
    known = u32(12_288, 5 * 12_288)
    data = film().replace(known, known if says else u32(12_288, 0xFFFFFFFF))
    assert read(tmp_path, data).duration == says


def test_the_duration_that_a_file_in_fragments_announces(tmp_path: Path) -> None:
    whole, start = film(), film().index(b"moov") - 4
    end = start + int.from_bytes(whole[start : start + 4])
    for announced, seconds in (
        (u32(0, 7000), 7.0),
        (u32(0, 0xFFFFFFFF), None),
        (b"\1\0\0\0" + bytes(6) + b"\x1f\x40", 8),
    ):
        index = box(b"moov", whole[start + 8 : end], box(b"mvex", box(b"mehd", announced)))
        about = read(tmp_path, whole[:start] + index + whole[end:])
        assert (about.duration, about.frame_rate) == (seconds, None)


@pytest.mark.parametrize("room", [8, 16])
def test_millions_of_boxes_are_not_walked_through(tmp_path: Path, room: int) -> None:
    empty = u32(8) + b"free" if room == 8 else u32(1) + b"free" + (16).to_bytes(8)
    began = time.monotonic()
    with pytest.raises(UnreadableVideoError, match="boxes"):
        read(tmp_path, film() + empty * (1 << 23))
    assert time.monotonic() - began < 5


def test_boxes_with_long_lengths(tmp_path: Path) -> None:
    def long(kind: bytes, body: bytes) -> bytes:
        return u32(1) + kind + (16 + len(body)).to_bytes(8) + body

    whole, start = film(), film().index(b"moov") - 4
    end = start + int.from_bytes(whole[start : start + 4])
    data = whole[:start] + long(b"moov", long(b"free", b"") + whole[start + 8 : end]) + long(b"mdat", b"x" * 99)
    assert read(tmp_path, data) == read(tmp_path, whole)
    for lie in ((1 << 64) - 1, 1 << 63, 15, 0):
        with pytest.raises(UnreadableVideoError, match="ends inside"):
            read(tmp_path, whole[:start] + u32(1) + b"moov" + lie.to_bytes(8) + whole[start + 8 :])


def test_a_file_of_two_gigabytes_is_looked_into_at_once(tmp_path: Path) -> None:
    size = (2 << 30) - 1
    head = film(media=b"")[:-8]
    with (tmp_path / "film").open("wb") as file:
        file.write(head + u32(1) + b"mdat" + (size - len(head)).to_bytes(8))
        file.truncate(size)
    began = time.monotonic()
    assert read_video(tmp_path / "film").duration == 5.0
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("base", ["http://wiro.internal./v1", "HTTP://WIRO.INTERNAL:80/v1", "http://wiro.internal"])
@pytest.mark.parametrize("url", ["http://wiro.internal/0.mp4", "http://Wiro.Internal.:80/0.mp4"])
def test_one_host_written_in_two_ways_is_one_host(base: str, url: str) -> None:
    assert Sources(base).admit(url).host == "wiro.internal"


@pytest.mark.parametrize(
    ("destination", "kind"), [("/a\0b", WiroConfigurationError), ("~nobody-at-all/videos", WiroError)]
)
def test_a_folder_that_cannot_be_is_an_error_of_ours(fetch: Fetching, destination: str, kind: type[WiroError]) -> None:
    with pytest.raises(kind, match="destination"):
        fetch(task_of(file_at("http://127.0.0.1:1/")), destination)


def test_what_a_killed_upload_leaves_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to an object store waits on the worker, and a worker that was killed does not clear away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bucket = ObjectStoragePath("memory://bucket/videos")
    left = {name: tmp_path / name for name in (".wiro-old", ".wiro-young", "old", ".wiro-link")}
    elsewhere = tmp_path / "elsewhere"
    for path in (*(left[name] for name in (".wiro-old", ".wiro-young", "old")), elsewhere):
        path.mkdir()
        (path / "film").touch()
        if "young" not in path.name:
            os.utime(path, (time.time() - store._LEFT_BEHIND - 60,) * 2)
    left[".wiro-link"].symlink_to(elsewhere)
    with store.staging(bucket, None) as place:
        assert place.parent == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == [".wiro-link", ".wiro-young", "elsewhere", "old"]
    assert (elsewhere / "film").exists()
