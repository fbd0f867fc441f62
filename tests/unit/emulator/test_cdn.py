from __future__ import annotations

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from tests.unit.emulator.support import FAST, KEY, SECRET, Caller


@pytest.fixture
def film(caller: Caller) -> tuple[str, bytes]:
    (output,) = caller.video()["outputs"]
    return output["url"], requests.get(output["url"], timeout=5).content


def test_the_whole_film(caller: Caller, film: tuple[str, bytes]) -> None:
    url, data = film
    answer = requests.get(url, timeout=5)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["accept-ranges"] == "bytes"
    head = requests.head(url, timeout=5)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    assert head.headers["etag"] == answer.headers["etag"]
    ledger = caller.wiro.ledger()["cdn"]
    assert ledger == {"requests": 3, "bytes": 2 * len(data), "leaked_headers": []}


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-99999999", 5, None)],
)
def test_a_part_of_it(film: tuple[str, bytes], wanted: str, start: int, end: int | None) -> None:
    url, data = film
    answer = requests.get(url, headers={"range": wanted}, timeout=5)
    assert (answer.status_code, answer.content) == (206, data[start:end])
    first = start % len(data)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(data)}"


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0"])
def test_a_part_that_is_not_there(film: tuple[str, bytes], wanted: str) -> None:
    answer = requests.get(film[0], headers={"range": wanted}, timeout=5)
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(film[1])}")


@pytest.mark.parametrize("wanted", ["bytes=-", "bytes=9-3", "bytes=0-1,4-5", "pages=1-2"])
def test_what_is_no_range_gets_everything(film: tuple[str, bytes], wanted: str) -> None:
    answer = requests.get(film[0], headers={"range": wanted}, timeout=5)
    assert (answer.status_code, answer.content) == (200, film[1])


def test_if_range_and_if_none_match(film: tuple[str, bytes]) -> None:
    url, data = film
    etag = requests.head(url, timeout=5).headers["etag"]
    same = requests.get(url, headers={"range": "bytes=0-3", "if-range": etag}, timeout=5)
    other = requests.get(url, headers={"range": "bytes=0-3", "if-range": '"other"'}, timeout=5)
    assert (same.status_code, other.status_code, other.content) == (206, 200, data)
    assert requests.get(url, headers={"if-none-match": etag}, timeout=5).status_code == 304


def test_credentials_that_arrive_are_noticed(caller: Caller, film: tuple[str, bytes]) -> None:
    headers = {"x-api-key": "k", "X-Nonce": "1", "Authorization": "Basic x", "Cookie": "a=b", "Accept": "*/*"}
    requests.get(film[0], headers=headers, timeout=5)
    leaked = caller.wiro.ledger()["cdn"]["leaked_headers"]
    assert leaked == ["authorization", "cookie", "x-api-key", "x-nonce"]


def test_only_the_right_key_opens_and_only_at_the_end(caller: Caller, film: tuple[str, bytes]) -> None:
    assert requests.get(f"{caller.wiro.url}/cdn/0-0/0.mp4", timeout=5).status_code == 404
    assert caller.task(caller.run(prompt="[wiro:hang]"))["outputs"] == []


def test_the_cdn_can_have_an_address_of_its_own() -> None:
    with LocalWiro(api_key=KEY, api_secret=SECRET, speed=FAST, cdn_host="127.0.0.2") as wiro:
        caller = Caller(wiro)
        (output,) = caller.video()["outputs"]
        port = wiro.url.rsplit(":", 1)[1]
        assert wiro.url == f"http://127.0.0.1:{port}"
        assert output["url"].startswith(f"http://127.0.0.2:{port}/cdn/")
        (listed,) = caller.ask("Task/List")["tasklist"]
        assert listed["outputs"] == [output]
        film = requests.get(output["url"], headers={"x-nonce": "1"}, timeout=5).content
        assert (len(film), film[4:8]) == (int(output["size"]), b"ftyp")
        assert wiro.ledger()["cdn"] == {"requests": 1, "bytes": len(film), "leaked_headers": ["x-nonce"]}
    # Both addresses are free again.
    with LocalWiro(port=int(port), cdn_host="127.0.0.2"):
        pass


@pytest.mark.parametrize(("host", "cdn_host"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2")])
def test_an_address_that_is_listened_on_already(host: str, cdn_host: str) -> None:
    with LocalWiro(host=host, cdn_host=cdn_host) as wiro:
        port = wiro.url.rsplit(":", 1)[1]
        assert requests.get(f"http://{cdn_host}:{port}/cdn/0-0/0.mp4", timeout=5).status_code == 404
