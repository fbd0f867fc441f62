from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.triggers.watcher import watcher_of
from airflow_provider_wiro.triggers.wiro import WiroPlaceTrigger
from tests.unit.conftest import Lines
from tests.unit.triggers.crowd import (
    Client,
    all_succeeded,
    calls,
    install,
    listen,
    listen_to_all,
    order,
    pollers,
    trigger,
    until,
    use,
    words,
)

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture(autouse=True)
def connection(wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wiro.connection_json())


@pytest.fixture
def rotated(wiro: LocalWiro) -> Iterator[LocalWiro]:
    """A server whose secret is another one after `rotate`."""
    yield wiro
    rotate(wiro, "local-secret")


def rotate(wiro: LocalWiro, secret: str) -> None:
    wiro._do(lambda server: setattr(server, "_api_secret", secret))


def busy_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("wiro-watcher")]


def test_each_trigger_logs_the_changes_of_its_own_task_and_no_more(wiro: LocalWiro) -> None:
    ids = order(wiro, 0.6) + order(wiro, 0.6, mark="[wiro:fail]")
    logs = [Lines(), Lines()]

    async def wait() -> None:
        both = [trigger(wiro_task_id, 0.02) for wiro_task_id in ids]
        for one, lines in zip(both, logs, strict=True):
            one._log = lines
        await asyncio.gather(*map(listen, both))

    asyncio.run(wait())
    for wiro_task_id, lines in zip(ids, logs, strict=True):
        told = [line for _, line in lines.all]
        assert all(line.startswith(f"Wiro task {wiro_task_id}: task_") for line in told)
        assert len(told) == len(set(told))
        assert told[-1] == f"Wiro task {wiro_task_id}: task_postprocess_end"
        assert 3 <= len(told) <= 11  # as many as there are statuses, in some thirty looks


def test_what_the_poller_says_is_not_the_first_triggers(wiro: LocalWiro) -> None:
    said: list[tuple[str, str]] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((WHO.get(), record.getMessage()))

    async def first(wiro_task_id: str) -> None:
        WHO.set("the first trigger")
        await listen(trigger(wiro_task_id, 0.05))

    handler, log = Listening(), logging.getLogger("airflow_provider_wiro.triggers.watcher")
    log.addHandler(handler)
    wiro.set_faults(["list:off"])
    try:
        asyncio.run(first(order(wiro, 0.2)[0]))
    finally:
        log.removeHandler(handler)
    assert said
    assert {who for who, _ in said} == {"nobody"}


def test_the_poller_ends_with_its_last_waiter_and_the_next_begins_anew(wiro: LocalWiro) -> None:
    made: list[Client] = []

    async def connect() -> WiroClient:
        made.append(Client(wiro))
        return made[-1]

    async def wait() -> None:
        install(connect)
        for begun in (1, 2):
            ids = order(wiro, 0.3, 5)
            assert words(await listen_to_all(ids, 0.05)) == all_succeeded(ids)
            await until(lambda: not pollers() and not busy_threads())
            assert [one.closed for one in made] == [1] * begun
        lists = len(made[-1].starts)
        await asyncio.sleep(0.2)
        assert len(made[-1].starts) == lists

    asyncio.run(wait())


