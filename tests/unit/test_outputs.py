from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask
from airflow_provider_wiro.exceptions import WiroError, WiroNotFoundError, WiroOutputError

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Answer, Lines, Scripted

    Scripting = Callable[..., Scripted]

VIDEO = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(range(256)) * 40
PAGE = b"<!DOCTYPE html><html><head><title>502</title></head><body>Bad gateway</body></html>"
MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture(autouse=True)
def _no_sleep_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place to fetch to, in a folder where nothing else may appear."""
    return tmp_path / "videos" / "tonight"


@pytest.fixture
def video(client: WiroClient, until: Callable[..., WiroTask]) -> WiroTask:
    """A real video; it is drawn once, whoever asks for it."""
    inputs = {"prompt": "a lighthouse at dawn", "seed": "7", "fps": "16"}
    return until(client.run("ByteDance/text-to-video-seedance-v1", inputs).wiro_task_id)


def cdn(wiro: LocalWiro) -> dict[str, Any]:
    return dict(wiro.ledger()["cdn"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def task_of(*outputs: WiroOutput, wiro_task_id: str = "4711", **fields: Any) -> WiroTask:
    return WiroTask(wiro_task_id, "task_postprocess_end", "0", outputs=outputs, **fields)


def file_at(
    url: str, size: int | None = len(VIDEO), name: str = "0.mp4", content_type: str = "video/mp4"
) -> WiroOutput:
    return WiroOutput(name, content_type, size, url)


class Fetching:
    """Fetches like the operator does."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.read_again = 0

    def __call__(
        self, task: WiroTask, destination: str | Path, again: Callable[[], WiroTask] | None = None
    ) -> dict[str, Any]:
        from airflow_provider_wiro.outputs import fetch

        def read_again() -> WiroTask:
            self.read_again += 1
            return again() if again else task

        return fetch(task, str(destination), {"wiro_task_id": task.wiro_task_id}, self.lines, read_again)


@pytest.fixture
def fetch(lines: Lines) -> Fetching:
    return Fetching(lines)


def manifest_of(destination: str | Path, wiro_task_id: str = "4711") -> dict[str, Any] | None:
    from airflow_provider_wiro.outputs import read_manifest

    return read_manifest(str(destination), wiro_task_id)


def assert_output_error(fetch: Fetching, task: WiroTask, destination: str | Path) -> WiroOutputError:
    with pytest.raises(WiroOutputError) as caught:
        fetch(task, destination)
    assert caught.value.wiro_task_id == task.wiro_task_id
    return caught.value


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


# The CDN


@pytest.mark.parametrize("kind", ["cut", "error", "wrong_size", "html", "reset"])
def test_a_broken_download_is_tried_again(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path, kind: str
) -> None:
    wiro.set_faults([f"cdn:{kind}:times=2"])
    (file,) = fetch(video, folder)["files"]

    assert (file["size"], cdn(wiro)["requests"]) == (video.outputs[0].size, 3)
    wiro.set_faults([])
    whole = requests.get(video.outputs[0].url or "", timeout=5).content
    assert Path(file["uri"]).read_bytes() == whole
    assert file["sha256"] == hashlib.sha256(whole).hexdigest()


def test_a_slow_download_is_waited_for(wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path) -> None:
    wiro.set_faults(["cdn:slow:seconds=0.3"])

    assert fetch(video, folder)["files"][0]["size"] == video.outputs[0].size
    assert cdn(wiro)["requests"] == 1


@pytest.mark.parametrize("kind", ["cut", "error", "wrong_size", "html", "reset", "expired"])
def test_a_download_that_never_works_leaves_nothing_behind(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path, kind: str
) -> None:
    wiro.set_faults([f"cdn:{kind}"])
    error = assert_output_error(fetch, video, folder)

    assert error.retryable
    assert "do not submit again" in str(error).replace("\n", " ")
    assert names(folder.parent) == []
    assert manifest_of(folder, video.wiro_task_id) is None
    assert 2 <= cdn(wiro)["requests"] <= 10


