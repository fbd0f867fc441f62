"""What the next try does, by what is in the store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_wiro.submission.decision import (
    MAX_FAILURES,
    NOT_FOUND_PATIENCE,
    Action,
    Attempt,
    Look,
    Missing,
    Unreadable,
    decide,
)
from airflow_provider_wiro.submission.record import Phase, Record
from tests.unit.submission.support import (
    EARLY,
    FINAL,
    FIRST,
    INPUTS,
    KEY,
    LATE,
    OTHER_KEY,
    SEED,
    attempt,
    decided,
    intent,
    listing,
    mute,
    receipt,
    record,
    task,
    weak,
)

GONE_EARLY = FIRST + 2 + NOT_FOUND_PATIENCE - 0.1
GONE_LATE = FIRST + 2 + NOT_FOUND_PATIENCE
DOWN = Unreadable("HTTP 500")
DONE = record(Phase.DONE)
OPEN = record(Phase.OPEN, history=("9",), failures=1)

RECEIPT_ROWS: list[tuple[str, Look, float, str]] = [
    ("not looked at yet", None, EARLY, "read"),
    ("runs", task(), EARLY, "attach, 11"),
    ("is queued", task(end="is queued"), EARLY, "attach, 11"),
    ("is in a status that nobody knows", task(end="is in no known status"), EARLY, "attach, 11"),
    ("succeeded", task(end="succeeded"), EARLY, "deliver, 11"),
    ("failed", task(end="failed"), EARLY, "submit, failures 1, left 11"),
    ("cancelled", task(end="cancelled"), EARLY, "submit, failures 1, left 11"),
    ("broke before it began", task(end="broke"), EARLY, "submit, failures 1, left 11"),
    ("not found early", Missing(), GONE_EARLY, "attach, 11 unseen"),
    ("not found late", Missing(), GONE_LATE, "list, since first"),
    ("cannot be read", DOWN, EARLY, "attach, 11 unseen"),
    ("cannot be read for long", DOWN, LATE + 10_000, "attach, 11 unseen"),
    ("not found late, the list does not answer", DOWN, GONE_LATE, "attach, 11 unseen"),
    ("not found late, listed all the same", listing(task()), GONE_LATE, "adopt, 11"),
    ("not found late, listed under another id", listing(task(12)), GONE_LATE, "adopt, 12"),
    ("not found late, not listed before the final moment", listing(), GONE_LATE, "wait, until final"),
    ("not found late, not listed", listing(), FINAL, "submit, left 11"),
    ("not found late, listed as failed", listing(task(end="failed")), FINAL, "submit, failures 1, left 11"),
    ("not found late, one without echo", listing(mute(12)), FINAL, "refuse, candidates 12"),
]


@pytest.mark.parametrize(("look", "now", "expected"), [pytest.param(*row[1:], id=row[0]) for row in RECEIPT_ROWS])
def test_a_receipt_whose_task(look: Look, now: float, expected: str) -> None:
    assert decided(receipt(), attempt(), look, now) == expected


DONE_ROWS: list[tuple[str, Look, str]] = [
    ("not looked at yet", None, "read"),
    ("succeeded", task(end="succeeded"), "deliver, 11"),
    ("is gone", Missing(), "refuse, candidates 11"),
    ("cannot be read", DOWN, "attach, 11 unseen"),
    ("is said to have failed after all", task(end="failed"), "submit, failures 1, left 11"),
]


@pytest.mark.parametrize("now", [GONE_EARLY, LATE])
@pytest.mark.parametrize(("look", "expected"), [pytest.param(*row[1:], id=row[0]) for row in DONE_ROWS])
def test_what_was_delivered_and(look: Look, expected: str, now: float) -> None:
    assert decided(DONE, attempt(), look, now) == expected


def test_what_was_delivered_and_is_gone_is_ordered_anew_only_if_somebody_says_so() -> None:
    decision = decide(DONE, attempt(), Missing(), LATE)
    assert "was delivered" in decision.why
    assert "on_clear='resubmit'" in decision.advice
    assert not decision.retryable


STORE_ROWS: list[tuple[str, Record | None, Attempt, str]] = [
    ("an intent", intent(), attempt(), "list, since first"),
    ("an intent of this very try", intent(try_number=2), attempt(), "list, since first"),
    ("nothing, at the first try", None, attempt(try_number=1), "submit"),
    ("nothing, at a later try", None, attempt(), "list, since the run's start"),
    ("nothing, cleared before its first try", None, attempt(try_number=1, max_tries=4), "list, since the run's start"),
    ("nothing, cleared", None, attempt(try_number=3, max_tries=6), "list, since the run's start"),
    ("nothing, without retries, cleared", None, attempt(max_tries=1, retries=0), "list, since the run's start"),
    ("a refused order", OPEN, attempt(), "submit, failures 1, left 9"),
    ("a refused order, at its first try", OPEN, attempt(try_number=1), "submit, failures 1, left 9"),
    ("a receipt of other inputs", receipt(key=OTHER_KEY), attempt(), "refuse, candidates 11"),
    ("an intent of other inputs", intent(key=OTHER_KEY), attempt(), "refuse"),
    ("a delivery of other inputs", replace(DONE, key=OTHER_KEY), attempt(), "refuse, candidates 11"),
    ("a refused order of other inputs", replace(OPEN, key=OTHER_KEY), attempt(), "list, since the run's start"),
    (
        "a refused order of other inputs, at the first try",
        replace(OPEN, key=OTHER_KEY),
        attempt(try_number=1),
        "submit",
    ),
    (
        "a receipt of other inputs, cleared",
        receipt(key=OTHER_KEY),
        attempt(max_tries=6),
        "list, since the run's start",
    ),
    ("an intent of other inputs, cleared", intent(key=OTHER_KEY), attempt(max_tries=6), "list, since the run's start"),
    (
        "a receipt of other inputs, cleared to order anew",
        receipt(key=OTHER_KEY),
        attempt(max_tries=6, on_clear="resubmit"),
        "list, since the run's start",
    ),
]


@pytest.mark.parametrize(("stored", "asks", "expected"), [pytest.param(*row[1:], id=row[0]) for row in STORE_ROWS])
def test_the_store_has(stored: Record | None, asks: Attempt, expected: str) -> None:
    assert decided(stored, asks, None, EARLY) == expected


def test_a_first_order_is_remembered_by_its_key_and_try() -> None:
    decision = decide(None, attempt(try_number=1), None, EARLY)
    assert decision.record == Record(KEY, Phase.OPEN, max_tries=3, try_number=1)


def test_a_clear_gives_an_order_without_record_its_whole_time() -> None:
    asks = attempt(max_tries=4)
    adopted = decide(None, asks, listing(task()), LATE)
    assert adopted.record is not None
    assert adopted.record.since == LATE
    assert adopted.record.submitted_at == FIRST + 2
    again = decide(None, attempt(), listing(task()), LATE)
    assert again.record is not None
    assert again.record.since == FIRST + 2


@pytest.mark.parametrize("phase", [Phase.INTENT, Phase.RECEIPT, Phase.DONE])
def test_changed_inputs_name_what_stands(phase: Phase) -> None:
    decision = decide(record(phase, key=OTHER_KEY), attempt(), None, EARLY)
    named = "outcome is not known" if phase is Phase.INTENT else "Wiro task 11"
    assert named in decision.why
    assert "try 1" in decision.why
    assert "A clear orders the new inputs" in decision.advice
    assert not decision.retryable


NOTHING_ROWS: list[tuple[str, Attempt, Look, str]] = [
    ("its Run is listed", attempt(), listing(task()), "adopt, 11"),
    ("its Run was delivered", attempt(), listing(task(end="succeeded")), "adopt, 11"),
    ("its Run failed", attempt(), listing(task(end="failed")), "submit, failures 1, left 11"),
    ("nothing is listed", attempt(), listing(), "submit"),
    ("only others are listed", attempt(), listing(task(inputs={**INPUTS, "seed": "1"})), "submit"),
    ("one without echo is listed", attempt(), listing(mute()), "refuse, candidates 11"),
    ("its equal is listed", weak(), listing(task(inputs={**INPUTS, "seed": "7"})), "adopt, 11"),
    ("the list does not answer", attempt(), DOWN, "wait, until 20 s on"),
]


@pytest.mark.parametrize(("asks", "look", "expected"), [pytest.param(*row[1:], id=row[0]) for row in NOTHING_ROWS])
@pytest.mark.parametrize("stored", [None, replace(OPEN, key=OTHER_KEY)], ids=["no record", "another's record"])
def test_a_later_try_without_a_record_looks_and(
    asks: Attempt, look: Look, expected: str, stored: Record | None
) -> None:
    assert decided(stored, asks, look, EARLY) == expected


def test_a_look_without_a_record_reaches_back_to_the_runs_start() -> None:
    began = int(attempt().run_started)
    assert decided(None, attempt(), listing(task(created_at=began - 5)), EARLY) == "adopt, 11"
    assert decided(None, attempt(), listing(task(created_at=began - 6)), EARLY) == "submit"


# Failures


@pytest.mark.parametrize(("before", "action"), [(0, Action.SUBMIT), (1, Action.SUBMIT), (2, Action.REFUSE)])
def test_a_failed_run_is_ordered_again_until_it_was_the_third(before: int, action: Action) -> None:
    gone = tuple(map(str, range(before)))
    decision = decide(receipt(failures=before, history=gone), attempt(), task(end="failed"), EARLY)
    assert decision.action is action
    if action is Action.SUBMIT:
        assert decision.record is not None
        assert (decision.record.failures, decision.record.history) == (before + 1, (*gone, "11"))
        assert "ended without success" in decision.why
        assert decision.record.wiro_task_id is None
    else:
        assert "the last one 11" in decision.why
        assert "A clear orders anew" in decision.advice
        assert not decision.retryable


def test_an_order_that_failed_too_often_is_not_sent_whatever_was_in_between() -> None:
    worn = record(Phase.OPEN, failures=MAX_FAILURES, history=("1", "2", "3"))
    assert decided(worn, attempt(), None, EARLY) == "refuse"
    assert decided(worn, attempt(max_tries=4), None, EARLY) == "submit, left 1 2 3"


def test_failures_that_only_the_list_knows_count_too() -> None:
    three = listing(*(task(number, "failed") for number in (11, 12, 13)))
    assert decided(None, attempt(), three, EARLY) == "refuse"


def test_a_clear_orders_anew_after_three_failures_also_where_it_took_the_record_away() -> None:
    three = listing(*(task(number, "failed") for number in (11, 12, 13)))
    assert decide(None, attempt(max_tries=6), three, EARLY).action is Action.SUBMIT


def test_a_failed_run_does_not_hide_the_next_one() -> None:
    again = decide(receipt(), attempt(), task(end="failed"), EARLY).record
    assert again is not None
    sent = replace(again, phase=Phase.INTENT, first=EARLY, until=EARLY + 80)
    seen = listing(task(end="failed"), task(12, created_at=int(EARLY) + 1))
    assert seen.tasks[0].inputs["seed"] == SEED
    assert decided(sent, attempt(), seen, EARLY + 5) == "adopt, 12"
