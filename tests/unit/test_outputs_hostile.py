"""A CDN that means ill: either the whole file arrives, or the error says why and nothing is under its name."""

from __future__ import annotations

import hashlib
import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.exceptions import WiroOutputError
from airflow_provider_wiro.outputs import download, sources
from tests.unit import hostile_cdn as cdn
from tests.unit.fetching import VIDEO, Fetching, assert_output_error, file_at, manifest_of, names, task_of

if TYPE_CHECKING:
    from tests.unit.conftest import Answer, Lines, Scripting

OTHER = (b"\x00\x00\x00\x18ftypisom" + b"another film " * 700).ljust(len(VIDEO), b"x")
TAG = cdn.tag(VIDEO)
GOOD = cdn.whole(VIDEO, ETag=TAG)
HTML = b"<!DOCTYPE html><title>Sign in to this hotel's network</title>"
SIZE = len(VIDEO)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for minutes here; that the limits are there is what counts."""
    monkeypatch.setattr(download, "_TIMEOUTS", (2.0, 1.0))
    monkeypatch.setattr(download, "_GRACE", 0.5)
    monkeypatch.setattr(download, "_PAUSE", 0.01)


@pytest.fixture
def server() -> Iterator[cdn.HostileCdn]:
    with cdn.hostile_cdn() as running:
        yield running


def start_of(number: int) -> str:
    return f"bytes {number}-{SIZE - 1}/{SIZE}"


FIRST_CUT = cdn.cut(VIDEO, TAG, at=4000)
RECOVERS: dict[str, cdn.Route] = {
    "cut again and again, with a tag": FIRST_CUT,
    "reset in the middle, with a tag": cdn.cut(VIDEO, TAG, at=4000, hard=True),
    "cut without a tag": cdn.cut(VIDEO, None, at=4000),
    "cut with a weak tag": cdn.cut(VIDEO, f"W/{TAG}", at=4000),
    "cut before the first byte": cdn.in_turn(cdn.cut(VIDEO, TAG, at=0), GOOD),
    "another part than asked for": cdn.in_turn(
        FIRST_CUT, cdn.partial(VIDEO, lambda start: start_of(start + 7), 7), GOOD
    ),
    "the part that is asked for, named wrong": cdn.in_turn(
        FIRST_CUT, cdn.partial(VIDEO, lambda start: start_of(0)), GOOD
    ),
    "a part of a larger file": cdn.in_turn(
        FIRST_CUT, cdn.partial(VIDEO, lambda start: f"bytes {start}-{SIZE - 1}/{SIZE + 5}"), GOOD
    ),
    "a part without a name": cdn.in_turn(FIRST_CUT, cdn.partial(VIDEO, lambda start: ""), GOOD),
    "a part with a name that is no range": cdn.in_turn(
        FIRST_CUT, cdn.partial(VIDEO, lambda start: "bytes x-y/z"), GOOD
    ),
    "a part that nobody asked for": cdn.in_turn(cdn.partial(VIDEO, lambda start: start_of(0)), GOOD),
    "no such part": cdn.in_turn(FIRST_CUT, cdn.status(416, Content_Range=f"bytes */{SIZE}"), GOOD),
    "busy": cdn.in_turn(cdn.status(503), cdn.status(429), cdn.status(408), cdn.status(425), GOOD),
    "a gateway that broke": cdn.in_turn(cdn.status(502), cdn.status(504), GOOD),
    "chunks without an end": cdn.in_turn(cdn.chunked(VIDEO[:4000], end=False), GOOD),
    "chunks": cdn.chunked(VIDEO[:100], VIDEO[100:9000], VIDEO[9000:]),
    "chunks that end too early": cdn.in_turn(cdn.chunked(VIDEO[:4000]), GOOD),
    "compressed": cdn.in_turn(cdn.bomb(announce=True), GOOD),
    "a page of HTML by its type": cdn.in_turn(cdn.whole(HTML, "text/html; charset=utf-8"), GOOD),
    "a page of HTML that claims to be a film": cdn.in_turn(cdn.chunked(HTML), GOOD),
    "less than Wiro announces": cdn.in_turn(cdn.whole(VIDEO[:-9]), GOOD),
    "more than Wiro announces": cdn.in_turn(cdn.whole(VIDEO + b"more"), GOOD),
    "a redirect": lambda exchange: (cdn.status(302, Location="/film/moved") if exchange.path == "/film" else GOOD)(
        exchange
    ),
    "an address that has expired": cdn.in_turn(cdn.status(403), GOOD),
    "silence, then the film": cdn.in_turn(lambda exchange: threading.Event().wait(1.5) and None, GOOD),
}


@pytest.mark.parametrize("name", RECOVERS)
def test_the_whole_file_arrives_all_the_same(server: cdn.HostileCdn, fetch: Fetching, folder: Path, name: str) -> None:
    server.routes["/film"] = server.routes["/film/moved"] = RECOVERS[name]
    (file,) = fetch(task_of(file_at(f"{server.url}/film")), folder)["files"]
    assert (folder / "4711.mp4").read_bytes() == VIDEO
    assert file["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert names(folder) == ["4711.json", "4711.mp4"]


def test_a_download_goes_on_where_it_broke_off(server: cdn.HostileCdn, fetch: Fetching, folder: Path) -> None:
    server.routes["/film"] = FIRST_CUT
    fetch(task_of(file_at(f"{server.url}/film")), folder)
    assert [head.get("range") for head in server.heads] == [None, "bytes=4000-", "bytes=8000-"]
    assert {head.get("if-range") for head in server.heads[1:]} == {TAG}
    assert server.sent == SIZE


def test_a_file_that_changes_between_two_ranges_is_taken_whole(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path
) -> None:
    server.routes["/film"] = cdn.in_turn(FIRST_CUT, cdn.cut(OTHER, cdn.tag(OTHER), at=SIZE))
    (file,) = fetch(task_of(file_at(f"{server.url}/film")), folder)["files"]
    assert (folder / "4711.mp4").read_bytes() == OTHER
    assert file["sha256"] == hashlib.sha256(OTHER).hexdigest()


NEVER: dict[str, tuple[cdn.Route, str]] = {
    "a film without an end": (cdn.endless, "bytes or more"),
    "a bomb that hides": (cdn.bomb(announce=False), "announces"),
    "slower than anybody waits for": (cdn.drip(VIDEO, 0.01), "bytes per second"),
    "a picture": (cdn.whole(b"\x89PNG\r\n\x1a\n" + bytes(SIZE - 8)), "does not begin"),
    "text": (cdn.whole(b"e" * SIZE), "does not begin"),
    "nothing": (cdn.whole(b""), "announces"),
    "nothing, in chunks": (cdn.chunked(), "has 0 bytes"),
    "always cut": (cdn.cut(VIDEO, TAG, at=10), "broke"),
    "a redirect to itself": (cdn.status(302, Location="/film"), "more than 3 times"),
    "a redirect with a body without an end": (cdn.endless_redirect, "more than 3 times"),
    "a redirect to nowhere": (cdn.status(302), "does not give"),
    "a redirect to no address": (cdn.status(302, Location="http://[::1"), "no address"),
    "forbidden for ever": (cdn.status(403), "does not give"),
    "no such file": (cdn.status(404), "does not give"),
    "teapot": (cdn.status(418), "does not give"),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_never_is_the_file_leaves_nothing(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, name: str
) -> None:
    server.routes["/film"], says = NEVER[name]
    error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film")), folder)
    assert says in str(error)
    assert names(folder.parent) == []
    assert manifest_of(folder) is None
    assert server.asked["/film"] <= 6


TARGETS = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "https://127.0.0.1:1/",
    "http://localhost:1/",
    "https://metadata.google.internal/",
    "https://evil.example/wiro.ai",
    "https://wiro.ai.evil.example/",
    "https://notwiro.ai/",
    "http://cdn.wiro.ai/0.mp4",
    "https://cdn.wiro.ai@127.0.0.1/0.mp4",
    "https://me:secret-in-url@cdn.wiro.ai/0.mp4",
    "file:///etc/passwd",
    "ftp://cdn.wiro.ai/0.mp4",
    "gopher://cdn.wiro.ai/",
    "//127.0.0.1:1/0.mp4",
    "https://cdn.wiro.ai\\@127.0.0.1/",
    "https://cdn.wiro.ai:99999/",
    "https://0x7f.1/",
    "https://2130706433/",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["at once", "by a redirect"])
def test_addresses_that_are_not_asked(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, target: str, how: str
) -> None:
    server.routes["/film"] = cdn.status(302, Location=target)
    fetch.own = server.url
    url = f"{server.url}/film" if how == "by a redirect" else target
    error = assert_output_error(fetch, task_of(file_at(url)), folder)
    assert "not asked" in str(error)
    assert not error.retryable
    assert "secret-in-url" not in str(error)
    assert server.asked["/film"] == (how == "by a redirect")
    assert names(folder.parent) == []


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b:1::7f00:1",
    "fec0::1",
]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let Wiro's names lead to these addresses, one list for each look-up; return the names that are looked up."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith("wiro.ai"):
            return real(host, port, *args, **options)
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("address", PRIVATE)
def test_a_good_name_that_leads_to_a_private_address_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, fetch: Fetching, folder: Path, address: str
) -> None:
    resolve_to(monkeypatch, ["93.184.215.14", address])
    fetch.own = "https://api.wiro.ai/v1"
    error = assert_output_error(fetch, task_of(file_at("https://cdn.wiro.ai/0.mp4")), folder)
    assert "public internet" in str(error)
    assert not error.retryable


def test_the_public_internet_is_public() -> None:
    for address in ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"):
        assert sources.is_public(address)


class Wires(list[tuple[str, int]]):
    end = 1


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> Wires:
    """Where connections want to go; all end at one port of this machine."""
    wanted = Wires()

    def connect(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        wanted.append(address[:2])
        return socket.create_connection(("127.0.0.1", wanted.end), 2)

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    return wanted


def test_a_name_that_changes_its_mind_gains_nothing(
    monkeypatch: pytest.MonkeyPatch, wired: Wires, fetch: Fetching, folder: Path
) -> None:
    asked = resolve_to(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
    fetch.own = "https://api.wiro.ai/v1"
    error = assert_output_error(fetch, task_of(file_at("https://cdn.wiro.ai/0.mp4")), folder)
    assert wired == [("93.184.215.14", 443)]
    assert "public internet" in str(error)
    assert asked == ["cdn.wiro.ai", "cdn.wiro.ai"]


def test_the_checked_address_is_asked_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
    wired: Wires,
    fetch: Fetching,
    folder: Path,
    scripted: Scripting,
    answer: type[Answer],
    cdn_certificate: tuple[Path, Path],
) -> None:
    """Certificate, server name and `Host` are the name's, the connection goes to the address."""
    server = scripted(answer(VIDEO, 200, {"Content-Type": "video/mp4"}), certificate=cdn_certificate)
    wired.end = server.server_address[1]
    resolve_to(monkeypatch, ["93.184.215.14"])
    fetch.own = "https://api.wiro.ai/v1"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cdn_certificate[0]))
    fetch(task_of(file_at("https://cdn.wiro.ai/0.mp4")), folder)
    assert wired == [("93.184.215.14", 443)]
    assert server.asked[0].headers["host"] == "cdn.wiro.ai"
    assert (folder / "4711.mp4").read_bytes() == VIDEO


