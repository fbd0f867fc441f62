"""What a look at the list decides where the outcome of a Run is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wiro.api.tasks import WiroTask
from airflow_provider_wiro.submission.decision import (
    LOOK_AGAIN,
    LOOK_PATIENCE,
    MAX_RESENT,
    Action,
    Attempt,
    Listing,
    Unreadable,
    decide,
    superfluous,
)
from airflow_provider_wiro.submission.record import Phase, derived_seed
from tests.unit.submission.support import (
    EARLY,
    FINAL,
    FIRST,
    INPUTS,
    KEY,
    LATE,
    MODEL,
    SEED,
    attempt,
    decided,
    intent,
    listing,
    mute,
    receipt,
    task,
    weak,
)

OTHERS = {**INPUTS, "seed": "1"}
CONTRADICTION = {**INPUTS, "prompt": "A tram", "seed": SEED}
NO_SEED = dict(INPUTS)
ALIKE = {**INPUTS, "seed": "7"}
NEWER = int(FIRST) + 9


def partial_echo(number: int = 11, end: str = "runs", **changes: Any) -> WiroTask:
    return task(number, end, inputs=NO_SEED, **changes)


def alike(number: int = 11, end: str = "runs", **changes: Any) -> WiroTask:
    return task(number, end, inputs=ALIKE, **changes)


def both(expected: str) -> tuple[str, str]:
    return expected, expected


# A derived seed. What is certain is so at once; everything else has to wait until the final moment.

STRONG_ROWS: list[tuple[str, Listing, str, str]] = [
    ("one that runs", listing(task()), "adopt, 11", "adopt, 11"),
    ("one that is queued", listing(task(end="is queued")), "adopt, 11", "adopt, 11"),
    ("one that succeeded", listing(task(end="succeeded")), "adopt, 11", "adopt, 11"),
    ("one that failed", listing(task(end="failed")), *both("submit, failures 1, left 11")),
    ("one that was cancelled", listing(task(end="cancelled")), *both("submit, failures 1, left 11")),
    ("several that run", listing(task(12, created_at=NEWER), task()), *both("adopt, 11, stop 12")),
    ("several, the newer one succeeded", listing(task(12, "succeeded", created_at=NEWER), task()), *both("adopt, 11")),
    ("several, the older one succeeded", listing(task(12), task(end="succeeded")), *both("adopt, 11, stop 12")),
    ("several, the older one failed", listing(task(12), task(end="failed")), *both("adopt, 12")),
    (
        "several, all of them ended",
        listing(task(12, "failed"), task(end="cancelled")),
        *both("submit, failures 2, left 11 12"),
    ),
    ("none", listing(), "wait, until final", "submit, doubts 1"),
    ("none, others of this model", listing(task(inputs=OTHERS)), "wait, until final", "submit, doubts 1"),
    ("none, others without echo of other models", listing(mute(model="a/b")), "wait, until final", "submit, doubts 1"),
    ("none but a claimed one without echo", listing(mute(), claimed=[11]), "wait, until final", "submit, doubts 1"),
    ("one, beside one without echo", listing(mute(12), task()), "adopt, 11", "adopt, 11"),
    ("one that was left behind", listing(task(7)), "wait, until final", "submit, doubts 1, left 7"),
    ("one in capitals of another model's name", listing(task(model=MODEL.upper())), "adopt, 11", "adopt, 11"),
    ("one without a model's name", listing(task(model=None)), "adopt, 11", "adopt, 11"),
    ("one without a time", listing(task(created_at=None)), "adopt, 11", "adopt, 11"),
    ("one of another model with this seed", listing(task(model="a/b")), "wait, until final", "submit, doubts 1"),
    (
        "one of another generation",
        listing(task(inputs={**INPUTS, "seed": str(derived_seed(KEY, 1))})),
        "wait, until final",
        "submit, doubts 1",
    ),
    ("a contradiction", listing(task(inputs=CONTRADICTION)), "wait, until final", "refuse, candidates 11"),
    (
        "a contradiction that failed",
        listing(task(12, "failed", inputs=CONTRADICTION)),
        "wait, until final",
        "refuse, candidates 12",
    ),
    ("a contradiction beside the right one", listing(task(inputs=CONTRADICTION), task(12)), "adopt, 12", "adopt, 12"),
    ("an echo without the seed", listing(partial_echo()), "wait, until final", "refuse, candidates 11"),
    (
        "an echo without the seed of other inputs",
        listing(task(inputs={"prompt": "A tram"})),
        "wait, until final",
        "submit, doubts 1",
    ),
    ("no echo", listing(mute()), "wait, until final", "refuse, candidates 11"),
    ("no echo, several", listing(mute(12), mute()), "wait, until final", "refuse, candidates 11 12"),
    ("no echo, some claimed", listing(mute(12), mute(), claimed=[11]), "wait, until final", "refuse, candidates 12"),
    ("no echo, all claimed", listing(mute(12), mute(), claimed=[11, 12]), "wait, until final", "submit, doubts 1"),
    ("no echo and failed", listing(mute(end="failed")), "wait, until final", "refuse, candidates 11"),
]


@pytest.mark.parametrize(
    ("look", "before", "after"),
    [pytest.param(*row[1:], id=row[0]) for row in STRONG_ROWS],
)
def test_the_derived_seed_is_looked_for_and_there_is(look: Listing, before: str, after: str) -> None:
    left = ("7",) if any(one.wiro_task_id == "7" for one in look.tasks) else ()
    assert decided(intent(history=left), attempt(), look, EARLY) == before
    assert decided(intent(history=left), attempt(), look, FINAL - 0.01) == before
    assert decided(intent(history=left), attempt(), look, FINAL) == after
    assert decided(intent(history=left), attempt(), look, LATE) == after


# A seed of the user's

WEAK_ROWS: list[tuple[str, Attempt, Listing, str]] = [
    ("one", weak(), listing(alike()), "adopt, 11"),
    ("one that succeeded", weak(), listing(alike(end="succeeded")), "adopt, 11"),
    ("one that failed", weak(), listing(alike(end="failed")), "adopt, 11"),
    ("several", weak(), listing(alike(12), alike()), "refuse, candidates 11 12"),
    ("several, some claimed", weak(), listing(alike(12), alike(), claimed=[11]), "adopt, 12"),
    ("several, to be taken", weak(on_unknown="adopt"), listing(alike(12), alike()), "refuse, candidates 11 12"),
    ("several, to be sent", weak(on_unknown="resubmit"), listing(alike(12), alike()), "submit, doubts 1"),
    ("none", weak(), listing(), "submit, doubts 1"),
    ("none, others", weak(), listing(task(inputs=OTHERS)), "submit, doubts 1"),
    ("none but a claimed one", weak(), listing(alike(), claimed=[11]), "submit, doubts 1"),
    ("one that may be a sibling's", weak(mapped=True), listing(alike()), "refuse, candidates 11"),
    ("siblings' only", weak(mapped=True), listing(alike(12), alike(), claimed=[11, 12]), "submit, doubts 1"),
    (
        "one that no sibling claims",
        weak(mapped=True),
        listing(alike(12), alike(), claimed=[11]),
        "refuse, candidates 12",
    ),
    (
        "one that no sibling claims, to be taken",
        weak(mapped=True, on_unknown="adopt"),
        listing(alike(12), alike(), claimed=[11]),
        "adopt, 12",
    ),
    ("one beside one without echo", weak(), listing(alike(), mute(12)), "refuse, candidates 11 12"),
    ("one with half an echo", weak(), listing(partial_echo()), "refuse, candidates 11"),
    ("one with half an echo of other inputs", weak(), listing(task(inputs={"prompt": "A tram"})), "submit, doubts 1"),
    ("one without a time", weak(), listing(alike(created_at=None)), "adopt, 11"),
    ("one of another model", weak(), listing(alike(model="a/b")), "submit, doubts 1"),
    ("one whose random seed is told", weak(inputs={**INPUTS, "seed": "-1"}), listing(task()), "adopt, 11"),
]


@pytest.mark.parametrize(("asks", "look", "expected"), [pytest.param(*row[1:], id=row[0]) for row in WEAK_ROWS])
def test_equal_inputs_are_looked_for_and_there_is(asks: Attempt, look: Listing, expected: str) -> None:
    assert decided(intent(), asks, look, EARLY) == "wait, until final"
    assert decided(intent(), asks, look, FINAL) == expected


# No echo: nothing but time and model tells

POLICY_ROWS: list[tuple[str, str, Listing, str]] = [
    ("nothing in the window", "fail", listing(), "submit, doubts 1"),
    ("all claimed", "fail", listing(mute(), mute(12), claimed=[11, 12]), "submit, doubts 1"),
    ("one, fail", "fail", listing(mute()), "refuse, candidates 11"),
    ("several, fail", "fail", listing(mute(12), mute()), "refuse, candidates 11 12"),
    ("one, adopt", "adopt", listing(mute()), "adopt, 11"),
    ("one that is over, adopt", "adopt", listing(mute(end="failed")), "adopt, 11"),
    ("several, adopt", "adopt", listing(mute(12), mute()), "refuse, candidates 11 12"),
    ("several, one unclaimed, adopt", "adopt", listing(mute(12), mute(), claimed=[12]), "adopt, 11"),
    ("one, resubmit", "resubmit", listing(mute()), "submit, doubts 1"),
    ("several, resubmit", "resubmit", listing(mute(12), mute()), "submit, doubts 1"),
]


@pytest.mark.parametrize("asking", [attempt, weak], ids=["derived seed", "seed of the user's"])
@pytest.mark.parametrize(("on_unknown", "look", "expected"), [pytest.param(*row[1:], id=row[0]) for row in POLICY_ROWS])
def test_without_echo(asking: Any, on_unknown: str, look: Listing, expected: str) -> None:
    asks = asking(on_unknown=on_unknown)
    assert decided(intent(), asks, look, EARLY) == "wait, until final"
    assert decided(intent(), asks, look, FINAL) == expected


def test_no_policy_stops_what_is_not_certain() -> None:
    for on_unknown in ("fail", "adopt", "resubmit"):
        look = listing(mute(), task(12, inputs=CONTRADICTION), partial_echo(13))
        assert decide(intent(), attempt(on_unknown=on_unknown), look, LATE).stop == ()


def test_a_refusal_names_the_tasks_and_both_ways_out() -> None:
    decision = decide(intent(), attempt(), listing(mute(12), mute()), LATE)
    assert "one of Wiro task 11, 12 may be it" in decision.why
    assert "on_unknown='adopt'" in decision.advice
    assert "on_unknown='resubmit'" in decision.advice
    assert not decision.retryable


# What is adopted


def test_the_oldest_is_taken_by_time_and_then_by_id() -> None:
    same = int(FIRST) + 3
    look = listing(task(100, created_at=same), task(99, created_at=same), task(8, created_at=same + 1))
    assert decided(intent(), attempt(), look, EARLY) == "adopt, 99, stop 100 8"
    assert decided(intent(), attempt(), Listing(look.tasks[::-1], look.clock), EARLY) == "adopt, 99, stop 100 8"


def test_an_adopted_task_counts_from_its_creation() -> None:
    decision = decide(intent(doubts=1), attempt(), listing(task(created_at=int(FIRST) + 7)), EARLY)
    assert decision.record == replace(
        intent(doubts=1), phase=Phase.RECEIPT, wiro_task_id="11", submitted_at=FIRST + 7, since=FIRST + 7
    )
    assert decision.task is not None
    assert decision.task.wiro_task_id == "11"


def test_a_doubted_order_whose_run_failed_waits_for_the_other_one() -> None:
    look = listing(task(end="failed"))
    assert decided(intent(doubts=1), attempt(), look, EARLY) == "wait, until final"
    assert decided(intent(doubts=1), attempt(), look, FINAL) == "submit, failures 1, doubts 2, left 11"


def test_a_failed_run_counts_also_where_others_are_in_doubt() -> None:
    look = listing(task(end="failed"), mute(12))
    asks = attempt(on_unknown="resubmit")
    assert decided(intent(doubts=1), asks, look, FINAL) == "submit, failures 1, doubts 2, left 11"


def test_a_third_failure_that_the_list_tells_ends_the_order() -> None:
    tired = intent(failures=2, history=("8", "9"))
    assert decided(tired, attempt(), listing(task(end="failed")), EARLY) == "refuse"


# Wiro does not tell


def test_a_list_that_does_not_answer_is_asked_again_and_nothing_is_sent() -> None:
    decision = decide(intent(), attempt(), Unreadable("HTTP 502"), LATE)
    assert (decision.action, decision.until) == (Action.WAIT, LATE + LOOK_AGAIN)
    assert "HTTP 502" in decision.why


@pytest.mark.parametrize(
    ("looked_for", "expected"), [(LOOK_PATIENCE - 0.1, "wait, until 20 s on"), (LOOK_PATIENCE, "refuse, retryable")]
)
def test_a_try_looks_in_vain_for_so_long_only(looked_for: float, expected: str) -> None:
    asks = attempt(looking_since=LATE - looked_for)
    assert decided(intent(), asks, Unreadable("HTTP 502"), LATE) == expected
    assert decided(None, asks, Unreadable("HTTP 502"), LATE) == expected


# What was proved absent is sent again, not for ever


def test_one_try_sends_what_was_lost_so_often_only() -> None:
    lost, asks = intent(try_number=2), attempt(try_number=2)
    for doubts in range(1, MAX_RESENT + 1):
        assert decided(lost, asks, listing(), LATE) == f"submit, doubts {doubts}"
        lost = replace(lost, doubts=doubts, resent=doubts)
    assert decided(lost, asks, listing(), LATE) == "refuse, retryable"


def test_a_later_try_sends_again() -> None:
    lost = intent(doubts=MAX_RESENT, try_number=2)
    assert decided(lost, attempt(try_number=3), listing(), LATE) == f"submit, doubts {MAX_RESENT + 1}"


def test_a_later_try_may_send_as_often_as_the_first() -> None:
    lost = decide(intent(doubts=MAX_RESENT, try_number=2), attempt(try_number=3), listing(), LATE).record
    assert lost is not None
    lost = replace(lost, phase=Phase.INTENT, try_number=3)
    assert decide(lost, attempt(try_number=3), listing(), LATE).action is Action.SUBMIT


# A second Run that came late


def test_superfluous_is_what_runs_is_certain_and_is_not_the_recorded_one() -> None:
    seen = listing(
        task(11),
        task(12),
        task(13, "is queued"),
        task(14, "succeeded"),
        task(15, "failed"),
        task(16, inputs=CONTRADICTION),
        partial_echo(17),
        mute(18),
        task(19, model="a/b"),
        task(20, created_at=int(FIRST) - 1000),
        task(21),
        task(22, inputs=OTHERS),
    )
    assert superfluous(receipt(doubts=1, history=("21",)), attempt(), seen) == ["12", "13"]


def test_nothing_is_superfluous_without_a_derived_seed() -> None:
    assert superfluous(receipt(doubts=1), weak(), listing(alike(), alike(12))) == []
