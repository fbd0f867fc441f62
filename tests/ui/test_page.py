"""The page "Videos" in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.s3 import BUCKET, S3
from tests.ui.conftest import Site
from tests.ui.people import PASSWORD
from tests.ui.seeding import Run, failed, order, succeeded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
WALL = '[data-wiro="videos"]'
CARDS = f"{WALL} li"
LIST = "**/wiro/api/videos*"
SCRIPT = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@dataclass
class View:
    """A tab of the browser, and what went wrong in it."""

    page: Page
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def go(self, site: Site, path: str) -> Page:
        self.page.goto(f"{site.url}/{path}")
        self.page.wait_for_selector(WALL)
        return self.page


Look = Callable[..., View]


@pytest.fixture
def look(chromium: Browser) -> Iterator[Look]:
    """Open a tab of the browser."""
    contexts = []

    def look(theme: str = "light", width: int = 1440, height: int = 900, **more: Any) -> View:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,  # type: ignore[arg-type]
            **more,
        )
        contexts.append(context)
        view = View(context.new_page())
        view.page.set_default_timeout(20_000)
        view.page.on("console", lambda m: view.problems.append(m.text) if m.type == "error" else None)
        view.page.on("pageerror", lambda error: view.problems.append(str(error)))
        view.page.on("request", lambda request: view.hosts.add(urlsplit(request.url).netloc or "itself"))
        return view

    yield look
    for context in contexts:
        context.close()


def tab(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/runs/{run_id}/plugin/videos-run"


@pytest.fixture(scope="module")
def nights(site: Site) -> Site:
    """Dag runs with 0, 1, 20 and 2,000 videos, mapped and as a batch: some fail, some are still being made."""
    names = ("wide", "square", "tall")
    site.seeds.run("gallery", "mapped_0")
    site.seeds.run("gallery", "batch_0")
    for count in (1, 20, 2000):
        orders = [order(number, f"Prompt number {number} of {count}") for number in range(count)]
        ends: list[Any] = [succeeded(n, f"{site.videos}/{names[n % 3]}.mp4") for n in range(count)]
        if count > 1:
            orders[5]["status"] = "queued"
            ends[2], ends[4], ends[5] = failed(2), None, None
        run = site.seeds.run("gallery", f"mapped_{count}", "running" if count > 1 else "success")
        run.mapped(orders, ends)
        site.seeds.run("gallery", f"batch_{count}", "running" if count > 1 else "success").batch(orders, ends)
    return site


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("form", ["mapped", "batch"])
@pytest.mark.parametrize("count", [0, 1, 20, 2000])
def test_any_number_of_videos_is_shown(nights: Site, look: Look, count: int, form: str, theme: str) -> None:
    view = look(theme)
    page = view.go(nights, tab("gallery", f"{form}_{count}"))
    if count == 0:
        expect(page.locator(WALL)).to_contain_text("No videos yet")
    else:
        expect(page.locator(CARDS)).to_have_count(min(count, 24))
        expect(page.locator(CARDS).first).to_contain_text(f"Prompt number 0 of {count}")
        page.wait_for_function("document.querySelector('[data-wiro] video')?.readyState >= 2")
    if count > 1:
        expect(page.locator(CARDS).nth(2)).to_contain_text("content policy")
        expect(page.locator(CARDS).nth(4)).to_contain_text("Wiro is working on it")
        expect(page.locator(CARDS).nth(5)).to_contain_text("Waits for a place")
        expect(page.get_by_role("group", name="Totals")).to_contain_text(f"{count - 3:,} of {count:,}")
    ink = page.locator(WALL).evaluate("(wall) => getComputedStyle(wall).color")
    lightness = re.match(r"oklch\(([0-9.]+)", ink)
    assert lightness is not None, ink
    assert (float(lightness[1]) > 0.6) == (theme == "dark")
    assert view.problems == []
    assert view.hosts - {"itself"} == {urlsplit(nights.url).netloc}


def test_the_page_is_everywhere_it_belongs(nights: Site, look: Look) -> None:
    view = look()
    instance = "dags/gallery/runs/mapped_20/tasks/submit/mapped/3"
    for path in (
        "plugin/wiro-videos",
        "dags/gallery/plugin/videos-dag",
        "dags/gallery/tasks/submit/plugin/videos-task",
    ):
        expect(view.go(nights, path).locator(CARDS)).to_have_count(24)
    page = view.go(nights, f"{instance}/plugin/videos-ti")
    expect(page.locator(CARDS)).to_have_count(1)
    expect(page.locator(CARDS)).to_contain_text("Prompt number 3 of 20")
    page.goto(f"{nights.url}/wiro/watch?dag_id=gallery&run_id=mapped_20&task_id=submit&map_index=3")
    expect(page.locator(CARDS)).to_contain_text("Prompt number 3 of 20")
    assert page.url == f"{nights.url}/{instance}/plugin/videos-ti"
    assert view.problems == []


def is_film(url: str) -> bool:
    return "/wiro/media" in url or ".mp4" in url


@pytest.mark.parametrize("place", ["a local disk", "S3"])
def test_a_video_plays_and_seeks(site: Site, look: Look, store: S3, place: str) -> None:
    uri = str(site.videos / "wide.mp4")
    if place == "S3":
        store.client.put_object(Bucket=BUCKET, Key="shown/play.mp4", Body=(site.videos / "wide.mp4").read_bytes())
        uri = f"s3://store@{BUCKET}/shown/play.mp4"
    run = site.seeds.run("gallery", f"play {place}")
    run.mapped([order(1, "To be played")], [succeeded(1, uri)])
    view = look()
    ranges: list[int] = []
    view.page.on("response", lambda answer: ranges.append(answer.status) if is_film(answer.url) else None)
    page = view.go(site, tab("gallery", f"play {place}"))
    page.get_by_role("button", name="Open: To be played").click()
    player = "document.querySelector('[data-wiro=lightbox] video')"
    page.wait_for_function(f"{player}?.currentTime > 0.3")
    page.evaluate(f"{player}.currentTime = 3.5")
    page.wait_for_function(f"{player}.currentTime > 3.6 && !{player}.seeking")
    page.evaluate(f"{player}.currentTime = 1")
    page.wait_for_function(f"{player}.currentTime > 1.1 && {player}.currentTime < 3")
    assert 206 in ranges
    assert (307 in ranges) == (place == "S3")
    assert view.problems == []


def test_thousands_are_painted_soon(nights: Site, look: Look) -> None:
    page = look().page
    with page.expect_response(LIST) as answer:
        page.goto(f"{nights.url}/{tab('gallery', 'batch_2000')}")
    answer.value.finished()
    began = time.monotonic()
    page.wait_for_selector(f"{CARDS} >> nth=23")
    page.evaluate("new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")
    assert time.monotonic() - began < 1.5


def test_few_videos_are_asked_for_at_once(nights: Site, look: Look) -> None:
    view = look(height=3200)
    held: list[Route] = []
    view.page.route("**/wiro/media*", lambda route: held.append(route))
    page = view.go(nights, tab("gallery", "batch_2000"))
    expect(page.locator(CARDS)).to_have_count(24)
    page.wait_for_function("document.querySelectorAll('[data-wiro] video[src]').length >= 12")
    page.wait_for_timeout(500)
    assert len(held) <= 12
    for _ in range(200):
        if page.locator(f"{CARDS} video[src]").count() == 21:
            break
        while held:
            held.pop().continue_()
        page.wait_for_timeout(50)
    assert page.locator(f"{CARDS} video[src]").count() == 21, "all that succeeded, in the end"


def test_a_prompt_is_text(site: Site, look: Look) -> None:
    run = site.seeds.run("gallery", "script")
    run.mapped([order(1, SCRIPT)], [failed(1, SCRIPT)])
    page = look().go(site, tab("gallery", "script"))
    expect(page.locator(CARDS)).to_contain_text(SCRIPT)
    page.locator(f"{CARDS} button").click()
    expect(page.locator('[data-wiro="lightbox"]')).to_contain_text(SCRIPT)
    assert page.locator(f"{WALL} img").count() == 0
    assert page.title() != "taken"


def test_find_filter_and_page(nights: Site, look: Look) -> None:
    page = look().go(nights, tab("gallery", "batch_2000"))
    page.get_by_role("button", name="Page 84").click()
    expect(page.locator(CARDS)).to_have_count(2000 - 83 * 24)
    expect(page.locator(CARDS).first).to_contain_text(f"Prompt number {83 * 24} of")
    page.get_by_role("button", name="Failed 1").click()
    expect(page.locator(CARDS)).to_have_count(1)
    page.get_by_role("button", name="All 2,000").click()
    page.get_by_label("Find in prompts").fill("number 1234")
    expect(page.locator(CARDS)).to_have_count(1)
    expect(page.get_by_label("Find in prompts")).to_be_focused()
    page.get_by_label("Find in prompts").fill("no such words")
    expect(page.locator(WALL)).to_contain_text("No video matches")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(CARDS)).to_have_count(24)
    expect(page.get_by_label("Find in prompts")).to_have_value("")


def test_everything_can_be_done_with_the_keyboard(nights: Site, look: Look) -> None:
    view = look()
    page = view.go(nights, tab("gallery", "mapped_20"))
    first = page.get_by_role("button", name="Open: Prompt number 0 of 20")
    expect(first).to_be_visible()
    page.get_by_label("Find in prompts").focus()
    page.keyboard.press("Tab")
    expect(first).to_be_focused()
    assert first.evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    box = page.get_by_role("dialog")
    expect(box).to_contain_text("Prompt number 0 of 20")
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("Prompt number 1 of 20")
    page.keyboard.press("ArrowLeft")
    expect(box).to_contain_text("Prompt number 0 of 20")
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(first).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')").endswith("/tasks/submit/mapped/0")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_accessibility_check_finds_nothing_serious(nights: Site, look: Look, theme: str) -> None:
    page = look(theme).go(nights, tab("gallery", "mapped_20"))
    expect(page.locator(CARDS)).to_have_count(20)
    serious = _serious(page, WALL)
    page.locator(f"{CARDS} button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.wait_for_timeout(500)  # the box fades in, and half-faded text has little contrast
    assert serious + _serious(page, '[data-wiro="lightbox"]') == []


def _serious(page: Page, where: str) -> list[str]:
    found = Axe().run(page, context=where).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:300]} {each['nodes'][0]['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_a_video_that_is_made_appears_by_itself(site: Site, look: Look) -> None:
    run: Run = site.seeds.run("gallery", "live", "running")
    run.mapped([order(1, "Just being made")], [None])
    view = look()
    page = view.go(site, tab("gallery", "live"))
    expect(page.locator(CARDS)).to_contain_text("Wiro is working on it")
    run.xcoms("submit", "wiro_video_end", {0: succeeded(1, f"{site.videos}/wide.mp4")}, after=60)
    expect(page.locator(CARDS)).to_contain_text("$0.12", timeout=15_000)
    page.wait_for_function("document.querySelector('[data-wiro] video')?.readyState >= 2")
    assert view.problems == []


def test_files_that_may_not_be_shown_lead_to_wiro(site: Site, look: Look) -> None:
    run = site.seeds.run("gallery", "elsewhere")
    run.mapped([order(1, "Elsewhere")], [succeeded(1, "/elsewhere/1.mp4")])
    view = look()
    page = view.go(site, tab("gallery", "elsewhere"))
    expect(page.locator(WALL)).to_contain_text("ui_media_roots")
    link = page.get_by_role("link", name="Watch at Wiro")
    assert link.get_attribute("href") == "https://cdn1.wiro.ai/1/out.mp4"
    assert "noopener" in str(link.get_attribute("rel"))
    assert view.hosts - {"itself"} == {urlsplit(site.url).netloc}


def test_what_is_made_and_not_fetched_yet_says_so(site: Site, look: Look) -> None:
    run = site.seeds.run("gallery", "not_fetched")
    made = {name: value for name, value in succeeded(1, "/elsewhere/1.mp4").items() if name != "files"}
    run.mapped([order(1, "Made")], [made])
    page = look().go(site, tab("gallery", "not_fetched"))
    expect(page.locator(CARDS)).to_contain_text("It is ready at Wiro, and not fetched yet.")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 500, "body": "no"}, "answers with an error (500)"),
        ({"status": 401, "json": {"detail": "no"}}, "You are signed out"),
        ({"status": 403, "json": {"detail": "no"}}, "You may not see"),
        ({"status": 200, "body": "<html>a proxy</html>", "content_type": "text/html"}, "not Airflow's api-server"),
        ({"status": 200, "json": {"videos": [{}], "total": 1, "counts": {}}}, "The page of videos has a fault"),
        (None, "Airflow cannot be reached"),
    ],
)
def test_the_rest_of_airflow_goes_on_without_the_page(nights: Site, look: Look, answer: Any, told: str) -> None:
    view = look()
    view.page.route(LIST, lambda route: route.fulfill(**answer) if answer else route.abort())
    page = view.go(nights, tab("gallery", "mapped_1"))
    expect(page.get_by_role("alert")).to_contain_text(told)
    page.get_by_role("link", name="Task Instances").click()
    expect(page.get_by_role("link", name="submit").first).to_be_visible()


def test_a_poll_that_fails_leaves_what_is_there(nights: Site, look: Look) -> None:
    page = look().go(nights, tab("gallery", "mapped_20"))
    expect(page.locator(CARDS)).to_have_count(20)
    page.route(LIST, lambda route: route.abort())
    expect(page.locator(WALL)).to_contain_text("What you see may be old", timeout=15_000)
    expect(page.locator(CARDS)).to_have_count(20)


def test_the_page_works_below_a_path(guarded: Site, look: Look) -> None:
    run = guarded.seeds.run("gallery", "below")
    run.mapped([order(1, "Below a path")], [succeeded(1, f"{guarded.videos}/wide.mp4")])
    body = {"username": "ada", "password": PASSWORD}
    token = requests.post(f"{guarded.url}/auth/token", json=body, timeout=30).json()["access_token"]
    view = look()
    view.page.context.add_cookies([{"name": "_token", "value": token, "url": guarded.url}])
    page = view.go(guarded, tab("gallery", "below"))
    expect(page.locator(CARDS)).to_contain_text("Below a path")
    page.wait_for_function("document.querySelector('[data-wiro] video')?.readyState >= 2")
    page.locator(f"{CARDS} a").first.click()
    expect(page).to_have_url(f"{guarded.url}/dags/gallery/runs/below/tasks/submit/mapped/0")
    assert view.problems == []
