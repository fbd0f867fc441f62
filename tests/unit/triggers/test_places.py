from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroBusyError
from airflow_provider_wiro.triggers import watcher
from airflow_provider_wiro.triggers._places import Places, Turn
from airflow_provider_wiro.triggers._watched import Mailbox
from airflow_provider_wiro.triggers.wiro import WiroPlaceTrigger
from tests.unit.triggers.crowd import MODEL, Heard, listen, order


@pytest.fixture(autouse=True)
def no_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Places, "_pause", staticmethod(lambda seconds: seconds))


def running(*numbers: int) -> frozenset[str]:
    return frozenset(map(str, numbers))


def join(
    places: Places, since: float, limit: int | None = 10, now: float = 1000.0, wanted: int = 1, **how: Any
) -> Turn:
    turn = Turn(since, wanted, Mailbox(1.0, 1.0, 0.0))
    places.join(turn, limit, how.get("came_back", False), now)
    return turn


def at_once(mailbox: Mailbox) -> Any:
    """Return what comes next, `None` where there is nothing: its time is up, so it never waits."""
    try:
        mailbox.next().send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def granted(turn: Turn) -> int:
    """Return how many places a turn was given since the last time."""
    found = 0
    while (grant := at_once(turn.mailbox)) is not None:
        assert isinstance(grant, int)
        found += grant
    return found


def test_first_come_first_served_whoever_asks_first() -> None:
    places = Places()
    late, early, middle = join(places, 30.0), join(places, 10.0), join(places, 20.0)
    assert places.let_go(running(*range(8)), 1001.0) == 2
    assert [granted(turn) for turn in (early, middle, late)] == [1, 1, 0]
    assert places.turns == [late]


@pytest.mark.parametrize(("taken", "free"), [(0, 10), (7, 3), (10, 0), (15, 0)])
def test_as_many_are_let_go_as_places_are_free(taken: int, free: int) -> None:
    places = Places()
    turns = [join(places, float(number)) for number in range(20)]
    assert places.let_go(running(*range(taken)), 1001.0) == free
    assert [granted(turn) for turn in turns] == [1] * free + [0] * (20 - free)


def test_those_on_the_way_hold_their_places_until_they_are_seen_to_run() -> None:
    places = Places()
    for number in range(20):
        join(places, float(number))
    assert places.let_go(running(*range(6)), 1001.0) == 4
    assert places.let_go(running(*range(6)), 1003.0) == 0
    assert places.let_go(running(*range(8)), 1005.0) == 0  # two have arrived, two are on the way
    assert places.let_go(running(*range(1, 8)), 1007.0) == 1
    assert places.let_go(running(*range(1, 11)), 1009.0) == 0


def test_a_place_whose_grant_was_not_used_in_thirty_seconds_is_given_again() -> None:
    places = Places()
    for number in range(3):
        join(places, float(number))
    assert places.let_go(running(*range(9)), 1001.0) == 1
    assert places.let_go(running(*range(9)), 1030.0) == 0
    assert places.let_go(running(*range(9)), 1031.5) == 1


def test_those_who_come_back_slow_the_tries_down_up_to_a_minute() -> None:
    places = Places()
    for number in range(40):
        join(places, float(number))
    now, pauses = 1000.0, []
    assert places.let_go(running(*range(9)), now) == 1
    for _ in range(9):
        join(places, 0.0, now=now, came_back=True)
        came_back_at = now
        while not places.let_go(running(*range(9)), now):
            now += 0.5
        pauses.append(now - came_back_at)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_seen_end_lets_one_go_at_once_however_many_came_back() -> None:
    places = Places()
    for number in range(40):
        join(places, float(number))
    places.let_go(running(*range(9)), 1000.0)
    for number in range(8):
        join(places, float(number), now=1000.5, came_back=True)
    assert places.let_go(running(*range(9)), 1001.0) == 0
    assert places.let_go(running(*range(1, 9)), 1002.0) == 1
    assert places.let_go(running(*range(1, 9)), 1003.0) == 0


def test_a_place_that_replaces_another_lets_only_one_go_where_others_hold_the_rest() -> None:
    places = Places()
    for number in range(40):
        join(places, float(number))
    assert places.let_go(running(*range(5)), 1000.0) == 5  # five seem free, and hidden tasks have them
    for number in range(5):
        join(places, float(number), now=1001.0, came_back=True)
    assert places.let_go(running(*range(1, 5)), 1002.0) == 1
    assert places.let_go(running(*range(1, 6)), 1004.0) == 0  # it runs: that is no sign of four more
    assert places.let_go(running(*range(1, 7)), 1006.0) == 4  # more than ran when it was full: this is


