"""Thousands of states, as odd as they come: whatever is decided, nothing is paid twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_provider_wiro.api.tasks import Outcome, ServerClock, WiroTask
from airflow_provider_wiro.submission.decision import (
    ON_CLEAR,
    ON_UNKNOWN,
    Action,
    Attempt,
    Decision,
    Listing,
    Look,
    Missing,
    Unreadable,
    decide,
    superfluous,
)
from airflow_provider_wiro.submission.record import Phase, Record, derived_seed
from tests.unit.submission.support import ENDS, FINAL, FIRST, INPUTS, KEY, MODEL, OTHER_KEY, attempt, record, task

STATES = 12_000
ECHOES = ("ours", "ours", "contradiction", "no seed", "none", "another's")


@dataclass(frozen=True)
class State:
    """What `decide` is asked."""

    stored: Record | None
    asks: Attempt
    look: Look
    now: float

    @property
    def is_ours(self) -> bool:
        return self.stored is not None and self.stored.key == self.asks.key

    @property
    def is_cleared(self) -> bool:
        return self.stored is not None and self.stored.max_tries != self.asks.max_tries

    @property
    def orders_anew(self) -> bool:
        return self.is_ours and self.is_cleared and self.asks.on_clear == "resubmit"

    @property
    def generation(self) -> int:
        return self.stored.generation if self.stored is not None and self.is_ours else 0


def some_task(dice: random.Random, number: int, generation: int, offset: float) -> WiroTask:
    seed = str(derived_seed(KEY, generation))
    echo: dict[str, Any] = {
        "ours": {**INPUTS, "seed": seed},
        "contradiction": {**INPUTS, "prompt": "A tram", "seed": seed},
        "no seed": INPUTS,
        "none": {},
        "another's": {**INPUTS, "seed": "5"},
    }[dice.choice(ECHOES)]
    return task(
        number,
        dice.choice(list(ENDS)),
        inputs=echo,
        model=dice.choice([MODEL] * 6 + [None, "a/b"]),
        created_at=dice.choice([None, int(FIRST + offset) + dice.randint(-200, 400), int(FIRST + offset) + 1]),
    )


def some_look(dice: random.Random, phase: Phase | None, generation: int) -> Look:
    clock = dice.choice([None, ServerClock(0.0, 0.5), ServerClock(90.0, 0.7), ServerClock(-90.0, 3.0)])
    offset = clock.offset if clock is not None else 0.0
    tasks = tuple(some_task(dice, 11 + number, generation, offset) for number in range(dice.choice([0, 1, 1, 2, 3, 5])))
    seen = Listing(tasks, clock, frozenset(str(dice.randint(11, 16)) for _ in range(dice.choice([0, 0, 2]))))
    looks: list[Look] = [None, Unreadable("HTTP 500"), seen, seen]
    if phase in (Phase.RECEIPT, Phase.DONE):
        looks += [Missing(), *(some_task(dice, 11, generation, 0) for _ in range(3))]
    return dice.choice(looks)


def some_state(dice: random.Random) -> State:
    failures = dice.choice([0, 0, 1, 2, 3])
    history = tuple(map(str, range(failures))) + dice.choice([(), ("12",), ("13",)])
    stored = dice.choice(
        [
            None,
            *(
                record(
                    dice.choice(list(Phase)),
                    key=dice.choice([KEY] * 5 + [OTHER_KEY]),
                    generation=dice.choice([0, 0, 1]),
                    failures=failures,
                    doubts=dice.choice([0, 0, 1, 2, 3]),
                    history=history,
                    try_number=dice.choice([1, 2]),
                )
                for _ in range(5)
            ),
        ]
    )
    asks = attempt(
        marked=dice.random() < 0.7,
        mapped=dice.random() < 0.3,
        try_number=dice.choice([1, 2, 3]),
        max_tries=dice.choice([3, 3, 3, 6]),
        on_unknown=dice.choice(ON_UNKNOWN),
        on_clear=dice.choice(ON_CLEAR),
        settle=60.0,
        run_started=FIRST - 30,
    )
    asks = asks if asks.marked else replace(asks, inputs={**INPUTS, "seed": "5"})
    phase = stored.phase if stored is not None and stored.key == KEY else None
    generation = stored.generation if phase is not None and stored is not None else 0
    look = some_look(dice, phase, generation)
    # These are not looked for.
    if phase is Phase.OPEN or (phase is None and asks.is_first):
        look = None
    return State(stored, asks, look, dice.choice([FIRST + 1, FINAL - 1, FINAL, FINAL + 2000]))


def certain(state: State) -> list[WiroTask]:
    """The listed tasks that are the order's by their seed, told without the package's own matching."""
    if not isinstance(state.look, Listing) or not state.asks.marked:
        return []
    ours = {**INPUTS, "seed": str(derived_seed(KEY, state.generation))}
    return [one for one in state.look.tasks if one.inputs == ours and one.model in (MODEL, None)]


def in_sight(state: State) -> list[WiroTask]:
    """The certain ones that may be an open question: not left behind, and young enough beyond doubt."""
    assert isinstance(state.look, Listing)
    first = state.stored.first if state.stored is not None and state.is_ours else state.asks.run_started
    offset = state.look.clock.offset if state.look.clock is not None else 0.0
    history = state.stored.history if state.stored is not None and state.is_ours else ()
    return [
        one
        for one in certain(state)
        if one.wiro_task_id not in history and (one.created_at is None or one.created_at >= first + offset)
    ]


def check(state: State, decision: Decision) -> None:
    assert (decision.record is not None) >= (decision.action in (Action.SUBMIT, Action.ADOPT, Action.DELIVER))
    recorded = {state.stored.wiro_task_id} if state.stored is not None and state.orders_anew else set()
    sure = {one.wiro_task_id for one in certain(state)} | recorded
    assert set(decision.stop) <= sure
    if decision.action is Action.REFUSE:
        assert decision.why
        assert decision.advice
    if decision.action is Action.WAIT:
        assert decision.until > state.now
    if decision.action is Action.SUBMIT and not state.orders_anew:
        check_submit(state, decision)


def check_submit(state: State, decision: Decision) -> None:
    assert decision.record is not None
    assert decision.record.key == KEY
    assert not isinstance(state.look, (Unreadable, Missing))
    seen = in_sight(state) if isinstance(state.look, Listing) else []
    assert not [one for one in seen if one.outcome in (Outcome.RUNNING, Outcome.SUCCEEDED)]
    if state.stored is None or not state.is_ours:
        assert state.look is not None or (state.asks.try_number == 1 and state.asks.max_tries == 3)
        return
    assert decision.record.generation == state.stored.generation
    assert set(decision.record.history) >= set(state.stored.history)
    assert decision.record.failures >= (0 if state.is_cleared else state.stored.failures)
    if state.stored.phase is Phase.INTENT:
        assert isinstance(state.look, Listing)
        assert state.now >= FINAL or [one for one in certain(state) if one.outcome.is_terminal]
    if isinstance(state.look, WiroTask):
        assert state.look.outcome in (Outcome.FAILED, Outcome.CANCELLED)


@pytest.mark.parametrize("seed", range(4))
def test_no_state_pays_twice(seed: int) -> None:
    dice = random.Random(seed)
    happened: Counter[Action] = Counter()
    for number in range(STATES // 4):
        state = some_state(dice)
        try:
            decision = decide(state.stored, state.asks, state.look, state.now)
            check(state, decision)
        except Exception as error:
            error.add_note(f"state {number} of seed {seed}: {state}")
            raise
        happened[decision.action] += 1
    assert set(happened) == set(Action)
    assert min(happened.values()) > 10


@pytest.mark.parametrize("seed", range(2))
def test_no_state_makes_an_uncertain_task_superfluous(seed: int) -> None:
    dice = random.Random(seed)
    found = 0
    for _ in range(STATES // 4):
        state = some_state(dice)
        if state.stored is None or not state.is_ours or not isinstance(state.look, Listing):
            continue
        extra = superfluous(state.stored, state.asks, state.look)
        found += len(extra)
        running = {one.wiro_task_id for one in certain(state) if one.outcome is Outcome.RUNNING}
        assert set(extra) <= running - {state.stored.wiro_task_id, *state.stored.history}
    assert found > 20
