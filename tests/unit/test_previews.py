"""Previews: what they look like, how small they stay, and what they make of files that are no videos."""

from __future__ import annotations

import io
import random
import sys
import uuid
import wave
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.execution_time.context import set_current_context
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroOutputError
from airflow_provider_wiro.page import PREVIEW_KEY
from airflow_provider_wiro.plugin import media
from airflow_provider_wiro.previews import MOST_BYTES, make_preview, show_preview
from tests.unit import films
from tests.unit.instances import Instance

Draw = Callable[[int, int, int], Image.Image]


def brighter(width: int, height: int, number: int) -> Image.Image:
    """A picture that is brighter than the one before."""
    return Image.new("RGB", (width, height), (min(255, number * 3),) * 3)


def noise(width: int, height: int, number: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(number).randbytes(width * height * 3))


def draw(path: Path, width: int, height: int, fps: int, frames: int, picture: Draw = brighter, crf: str = "20") -> Path:
    """Encode a film for certain, as its own claims cannot be trusted to be so."""
    kind = {"crf": crf, "preset": "ultrafast", "threads": "1"} if path.suffix == ".mp4" else {"cpu-used": "8"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if path.suffix == ".mp4" else "libvpx", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.options = width, height, "yuv420p", kind
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(width, height, number))))
        container.mux(stream.encode(None))
    return path


def look(content: bytes) -> tuple[tuple[int, int], list[Image.Image], list[int]]:
    """Return size, pictures, and the milliseconds for which each is shown."""
    image = Image.open(io.BytesIO(content))
    assert image.format == "WEBP"
    pictures, times = [], []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        pictures.append(image.convert("RGB"))
        times.append(image.info["duration"])
    return image.size, pictures, times


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(864, 480, (240, 133)), (480, 864, (133, 240)), (640, 640, (240, 240)), (64, 36, (64, 36)), (1280, 4, (240, 2))],
)
def test_a_preview_moves_and_is_small(tmp_path: Path, width: int, height: int, size: tuple[int, int]) -> None:
    made = make_preview(draw(tmp_path / "film.mp4", width, height, 24, 24 * 5))
    content = Path(made["uri"]).read_bytes()
    assert made == {
        "uri": str(tmp_path / "film.preview.webp"),
        "name": "film.preview.webp",
        "size": len(content),
        "content_type": "image/webp",
    }
    found, pictures, times = look(content)
    assert (found, len(pictures), sum(times)) == (size, 24, 3000)
    assert len(content) < MOST_BYTES
    light = [picture.getpixel((0, 0))[0] for picture in pictures]  # type: ignore[index]
    assert all(later > earlier for earlier, later in pairwise(light)), light


@pytest.mark.parametrize(("fps", "frames", "times"), [(2, 20, [500] * 5 + [125]), (24, 12, [125] * 4), (24, 1, [125])])
def test_it_is_as_quick_as_the_video(tmp_path: Path, fps: int, frames: int, times: list[int]) -> None:
    made = make_preview(draw(tmp_path / "film.mp4", 64, 64, fps, frames, noise))
    _, pictures, found = look(Path(made["uri"]).read_bytes())
    assert len(pictures) == len(times)
    assert found == times or len(times) == 1  # a picture that stands still has no time


def test_what_cannot_be_small_gets_worse_until_it_is(tmp_path: Path) -> None:
    made = make_preview(draw(tmp_path / "film.mp4", 240, 240, 24, 72, noise, crf="1"))
    (width, height), pictures, times = look(Path(made["uri"]).read_bytes())
    assert made["size"] < MOST_BYTES
    assert width == height < 240
    assert 8 <= len(pictures) < 24
    assert sum(times) == 3000


def test_webm_is_a_video_too(tmp_path: Path) -> None:
    made = make_preview(draw(tmp_path / "film.webm", 96, 64, 24, 24))
    assert made["name"] == "film.preview.webp"
    assert len(look(Path(made["uri"]).read_bytes())[1]) == 8


def test_making_it_again_replaces_it_and_leaves_nothing_else(tmp_path: Path) -> None:
    film = draw(tmp_path / "film.mp4", 96, 64, 24, 24)
    (tmp_path / "film.preview.webp").write_bytes(b"half of an older one")
    assert make_preview(film) == make_preview(str(film))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "film.preview.webp"]


def test_it_goes_elsewhere_if_asked(tmp_path: Path) -> None:
    made = make_preview(draw(tmp_path / "film.mp4", 96, 64, 24, 24), tmp_path / "else" / "where")
    assert Path(made["uri"]) == tmp_path / "else" / "where" / "film.preview.webp"
    assert Path(made["uri"]).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["else", "film.mp4"]


def test_in_an_object_store_it_lies_beside_the_video(tmp_path: Path) -> None:
    attach("memory", fs=MemoryFileSystem())
    bucket = ObjectStoragePath(f"memory://bucket-{uuid.uuid4().hex}/videos")
    film = draw(tmp_path / "film.mp4", 96, 64, 24, 24)
    bucket.fs.pipe_file((bucket / "film.mp4").path, film.read_bytes())
    made = make_preview(str(bucket / "film.mp4"))
    assert made["uri"] == str(bucket / "film.preview.webp")
    assert len(look(bucket.fs.cat_file((bucket / "film.preview.webp").path))[1]) == 8
    assert len(bucket.fs.find(bucket.path)) == 2