def test_a_host_that_the_connection_names_is_asked(
    monkeypatch: pytest.MonkeyPatch, wired: Wires, fetch: Fetching, folder: Path
) -> None:
    monkeypatch.setattr(sources, "_resolve", lambda *_: ("93.184.215.14",))
    fetch.own, fetch.hosts = "https://api.wiro.ai/v1", ("*.example.com",)
    assert_output_error(fetch, task_of(file_at("https://eu.cdn.example.com/0.mp4")), folder)
    assert {address for address, _ in wired} == {"93.184.215.14"}


def test_an_address_is_tried_after_another(
    monkeypatch: pytest.MonkeyPatch, wired: Wires, fetch: Fetching, folder: Path
) -> None:
    resolve_to(monkeypatch, ["93.184.215.14", "93.184.215.15"])
    fetch.own = "https://api.wiro.ai/v1"
    assert_output_error(fetch, task_of(file_at("https://cdn.wiro.ai/0.mp4")), folder)
    assert {address for address, _ in wired} == {"93.184.215.14", "93.184.215.15"}


def test_a_disk_without_room_is_told_at_once(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/film"] = GOOD
    usage = shutil.disk_usage(folder.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=SIZE))
    error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film")), folder)
    assert "cannot hold" in str(error)
    assert error.retryable
    assert (server.asked["/film"], names(folder.parent)) == (1, [])


