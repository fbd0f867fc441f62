"""What a clear does: it is known by Airflow's `max_tries`, which nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_wiro.submission.decision import Action, Look, Missing, Unreadable, decide
from airflow_provider_wiro.submission.record import Phase, Record, derived_seed
from tests.unit.submission.support import (
    EARLY,
    FINAL,
    FIRST,
    INPUTS,
    KEY,
    LATE,
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

CLEARED = attempt(try_number=2, max_tries=4)
ANEW = attempt(try_number=2, max_tries=4, on_clear="resubmit")
DONE = record(Phase.DONE)
WORN = {"failures": 3, "history": ("7", "8", "9")}

REATTACH_ROWS: list[tuple[str, Record, Look, float, str]] = [
    ("a receipt is read", receipt(), None, EARLY, "read"),
    ("what runs is followed", receipt(), task(), EARLY, "attach, 11"),
    ("what succeeded is delivered", receipt(), task(end="succeeded"), EARLY, "deliver, 11"),
    ("what was delivered is delivered again", DONE, task(end="succeeded"), EARLY, "deliver, 11"),
    ("what was delivered and is gone is refused", DONE, Missing(), EARLY, "refuse, candidates 11"),
    ("what failed is ordered", receipt(), task(end="failed"), EARLY, "submit, failures 1, left 11"),
    ("what was cancelled is ordered", receipt(), task(end="cancelled"), EARLY, "submit, failures 1, left 11"),
    (
        "what failed for the third time is ordered",
        receipt(**{**WORN, "failures": 2}),
        task(end="failed"),
        EARLY,
        "submit, failures 1, left 7 8 9 11",
    ),
    ("what was given up is ordered", record(Phase.OPEN, **WORN), None, EARLY, "submit, left 7 8 9"),
    ("an intent is looked for", intent(), None, EARLY, "list, since first"),
    ("an intent that is listed is taken", intent(), listing(task()), EARLY, "adopt, 11"),
    ("an intent is waited for", intent(), listing(), EARLY, "wait, until final"),
    ("an intent that is not there is ordered", intent(), listing(), FINAL, "submit, doubts 1"),
    ("an intent that nothing proves is refused", intent(), listing(mute()), FINAL, "refuse, candidates 11"),
    ("an intent is not ordered blindly", intent(), Unreadable("HTTP 500"), LATE, "wait, until 20 s on"),
]


@pytest.mark.parametrize(
    ("stored", "look", "now", "expected"), [pytest.param(*row[1:], id=row[0]) for row in REATTACH_ROWS]
)
def test_after_a_clear(stored: Record, look: Look, now: float, expected: str) -> None:
    assert decided(stored, CLEARED, look, now) == expected


@pytest.mark.parametrize("look", [task(), task(end="succeeded"), Unreadable("HTTP 500"), listing(task(12))])
def test_a_clear_gives_an_order_its_whole_time_and_its_failures_back(look: Look) -> None:
    decision = decide(receipt(**{**WORN, "failures": 2}), CLEARED, look, LATE)
    assert decision.record is not None
    assert (decision.record.since, decision.record.failures, decision.record.max_tries) == (LATE, 0, 4)
    assert decision.record.history == ("7", "8", "9")
    assert decision.record.submitted_at == FIRST + 2


def test_a_clear_counts_once() -> None:
    followed = decide(receipt(), CLEARED, task(), LATE).record
    assert followed is not None
    again = decide(followed, attempt(try_number=3, max_tries=4), task(), LATE + 500).record
    assert again == followed
    assert decided(followed, replace(ANEW, try_number=3), task(), LATE + 500) == "attach, 11"


def test_a_retry_is_no_clear() -> None:
    assert decided(receipt(), attempt(on_clear="resubmit"), task(), EARLY) == "attach, 11"
    # Somebody has edited `retries`: `max_tries` is as it was.
    assert decided(receipt(), attempt(on_clear="resubmit", retries=0), task(), EARLY) == "attach, 11"


RESUBMIT_ROWS: list[tuple[str, Record, Look, str]] = [
    ("a receipt", receipt(), None, "submit, generation 1, left 11, stop 11"),
    ("what was delivered", DONE, None, "submit, generation 1, left 11, stop 11"),
    ("what was refused", record(Phase.OPEN), None, "submit, generation 1"),
    ("what was given up", record(Phase.OPEN, **WORN), None, "submit, generation 1, left 7 8 9"),
    ("an intent, not looked for yet", intent(), None, "list, since first"),
    ("an intent that is not there", intent(), listing(), "submit, generation 1"),
    ("an intent that runs", intent(), listing(task()), "submit, generation 1, left 11, stop 11"),
    ("an intent, twice", intent(), listing(task(12), task()), "submit, generation 1, left 12 11, stop 12 11"),
    (
        "an intent, others in the list",
        intent(),
        listing(mute(), task(12, inputs={**INPUTS, "seed": "1"})),
        "submit, generation 1",
    ),
    ("a third generation", receipt(generation=2), None, "submit, generation 3, left 11, stop 11"),
]


@pytest.mark.parametrize(("stored", "look", "expected"), [pytest.param(*row[1:], id=row[0]) for row in RESUBMIT_ROWS])
@pytest.mark.parametrize("now", [EARLY, LATE], ids=["early", "late"])
def test_a_clear_that_orders_anew_finds(stored: Record, look: Look, expected: str, now: float) -> None:
    # What may still be accepted is waited for: it would run beside the new one.
    waits = now == EARLY and stored.phase is Phase.INTENT and expected == "submit, generation 1"
    assert decided(stored, ANEW, look, now) == ("wait, until final" if waits else expected)


def test_a_clear_that_orders_anew_does_not_send_blindly_what_may_have_been_sent() -> None:
    assert decide(intent(), ANEW, Unreadable("HTTP 500"), EARLY).action is not Action.SUBMIT


def test_a_new_generation_has_another_seed() -> None:
    old = receipt()
    new = decide(old, ANEW, None, EARLY).record
    assert new is not None
    assert (new.phase, new.wiro_task_id, new.failures, new.max_tries) == (Phase.OPEN, None, 0, 4)
    seeds = [ANEW.sought(stored).inputs["seed"] for stored in (old, new)]
    assert seeds == [str(derived_seed(KEY, 0)), str(derived_seed(KEY, 1))]
    assert seeds[0] != seeds[1]
    sent = replace(new, phase=Phase.INTENT, first=LATE, until=LATE + 80)
    assert decided(sent, ANEW, listing(task(12, created_at=int(LATE))), LATE + 1).startswith("wait")
    ours = task(13, created_at=int(LATE), inputs={**INPUTS, "seed": seeds[1]})
    assert decided(sent, ANEW, listing(ours), LATE + 1) == "adopt, 13"


def test_a_new_generation_begins_without_doubts() -> None:
    new = decide(receipt(doubts=2), ANEW, None, EARLY).record
    assert new is not None
    assert new.doubts == 0


def test_a_seed_of_the_users_stays() -> None:
    asks = replace(weak(), max_tries=4, on_clear="resubmit")
    new = decide(receipt(), asks, None, EARLY).record
    assert new is not None
    assert asks.sought(new).inputs["seed"] == "7"
    assert new.history == ("11",)


def test_a_clear_does_not_stop_what_it_is_not_sure_of() -> None:
    asks = replace(weak(), max_tries=4, on_clear="resubmit")
    same = task(inputs={**INPUTS, "seed": "7"})
    assert decide(intent(), asks, listing(same), EARLY).stop == ()


def test_a_clear_does_not_stop_another_models_task_with_this_seed() -> None:
    assert decide(intent(), ANEW, listing(task(12, model="a/b")), EARLY).stop == ()
