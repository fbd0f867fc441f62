from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from airflow_provider_wiro.api.tasks import Outcome, WiroTask
from airflow_provider_wiro.exceptions import (
    WiroAPIError,
    WiroAuthenticationError,
    WiroBadRequestError,
    WiroBusyError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroError,
    WiroNotFoundError,
)
from airflow_provider_wiro.waiting import (
    REFUSED,
    TIMEOUT,
    StopOnKill,
    Wait,
    default_deferrable,
    log_not_stopped,
    log_stopped,
    look_at,
    wait_for_end,
)
from tests.unit.api.support import HANGING, TOY

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Lines

END = 1_000.0
DOWN = WiroConnectionError("Unreachable.")
MISSING = WiroNotFoundError("There is no task yet.")


def running(status: str = "task_output") -> WiroTask:
    return WiroTask("4711", status)


@pytest.fixture
def wait(lines: Lines) -> Wait:
    return Wait("4711", END, lines)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, now: float = 0.0) -> None:
        self.time = now
        self.naps: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds


# One look


@pytest.mark.parametrize(
    ("status", "pexit", "word"),
    [
        ("task_postprocess_end", "0", "succeeded"),
        ("task_postprocess_end", "1", "failed"),
        ("task_error", None, "failed"),
        ("task_cancel", None, "cancelled"),
    ],
)
@pytest.mark.parametrize("now", [0.0, END, END + 1e6])
def test_an_ended_task_ends_the_waiting_however_late(
    wait: Wait, status: str, pexit: str | None, word: str, now: float
) -> None:
    assert wait.after_look(WiroTask("4711", status, pexit), now) == word


@pytest.mark.parametrize(("now", "ended"), [(0.0, None), (END - 0.001, None), (END, TIMEOUT), (END + 1, TIMEOUT)])
@pytest.mark.parametrize("look", [running(), running("task_rehearsal"), DOWN, MISSING, WiroBusyError("Slow down.")])
def test_the_deadline_ends_the_waiting(wait: Wait, look: WiroTask | WiroError, now: float, ended: str | None) -> None:
    assert wait.after_look(look, now) == ended


@pytest.mark.parametrize(
    "look",
    [
        DOWN,
        WiroBusyError("Slow down.", retry_after=5),
        WiroAPIError("Internal error.", code=0, retryable=True),
        WiroAPIError("What?", code=5),
        WiroBadRequestError("Request parameters are invalid.", code=0),
    ],
)
def test_an_outage_is_ridden_out(wait: Wait, lines: Lines, look: WiroError) -> None:
    assert [wait.after_look(look, now) for now in (0.0, 10.0, 600.0, END - 1)] == [None] * 4
    (line,) = lines.of("warning")
    assert look.message in line
    assert "1970-01-01T00:16:40Z" in line  # until when

    assert wait.after_look(running(), END - 1) is None
    assert lines.all[-2:] == [
        ("info", "Wiro task 4711 can be read again."),
        ("info", "Wiro task 4711: task_output"),
    ]
    wait.after_look(look, END - 0.5)
    assert len(lines.of("warning")) == 2
    assert lines.of("error") == []


@pytest.mark.parametrize("look", [WiroAuthenticationError("Not valid.", code=0), WiroConfigurationError("Redirects.")])
def test_a_refusal_of_the_credentials_ends_the_waiting_at_once(wait: Wait, lines: Lines, look: WiroError) -> None:
    assert wait.after_look(look, 0.0) == REFUSED
    (line,) = lines.of("error")
    assert "4711" in line
    assert look.message in line


def test_a_task_that_is_not_found_is_given_a_minute(wait: Wait, lines: Lines) -> None:
    assert [wait.after_look(MISSING, now) for now in (100.0, 130.0, 159.9)] == [None] * 3
    assert wait.after_look(MISSING, 160.0) == REFUSED
    assert (len(lines.of("warning")), len(lines.of("error"))) == (1, 1)


def test_the_minute_begins_anew_after_the_task_was_seen(wait: Wait) -> None:
    for look, now in ((MISSING, 0.0), (running(), 50.0), (MISSING, 55.0), (MISSING, 114.0)):
        assert wait.after_look(look, now) is None
    assert wait.after_look(MISSING, 115.0) == REFUSED


def test_each_status_is_logged_once(wait: Wait, lines: Lines) -> None:
    for status in ("task_queue", "task_queue", "task_start", "task_start", "task_output"):
        assert wait.after_look(running(status), 0.0) is None

    assert lines.all == [("info", f"Wiro task 4711: {word}") for word in ("task_queue", "task_start", "task_output")]


def test_an_unknown_status_is_waited_out_with_one_warning(wait: Wait, lines: Lines) -> None:
    for _ in range(3):
        assert wait.after_look(running("task_rehearsal"), 0.0) is None

    (line,) = lines.of("warning")
    assert "'task_rehearsal'" in line


# The pause


@pytest.mark.parametrize("look", [running(), DOWN, WiroBusyError("Slow."), WiroBusyError("Slow.", retry_after=2)])
def test_pauses_are_spread_around_the_interval(wait: Wait, look: WiroTask | WiroError) -> None:
    pauses = [wait.pause(look, 10.0, 0.0) for _ in range(200)]

    assert all(9 <= pause <= 11 for pause in pauses)
    assert max(pauses) - min(pauses) > 0.5