@pytest.mark.parametrize("listed", [True, False])
def test_changed_credentials_are_read_from_the_connection(
    rotated: LocalWiro, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    ids = order(rotated, 0.8, 20 if listed else 1)
    if not listed:
        order(rotated, 9.0, 150)  # they push it from the first page: it is asked for by itself

    async def wait() -> None:
        waiting = asyncio.create_task(listen_to_all(ids, 0.1))
        await until(lambda: calls(rotated)[0 if listed else 1] >= 2)
        new = rotated.connection_json().replace("local-secret", "new-secret")
        monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", new)
        rotate(rotated, "new-secret")
        assert words(await waiting) == all_succeeded(ids)

    asyncio.run(wait())
    # A list and four Details at most find it out, and afterwards a page tells of all again.
    assert 1 <= rotated.ledger()["refusals"]["0"] <= 5
    assert not listed or calls(rotated)[1] <= 4


def test_credentials_that_stay_refused_reach_everyone(rotated: LocalWiro) -> None:
    ids = order(rotated, 30.0, 40)

    async def wait() -> None:
        place = WiroPlaceTrigger(
            wiro_conn_id="wiro_default", since=1.0, limit=1, came_back=False, end_time=time.time() + 9, grace=0.0
        )
        waiting = asyncio.create_task(listen_to_all(ids, 0.1))
        queueing = asyncio.create_task(listen(place))
        await until(lambda: calls(rotated)[0] >= 2)
        rotate(rotated, "new-secret")
        assert words(await waiting) == dict.fromkeys(ids, ["refused"])
        assert (await queueing).words == ["refused"]
        await until(lambda: not pollers())

    asyncio.run(wait())
    assert rotated.ledger()["refusals"]["0"] <= 10  # a list and four Details, before and after the connection is read


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fault_of_the_poller_reaches_everyone_and_the_next_one_starts_anew(wiro: LocalWiro) -> None:
    class BrokenError(BaseException):
        pass

    ids = order(wiro, 0.4, 5)
    broken = [True]

    async def connect() -> WiroClient:
        if broken[0]:
            raise BrokenError
        return Client(wiro)

    async def wait() -> None:
        watcher = install(connect)
        mailbox = watcher.watch([], math.inf, math.inf, time.time() + 30)
        watcher.take_turn(mailbox, 1.0, 1, None, False)
        found = await asyncio.gather(*(listen(trigger(one)) for one in ids), return_exceptions=True)
        assert [type(one) for one in found] == [BrokenError] * 5
        with pytest.raises(BrokenError):
            await mailbox.next()
        watcher.leave(mailbox)
        broken[0] = False
        assert words(await listen_to_all(ids)) == all_succeeded(ids)

    asyncio.run(wait())


def test_a_connection_that_cannot_be_read_for_a_while_is_ridden_out(wiro: LocalWiro) -> None:
    ids, tries = order(wiro, 0.2, 3), [0]

    async def connect() -> WiroClient:
        tries[0] += 1
        if tries[0] < 4:
            raise RuntimeError("The supervisor does not answer.")
        return Client(wiro)

    async def wait() -> None:
        install(connect)
        assert words(await listen_to_all(ids, 0.05)) == all_succeeded(ids)

    asyncio.run(wait())
    assert tries == [4]


def test_a_finished_loop_is_forgotten(wiro: LocalWiro) -> None:
    ids = order(wiro, 0.3, 3)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def wait() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        use(Client(wiro))  # Airflow's way to a connection leaves loops behind, in a thread-local of asgiref
        await listen_to_all(ids, 0.05)

    asyncio.run(wait())
    give_up_at = time.monotonic() + 2
    while loops[0]() is not None and time.monotonic() < give_up_at:
        gc.collect()
        time.sleep(0.02)
    assert loops[0]() is None


def test_a_loop_that_is_cut_off_ends_its_poller(wiro: LocalWiro) -> None:
    async def wait() -> None:
        watcher_of("wiro_default").watch(order(wiro, 30.0), 0.05, 0.05, time.time() + 60)
        await asyncio.sleep(0.2)
        assert busy_threads()
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(wait())
    give_up_at = time.monotonic() + 3
    while busy_threads():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_where_it_is_known_how_long_a_run_takes_looks_at_queued_tasks_are_rarer(wiro: LocalWiro) -> None:
    client, looks = Client(wiro), []
    client.between_pages = lambda: looks.append(time.monotonic())

    async def wait() -> None:
        use(client)
        lessons = order(wiro, 0.7, 4)
        assert words(await listen_to_all(lessons, 0.05)) == all_succeeded(lessons)
        taught = len(looks)
        assert taught >= 6
        await until(lambda: not pollers())
        # In the queue for 0.08 of its time, 1.6 s; a run is known to take some 0.5 s.
        long = asyncio.create_task(listen(trigger(order(wiro, 20.0)[0], 0.05, max_poll_interval=0.3)))
        await asyncio.sleep(1.55)
        queued = [later - earlier for earlier, later in pairwise(looks[taught:])]
        assert 4 <= len(queued) <= 6
        assert min(queued) >= 0.27
        assert max(queued) <= 0.45
        await asyncio.sleep(1.0)  # it runs, and may end at any moment
        soon = [later - earlier for earlier, later in pairwise(looks[-10:])]
        assert min(soon) >= 0.035
        assert sorted(soon)[5] <= 0.12
        long.cancel()

    asyncio.run(wait())
