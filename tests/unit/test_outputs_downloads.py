from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_wiro.api.tasks import WiroTask
from airflow_provider_wiro.exceptions import WiroError, WiroNotFoundError, WiroOutputError
from tests.unit.fetching import (
    MP4,
    PAGE,
    VIDEO,
    Fetching,
    assert_output_error,
    cdn,
    file_at,
    manifest_of,
    names,
    task_of,
)
from tests.unit.hostile_cdn import cut, hostile_cdn
from tests.unit.hostile_cdn import tag as tag_of

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Answer, Scripting


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
    of_unknown_size = dataclasses.replace(video, outputs=(dataclasses.replace(video.outputs[0], size=None),))
    assert_output_error(fetch, of_unknown_size, folder)

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


@pytest.mark.parametrize("tag", [True, False], ids=["goes on", "begins anew"])
def test_a_large_file_that_breaks_off_is_hashed_whole(fetch: Fetching, folder: Path, tag: bool) -> None:
    """Of a large file, the hash is made in another thread, which must not mix up the tries."""
    film = VIDEO + bytes(range(256)) * (20 << 12)
    with hostile_cdn() as server:
        server.routes["/film"] = cut(film, tag_of(film) if tag else None, at=9 << 20)
        (file,) = fetch(task_of(file_at(f"{server.url}/film", len(film))), folder)["files"]
        assert server.asked["/film"] == (3 if tag else 5)
    assert file["sha256"] == hashlib.sha256(film).hexdigest()
    assert (folder / "4711.mp4").read_bytes() == film