@pytest.mark.parametrize(
    ("retry_after", "interval", "now", "pause"),
    [
        (120.0, 10.0, 0.0, 120.0),
        (120.0, 10.0, END - 30, 30.0),
        (float("inf"), 10.0, END - 30, 30.0),
        (None, 10.0, END - 3, 3.0),
        (None, 10.0, END, 0.0),
        (None, 10.0, END + 50, 0.0),
        (0.0, 10.0, END + 50, 0.0),
    ],
)
def test_pauses_honour_retry_after_and_never_pass_the_deadline(
    wait: Wait, retry_after: float | None, interval: float, now: float, pause: float
) -> None:
    assert wait.pause(WiroBusyError("Slow down.", retry_after=retry_after), interval, now) == pause


# Waiting in this thread


@pytest.mark.parametrize(
    ("prompt", "word"), [("hello", "succeeded"), ("[wiro:fail] x", "failed"), ("[wiro:cancel] x", "cancelled")]
)
def test_waiting_for_a_real_end(
    client: WiroClient, until: Callable[..., WiroTask], lines: Lines, prompt: str, word: str
) -> None:
    wiro_task_id = client.run(TOY, {"prompt": prompt}).wiro_task_id
    until(wiro_task_id)
    clock = Clock()

    assert wait_for_end(client, Wait(wiro_task_id, END, lines), 10, sleep=clock.sleep, now=clock.now) == word
    assert clock.naps == []


def test_waiting_until_the_deadline(client: WiroClient, wiro: LocalWiro, lines: Lines) -> None:
    wiro_task_id = client.run(TOY, {"prompt": HANGING}).wiro_task_id
    clock = Clock(END - 100)

    assert wait_for_end(client, Wait(wiro_task_id, END, lines), 10, sleep=clock.sleep, now=clock.now) == TIMEOUT
    assert clock.time == pytest.approx(END)
    looks = wiro.ledger()["calls"]["Task/Detail"]
    # Ten intervals of 9 to 11 seconds, and the last one is cut.
    assert len(clock.naps) + 1 == looks
    assert 10 <= looks <= 13


@pytest.mark.parametrize("kind", ["error", "reset", "html", "truncated", "rate_limit:seconds=40", "early:seconds=60"])
def test_waiting_through_an_outage(
    wiro: LocalWiro, make_client: Callable[..., WiroClient], lines: Lines, kind: str
) -> None:
    client = make_client(wiro.base_url, attempts=1)
    wiro_task_id = client.run(TOY, {"prompt": "[wiro:cancel] x"}).wiro_task_id
    wiro.set_faults([f"detail:{kind}:times=3"])
    clock = Clock()

    ended = wait_for_end(client, Wait(wiro_task_id, END, lines), 10, sleep=clock.sleep, now=clock.now)

    assert ended == "cancelled"
    assert len(lines.of("warning")) <= 1
    if "rate_limit" in kind:
        assert clock.naps[:3] == [40, 40, 40]


def test_waiting_with_wrong_credentials(wiro: LocalWiro, make_client: Callable[..., WiroClient], lines: Lines) -> None:
    clock = Clock()
    client = make_client(wiro.base_url, api_secret="wrong-secret")

    assert wait_for_end(client, Wait("1", END, lines), 10, sleep=clock.sleep, now=clock.now) == REFUSED
    assert clock.naps == []


def test_waiting_for_a_task_that_does_not_exist(client: WiroClient, lines: Lines) -> None:
    clock = Clock()

    assert wait_for_end(client, Wait("1", END, lines), 10, sleep=clock.sleep, now=clock.now) == REFUSED
    assert 60 <= clock.time <= 75


def test_a_look_returns_its_error(client: WiroClient) -> None:
    wiro_task_id = client.run(TOY, {"prompt": "p"}).wiro_task_id

    look = look_at(client, wiro_task_id)
    assert isinstance(look, WiroTask)
    assert look.wiro_task_id == wiro_task_id
    assert isinstance(look_at(client, "1"), WiroNotFoundError)


# Stopping from on_kill


def test_stopping_on_kill(
    wiro: LocalWiro, make_client: Callable[..., WiroClient], client: WiroClient, lines: Lines
) -> None:
    wiro_task_id = client.run(TOY, {"prompt": HANGING}).wiro_task_id
    StopOnKill(make_client(wiro.base_url, **StopOnKill.CLIENT), wiro_task_id, lines)()

    assert client.get_task(wiro_task_id).outcome is Outcome.CANCELLED
    ((level, line),) = lines.all
    assert level == "info"
    assert wiro_task_id in line
    assert "not billed" in line


def test_a_stop_that_fails_never_raises(make_client: Callable[..., WiroClient], lines: Lines) -> None:
    StopOnKill(make_client("http://127.0.0.1:1/v1", **StopOnKill.CLIENT), "4711", lines)()

    ((level, line),) = lines.all
    assert level == "error"
    assert "4711" in line
    assert "could not be stopped" in line


@pytest.mark.parametrize(
    ("task", "level", "words"),
    [
        (running(), "error", "did not stop"),
        (WiroTask("4711", "task_cancel"), "info", "not billed"),
        (WiroTask("4711", "task_error"), "info", "not billed"),
        (WiroTask("4711", "task_postprocess_end", "0"), "info", "is billed"),
    ],
)
def test_the_line_about_a_stopped_task(lines: Lines, task: WiroTask, level: str, words: str) -> None:
    log_stopped(lines, task)

    ((found, line),) = lines.all
    assert (found, "4711" in line, words in line) == (level, True, True)


def test_the_line_about_a_task_that_was_not_stopped(lines: Lines) -> None:
    log_not_stopped(lines, "4711", DOWN)

    assert lines.of("error")[0].startswith("Wiro task 4711 could not be stopped")
    assert "Unreachable" in lines.of("error")[0]


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("True", True), ("False", False)])
def test_deferring_is_the_default_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool
) -> None:
    name = "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE"
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)

    assert default_deferrable() is expected