def test_an_earlier_file_stays_while_a_later_fetch_fails(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, folder: Path
) -> None:
    path = Path(fetch(video, folder)["files"][0]["uri"])
    whole = path.read_bytes()
    wiro.set_faults(["cdn:cut"])
    assert_output_error(fetch, video, folder)

    assert path.read_bytes() == whole
    assert manifest_of(folder, video.wiro_task_id) is not None


def test_an_expired_address_is_refreshed(
    wiro: LocalWiro, video: WiroTask, client: WiroClient, fetch: Fetching, folder: Path
) -> None:
    old = task_of(
        file_at((video.outputs[0].url or "").replace("/cdn/", "/cdn/0"), video.outputs[0].size),
        wiro_task_id=video.wiro_task_id,
    )
    done = fetch(old, folder, again=lambda: client.get_task(video.wiro_task_id))

    assert done["files"][0]["size"] == video.outputs[0].size
    assert (fetch.read_again, cdn(wiro)["requests"]) == (1, 2)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_every_way_to_say_that_an_address_has_expired(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path, status: int
) -> None:
    server = scripted(answer(b"<Error/>", status), answer(VIDEO, 200, MP4))
    fetch(task_of(file_at(f"{server.url}/old")), folder, again=lambda: task_of(file_at(f"{server.url}/new")))

    assert [asked.path for asked in server.asked] == ["/old", "/new"]
    assert (folder / "4711.mp4").read_bytes() == VIDEO


