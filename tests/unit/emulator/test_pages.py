from __future__ import annotations

import re
from html.parser import HTMLParser

import requests

from airflow_provider_wiro.emulator import LocalWiro
from tests.unit.emulator.support import Caller

EVIL = "<script>alert(1)</script> \"onload='x' {{ 7*7 }} \ud800 [wiro:hang]"


class Tags(HTMLParser):
    """Collects what a browser would see as tags and addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def get(url: str, status: int = 200) -> requests.Response:
    answer = requests.get(url, timeout=5)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return answer


def test_the_front_page_shows_tasks_newest_first(caller: Caller) -> None:
    first = caller.video()
    second = caller.wait(caller.run(prompt="Never this [wiro:fail]"))
    page = get(f"{caller.wiro.url}/").text
    assert page.index(second["id"]) < page.index(first["id"])
    assert "content policy" in page
    tags = Tags(page)
    assert tags.tags.count("video") == 1
    assert f"/tasks/{first['id']}/video.mp4" in tags.links
    # Self-contained: no address leads away from here.
    assert all(link.startswith(("/", "data:")) for link in tags.links)
    assert "$499.90" in page


def test_an_empty_page(caller: Caller) -> None:
    assert "No task yet" in get(f"{caller.wiro.url}/").text


def test_looking_at_videos_does_not_change_the_ledger(caller: Caller) -> None:
    task = caller.video()
    before = caller.wiro.ledger()
    film = requests.get(f"{caller.wiro.url}/tasks/{task['id']}/video.mp4", headers={"range": "bytes=0-99"}, timeout=5)
    assert (film.status_code, len(film.content)) == (206, 100)
    get(f"{caller.wiro.url}/")
    assert caller.wiro.ledger() == before


def test_one_task(caller: Caller) -> None:
    task = caller.video()
    page = get(f"{caller.wiro.url}/tasks/{task['id']}").text
    assert all(text in page for text in (task["id"], "A kite over the dunes", "seed", "$0.10", "<video"))
    assert "knows no such task" in get(f"{caller.wiro.url}/tasks/1", 404).text
    assert requests.get(f"{caller.wiro.url}/tasks/1/video.mp4", timeout=5).status_code == 404


def test_everything_is_escaped(caller: Caller) -> None:
    taskid = caller.run(prompt=EVIL, extra="<img src=x onerror=alert(1)>")
    for path in ("", f"tasks/{taskid}"):
        answer = get(f"{caller.wiro.url}/{path}")
        tags = Tags(answer.text)
        assert (tags.tags.count("script"), tags.tags.count("img")) == (1, 0)
        assert "{{ 7*7 }}" in answer.text
        nonce = re.search(r"script-src 'nonce-([^']+)'", answer.headers["content-security-policy"])
        assert nonce is not None
        assert f'<script nonce="{nonce.group(1)}">' in answer.text


def test_stopped_deleted_and_textual_tasks_have_their_words(wiro: LocalWiro) -> None:
    caller = Caller(wiro)
    caller.wait(caller.run(prompt="[wiro:cancel]"))
    caller.wait(caller.run("local/echo-text"))
    caller.run(prompt="[wiro:hang]")
    caller.ask("Task/InputOutputDelete", taskid=caller.video()["id"])
    page = get(f"{wiro.url}/").text
    for words in ("Cancelled", "No video, only text.", "On its way", "The files were deleted."):
        assert words in page
