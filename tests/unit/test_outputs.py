from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow.sdk import ObjectStoragePath

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask
from airflow_provider_wiro.exceptions import WiroError
from tests.unit.fetching import MP4, VIDEO, Fetching, assert_output_error, cdn, file_at, manifest_of, names, task_of

if TYPE_CHECKING:
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Answer, Lines, Scripting


# The way it should be


def test_a_video_is_stored_whole_with_its_manifest(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path
) -> None:
    done = fetch(video, folder)

    name = f"{video.wiro_task_id}.mp4"
    assert names(folder.parent) == [f"{video.wiro_task_id}.json", name]
    stored = (folder / name).read_bytes()
    assert stored == requests.get(video.outputs[0].url or "", timeout=5).content
    assert stored[4:8] == b"ftyp"
    (file,) = done["files"]
    assert file == {
        "uri": str(folder / name),
        "name": name,
        "size": len(stored),
        "sha256": hashlib.sha256(stored).hexdigest(),
        "content_type": "video/mp4",
    }
    assert done["manifest"] == str(folder / f"{video.wiro_task_id}.json")
    assert json.loads(Path(done["manifest"]).read_text()) == {
        "wiro_task_id": video.wiro_task_id,
        "inputs": {"prompt": "a lighthouse at dawn", "seed": "7", "fps": "16"},
        "files": [file],
    }
    assert fetch.lines.of("info") == [f"Stored {name} ({len(stored)} bytes) at {folder / name}"]
    assert cdn(wiro)["requests"] == 2  # one is this test's own


def test_a_file_address_is_a_local_folder(video: WiroTask, fetch: Fetching, folder: Path) -> None:
    done = fetch(video, f"file://{folder}")

    assert done["files"][0]["uri"] == f"file://{folder}/{video.wiro_task_id}.mp4"
    assert len(names(folder)) == 2
    assert manifest_of(f"file://{folder}", video.wiro_task_id) is not None


def test_what_is_there_is_found_without_asking_anybody(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path
) -> None:
    done = fetch(video, folder)
    before = wiro.ledger()

    found = manifest_of(folder, video.wiro_task_id)

    assert found == {**done, "inputs": dict(video.inputs)}
    assert wiro.ledger() == before


def test_nothing_is_found_where_nothing_was_fetched(video: WiroTask, fetch: Fetching, folder: Path) -> None:
    assert manifest_of(folder, video.wiro_task_id) is None
    fetch(video, folder)
    assert manifest_of(folder, "1") is None
    assert manifest_of(folder / "elsewhere", video.wiro_task_id) is None


