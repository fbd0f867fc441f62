"""The web page: the account, and its videos to look at. Self-contained; Jinja escapes everything."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from decimal import Decimal

from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, Response

from airflow_provider_wiro.emulator.account import Account, Task, money
from airflow_provider_wiro.emulator.lifecycle import TERMINAL

_SHOWN = 60
# A page full of players would otherwise fetch all videos at once.
_PRELOADED = 12
_PAGES = Environment(loader=PackageLoader("airflow_provider_wiro.emulator"), autoescape=True)


def _mood(task: Task, now: float) -> str:
    """Return how the task is doing, as a colour: running, good, bad or stopped."""
    status = task.status(now)
    if status not in TERMINAL:
        return "running"
    if status == "task_cancel":
        return "stopped"
    return "good" if task.pexit(now) == "0" else "bad"


def _card(task: Task, now: float, place: int = 0) -> dict[str, object]:
    mood = _mood(task, now)
    return {
        "taskid": task.taskid,
        "model": task.model.slug,
        "prompt": task.prompt or "(no prompt)",
        "status": task.status(now),
        "mood": mood,
        "problem": task.problem if mood == "bad" else "",
        "created": datetime.fromtimestamp(task.created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "elapsed": f"{task.elapsed(now):.0f} s",
        "cost": money(task.price if task.billed else Decimal(0)),
        "parameters": {name: value for name, value in task.parameters.items() if name != "prompt"},
        "pexit": task.pexit(now),
        "film": mood == "good" and task.video is not None and not task.deleted,
        "deleted": task.deleted,
        "preload": "metadata" if place < _PRELOADED else "none",
    }


def _render(name: str, status: int = 200, **content: object) -> Response:
    nonce = secrets.token_urlsafe(16)
    # A lone surrogate in a prompt is valid JSON, but cannot be sent as UTF-8.
    html = _PAGES.get_template(name).render(nonce=nonce, **content).encode("utf-8", "replace")
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; media-src 'self'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }
    return HTMLResponse(html, status, headers)


def front(account: Account) -> Response:
    """Return the page with the account and its newest tasks.

    :param account: what to show.
    """
    tasks = account.newest()
    moods = [_mood(task, account.now) for task in tasks]
    return _render(
        "front.html.jinja",
        tasks=[_card(task, account.now, place) for place, task in enumerate(tasks[:_SHOWN])],
        more=max(0, len(tasks) - _SHOWN),
        counts={mood: moods.count(mood) for mood in ("running", "good", "bad", "stopped")},
        balance=money(account.balance),
        billed=money(account.billed_total),
        limit=account.limit,
        speed=f"{account.speed:g}",
    )


def one(account: Account, task: Task | None) -> Response:
    """Return the page of one task, or one that says there is none.

    :param account: tells the time.
    :param task: the task.
    """
    if task is None:
        return _render("task.html.jinja", 404, task=None)
    return _render("task.html.jinja", task=_card(task, account.now))
