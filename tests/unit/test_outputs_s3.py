"""A real S3 through an Airflow connection: what a disk does, an object store does otherwise."""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_wiro.exceptions import WiroOutputError
from airflow_provider_wiro.outputs.store import write_lines
from scripts.local_airflow import free_ports
from tests.s3 import BUCKET, KEY, S3, SECRET, running_s3
from tests.unit import hostile_cdn as cdn
from tests.unit import test_outputs_hostile as hostile
from tests.unit.fetching import VIDEO, Fetching, assert_output_error, file_at, manifest_of, names, task_of
from tests.unit.fetching import cdn as asked_of

if TYPE_CHECKING:
    from airflow_provider_wiro.api.tasks import WiroTask
    from airflow_provider_wiro.emulator.local import LocalWiro

WRONG_SECRET = "canary-wrong-secret-11c7"
LARGE = 101 << 20  # bytes; s3fs sends all below 100 MB in one piece

_quick, server = hostile._quick, hostile.server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The server of the whole session."""
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@dataclass(frozen=True)
class Place:
    """A folder in the bucket that nobody else writes to."""

    s3: S3
    prefix: str

    def __str__(self) -> str:
        return f"s3://aws_wiro@{BUCKET}/{self.prefix}"

    def keys(self) -> list[str]:
        return self.s3.keys(self.prefix)

    def read(self, name: str) -> bytes:
        return self.s3.read(f"{self.prefix}/{name}")

    def head(self, name: str) -> dict[str, Any]:
        return self.s3.head(f"{self.prefix}/{name}")

    def damage(self, name: str, content: bytes | None) -> None:
        """Replace a file as somebody else would, or remove it."""
        if content is None:
            self.s3.client.delete_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}")
        else:
            self.s3.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=content)


@pytest.fixture
def place(s3: S3, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_WIRO", s3.connection())
    return Place(s3, f"videos/{uuid.uuid4().hex}/tonight")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine keeps what is not published yet."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# The way it should be


def test_a_video_of_wiro_lands_whole(wiro: LocalWiro, video: WiroTask, fetch: Fetching, place: Place) -> None:
    done = fetch.verifying()(video, str(place))

    name = f"{video.wiro_task_id}.mp4"
    assert place.keys() == [f"{video.wiro_task_id}.json", name]
    stored = place.read(name)
    assert stored == requests.get(video.outputs[0].url or "", timeout=5).content
    (file,) = done["files"]
    assert (file["uri"], file["size"]) == (f"{place}/{name}", len(stored))
    assert file["sha256"] == hashlib.sha256(stored).hexdigest()
    assert file["video"]["frame_rate"] == 16
    assert place.head(name)["ContentType"] == "video/mp4"
    assert json.loads(place.read(f"{video.wiro_task_id}.json"))["files"] == [file]
    assert manifest_of(str(place), video.wiro_task_id) == {**done, "inputs": dict(video.inputs)}


def test_a_second_fetch_asks_the_cdn_for_nothing(
    wiro: LocalWiro, video: WiroTask, fetch: Fetching, place: Place
) -> None:
    done = fetch(video, str(place))
    before = asked_of(wiro)

    assert fetch(video, str(place)) == done
    assert manifest_of(str(place), video.wiro_task_id) is not None
    assert asked_of(wiro) == before


@pytest.mark.parametrize("damage", [None, b"", VIDEO[:-1], VIDEO + b"x"], ids=["missing", "empty", "short", "long"])
def test_what_somebody_else_damages_is_fetched_again(
    server: cdn.HostileCdn, fetch: Fetching, place: Place, damage: bytes | None
) -> None:
    server.routes["/film"] = hostile.GOOD
    task = task_of(file_at(f"{server.url}/film"))
    fetch(task, str(place))
    place.damage("4711.mp4", damage)

    assert manifest_of(str(place)) is None
    fetch(task, str(place))
    assert place.read("4711.mp4") == VIDEO
    assert server.asked["/film"] == 2


def test_several_outputs_at_once(server: cdn.HostileCdn, fetch: Fetching, place: Place) -> None:
    films = [VIDEO + bytes([index]) for index in range(12)]
    server.routes |= {f"/{index}": cdn.whole(film) for index, film in enumerate(films)}
    done = fetch(task_of(*(file_at(f"{server.url}/{n}", len(film)) for n, film in enumerate(films))), str(place))

    assert [file["sha256"] for file in done["files"]] == [hashlib.sha256(film).hexdigest() for film in films]
    assert [place.read(file["name"]) for file in done["files"]] == films
    assert len(place.keys()) == 13
    assert manifest_of(str(place)) == {**done, "inputs": {}}


def test_a_large_file_goes_in_parts(server: cdn.HostileCdn, fetch: Fetching, place: Place, scratch: Path) -> None:
    film = VIDEO.ljust(LARGE - 1, b"f") + b"l"
    server.routes["/film"] = cdn.whole(film)
    (file,) = fetch(task_of(file_at(f"{server.url}/film", LARGE)), str(place))["files"]

    assert "-" in place.head("4711.mp4")["ETag"]  # that of one piece has none
    assert file["sha256"] == hashlib.sha256(film).hexdigest() == hashlib.sha256(place.read("4711.mp4")).hexdigest()
    assert (place.s3.unfinished(), names(scratch)) == ([], [])


def test_lines_are_written_and_written_again(place: Place) -> None:
    for lines in ([{"n": 1}, {"n": "é 🎬"}], [{"n": 3}]):
        uri = write_lines(str(place), "batch/1", lines)
        assert uri == f"{place}/batch_1.jsonl"
        assert [json.loads(line) for line in place.read("batch_1.jsonl").splitlines()] == lines
    assert place.keys() == ["batch_1.jsonl"]


# What a CDN does


@pytest.mark.parametrize("name", hostile.RECOVERS)
def test_the_whole_file_arrives_all_the_same(
    server: cdn.HostileCdn, fetch: Fetching, place: Place, scratch: Path, name: str
) -> None:
    server.routes["/film"] = server.routes["/film/moved"] = hostile.RECOVERS[name]
    (file,) = fetch(task_of(file_at(f"{server.url}/film")), str(place))["files"]

    assert place.read("4711.mp4") == VIDEO
    assert file["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert (place.keys(), names(scratch)) == (["4711.json", "4711.mp4"], [])


@pytest.mark.parametrize("name", hostile.NEVER)
def test_what_never_is_the_file_leaves_nothing(
    server: cdn.HostileCdn, fetch: Fetching, place: Place, scratch: Path, name: str
) -> None:
    server.routes["/film"], says = hostile.NEVER[name]
    error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film")), str(place))

    assert says in str(error)
    assert (place.keys(), names(scratch)) == ([], [])
    assert manifest_of(str(place)) is None


# What a store does


@pytest.fixture
def refusing(place: Place, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Destinations that cannot be written, by what is wrong with them."""
    (nobody,) = free_ports(1)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_WRONG_SECRET", place.s3.connection(secret=WRONG_SECRET))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_WRONG_KEY", place.s3.connection(key="nobody"))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DOWN", place.s3.connection(port=nobody))
    return {
        "no such bucket": f"s3://aws_wiro@misspelt/{place.prefix}",
        "wrong secret": f"s3://aws_wrong_secret@{BUCKET}/{place.prefix}",
        "wrong key": f"s3://aws_wrong_key@{BUCKET}/{place.prefix}",
        "down": f"s3://aws_down@{BUCKET}/{place.prefix}",
    }