def test_an_error_of_the_server_is_no_reason_to_read_the_task_again(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    server = scripted(answer(PAGE, 503), answer(VIDEO, 200, MP4))
    fetch(task_of(file_at(server.url)), folder)

    assert fetch.read_again == 0


def test_a_task_that_is_gone_ends_the_fetch(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    server = scripted(answer(b"", 410))

    def gone() -> WiroTask:
        raise WiroNotFoundError("There is no task yet.")

    with pytest.raises(WiroError, match="no task"):
        fetch(task_of(file_at(server.url)), folder, again=gone)
    assert names(folder.parent) == []


def test_nothing_secret_goes_to_the_cdn(
    wiro: LocalWiro,
    video: WiroTask,
    fetch: Fetching,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password netrc-password\ndefault login x password y\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch(video, folder)

    assert (cdn(wiro)["requests"], cdn(wiro)["leaked_headers"]) == (1, [])
    # The proof that the ledger would tell, and that the file is read.
    requests.get(video.outputs[0].url or "", headers={"x-api-key": "k"}, timeout=5)
    assert cdn(wiro)["leaked_headers"] == ["authorization", "x-api-key"]


def test_nothing_secret_follows_a_redirect_of_the_cdn(
    scripted: Scripting,
    answer: type[Answer],
    fetch: Fetching,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password netrc-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    target = scripted(answer(VIDEO, 200, MP4))
    server = scripted(answer(b"", 302, {"Location": f"{target.url}/moved"}))
    try:
        fetch(task_of(file_at(server.url)), folder)
    except WiroOutputError:
        assert target.asked == []
    for asked in (*server.asked, *target.asked):
        assert not {name for name in asked.headers if name in ("authorization", "cookie") or name.startswith("x-")}


def test_a_request_asks_for_the_file_as_it_is(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    server = scripted(answer(VIDEO, 200, MP4))
    fetch(task_of(file_at(f"{server.url}/a/0.mp4")), folder)

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", "/a/0.mp4")
    assert asked.headers["accept-encoding"] == "identity"


REFUSED_ANSWERS: dict[str, dict[str, Any]] = {
    "another size": {"body": VIDEO + b"x", "headers": MP4},
    "an HTML page": {"body": PAGE, "headers": {"Content-Type": "text/html; charset=utf-8"}},
    "compressed": {"body": VIDEO, "headers": {**MP4, "Content-Encoding": "br"}},
    "part of it": {"body": VIDEO, "status": 206, "headers": MP4},
    "no content": {"body": b"", "status": 204},
    "cut": {"body": VIDEO, "cut_after": 500, "headers": MP4},
}


@pytest.mark.parametrize(
    ("name", "size"),
    # Where nobody announces a size, no size is wrong.
    [(name, size) for name in REFUSED_ANSWERS for size in (len(VIDEO), None) if (name, size) != ("another size", None)],
)
def test_answers_that_are_not_the_file(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path, name: str, size: int | None
) -> None:
    server = scripted(answer(**REFUSED_ANSWERS[name]))
    assert_output_error(fetch, task_of(file_at(server.url, size)), folder)

    assert names(folder.parent) == []


@pytest.mark.parametrize(
    ("content_type", "body"), [("video/mp4", PAGE), ("video/mp4", b""), ("image/png", PAGE), ("video/webm", PAGE)]
)
def test_a_page_that_claims_to_be_the_file(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path, content_type: str, body: bytes
) -> None:
    """Where the task announces no size, only the first bytes tell."""
    server = scripted(answer(body, 200, {"Content-Type": content_type}))
    assert_output_error(fetch, task_of(file_at(server.url, None, content_type=content_type)), folder)

    assert names(folder.parent) == []


def test_a_file_that_does_not_end_is_not_read_to_its_end(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    """Else one wrong answer fills the disk of a worker."""
    server = scripted(answer(VIDEO + bytes(20_000_000), 200, MP4))
    assert_output_error(fetch, task_of(file_at(server.url)), folder)

    deadline = time.monotonic() + 5
    while server.hung_up < len(server.asked) and time.monotonic() < deadline:
        time.sleep(0.02)  # a server notices late
    assert server.hung_up == len(server.asked)


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/0.mp4", "/0.mp4", "", "javascript:1", "http://[::1", "http://"]
)
def test_addresses_that_are_none(fetch: Fetching, folder: Path, url: str) -> None:
    assert_output_error(fetch, task_of(file_at(url)), folder)

    assert names(folder.parent) == []


def test_a_certificate_authority_of_the_site_is_trusted(
    scripted: Scripting,
    answer: type[Answer],
    fetch: Fetching,
    folder: Path,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The API is reached with it, so its files have to be, too."""
    server = scripted(answer(VIDEO, 200, MP4), certificate=certificate)
    assert_output_error(fetch, task_of(file_at(server.url)), folder)
    assert server.asked == []

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    assert fetch(task_of(file_at(server.url)), folder)["files"][0]["size"] == len(VIDEO)


# Outputs of other kinds


def test_raw_content_is_stored_as_json(
    client: WiroClient, until: Callable[..., WiroTask], fetch: Fetching, folder: Path
) -> None:
    task = until(client.run("local/echo-text", {"prompt": "é 🎬 {x}"}).wiro_task_id)
    (file,) = fetch(task, folder)["files"]

    assert file["name"] == f"{task.wiro_task_id}-1.json"
    assert file["content_type"] == "application/json"
    stored = Path(file["uri"]).read_bytes()
    assert json.loads(stored)["prompt"] == "é 🎬 {x}"
    assert (file["size"], file["sha256"]) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert manifest_of(folder, task.wiro_task_id) is not None


@pytest.mark.parametrize("content", [{"a": [1, None]}, "text", [], 0, False])
def test_raw_content_of_any_kind(fetch: Fetching, folder: Path, content: Any) -> None:
    (file,) = fetch(task_of(WiroOutput("", "raw", None, None, content)), folder)["files"]

    assert json.loads(Path(file["uri"]).read_text()) == content


def test_half_a_character_does_not_lose_the_rest(
    scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path
) -> None:
    """JSON may hold half a surrogate pair, where somebody has cut an emoji in two."""
    server = scripted(answer(VIDEO, 200, MP4))
    task = task_of(file_at(server.url), WiroOutput("", "raw", None, None, "cut \ud83c"), inputs={"prompt": "\ud83c"})
    done = fetch(task, folder)

    assert len(done["files"]) == 2
    assert manifest_of(folder) is not None


def test_an_output_with_neither_address_nor_content_is_not_delivered(fetch: Fetching, folder: Path) -> None:
    assert_output_error(fetch, task_of(WiroOutput("0.mp4", "video/mp4", 5, None)), folder)

    assert names(folder.parent) == []


def test_a_task_without_outputs_is_final(fetch: Fetching, folder: Path) -> None:
    assert not assert_output_error(fetch, task_of(), folder).retryable
    assert names(folder.parent) == []


def test_several_outputs_are_numbered(scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 50
    server = scripted(
        answer(VIDEO, 200, MP4),
        answer(png, 200, {"Content-Type": "image/png"}),
        answer(b"{}", 200, {"Content-Type": "application/json"}),
        answer(b"abc", 200, {"Content-Type": "application/octet-stream"}),
    )
    task = task_of(
        file_at(f"{server.url}/0"),
        file_at(f"{server.url}/1", len(png), "1.png", "image/png"),
        file_at(f"{server.url}/2", 2, "4711.json", "application/json"),
        WiroOutput("", "raw", None, None, {"answer": 1}),
        file_at(f"{server.url}/4", 3, "weights.tar.gz", "application/x-nobody-knows"),
    )
    done = fetch(task, folder)

    expected = ["4711-1.mp4", "4711-2.png", "4711-3.json", "4711-4.json", "4711-5.gz"]
    assert [file["name"] for file in done["files"]] == expected
    assert names(folder) == sorted([*expected, "4711.json"])
    assert [asked.path for asked in server.asked] == ["/0", "/1", "/2", "/4"]
    assert manifest_of(folder) == {**done, "inputs": {}}


def test_all_outputs_or_no_manifest(scripted: Scripting, answer: type[Answer], fetch: Fetching, folder: Path) -> None:
    server = scripted(answer(VIDEO, 200, MP4), answer(PAGE, 500))
    assert_output_error(fetch, task_of(file_at(server.url), file_at(server.url)), folder)

    assert "4711.json" not in names(folder.parent)
    assert manifest_of(folder) is None


# Names


def test_the_servers_names_are_never_used(
    wiro: LocalWiro, video: WiroTask, client: WiroClient, fetch: Fetching, folder: Path, tmp_path: Path
) -> None:
    wiro.set_faults(["cdn:hostile_name"])
    hostile = client.get_task(video.wiro_task_id)
    assert ".." in hostile.outputs[0].name
    fetch(hostile, folder)

    assert names(tmp_path) == [f"{video.wiro_task_id}.json", f"{video.wiro_task_id}.mp4"]


@pytest.mark.parametrize("content_type", ["video/mp4", "", "../../x", "application/json", "a/b;c=/../d", "text/\x00"])
@pytest.mark.parametrize(
    "name",
    [
        "../../evil.mp4",
        "..\\..\\evil.exe",
        "/etc/passwd",
        "a/b.sh\x00.mp4",
        ".bashrc",
        "x" * 5000 + ".mp4",
        "evil.mp4\n",
        "4711.json",
        "\u202e4pm.exe",
        "",
        "CON",
    ],
    ids=lambda name: name[:20].encode("unicode_escape").decode(),
)
def test_hostile_names(
    fetch: Fetching,
    folder: Path,
    tmp_path: Path,
    scripted: Scripting,
    answer: type[Answer],
    name: str,
    content_type: str,
) -> None:
    server = scripted(answer(VIDEO, 200, {"Content-Type": "application/octet-stream"}))
    (file,) = fetch(task_of(file_at(server.url, name=name, content_type=content_type)), folder)["files"]

    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [folder, folder]
    assert file["name"] != "4711.json"
    assert set(file["name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert file["name"].startswith("4711")
    assert len(file["name"]) < 20
    assert (folder / file["name"]).read_bytes() == VIDEO


@pytest.mark.parametrize("wiro_task_id", ["../../evil", "/etc/passwd", "a\x00b", "..", "x" * 300, "a b\n", "%2e%2e%2f"])
def test_a_hostile_id(fetch: Fetching, folder: Path, tmp_path: Path, wiro_task_id: str) -> None:
    task = task_of(WiroOutput("", "raw", None, None, {"a": 1}), wiro_task_id=wiro_task_id)
    fetch(task, folder)

    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [folder, folder]
    assert manifest_of(folder, wiro_task_id) is not None


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