def test_of_endless_pictures_only_the_first_are_looked_at(tmp_path: Path) -> None:
    """Three seconds of this film are 6,000 pictures."""
    made = make_preview(draw(tmp_path / "film.mp4", 16, 16, 2000, 6200, noise))
    assert 1 < len(look(Path(made["uri"]).read_bytes())[1]) < 6


def playlist(folder: Path) -> bytes:
    good = draw(folder / "good.mp4", 96, 64, 24, 24)
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{good}\n#EXT-X-ENDLIST\n".encode()


def script(folder: Path) -> bytes:
    good = draw(folder / "good.mp4", 96, 64, 24, 24)
    return f"ffconcat version 1.0\nfile '{good}'\n".encode()


def sound(folder: Path) -> bytes:
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        for number in range(4):
            frame = av.AudioFrame("fltp", "stereo", 1024)
            frame.sample_rate, frame.pts = 48_000, number * 1024
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(frame))
    return (folder / "sound.mp4").read_bytes()


def waves(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(16_000))
    return buffer.getvalue()


def wall(folder: Path) -> bytes:
    """A picture of 38 million pixels, in a few bytes."""
    return draw(folder / "wall.mp4", 8192, 4640, 24, 1).read_bytes()


NO_VIDEOS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "nothing": (lambda folder: b"", "cannot be read as a video"),
    "text": (lambda folder: b"<html>Not found</html>" * 100, "cannot be read as a video"),
    "claims": (lambda folder: films.film(), "has no pictures in it"),
    "large claims": (lambda folder: films.film(width=65535, height=65535), "has no pictures in it"),
    "a wall": (wall, "cannot be read as a video"),
    "a playlist": (playlist, "cannot be read as a video"),
    "a script": (script, "cannot be read as a video"),
    "sound": (sound, "has no pictures in it"),
    "waves": (waves, "cannot be read as a video"),
    "a picture": (lambda folder: Image.new("RGB", (9, 9)).tobytes(), "cannot be read as a video"),
}


@pytest.mark.parametrize("kind", NO_VIDEOS)
def test_what_is_no_video_is_an_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    content, says = NO_VIDEOS[kind]
    film = tmp_path / "shown" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(content(tmp_path))
    with pytest.raises(WiroOutputError, match=says) as raised:
        make_preview(film)
    assert str(film) in str(raised.value)
    assert not raised.value.retryable or kind == "nothing"
    assert sorted(path.name for path in film.parent.iterdir()) == ["film.mp4"]


def test_half_a_film_shows_what_is_there(tmp_path: Path) -> None:
    film = draw(tmp_path / "film.webm", 96, 64, 24, 48, noise)
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    assert 1 < len(look(Path(make_preview(film)["uri"]).read_bytes())[1]) < 16


def test_a_film_that_is_not_there_may_come(tmp_path: Path) -> None:
    with pytest.raises(WiroOutputError, match=r"film\.mp4 cannot be read as a video: FileNotFoundError") as raised:
        make_preview(tmp_path / "film.mp4")
    assert raised.value.retryable
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", [None, "", "  ", "/", 7, {"uri": "/film.mp4"}])
def test_a_source_that_is_none_is_named(source: Any) -> None:
    with pytest.raises(WiroConfigurationError, match="source is .*, allowed: the path or address of a video"):
        make_preview(source)


def test_a_store_that_nobody_knows_is_named() -> None:
    with pytest.raises(WiroConfigurationError, match="source is 'nowhere://bucket/film.mp4', which cannot be used"):
        make_preview("nowhere://bucket/film.mp4")


@pytest.mark.parametrize("module", ["av", "PIL.Image"])
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WiroConfigurationError, match=r'pip install "airflow-provider-wiro\[previews\]"'):
        make_preview("/film.mp4")


@pytest.mark.parametrize("map_index", [-1, 3])
def test_a_task_tells_the_ui_of_its_preview(tmp_path: Path, map_index: int) -> None:
    film = draw(tmp_path / "film.mp4", 96, 64, 24, 24)
    files = [
        {"uri": str(tmp_path / "sound.mp3"), "content_type": "audio/mpeg"},
        {"uri": str(film), "content_type": "video/mp4"},
    ]
    instance = Instance(tmp_path, map_index=map_index)
    with set_current_context(instance.start()):  # type: ignore[arg-type]
        shown = show_preview({"wiro_task_id": "4711", "files": files})
    told = instance.xcoms[PREVIEW_KEY]
    assert told["wiro_task_id"] == "4711"
    assert media.is_key(PREVIEW_KEY)
    found = media.pick(told, PREVIEW_KEY, 0, 0)
    assert found == make_preview(film)
    place = f"dag_id=dag&run_id=manual__1&task_id=video&map_index={map_index}"
    assert shown == {
        **told,
        "image": f"wiro/media?{place}&key=wiro_video_preview&file=0",
        "watch": f"wiro/watch?{place.removesuffix('&map_index=-1')}",
    }


@pytest.mark.parametrize("video", [{}, {"files": []}, {"files": [{"uri": "/a.txt", "content_type": "text/plain"}]}])
def test_a_task_that_fetched_no_video_has_no_preview(tmp_path: Path, video: dict[str, Any]) -> None:
    instance = Instance(tmp_path)
    with (
        set_current_context(instance.start()),  # type: ignore[arg-type]
        pytest.raises(WiroOutputError, match="No fetched file is a video"),
    ):
        show_preview(video)
    assert instance.xcoms == {}
