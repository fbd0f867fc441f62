"""Takes the documentation's pictures of Airflow's UI, in Chromium, from what the demo starts.

``python -m scripts.screenshots`` runs the example Dags against the local Wiro and writes ``docs/ui-*.jpg``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page

from scripts import demo
from scripts.chromium import chromium
from scripts.local_airflow import LocalAirflow

DOCS = demo.ROOT / "docs"
QUALITY = 82
SPEED = "2"
"""Wiro seconds per second: slow enough for a picture of videos that are still being made."""
WALL = "[data-wiro=videos]"


def main() -> int:
    """Take all pictures and return the exit code."""
    with tempfile.TemporaryDirectory() as folder, demo.local_wiro(Path(folder), SPEED) as wiro:
        videos = f"{folder}/videos"
        with demo.local_airflow(wiro, Path(folder), videos) as airflow, chromium() as browser:
            _night(airflow, browser)
            _approval(airflow, browser)
            _takes(airflow, browser)
    return 0


def _night(airflow: LocalAirflow, browser: Browser) -> None:
    run_id = _start(airflow, "nightly_batch")
    path = f"/dags/nightly_batch/runs/{quote(run_id)}/plugin/videos-run"
    with _page(airflow, browser, path, "dark") as page:
        some = f"document.querySelectorAll('{WALL} video').length"
        page.wait_for_function(f"{some} >= 2 && {some} < 8", timeout=300_000)
        _take(page, "ui-videos-live")
    airflow.api.wait_for_run("nightly_batch", run_id)
    with _page(airflow, browser, path, "light") as page:
        page.wait_for_function(f"document.querySelectorAll('{WALL} video').length >= 12")
        _take(page, "ui-videos")
        page.locator(f"{WALL} li button").nth(2).click()
        page.wait_for_function("document.querySelector('[data-wiro=lightbox] video')?.currentTime > 1")
        _take(page, "ui-videos-lightbox")


def _approval(airflow: LocalAirflow, browser: Browser) -> None:
    run_id = _start(airflow, "approved_batch")
    airflow.api.question("approved_batch", run_id, "approve")
    path = f"/dags/approved_batch/runs/{quote(run_id)}/tasks/approve/required_actions"
    with _page(airflow, browser, path, "light", height=980) as page:
        page.get_by_role("button", name="Approve").wait_for()
        _take(page, "ui-budget-approval")
    airflow.api.answer("approved_batch", run_id, "approve", ["Reject"])


def _takes(airflow: LocalAirflow, browser: Browser) -> None:
    run_id = _start(airflow, "choose_takes")
    airflow.api.question("choose_takes", run_id, "choose", 0)
    path = f"/dags/choose_takes/runs/{quote(run_id)}/tasks/choose/mapped/0/required_actions"
    with _page(airflow, browser, path, "light", height=760) as page:
        page.wait_for_function("[...document.images].filter(one => one.naturalWidth > 100).length >= 3")
        _take(page, "ui-choose-takes")


def _start(airflow: LocalAirflow, dag_id: str) -> str:
    airflow.api.wait_for_dag(dag_id)
    run_id = airflow.api.trigger(dag_id)
    airflow.api.pause(dag_id, paused=False)
    return run_id


@contextmanager
def _page(airflow: LocalAirflow, browser: Browser, path: str, theme: str, *, height: int = 900) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
    context.add_init_script(f"localStorage.setItem('theme', {theme!r})")
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(airflow.url + path)
        yield page
    finally:
        context.close()


def _take(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)  # pictures fade in, and films have to start
    page.screenshot(path=DOCS / f"{name}.jpg", type="jpeg", quality=QUALITY)
    print(f"docs/{name}.jpg", flush=True)


if __name__ == "__main__":
    sys.exit(main())