def test_a_disk_that_is_full_in_the_middle_is_told_at_once(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path
) -> None:
    server.routes["/film"] = GOOD
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film")), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot hold" in str(error)
    assert error.retryable
    assert (server.asked["/film"], names(folder.parent)) == (1, [])


def test_a_file_of_more_than_allowed_is_not_begun(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LARGEST", SIZE - 1)
    server.routes["/film"] = GOOD
    error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film")), folder)
    assert f"allowed: {SIZE - 1}" in str(error)
    assert not error.retryable


def test_a_download_that_takes_too_long_ends(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LONGEST", 0.3)
    monkeypatch.setattr(download, "_GRACE", 60.0)
    server.routes["/film"] = cdn.drip(VIDEO, 0.02)
    error = assert_output_error(fetch, task_of(file_at(f"{server.url}/film")), folder)
    assert not error.retryable
    assert server.asked["/film"] == 1


def test_a_long_download_tells_how_far_it_is(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROGRESS", 0.0)
    server.routes["/film"] = FIRST_CUT
    fetch(task_of(file_at(f"{server.url}/film")), folder)
    told = [line for line in lines.of("info") if "%" in line]
    assert told
    assert told[-1].startswith("Output 1 of Wiro task 4711: 100 %")


def test_several_files_come_at_once(server: cdn.HostileCdn, fetch: Fetching, folder: Path) -> None:
    together = threading.Barrier(4, timeout=5)

    def slow(exchange: cdn.Exchange) -> None:
        together.wait()
        GOOD(exchange)

    for index in range(4):
        server.routes[f"/{index}"] = slow
    done = fetch(task_of(*(file_at(f"{server.url}/{index}") for index in range(4))), folder)
    assert [file["name"] for file in done["files"]] == [f"4711-{index}.mp4" for index in range(1, 5)]


def test_what_an_earlier_try_published_is_not_fetched_again(
    server: cdn.HostileCdn, fetch: Fetching, folder: Path
) -> None:
    server.routes["/a"], server.routes["/b"] = GOOD, cdn.status(418)
    task = task_of(file_at(f"{server.url}/a"), file_at(f"{server.url}/b"))
    with pytest.raises(WiroOutputError):
        fetch(task, folder)
    server.routes["/b"] = GOOD
    done = fetch(task, folder)
    assert server.asked["/a"] == 1
    assert {file["sha256"] for file in done["files"]} == {hashlib.sha256(VIDEO).hexdigest()}
