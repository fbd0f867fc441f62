"""Which of the project's tasks are old and new enough to be the order's, by two clocks that differ."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from airflow_provider_wiro.api.tasks import ServerClock, WiroTask
from airflow_provider_wiro.submission.decision import SKEW, SKEW_UNMEASURED, Action, decide
from tests.unit.submission.support import (
    EARLY,
    FINAL,
    FIRST,
    LATE,
    attempt,
    decided,
    intent,
    listing,
    mute,
    task,
    weak,
)

CLOCKS = {
    "right": (ServerClock(0.0, 0.5), 0.0, SKEW + 0.5),
    "90 s behind": (ServerClock(-90.0, 0.5), -90.0, SKEW + 0.5),
    "90 s ahead": (ServerClock(90.0, 0.5), 90.0, SKEW + 0.5),
    "half a second ahead": (ServerClock(0.5, 0.5), 0.5, SKEW + 0.5),
    "measured badly": (ServerClock(90.0, 20.5), 90.0, SKEW + 20.5),
    "not told": (None, 0.0, SKEW_UNMEASURED),
}
clocks = pytest.mark.parametrize(("clock", "offset", "skew"), CLOCKS.values(), ids=CLOCKS.keys())


@clocks
def test_the_window_begins_with_the_fence(clock: ServerClock | None, offset: float, skew: float) -> None:
    inside = math.ceil(FIRST + offset - skew)
    for number in (inside, inside + 1):
        assert decided(intent(), attempt(), listing(task(created_at=number), clock=clock), EARLY) == "adopt, 11"
        seen = listing(mute(created_at=number), clock=clock)
        assert decided(intent(), attempt(), seen, LATE) == "refuse, candidates 11"
    for before in (inside - 1, inside - 1000):
        for older in (task(created_at=before), mute(created_at=before)):
            seen = listing(older, clock=clock)
            assert decided(intent(), attempt(), seen, EARLY) == "wait, until final"
            assert decided(intent(), attempt(), seen, LATE) == "submit, doubts 1"


@clocks
def test_the_window_ends_with_the_final_moment(clock: ServerClock | None, offset: float, skew: float) -> None:
    inside = math.floor(FINAL + offset + skew)
    now = FINAL + 500
    assert decided(intent(), attempt(), listing(mute(created_at=inside), clock=clock), now) == "refuse, candidates 11"
    assert decided(intent(), attempt(), listing(mute(created_at=inside + 1), clock=clock), now) == "submit, doubts 1"
    same = {"prompt": "A ferry at dawn", "duration": "5", "seed": "7"}
    assert decided(intent(), weak(), listing(mute(created_at=inside, inputs=same), clock=clock), now) == "adopt, 11"
    seen = listing(mute(created_at=inside + 1, inputs=same), clock=clock)
    assert decided(intent(), weak(), seen, now) == "submit, doubts 1"


@clocks
def test_what_is_certain_is_taken_however_late_it_came(clock: ServerClock | None, offset: float, skew: float) -> None:
    seen = listing(task(created_at=math.floor(FINAL + offset + skew) + 1000), clock=clock)
    assert decided(intent(), attempt(), seen, LATE + 2000) == "adopt, 11"


@clocks
def test_an_adopted_task_was_submitted_by_this_machines_clock(
    clock: ServerClock | None, offset: float, skew: float
) -> None:
    decision = decide(intent(), attempt(), listing(task(created_at=int(FIRST + 10 + offset)), clock=clock), EARLY)
    assert decision.record is not None
    assert decision.record.submitted_at == pytest.approx(FIRST + 10, abs=1)


def test_a_task_without_a_time_is_never_too_old() -> None:
    decision = decide(intent(), attempt(), listing(task(created_at=None)), EARLY)
    assert decision.action is Action.ADOPT
    assert decision.record is not None
    assert decision.record.submitted_at == FIRST
    assert decided(intent(), attempt(), listing(mute(created_at=None)), LATE) == "refuse, candidates 11"


def test_a_time_of_zero_is_no_time() -> None:
    never = WiroTask.from_api({"createtime": "0"}).created_at
    assert decided(intent(), attempt(), listing(mute(created_at=never)), LATE) == "refuse, candidates 11"
    assert decided(intent(), attempt(), listing(task(created_at=never)), EARLY) == "adopt, 11"


@pytest.mark.parametrize("settle", [0.5, 60.0, 900.0])
def test_settle_moves_the_final_moment(settle: float) -> None:
    asks = attempt(settle=settle)
    final = FINAL - 60 + settle
    before = decide(intent(), asks, listing(), final - 0.01)
    assert (before.action, before.until) == (Action.WAIT, final)
    assert decide(intent(), asks, listing(), final).action is Action.SUBMIT


def test_a_doubted_order_is_looked_for_from_its_first_run_on() -> None:
    doubted = replace(intent(doubts=1), until=FIRST + 300)
    assert decided(doubted, attempt(), None, EARLY) == "list, since first"
    assert decided(doubted, attempt(), listing(task(created_at=int(FIRST) + 1)), EARLY) == "adopt, 11"
