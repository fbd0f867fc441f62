from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroConnectionError
from airflow_provider_wiro.triggers import watcher
from tests.unit.triggers.crowd import (
    ENDS,
    Client,
    all_succeeded,
    calls,
    listen,
    listen_to_all,
    order,
    pollers,
    stalls,
    trigger,
    until,
    use,
    words,
)


@pytest.fixture(autouse=True)
def connection(wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wiro.connection_json())


@pytest.fixture
def client(wiro: LocalWiro) -> Client:
    return Client(wiro)


@pytest.mark.parametrize(("count", "pages"), [(150, 2), (250, 3)])
def test_a_crowd_costs_a_few_pages_each_round_and_gets_one_right_event_each(
    wiro: LocalWiro, count: int, pages: int
) -> None:
    dice = random.Random(count)
    expected: dict[str, tuple[str, float]] = {}
    while len(expected) < count:
        mark, seconds = dice.choice(["", "", "", *ENDS]), dice.uniform(0.4, 1.3)
        word, share = ENDS[mark]
        for wiro_task_id in order(wiro, seconds, 10, mark):
            expected[wiro_task_id] = (word, share * seconds)
    interval = 0.25

    async def crowd() -> None:
        began = time.monotonic()
        async with stalls() as held:
            waiting = asyncio.create_task(listen_to_all(expected, interval))
            await asyncio.sleep(0.3)
            assert len(pollers()) == 1
            heard = await waiting
        rounds = (time.monotonic() - began) / interval + 2
        assert words(heard) == {wiro_task_id: [word] for wiro_task_id, (word, _) in expected.items()}
        created = {run["taskid"]: run["created"] for run in wiro.ledger()["runs"]}
        for wiro_task_id, (_, seconds) in expected.items():
            late = heard[wiro_task_id].at - (created[wiro_task_id] + seconds)
            assert late >= -0.002, f"{wiro_task_id} was over for its trigger {-late:.3f} s before it was"
            assert late < 3.0
        lists, details = calls(wiro)
        assert lists <= pages * rounds * 1.4
        assert details == 0
        assert wiro.ledger()["connections"] <= 4
        # The local Wiro shares this process, so the worst of all moments is not the watcher's alone.
        assert sorted(held)[int(len(held) * 0.99)] < 0.05

    asyncio.run(crowd())


def test_tasks_that_others_pushed_to_page_three_cost_one_or_two_requests_a_round(
    wiro: LocalWiro, client: Client
) -> None:
    ids = order(wiro, 1.1, 20)
    order(wiro, 9.0, 220)

    async def wait() -> None:
        use(client)
        began = time.monotonic()
        assert words(await listen_to_all(ids, 0.2)) == all_succeeded(ids)
        rounds = (time.monotonic() - began) / 0.2 + 1
        assert client.starts[:3] == [0, 100, 200]
        assert set(client.starts[3:]) <= {220, 221}  # the first of them, and no page before
        assert 4 <= len(client.starts) - 3 <= 2 * rounds
        assert client.details == []

    asyncio.run(wait())