def test_whoever_comes_back_for_the_thousandth_time_still_gets_a_turn() -> None:
    places = Places()
    for _ in range(1100):
        turn = join(places, 1.0, now=1000.0, came_back=True)
        places.leave(turn.mailbox)
        places._on_the_way.append(1000.0)  # as if it had been let go again
    join(places, 1.0, now=1001.0, came_back=True)
    assert places.let_go(None, 1062.0) == 1


def test_without_a_known_limit_one_is_let_go_for_each_that_ends() -> None:
    places = Places()
    for number in range(10):
        join(places, float(number), limit=None)
    assert places.let_go(running(*range(9)), 1001.0) == 0
    assert places.let_go(running(*range(9)), 1003.0) == 0
    assert places.let_go(running(*range(3, 9)), 1005.0) == 3
    assert places.let_go(running(*range(3, 9)), 1007.0) == 0
    assert places.let_go(running(*range(3, 9)), 1040.0) == 1  # on suspicion


def test_where_the_list_cannot_be_read_one_tries_every_thirty_seconds() -> None:
    places = Places()
    for number in range(10):
        join(places, float(number))
    let_go = [second for second in range(1000, 1130, 2) if places.let_go(None, float(second))]
    assert let_go == [1030, 1060, 1090, 1120]


def test_a_queue_that_was_empty_for_an_hour_begins_anew() -> None:
    places = Places()
    first = join(places, 1.0, limit=None)
    places.let_go(running(*range(10)), 1001.0)
    assert places.let_go(running(*range(1, 10)), 1003.0) == 1
    assert granted(first) == 1
    for number in range(10):
        join(places, 4600.0 + number, limit=None, now=4600.0)
    assert places.let_go(running(*range(100, 110)), 4601.0) == 0  # what ended meanwhile ended for others


def test_one_who_leaves_takes_no_place() -> None:
    places = Places()
    first, second = join(places, 1.0), join(places, 2.0)
    places.leave(first.mailbox)
    places.leave(first.mailbox)
    assert places.let_go(running(*range(9)), 1001.0) == 1
    assert (granted(first), granted(second)) == (0, 1)


def test_one_who_wants_many_gets_them_over_several_rounds() -> None:
    places = Places()
    many, one = join(places, 1.0, wanted=5), join(places, 2.0)
    assert places.let_go(running(*range(7)), 1001.0) == 3
    assert (granted(many), many.wanted, granted(one)) == (3, 2, 0)
    assert places.let_go(running(*range(3, 10)), 1003.0) == 3
    assert (granted(many), many.wanted, granted(one)) == (2, 0, 1)
    assert places.turns == []
    assert places.let_go(running(), 1005.0) == 0


@dataclass
class Account:
    """An account of ten places on a fake clock, orders that want them, and hidden tasks of other projects."""

    hidden: Callable[[float], int]
    limit_is_told: bool
    seed: int
    orders: int = 200
    refused: int = 0
    done: int = 0
    started: list[int] = field(default_factory=list)
    used: float = 0.0

    def play(self) -> float:
        """Return the time at which the last order was done."""
        dice, places, now = random.Random(self.seed), Places(), 0.0
        alive: dict[str, float] = {}
        turns = {number: self.join(places, number, now, False) for number in range(self.orders)}
        coming: list[tuple[float, int, bool]] = []
        while self.done < self.orders:
            now += dice.uniform(1.6, 2.4)
            assert now < 50_000, "somebody starves"
            self.done += sum(end <= now for end in alive.values())
            alive = {name: end for name, end in alive.items() if end > now}
            while coming and coming[0][0] <= now:
                _, number, tries = heapq.heappop(coming)
                if not tries:
                    turns[number] = self.join(places, number, now, True)
                elif len(alive) + self.hidden(now) < 10:
                    self.started.append(number)
                    alive[f"{number}"] = now + (seconds := dice.uniform(20, 120))
                    self.used += seconds
                else:
                    self.refused += 1
                    heapq.heappush(coming, (now + dice.uniform(1, 4), number, False))
            places.let_go(frozenset(alive), now)
            for number in [number for number, turn in turns.items() if granted(turn)]:
                del turns[number]
                heapq.heappush(coming, (now + dice.uniform(1, 10), number, True))
        return now

    def join(self, places: Places, number: int, now: float, came_back: bool) -> Turn:
        return join(places, float(number), 10 if self.limit_is_told else None, now, came_back=came_back)


def never(now: float) -> int:
    return 0


def always_five(now: float) -> int:
    return 5