@pytest.mark.parametrize("damage", ["missing", "short", "long", "empty"])
def test_a_damaged_file_is_fetched_again(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path, damage: str
) -> None:
    done = fetch(video, folder)
    path = Path(done["files"][0]["uri"])
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"short": whole[:-1], "long": whole + b"x", "empty": b""}[damage])

    assert manifest_of(folder, video.wiro_task_id) is None
    assert fetch(video, folder) == done
    assert path.read_bytes() == whole
    assert cdn(wiro)["requests"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "5",
        '"files"',
        "{}",
        '{"files": []}',
        '{"files": null, "wiro_task_id": "4711"}',
        '{"files": ["x"], "wiro_task_id": "4711"}',
        '{"files": [{}], "wiro_task_id": "4711"}',
        '{"files": [{"uri": null, "size": 5}], "wiro_task_id": "4711"}',
        '{"files": [{"uri": "nosuch://x/y", "size": 5}], "wiro_task_id": "4711"}',
        '{"files": [{"uri": "/", "size": "x"}], "wiro_task_id": "4711"}',
        '{"files": [], "wiro_task_id": "1"}',
        "[" * 200_000,
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_manifest_is_as_good_as_none(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "4711.json").write_text(text)

    assert manifest_of(folder) is None


def test_a_manifest_that_is_not_text_is_as_good_as_none(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "4711.json").write_bytes(b"\xff\xfe\x00")

    assert manifest_of(folder) is None


# Where it is stored


RAW = WiroOutput("", "raw", None, None, {"answer": 1})


def test_a_folder_that_cannot_be_made(fetch: Fetching, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    error = assert_output_error(fetch, task_of(RAW), tmp_path / "file" / "videos")

    assert str(tmp_path / "file") in str(error)
    assert names(tmp_path) == ["file"]
    assert manifest_of(tmp_path / "file" / "videos") is None


def test_a_folder_in_place_of_the_file(fetch: Fetching, folder: Path) -> None:
    (folder / "4711-1.json").mkdir(parents=True)
    assert_output_error(fetch, task_of(RAW), folder)

    assert names(folder) == []


@pytest.mark.parametrize("destination", ["nosuch://bucket/videos", "s3nosuch://conn@bucket/x"])
def test_a_store_that_nobody_knows(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, destination: str
) -> None:
    server = scripted(answer(VIDEO, 200, MP4))
    with pytest.raises(WiroError, match=r"nosuch"):
        fetch(task_of(file_at(server.url)), destination)
    with pytest.raises(WiroError, match=r"nosuch"):
        manifest_of(destination)

    assert server.asked == []


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store in memory, attached to Airflow's object storage with and without a connection."""
    from airflow.sdk.io import attach, store
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

    class Bucket(MemoryFileSystem):  # type: ignore[misc]
        store: dict[str, Any] = {}
        pseudo_dirs = [""]
        uploads: list[str] = []
        damage: Callable[[str], None] = staticmethod(lambda path: None)

        def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
            self.uploads.append(rpath)
            super().put_file(lpath, rpath, **kwargs)
            self.damage(rpath)

    monkeypatch.setattr(store, "_STORE_CACHE", {})
    fs = Bucket(skip_instance_cache=True)
    attach("memory", fs=fs)
    attach("memory", "my_store", fs=fs)
    return fs


@pytest.mark.parametrize("destination", ["memory://bucket/videos", "memory://my_store@bucket/videos"])
def test_an_object_store_gets_one_upload_for_each_file(
    bucket: Any, scripted: Scripting, answer: type[Answer], fetch: Fetching, destination: str
) -> None:
    from airflow.sdk import ObjectStoragePath

    server = scripted(answer(VIDEO, 200, MP4))
    done = fetch(task_of(file_at(server.url)), destination)

    assert bucket.cat_file("/bucket/videos/4711.mp4") == VIDEO
    assert bucket.uploads == ["/bucket/videos/4711.mp4", "/bucket/videos/4711.json"]
    assert sorted(bucket.find("/")) == sorted(bucket.uploads)
    with ObjectStoragePath(done["files"][0]["uri"]).open("rb") as file:  # type: ignore[no-untyped-call]
        assert file.read() == VIDEO
    assert manifest_of(destination) == {**done, "inputs": {}}


@pytest.mark.parametrize("destination", ["memory://bucket/videos", "memory://my_store@bucket/videos"])
def test_a_lost_object_is_noticed(bucket: Any, fetch: Fetching, destination: str) -> None:
    fetch(task_of(RAW), destination)
    bucket.rm("/bucket/videos/4711-1.json")

    assert manifest_of(destination) is None


@pytest.mark.parametrize("problem", [RuntimeError("quota"), PermissionError("denied"), KeyError("x")], ids=repr)
def test_a_store_that_refuses(bucket: Any, fetch: Fetching, problem: Exception) -> None:
    def refuse(path: str) -> None:
        raise problem

    bucket.damage = refuse
    error = assert_output_error(fetch, task_of(RAW), "memory://bucket/videos")

    assert type(problem).__name__ in str(error)
    assert error.retryable
    assert bucket.uploads == ["/bucket/videos/4711-1.json"]


def test_a_store_that_keeps_less_than_it_was_given(bucket: Any, fetch: Fetching) -> None:
    bucket.damage = lambda path: bucket.pipe_file(path, b"x")
    assert_output_error(fetch, task_of(RAW), "memory://bucket/videos")

    assert not bucket.exists("/bucket/videos/4711.json")


# Two at once


@pytest.mark.usefixtures("no_sleep_between_attempts")
def test_two_tries_of_one_task_do_not_disturb_each_other(
    scripted: Scripting, answer: type[Answer], lines: Lines, folder: Path
) -> None:
    """A try that Airflow has given up may still run beside the next one."""
    content = VIDEO[:32] + bytes(6_000_000)
    server = scripted(answer(content, 200, MP4))
    task = task_of(file_at(f"{server.url}/0", len(content)))
    tries = 4
    start = threading.Barrier(tries + 1)
    over = threading.Event()
    partial: list[int] = []

    def watch() -> None:
        start.wait()
        while not over.wait(0.0005):
            path = folder / "4711.mp4"
            if path.exists() and (size := path.stat().st_size) != len(content):
                partial.append(size)

    def fetch_thrice() -> None:
        start.wait()
        for _ in range(3):
            Fetching(lines)(task, folder)

    with ThreadPoolExecutor(tries + 1) as pool:
        watching = pool.submit(watch)
        fetching = [pool.submit(fetch_thrice) for _ in range(tries)]
        problems = [problem for one in fetching if (problem := one.exception(60))]
        over.set()
        watching.result(10)

    assert problems == []
    assert partial == []
    assert names(folder) == ["4711.json", "4711.mp4"]
    assert (folder / "4711.mp4").read_bytes() == content


@pytest.mark.parametrize("form", [str, Path, "{}/".format, "file://{}".format, ObjectStoragePath])
def test_a_folder_may_be_given_in_any_form(fetch: Fetching, folder: Path, form: Callable[[str], Any]) -> None:
    done = fetch(task_of(RAW), form(str(folder)))
    assert names(folder) == ["4711-1.json", "4711.json"]
    assert done["manifest"].removeprefix("file://") == str(folder / "4711.json")


def test_a_relative_folder_is_told_in_full(fetch: Fetching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetch(task_of(RAW), "videos")["manifest"] == str(tmp_path / "videos" / "4711.json")