@pytest.mark.parametrize("between_pages", [False, True])
def test_new_tasks_of_others_lose_nobody(wiro: LocalWiro, client: Client, between_pages: bool) -> None:
    ids = [wiro_task_id for number in range(15) for wiro_task_id in order(wiro, 0.4 + 0.07 * number, 10)]

    async def push() -> None:
        while True:
            await asyncio.to_thread(order, wiro, 30.0, 30)
            await asyncio.sleep(0.2)

    async def wait() -> None:
        use(client)
        if between_pages:
            client.between_pages = lambda: order(wiro, 30.0, 7)
        pushing = None if between_pages else asyncio.create_task(push())
        heard = await listen_to_all(ids, 0.2)
        if pushing is not None:
            pushing.cancel()
        assert words(heard) == all_succeeded(ids)
        created = {run["taskid"]: run["created"] for run in wiro.ledger()["runs"]}
        for number, wiro_task_id in enumerate(ids):
            assert 0 <= heard[wiro_task_id].at - created[wiro_task_id] - (0.4 + 0.07 * (number // 10)) + 0.002 < 1.5
        assert len(client.details) <= len(ids) / 2  # a page's edge may lose some from sight for a round

    asyncio.run(wait())


def test_a_task_that_the_list_does_not_show_is_asked_for_by_itself_and_nobody_else_is(
    wiro: LocalWiro, client: Client
) -> None:
    ids = order(wiro, 1.0, 90)
    client.hidden = frozenset({ids[60]})

    async def wait() -> None:
        use(client)
        assert words(await listen_to_all(ids, 0.1)) == all_succeeded(ids)
        assert set(client.details) == {ids[60]}
        assert 5 <= len(client.details) <= 16

    asyncio.run(wait())


def test_a_list_is_not_searched_each_round_for_a_task_that_it_does_not_show(wiro: LocalWiro, client: Client) -> None:
    ids = order(wiro, 1.0, 5)
    client.hidden = frozenset(ids)

    async def wait() -> None:
        use(client)
        assert words(await listen_to_all(ids, 0.05)) == all_succeeded(ids)
        assert len(client.details) >= 5 * 10
        assert len(client.starts) <= 4  # every tenth round, if it is there by now

    asyncio.run(wait())


@pytest.mark.parametrize("what", ["off", "error", "html", "empty"])
def test_a_list_that_tells_nothing_is_done_without_until_it_does(
    wiro: LocalWiro, client: Client, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(watcher, "_REST", 3)
    ids = order(wiro, 3.0, 40)
    early = order(wiro, 0.4, 20)
    if what == "empty":
        client.hidden = None
    else:
        wiro.set_faults([f"list:{what}", "detail:slow:seconds=0.01"])

    async def wait() -> None:
        use(client)
        waiting = asyncio.create_task(listen_to_all(ids, 0.1))
        assert words(await listen_to_all(early, 0.1)) == all_succeeded(early)
        await until(lambda: set(client.details) == {*ids, *early})
        assert client.most_in_flight <= 4
        wiro.set_faults([])
        client.hidden = frozenset()
        details = -1
        while details != len(client.details):  # and back to the list
            details, lists = len(client.details), len(client.starts)
            await until(lambda wanted=lists + 3: len(client.starts) >= wanted)
        assert words(await waiting) == all_succeeded(ids)
        assert wiro.ledger()["connections"] <= 4

    asyncio.run(wait())


def test_a_list_that_is_refused_reads_more_than_a_hundred_by_turns(wiro: LocalWiro, client: Client) -> None:
    ids = order(wiro, 0.7, 150)
    wiro.set_faults(["list:off"])

    async def wait() -> None:
        use(client)
        waiting = asyncio.create_task(listen_to_all(ids, 0.3))
        await until(lambda: set(client.details) == set(ids))
        assert max(map(client.details.count, ids)) <= 2
        assert words(await waiting) == all_succeeded(ids)
        assert client.most_in_flight == 4

    asyncio.run(wait())


def test_retry_after_slows_everyone_and_loses_none(wiro: LocalWiro) -> None:
    ids = order(wiro, 1.0, 120)
    wiro.set_faults(["any:rate_limit:times=2:seconds=1"])

    async def wait() -> None:
        waiting = asyncio.create_task(listen_to_all(ids, 0.05))
        await until(lambda: sum(calls(wiro)) == 1)
        await asyncio.sleep(0.9)
        assert sum(calls(wiro)) == 1
        await asyncio.sleep(1.0)
        assert sum(calls(wiro)) == 2
        assert words(await waiting) == all_succeeded(ids)
        assert calls(wiro)[1] == 0

    asyncio.run(wait())


def test_nobody_waits_for_a_day_because_one_answer_asks_for_it(
    wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_LONGEST_ASKED", 0.3)
    ids = order(wiro, 0.2, 3)
    wiro.set_faults(["any:rate_limit:times=1:seconds=3600"])
    assert words(asyncio.run(listen_to_all(ids, 0.05))) == all_succeeded(ids)


@pytest.mark.parametrize("kind", ["error", "reset"])
def test_a_total_outage_is_ridden_out(wiro: LocalWiro, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    ids = order(wiro, 0.5, 120) + order(wiro, 1.5, 30)

    async def wait() -> None:
        waiting = asyncio.create_task(listen_to_all(ids, 0.1))
        await until(lambda: calls(wiro)[0] >= 2)
        before = sum(calls(wiro))
        wiro.set_faults([f"any:{kind}"])
        await asyncio.sleep(1.0)
        assert sum(calls(wiro)) - before <= 25  # ever rarer
        failed = calls(wiro)[1]
        wiro.set_faults([])
        assert words(await waiting) == all_succeeded(ids)
        assert calls(wiro)[1] - failed <= 10  # a page tells of all, and no single one is asked for

    asyncio.run(wait())
    assert any("cannot be read, trying on" in record.getMessage() for record in caplog.records)
    assert any("can be read again" in record.getMessage() for record in caplog.records)


def test_an_unknown_id_is_refused_after_its_patience_and_delays_nobody(
    wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_wiro.waiting._NOT_FOUND_PATIENCE", 1.0)
    ids = order(wiro, 0.6, 50)

    async def wait() -> None:
        began = time.time()
        unknown = asyncio.create_task(listen(trigger("123456", 0.1)))
        heard = await listen_to_all(ids, 0.1)
        assert words(heard) == all_succeeded(ids)
        assert max(one.at for one in heard.values()) - began < 1.2
        lost = await unknown
        assert lost.words == ["refused"]
        assert 1.0 <= lost.at - began < 1.8

    asyncio.run(wait())


ODD = ["", "x y", "\u0663", "-1", "1e3", "9" * 5000, "x" * 20_000, "null", "\u0000", "\ud800", "0", "007"]


@pytest.mark.parametrize(("odd", "listed"), [(ODD, True), (ODD, False), (["9" * 5000], True)])
def test_odd_ids_hurt_nobody(wiro: LocalWiro, caplog: pytest.LogCaptureFixture, odd: list[str], listed: bool) -> None:
    ids = order(wiro, 0.7, 110)  # more than a page of the list
    if not listed:
        wiro.set_faults(["list:off"])

    async def wait() -> None:
        began = time.time()
        strange = asyncio.create_task(listen_to_all(odd, 0.2, patience=1.0))
        heard = await listen_to_all(ids, 0.2)
        assert words(heard) == all_succeeded(ids)
        assert max(one.at for one in heard.values()) - began < 1.9
        assert words(await strange) == dict.fromkeys(odd, ["timeout"])

    asyncio.run(wait())
    assert "Looking at Wiro's tasks failed." not in caplog.text
    assert calls(wiro)[1] <= (10 * len(odd) if listed else 10 * len(odd + ids))


def test_one_that_cannot_ever_be_read_slows_nobody(wiro: LocalWiro, client: Client) -> None:
    ids = order(wiro, 1.2, 30)
    sick = order(wiro, 1.2, 2)
    client.hidden = frozenset(sick)
    client.detail_fails = lambda wiro_task_id: WiroConnectionError("HTTP 500.") if wiro_task_id in sick else None

    async def wait() -> None:
        use(client)
        began = time.time()
        those = asyncio.create_task(listen_to_all(sick, 0.1, patience=1.5))
        heard = await listen_to_all(ids, 0.1)
        assert words(heard) == all_succeeded(ids)
        assert max(one.at for one in heard.values()) - began < 1.6
        assert words(await those) == dict.fromkeys(sick, ["timeout"])
        assert len(client.starts) >= 8
        assert len(client.details) <= 2 * 20  # no denser than asked for

    asyncio.run(wait())


def test_two_hundred_waiters_and_slow_answers_do_not_block_the_loop(wiro: LocalWiro) -> None:
    ids = order(wiro, 1.0, 200)
    wiro.set_faults(["list:slow:seconds=0.2"])

    async def wait() -> None:
        async with stalls() as held:
            assert words(await listen_to_all(ids, 0.1)) == all_succeeded(ids)
        assert sorted(held)[-2] < 0.05

    asyncio.run(wait())


def test_those_who_leave_leave_the_others_alone(wiro: LocalWiro) -> None:
    ids = order(wiro, 1.0, 30)
    hanging = order(wiro, 100.0, 3)

    async def wait() -> None:
        cancelled = [asyncio.create_task(listen(trigger(one))) for one in (*ids[:5], hanging[0])]
        late = asyncio.create_task(listen_to_all([*hanging[1:], ids[7]], 0.1, patience=0.5))
        twins = asyncio.create_task(listen_to_all(ids, 0.1))
        await asyncio.sleep(0.3)
        for one in cancelled:
            one.cancel()
        for one in cancelled:
            with pytest.raises(asyncio.CancelledError):
                await one
        assert {one.words[0] for one in (await late).values()} == {"timeout"}
        assert words(await twins) == all_succeeded(ids)
        await until(lambda: not pollers())

    asyncio.run(wait())


def test_two_loops_have_a_watcher_each(wiro: LocalWiro) -> None:
    halves = order(wiro, 0.8, 60), order(wiro, 0.8, 60)
    found: list[dict[str, list[str]]] = []
    seen: list[object] = []

    async def wait(ids: list[str]) -> None:
        seen.append(watcher.watcher_of("wiro_default"))
        found.append(words(await listen_to_all(ids, 0.1)))

    threads = [threading.Thread(target=lambda ids=half: asyncio.run(wait(ids))) for half in halves]  # type: ignore[misc]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert sorted(map(len, found)) == [60, 60]
    assert found[0] | found[1] == all_succeeded(halves[0] + halves[1])
    assert seen[0] is not seen[1]
