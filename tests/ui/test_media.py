"""The bytes of videos: whole, in parts, from disk and from S3, and never from anywhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.s3 import BUCKET, S3, SECRET
from tests.ui.conftest import Site
from tests.ui.seeding import Run, succeeded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
Ask = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def told(site: Site) -> Run:
    """A Dag run whose XComs say what a test wants them to say."""
    run = site.seeds.run("gallery", "media")
    run.instances("submit", ["success"] * 60)
    return run


@pytest.fixture(scope="module")
def session(site: Site) -> requests.Session:
    session = requests.Session()
    token = session.get(f"{site.url}/auth/token", timeout=30).json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    return session


@pytest.fixture(scope="module")
def ask(site: Site, told: Run, session: requests.Session) -> Ask:
    """Ask for a file of an address, as the XCom of a task instance tells it."""

    def ask(uri: Any, method: str = "GET", *, content_type: Any = "video/mp4", **headers: str) -> requests.Response:
        end = succeeded(1, "x")
        end["files"][0] |= {"uri": uri, "content_type": content_type}
        told.xcoms("submit", "wiro_video_end", {0: end})
        return session.request(method, address(site), headers=headers, timeout=30, allow_redirects=False)

    return ask


def address(site: Site, **changes: Any) -> str:
    known = {"dag_id": "gallery", "run_id": "media", "task_id": "submit", "map_index": 0, "key": "wiro_video_end"}
    query = requests.models.RequestEncodingMixin._encode_params({**known, "item": 0, "file": 0, **changes})
    return f"{site.url}/wiro/media?{query}"


def test_a_file_comes_whole_and_as_what_it_is(ask: Ask, site: Site) -> None:
    film = (site.videos / "wide.mp4").read_bytes()
    answer = ask(str(site.videos / "wide.mp4"))
    assert (answer.status_code, hashlib.sha256(answer.content).digest()) == (200, hashlib.sha256(film).digest())
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Encoding"] == "identity"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["Cache-Control"].startswith("private")
    assert ask(f"file://{site.videos}/wide.mp4").content == film


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-99", slice(0, 100)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-50", slice(-50, None)),
        ("bytes=10-999999999", slice(10, None)),
    ],
)
def test_a_part_is_that_part(ask: Ask, site: Site, asked: str, expected: slice) -> None:
    film = (site.videos / "tall.mp4").read_bytes()
    answer = ask(str(site.videos / "tall.mp4"), Range=asked, **{"Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.content) == (206, film[expected])
    assert answer.headers["Content-Encoding"] == "identity"
    assert answer.headers["Content-Range"].endswith(f"/{len(film)}")


def test_a_part_beyond_the_end_is_refused(ask: Ask, site: Site) -> None:
    assert ask(str(site.videos / "tall.mp4"), Range="bytes=99999999-").status_code == 416


def test_a_part_of_another_version_is_the_whole(ask: Ask, site: Site) -> None:
    uri = str(site.videos / "tall.mp4")
    tag = ask(uri).headers["ETag"]
    assert ask(uri, Range="bytes=0-9", **{"If-Range": tag}).status_code == 206
    assert ask(uri, Range="bytes=0-9", **{"If-Range": '"another"'}).status_code == 200


def test_a_head_has_no_body(ask: Ask, site: Site) -> None:
    answer = ask(str(site.videos / "wide.mp4"), "HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == (site.videos / "wide.mp4").stat().st_size


def test_an_object_store_is_asked_by_the_browser_itself(ask: Ask, site: Site, store: S3) -> None:
    film = (site.videos / "wide.mp4").read_bytes()
    store.client.put_object(Bucket=BUCKET, Key="shown/wide.mp4", Body=film)
    answer = ask(f"s3://store@{BUCKET}/shown/wide.mp4")
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "no-store"
    part = requests.get(answer.headers["Location"], headers={"Range": "bytes=5-20"}, timeout=30)
    assert (part.status_code, part.content) == (206, film[5:21])
    head = ask(f"s3://store@{BUCKET}/shown/wide.mp4", "HEAD")
    assert (head.status_code, int(head.headers["Content-Length"])) == (200, len(film))


@pytest.mark.parametrize(
    "name",
    [
        "up and out",
        "up and out, escaped",
        "a path elsewhere",
        "the root",
        "the folder itself",
        "a link that leads out",
        "a folder whose name begins the same",
        "a file of another host",
        "an address inside",
        "another bucket",
        "another connection",
        "no connection",
        "up and out of the bucket",
        "a NUL",
        "a backslash",
        "a query",
        "not even text",
        "a list",
        "no type",
        "a page",
        "a picture that can run",
    ],
)
def test_nothing_is_served_from_elsewhere(ask: Ask, site: Site, name: str) -> None:
    videos, kind = site.videos, "video/mp4"
    secret = videos.parent / f"{videos.name}-secret"
    secret.mkdir(exist_ok=True)
    (secret / "wide.mp4").write_bytes(b"hidden")
    link = videos / "link.mp4"
    if not link.is_symlink():
        link.symlink_to(secret / "wide.mp4")
    uri, kind = {
        "up and out": (f"{videos}/../{secret.name}/wide.mp4", kind),
        "up and out, escaped": (f"{videos}/%2e%2e/{secret.name}/wide.mp4", kind),
        "a path elsewhere": ("/etc/passwd", kind),
        "the root": ("/", kind),
        "the folder itself": (str(videos), kind),
        "a link that leads out": (str(link), kind),
        "a folder whose name begins the same": (str(secret / "wide.mp4"), kind),
        "a file of another host": (f"file://elsewhere{videos}/wide.mp4", kind),
        "an address inside": ("http://169.254.169.254/latest/meta-data", kind),
        "another bucket": ("s3://store@hidden/shown/wide.mp4", kind),
        "another connection": (f"s3://other@{BUCKET}/shown/wide.mp4", kind),
        "no connection": (f"s3://{BUCKET}/shown/wide.mp4", kind),
        "up and out of the bucket": (f"s3://store@{BUCKET}/shown/../hidden.mp4", kind),
        "a NUL": (f"{videos}/wide.mp4\0.png", kind),
        "a backslash": (f"{videos}\\..\\{secret.name}\\wide.mp4", kind),
        "a query": (f"{videos}/wide.mp4?x=1", kind),
        "not even text": ({"path": "/etc/passwd"}, kind),
        "a list": (["/etc/passwd"], kind),
        "no type": (str(videos / "wide.mp4"), None),
        "a page": (str(videos / "wide.mp4"), "text/html"),
        "a picture that can run": (str(videos / "wide.mp4"), "image/svg+xml"),
    }[name]
    answer = ask(uri, content_type=kind)
    assert answer.status_code == 403
    assert b"hidden" not in answer.content
    assert b"root:" not in answer.content


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "return_value"},
        {"key": "wiro_video"},
        {"key": "wiro_videos_0'--"},
        {"key": "wiro_videos_\u0661"},
        {"file": 1},
        {"file": -1},
        {"file": 10**15},
        {"item": 10**15, "key": "wiro_videos_0"},
        {"item": -1, "key": "wiro_videos_0"},
        {"map_index": 59},
        {"map_index": 10**30},
        {"map_index": "0x0"},
        {"map_index": "\u0660"},
        {"task_id": "submit\0"},
        {"dag_id": "gallery\0"},
        {"task_id": "../submit"},
        {"run_id": "nothing"},
        {"dag_id": "nothing"},
    ],
)
def test_what_no_task_has_told_of_is_not_there(
    ask: Ask, site: Site, session: requests.Session, changes: dict[str, Any]
) -> None:
    assert ask(str(site.videos / "wide.mp4")).status_code == 200
    assert session.get(address(site, **changes), timeout=30).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_that_is_gone_is_told(ask: Ask, site: Site, store: S3, method: str) -> None:
    assert ask(str(site.videos / "gone.mp4"), method).status_code == 404
    assert ask(f"s3://store@{BUCKET}/shown/gone.mp4", method).status_code == 404


def test_a_store_that_is_down_is_told_without_a_secret(ask: Ask, site: Site) -> None:
    answer = ask(f"s3://down@{BUCKET}/shown/wide.mp4")
    assert answer.status_code == 502
    assert "The store does not give the file" in answer.json()["detail"]
    log = Path(site.server.processes.log_file("api-server")).read_text()
    assert "A file cannot be read from its store: " in log
    assert SECRET not in answer.text + log


def test_what_is_no_part_is_answered_with_all(ask: Ask, store: S3) -> None:
    store.client.put_object(Bucket=BUCKET, Key="shown/ten.mp4", Body=b"0123456789")
    for asked in ("lines=1-2", "bytes=5-2", "bytes=0-1,4-5"):
        answer = ask(f"s3://store@{BUCKET}/shown/ten.mp4", "HEAD", Range=asked)
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, "10")
    tag = ask(f"s3://store@{BUCKET}/shown/ten.mp4", "HEAD").headers["ETag"]
    for if_range, status in ((tag, 206), ('"another"', 200)):
        head = ask(f"s3://store@{BUCKET}/shown/ten.mp4", "HEAD", Range="bytes=2-3", **{"If-Range": if_range})
        assert head.status_code == status


def test_a_place_that_means_nothing_is_told_in_the_log(ask: Ask, site: Site) -> None:
    ask(str(site.videos / "wide.mp4"))
    log = Path(site.server.processes.log_file("api-server")).read_text()
    assert log.count("ui_media_roots has 'nonsense'") == 1
