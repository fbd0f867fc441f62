from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from airflow_provider_wiro.api.tasks import WiroTask
from airflow_provider_wiro.exceptions import WiroBusyError, WiroConnectionError, WiroError, WiroNotFoundError
from airflow_provider_wiro.triggers._watched import Durations, Look, Mailbox, Watched, windows


def seen(status: str, pexit: str | None = None, model: str = "a/b") -> WiroTask:
    return WiroTask("1", status, pexit, model)


def waiting(interval: float = 10.0, longest: float = 40.0) -> tuple[Watched, Mailbox]:
    task, mailbox = Watched("1", math.inf), Mailbox(interval, longest, 0.0)
    task.join(mailbox, 0.0)
    return task, mailbox


def taken(mailbox: Mailbox) -> list[Look]:
    looks = []
    while (news := asyncio.run(mailbox.next())) is not None:  # its time is up
        looks.append(news[1])
    return looks


def known(*seconds: float) -> Durations:
    durations = Durations()
    for one in seconds:
        durations.add("a/b", one)
    return durations


def test_nothing_is_expected_of_a_model_with_fewer_than_three_runs() -> None:
    assert known(60, 70).shortest("a/b") == 0
    assert known(60, 70, 80).shortest("a/b") == pytest.approx(54)
    assert known(60, 70, 80).shortest("another/model") == 0
    assert known(60, 70, 80).shortest(None) == 0


def test_only_the_newest_fifty_runs_count() -> None:
    assert known(1, *[100] * 50).shortest("a/b") == pytest.approx(90)
    assert known(1, *[100] * 49).shortest("a/b") == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("ranks", "starts"),
    [
        ([], []),
        ([0], [0]),
        ([0, 99], [0]),
        ([0, 100], [0, 100]),
        ([5, 104, 105, 400], [5, 105, 400]),
        ([7, 7, 7], [7]),
        (list(range(250)), [0, 100, 200]),
    ],
)
def test_the_fewest_pages_show_all_places(ranks: list[int], starts: list[int]) -> None:
    assert windows(ranks, 100) == starts


@pytest.mark.parametrize(
    ("shortest_of", "longest", "pause"),
    [
        ((), 40.0, 10.0),  # nothing is known: the plain interval
        ((5, 5, 5), 40.0, 10.0),  # shorter than the interval, and never denser than that
        ((30, 30, 30), 40.0, 27.0),
        ((500, 500, 500), 40.0, 40.0),  # never rarer than this
        ((500, 500, 500), 10.0, 10.0),
    ],
)
def test_a_queued_task_is_looked_at_when_it_may_end(
    shortest_of: tuple[float, ...], longest: float, pause: float
) -> None:
    task, _ = waiting(longest=longest)
    task.saw(seen("task_queue"), 1000.0, known(*shortest_of), 1.0)
    assert task.due == pytest.approx(1000 + pause)
    assert task.running


def test_a_running_task_is_left_alone_until_the_shortest_run_would_end() -> None:
    task, _ = waiting(longest=100.0)
    durations = known(100, 100, 100)
    task.saw(seen("task_assign"), 1000.0, durations, 1.0)
    task.saw(seen("task_output"), 1060.0, durations, 1.0)
    assert task.due == pytest.approx(1090)
    task.saw(seen("task_output"), 1088.0, durations, 1.0)
    assert task.due == pytest.approx(1098)


def test_a_task_that_was_never_seen_in_the_queue_may_end_at_any_moment() -> None:
    task, _ = waiting()
    task.saw(seen("task_output"), 1000.0, known(100, 100, 100), 1.0)
    assert task.due == pytest.approx(1010)


def test_a_task_that_has_ended_is_not_looked_at_again() -> None:
    task, _ = waiting()
    task.saw(seen("task_postprocess_end", "0"), 1000.0, Durations(), 1.0)
    assert task.due == math.inf
    assert not task.running


@pytest.mark.parametrize(
    ("end", "learnt"),
    [
        (seen("task_postprocess_end", "0"), 45.0),
        (seen("task_postprocess_end", "1"), 0.0),
        (seen("task_cancel"), 0.0),
        (seen("task_error"), 0.0),
    ],
)
def test_only_runs_that_succeed_tell_how_long_one_takes(end: WiroTask, learnt: float) -> None:
    durations = Durations()
    for _ in range(3):
        task, _box = waiting()
        for status, now in (("task_queue", 1000.0), ("task_start", 1010.0), ("task_output", 1060.0)):
            task.saw(seen(status), now, durations, 1.0)
        task.saw(end, 1070.0, durations, 1.0)
    assert durations.shortest("a/b") == pytest.approx(learnt)


def test_a_status_is_told_once_and_a_change_of_it_again() -> None:
    task, mailbox = waiting()
    looks = [seen("task_queue"), seen("task_queue"), seen("task_start"), seen("task_start")]
    for look in looks:
        task.tell(look)
    assert taken(mailbox) == [looks[0], looks[2]]


def test_trouble_is_told_when_it_begins_and_when_it_is_over() -> None:
    task, mailbox = waiting()
    trouble: list[WiroError] = [WiroConnectionError("a"), WiroBusyError("b"), WiroConnectionError("c")]
    for look in (seen("task_queue"), *trouble, seen("task_queue"), seen("task_queue")):
        task.tell(look)
    assert taken(mailbox) == [seen("task_queue"), trouble[0], seen("task_queue")]


def test_each_look_that_finds_no_such_task_is_told() -> None:
    task, mailbox = waiting()
    for _ in range(3):
        task.tell(WiroNotFoundError("There is no task yet."))
    assert len(taken(mailbox)) == 3


def test_one_who_joins_later_is_told_what_is_known_at_the_next_look() -> None:
    task, first = waiting()
    task.tell(seen("task_start"))
    second = Mailbox(2.0, 3.0, 0.0)
    task.join(second, 5.0)
    assert (task.interval, task.longest, task.due) == (2.0, 3.0, 0.0)
    task.tell(seen("task_start"))
    assert taken(second) == [seen("task_start")]
    assert {look.status for look in taken(first) if isinstance(look, WiroTask)} == {"task_start"}


def test_one_who_joins_makes_an_ended_task_be_looked_at_once_more() -> None:
    task, _ = waiting()
    task.saw(seen("task_cancel"), 1000.0, Durations(), 1.0)
    task.join(Mailbox(2.0, 3.0, 0.0), 1001.0)
    assert task.due == 1001.0


def test_a_mailbox_gives_what_came_in_order_then_says_that_its_time_is_up() -> None:
    box = Mailbox(1.0, 1.0, 0.0)
    for news in (("1", seen("task_start")), 3, RuntimeError("x")):
        box.put(news)
    assert asyncio.run(box.next()) == ("1", seen("task_start"))
    assert asyncio.run(box.next()) == 3
    with pytest.raises(RuntimeError, match="x"):
        asyncio.run(box.next())
    assert asyncio.run(box.next()) is None


def test_a_reader_that_is_cut_off_loses_nothing() -> None:
    box = Mailbox(1.0, 1.0, math.inf)

    async def read() -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await box.next()
        box.put(1)
        return await box.next()

    assert asyncio.run(read()) == 1