def waves_of_six(now: float) -> int:
    return int(now // 300) % 2 * 6


def full_for_half_an_hour(now: float) -> int:
    return 10 if now < 1800 else 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("hidden", "limit_is_told", "most_refused", "longest"),
    [
        (never, True, 5, 1.3),
        (never, False, 100, 1.5),
        (always_five, True, 230, 2.5),
        (always_five, False, 230, 2.7),
        (waves_of_six, True, 100, 1.8),
        (waves_of_six, False, 130, 2.3),
        (full_for_half_an_hour, True, 60, 2.8),
    ],
)
def test_two_hundred_orders_find_their_places(
    monkeypatch: pytest.MonkeyPatch,
    hidden: Callable[[float], int],
    limit_is_told: bool,
    most_refused: int,
    longest: float,
    seed: int,
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(Places, "_pause", staticmethod(lambda seconds: seconds * dice.uniform(0.8, 1.2)))
    account = Account(hidden, limit_is_told, seed)
    ended = account.play()
    assert sorted(account.started) == list(range(200))
    assert account.refused <= most_refused
    assert ended <= longest * account.used / 10  # ten places, all the time, would be 1
    # Nobody is overtaken by many: those who were refused come back to their old turn.
    assert max(abs(place - number) for place, number in enumerate(account.started)) <= 20


# With the local Wiro


@pytest.fixture
def full(wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalWiro]:
    """A local Wiro with a limit of three tasks, looked at ten times a second."""
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wiro.connection_json())
    monkeypatch.setattr(watcher, "_PLACES_EVERY", 0.1)
    wiro.set_limit(3)
    yield wiro
    wiro.set_limit(None)


def place(since: float, patience: float = 10.0, came_back: bool = False) -> WiroPlaceTrigger:
    return WiroPlaceTrigger(
        wiro_conn_id="wiro_default",
        since=since,
        limit=3,
        came_back=came_back,
        end_time=time.time() + patience,
        grace=0.0,
    )


async def listen_all(triggers: Iterable[WiroPlaceTrigger]) -> list[Heard]:
    return list(await asyncio.gather(*map(listen, triggers)))


def test_places_come_in_order_as_tasks_end(full: LocalWiro) -> None:
    began = time.time()
    for seconds in (0.5, 0.9, 1.3):
        order(full, seconds)
    third, first, second = asyncio.run(listen_all(map(place, (3.0, 1.0, 2.0))))
    assert [one.words for one in (first, second, third)] == [["place"]] * 3
    for heard, ended in ((first, 0.5), (second, 0.9), (third, 1.3)):
        assert ended <= heard.at - began < ended + 0.5
    assert full.ledger()["calls"]["Task/List"] <= 20


def test_the_deadline_ends_the_wait_for_a_place(full: LocalWiro) -> None:
    order(full, 30.0, 3)
    assert [one.words for one in asyncio.run(listen_all([place(1.0, 0.4), place(2.0, 0.5)]))] == [["timeout"]] * 2


def test_refused_credentials_end_the_wait_for_a_place(full: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = full.connection_json().replace("local-secret", "another-secret")
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wrong)
    assert [one.words for one in asyncio.run(listen_all([place(1.0), place(2.0)]))] == [["refused"]] * 2


def test_where_the_list_is_off_nobody_takes_that_for_an_empty_account(
    full: LocalWiro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_REST", 2)
    full.set_faults(["list:off"])
    heard = asyncio.run(listen_all([place(1.0, 1.0), place(2.0, 1.0), place(3.0, 1.0)]))
    assert [one.words for one in heard] == [["timeout"]] * 3
    assert full.ledger()["calls"]["Task/List"] >= 2


def test_a_place_trigger_is_made_anew_from_its_row() -> None:
    path, arguments = place(7.0, came_back=True).serialize()
    assert path == "airflow_provider_wiro.triggers.wiro.WiroPlaceTrigger"
    assert WiroPlaceTrigger(**arguments).serialize() == (path, arguments)


def test_twelve_orders_pass_through_three_places(full: LocalWiro, client: WiroClient) -> None:
    async def one(number: int) -> None:
        came_back = False
        while True:
            assert (await listen(place(float(number), came_back=came_back))).words == ["place"]
            try:
                await asyncio.to_thread(client.run, MODEL, {"prompt": f"[wiro:slow=300] {number}"})
            except WiroBusyError:
                came_back = True
            else:
                return

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(12)))

    asyncio.run(all_of_them())
    began = [int(run["parameters"]["prompt"].split()[1]) for run in full.ledger()["runs"]]
    assert set(began[:3]) == {0, 1, 2}
    assert len(full.ledger()["runs"]) == 12
    assert full.ledger()["refusals"].get("96", 0) <= 6