def assert_keeps_secrets(error: WiroOutputError) -> None:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    for secret in (SECRET, WRONG_SECRET, KEY):
        assert not any(secret in str(each) or secret in repr(each) for each in chain)


@pytest.mark.parametrize("wrong", ["no such bucket", "wrong secret", "wrong key", "down"])
def test_a_store_that_refuses_loses_nothing(
    server: cdn.HostileCdn, fetch: Fetching, place: Place, refusing: dict[str, str], scratch: Path, wrong: str
) -> None:
    server.routes["/film"] = hostile.GOOD
    task = task_of(file_at(f"{server.url}/film"))
    error = assert_output_error(fetch, task, refusing[wrong])

    assert "cannot be" in str(error)
    assert "files stay at Wiro" in str(error)
    assert error.retryable
    assert_keeps_secrets(error)
    assert (names(scratch), place.keys(), place.s3.buckets()) == ([], [], [BUCKET])
    fetch(task, str(place))
    assert place.read("4711.mp4") == VIDEO


@pytest.mark.parametrize("wrong", ["no such bucket", "wrong secret", "wrong key", "down"])
def test_lines_that_a_store_refuses(place: Place, refusing: dict[str, str], scratch: Path, wrong: str) -> None:
    with pytest.raises(WiroOutputError) as caught:
        write_lines(refusing[wrong], "batch", [{"n": 1}])

    assert caught.value.retryable
    assert_keeps_secrets(caught.value)
    assert (names(scratch), place.s3.buckets()) == ([], [BUCKET])


def test_a_store_that_is_down_is_not_an_empty_one(place: Place, refusing: dict[str, str]) -> None:
    with pytest.raises(WiroOutputError, match="cannot be read") as caught:
        manifest_of(refusing["down"])
    assert caught.value.wiro_task_id == "4711"
    assert caught.value.retryable
