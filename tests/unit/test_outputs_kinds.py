from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask
from tests.unit.fetching import MP4, PAGE, VIDEO, Fetching, assert_output_error, file_at, manifest_of, names, task_of
from tests.unit.hostile_cdn import HostileCdn, hostile_cdn, whole

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Answer, Scripting, Until


# Outputs of other kinds


def test_raw_content_is_stored_as_json(client: WiroClient, until: Until, fetch: Fetching, folder: Path) -> None:
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


@pytest.fixture
def server() -> Iterator[HostileCdn]:
    with hostile_cdn() as running:
        yield running


def test_several_outputs_are_numbered(server: HostileCdn, fetch: Fetching, folder: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 50
    server.routes |= {
        "/0": whole(VIDEO),
        "/1": whole(png, "image/png"),
        "/2": whole(b"{}", "application/json"),
        "/4": whole(b"abc", "application/octet-stream"),
    }
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
    assert server.asked == {"/0": 1, "/1": 1, "/2": 1, "/4": 1}
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
