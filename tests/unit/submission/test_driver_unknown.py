"""A Run whose outcome is lost is found, or waited for, or sent again: in the end there is one."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.exceptions import (
    WiroRunUnknownError,
    WiroStoreError,
    WiroSupersededError,
)
from airflow_provider_wiro.submission.decision import MAX_RESENT
from airflow_provider_wiro.submission.driver import Later, Standing
from airflow_provider_wiro.submission.record import Phase, Record
from tests.unit.submission.shelf import ENDLESS, QUICK, TOY, Shelf, calls, insist, order, runs, until_accepted

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Lines, MakeClient
    from tests.unit.submission.conftest import Begin

ACCEPTED = ["error_after", "reset_after", "truncated"]
NOT_ACCEPTED = ["error_before", "reset_before", "html"]


@pytest.mark.parametrize("inputs", [ENDLESS, QUICK], ids=["runs", "over soon"])
@pytest.mark.parametrize("fault", ACCEPTED)
def test_what_was_accepted_is_adopted_at_once(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, lines: Lines, fault: str, inputs: dict[str, str]
) -> None:
    wiro.set_faults([f"run:{fault}:times=1"])
    began = time.time()
    standing = begin().proceed(order(inputs, settle=60))
    assert isinstance(standing, Standing)
    (run,) = runs(wiro)
    assert run["taskid"] == standing.record.wiro_task_id == shelf.record["wiro_task_id"]
    assert shelf.phases == ["intent", "intent", "receipt"]
    assert began <= shelf.written[1]["until"] <= time.time() < shelf.written[0]["until"]
    assert "The outcome of the Run is not known, looking for it at Wiro" in lines.of("warning")[0]
    assert f"Wiro task {run['taskid']} is this order's Run. It is gone on with, and paid once." in lines.of("info")


@pytest.mark.parametrize("fault", NOT_ACCEPTED)
def test_what_was_not_accepted_is_waited_for_and_then_sent_again(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, fault: str
) -> None:
    wiro.set_faults([f"run:{fault}:times=1"])
    submission, asks = begin(), order()
    later = submission.proceed(asks)
    assert isinstance(later, Later)
    assert later.until == pytest.approx(shelf.record["until"] + asks.settle, abs=0.01)
    again = submission.proceed(asks)
    assert (again, calls(wiro, "Run")) == (later, 1)

    standing = insist(submission, asks)
    (run,) = runs(wiro)
    assert run["taskid"] == standing.record.wiro_task_id
    assert (calls(wiro, "Run"), shelf.record["doubts"]) == (2, 1)
    assert shelf.record["first"] == shelf.written[0]["first"]
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}


def test_an_answer_that_never_comes_is_given_up_and_its_run_adopted(
    wiro: LocalWiro, begin: Begin, make_client: MakeClient
) -> None:
    wiro.set_faults(["run:slow:seconds=1:times=1"])
    standing = begin(make_client(wiro.base_url, read_timeout=0.3)).proceed(order(settle=60))
    assert isinstance(standing, Standing)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


def test_what_is_accepted_later_than_the_connection_ended_is_adopted(wiro: LocalWiro, begin: Begin) -> None:
    wiro.set_faults(["run:late:seconds=0.3:times=1"])
    submission, asks = begin(), order(settle=1.0)
    assert isinstance(submission.proceed(asks), Later)
    standing = insist(submission, asks)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]
    assert calls(wiro, "Run") == 1


def test_a_look_counts_by_when_it_began(wiro: LocalWiro, begin: Begin) -> None:
    # The list comes before the late Run; what follows it takes until after the final moment.
    wiro.run_foreign(model=TOY, prompt="Somebody else's")
    wiro.set_faults(["run:late:seconds=0.5:times=1", "echo:off_in_list", "detail:slow:seconds=1.4:times=1"])
    standing = insist(begin(), order(settle=0.8))
    time.sleep(0.2)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


@pytest.mark.parametrize("marked", [True, False], ids=["derived seed", "seed of the user's"])
def test_after_a_doubt_the_order_stands_only_when_an_earlier_run_had_its_time(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, marked: bool
) -> None:
    wiro.set_faults(["run:error_before:times=1"])
    submission, asks = begin(), order(ENDLESS if marked else {**ENDLESS, "seed": "7"}, marked=marked)
    lost = submission.proceed(asks)
    assert isinstance(lost, Later)
    time.sleep(max(0.0, lost.until - time.time()))
    sent = submission.proceed(asks)
    assert (shelf.record["phase"], shelf.record["doubts"]) == ("receipt", 1)
    if marked:
        assert isinstance(sent, Later)
        assert sent.until == pytest.approx(shelf.record["submitted_at"] + asks.settle, abs=0.1)
        sent = insist(submission, asks)
    assert isinstance(sent, Standing)
    assert [run["taskid"] for run in runs(wiro)] == [sent.record.wiro_task_id]


def test_what_nobody_can_tell_is_sent_so_often_only(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    wiro.set_faults(["run:error_before"])
    with pytest.raises(WiroRunUnknownError, match="3 Runs brought no usable answer") as caught:
        insist(begin(), order(settle=0.01))
    assert caught.value.retryable
    assert calls(wiro, "Run") == 1 + MAX_RESENT
    wiro.set_faults([])
    insist(begin(), order(try_number=2, settle=0.01))
    assert len(runs(wiro)) == 1
    assert shelf.record["first"] == shelf.written[0]["first"]


# The sweep


def two_runs(wiro: LocalWiro, begin: Begin) -> tuple[Any, str | None]:
    """Order with a `settle` that is too short, and wait until Wiro has accepted the first Run, too."""
    wiro.set_faults(["run:late:seconds=0.9:times=1"])
    submission = begin()
    standing = insist(submission, order(settle=0.05))
    assert len(runs(wiro)) == 1
    until_accepted(wiro, 2)
    return submission, standing.record.wiro_task_id


@pytest.mark.parametrize("who", ["this try", "the next try"])
def test_a_run_that_came_later_than_it_should_is_swept(wiro: LocalWiro, begin: Begin, lines: Lines, who: str) -> None:
    submission, kept = two_runs(wiro, begin)
    if who == "this try":
        submission.sweep(order())
    else:
        insist(begin(), order(try_number=2))
    left = {run["taskid"]: run["stopped_by_request"] for run in runs(wiro)}
    assert sorted(left.values()) == [False, True]
    assert left[str(kept)] is False
    (stopped,) = (taskid for taskid in left if taskid != kept)
    assert f"Wiro task {stopped} is superfluous: it is cancelled and is not billed." in lines.of("warning")


def test_a_sweep_that_cannot_look_stops_nothing(wiro: LocalWiro, begin: Begin) -> None:
    submission, _ = two_runs(wiro, begin)
    wiro.set_faults(["list:error"])
    submission.sweep(order())
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}


def test_a_sweep_that_cannot_stop_says_so(wiro: LocalWiro, begin: Begin, lines: Lines) -> None:
    submission, _ = two_runs(wiro, begin)
    wiro.set_faults(["detail:error"])
    submission.sweep(order())
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}
    assert "is superfluous and could not be stopped" in lines.of("warning")[-1]


def test_an_order_that_was_sent_once_is_not_swept(wiro: LocalWiro, begin: Begin) -> None:
    submission = begin()
    submission.sweep(order())
    insist(submission, order())
    submission.sweep(order())
    assert calls(wiro, "Task/List") == 0


def test_a_late_run_that_succeeded_is_delivered_where_the_recorded_one_did_not(
    wiro: LocalWiro, client: WiroClient, shelf: Shelf, begin: Begin, until: Callable[..., Any]
) -> None:
    asks = order({"prompt": "[wiro:slow=300]"}, try_number=2)
    doubted = Record(asks.key, Phase.RECEIPT, 3, 1, first=time.time(), until=time.time(), doubts=1)
    inputs = asks.sought(doubted).inputs
    late, recorded = (client.run(TOY, inputs).wiro_task_id for _ in range(2))
    client.stop_task(recorded)
    until(late)
    shelf.set(replace(doubted, wiro_task_id=recorded, submitted_at=time.time()).to_json())
    standing = insist(begin(), asks)
    assert standing.record.wiro_task_id == late
    assert len(runs(wiro)) == 2


def test_of_several_runs_of_an_intent_the_oldest_is_kept(
    wiro: LocalWiro, client: WiroClient, shelf: Shelf, begin: Begin
) -> None:
    with ends_after("intent", shelf):
        begin().proceed(order())
    submission, asks = begin(), order(try_number=2)
    assert submission.record is not None
    for _ in range(3):
        client.run(TOY, asks.sought(submission.record).inputs)
    standing = insist(submission, asks)
    first, *others = runs(wiro)
    assert standing.record.wiro_task_id == first["taskid"]
    assert [run["stopped_by_request"] for run in (first, *others)] == [False, True, True]


# A process that dies


class Death(BaseException):
    """Ends a process at a certain point."""


@contextmanager
def ends_after(phase: str, shelf: Shelf) -> Iterator[None]:
    """End the process right after it wrote an intent, or right before it writes a receipt."""

    def die(value: Mapping[str, Any]) -> None:
        if value["phase"] == phase:
            if phase == "intent":
                shelf.text = json.dumps(value)
            raise Death

    shelf.before_set = die
    with pytest.raises(Death):
        yield
    shelf.before_set = lambda value: None


def test_a_process_that_dies_before_sending_leaves_an_intent_that_is_sent_after_its_time(
    wiro: LocalWiro, shelf: Shelf, begin: Begin
) -> None:
    with ends_after("intent", shelf):
        begin().proceed(order())
    assert runs(wiro) == []
    submission = begin()
    assert submission.record is not None
    later = submission.proceed(order(try_number=2))
    assert later == Later(submission.record.until + 0.2)
    assert calls(wiro, "Run") == 0


def test_a_process_that_dies_before_the_receipt_leaves_a_run_that_is_adopted(
    wiro: LocalWiro, shelf: Shelf, begin: Begin
) -> None:
    with ends_after("receipt", shelf):
        begin().proceed(order())
    standing = begin().proceed(order(try_number=2))
    assert isinstance(standing, Standing)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Raise KeyboardInterrupt in this thread, from a signal."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_between_run_and_answer_leaves_the_intent(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    wiro.set_faults(["run:slow:seconds=1.5:times=1"])
    submission = begin()
    with interrupted(0.4):
        submission.proceed(order())
    assert (shelf.phases, submission.record and submission.record.phase) == (["intent"], "intent")
    standing = begin().proceed(order(try_number=2))
    assert isinstance(standing, Standing)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


# Secrets


@pytest.mark.parametrize("fault", [*ACCEPTED, *NOT_ACCEPTED, "late:seconds=0.02"])
def test_neither_records_nor_lines_tell_a_secret(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, lines: Lines, until: Callable[..., Any], fault: str
) -> None:
    wiro.set_faults([f"run:{fault}:times=1"])
    standing = insist(begin(), order(settle=0.05))
    insist(begin(), order(try_number=2, max_tries=4, on_clear="resubmit", settle=0.05))
    task = until(standing.record.wiro_task_id, lambda task: True)
    assert task.task_token
    told = str(shelf.written) + str(lines.all)
    for secret in ("local-key", "local-secret", task.task_token, "secret plot"):
        assert secret not in told


@pytest.mark.parametrize(("end", "kind"), [("superseded", WiroSupersededError), ("down", WiroStoreError)])
def test_a_store_that_ends_after_a_lost_answer_takes_nothing_and_sends_nothing(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, end: str, kind: type[Exception]
) -> None:
    wiro.set_faults(["run:error_after:times=1"])
    shelf.before_set = lambda value: setattr(shelf, end, bool(shelf.written))
    with pytest.raises(kind):
        insist(begin(), order())
    assert (shelf.phases, calls(wiro, "Run")) == (["intent"], 1)
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}
