"""A Run leaves behind a fence, or not at all."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.exceptions import (
    WiroAuthenticationError,
    WiroBadRequestError,
    WiroBalanceError,
    WiroBusyError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroError,
    WiroNotFoundError,
    WiroOrderError,
    WiroStoreError,
    WiroSupersededError,
)
from airflow_provider_wiro.submission import driver
from airflow_provider_wiro.submission.driver import Later, Standing
from airflow_provider_wiro.submission.record import derived_seed
from tests.unit.submission.shelf import ENDLESS, QUICK, TOY, Shelf, calls, insist, order, runs

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Lines, MakeClient
    from tests.unit.submission.conftest import Begin

SEEDANCE = "ByteDance/text-to-video-seedance-v1"


def test_an_order_is_fenced_then_sent_then_recorded(wiro: LocalWiro, shelf: Shelf, begin: Begin, lines: Lines) -> None:
    accepted: list[int] = []
    shelf.before_set = lambda value: accepted.append(len(runs(wiro)))
    began = time.time()
    standing = begin().proceed(asks := order())

    assert isinstance(standing, Standing)
    assert standing.task is None
    (run,) = runs(wiro)
    assert (shelf.phases, accepted) == (["intent", "receipt"], [0, 1])
    assert run["taskid"] == standing.record.wiro_task_id == shelf.record["wiro_task_id"]
    seed = str(derived_seed(asks.key, 0))
    assert run["parameters"] == {**ENDLESS, "seed": seed}
    assert lines.all == [("info", f"Ordering a run of {TOY} with seed {seed}")]
    fence, receipt = shelf.written
    assert began <= fence["first"] <= time.time()
    assert fence["until"] == pytest.approx(fence["first"] + 80, abs=0.01)
    assert fence["first"] <= receipt["submitted_at"] == receipt["since"] <= time.time()


def test_an_order_with_a_seed_of_the_users_is_sent_as_it_is(wiro: LocalWiro, begin: Begin, lines: Lines) -> None:
    begin().proceed(order({**ENDLESS, "seed": "7"}, marked=False))
    (run,) = runs(wiro)
    assert run["parameters"] == {**ENDLESS, "seed": "7"}
    assert lines.of("info") == [f"Ordering a run of {TOY}"]


def test_local_files_go_along_and_have_more_time(wiro: LocalWiro, shelf: Shelf, begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "first.png").write_bytes(b"png")
    begin().proceed(order(), {"image": tmp_path / "first.png"})
    (run,) = runs(wiro)
    assert run["parameters"]["image"].endswith("/first.png")
    assert shelf.written[0]["until"] == pytest.approx(shelf.written[0]["first"] + 620, abs=0.01)


def test_the_next_try_goes_on_with_what_is_ordered(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    first = insist(begin(), order())
    again = begin().proceed(order(try_number=2))
    assert isinstance(again, Standing)
    assert again.record == first.record
    assert again.task is not None
    assert again.task.wiro_task_id == first.record.wiro_task_id
    assert shelf.phases == ["intent", "receipt"]
    assert calls(wiro, "Run") == 1
    assert calls(wiro, "Task/List") == 0


def test_what_was_delivered_is_noted_and_delivered_again(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    submission = begin()
    insist(submission, order(QUICK))
    submission.finish()
    submission.finish()
    assert shelf.phases == ["intent", "receipt", "done"]
    again = insist(begin(), order(QUICK, try_number=2, max_tries=4))
    assert (again.record.phase, len(runs(wiro))) == ("done", 1)


def test_a_delivery_that_cannot_be_noted_is_one_all_the_same(shelf: Shelf, begin: Begin, lines: Lines) -> None:
    submission = begin()
    submission.finish()
    insist(submission, order())
    shelf.down = True
    submission.finish()
    assert shelf.phases == ["intent", "receipt"]
    assert "the next try looks at Wiro: no api-server" in lines.of("warning")[0]


# The store


def test_a_record_that_cannot_be_read_orders_nothing(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    shelf.down = True
    with pytest.raises(WiroStoreError, match="no api-server"):
        begin()
    assert wiro.ledger()["calls"] == {}


@pytest.mark.parametrize(("state", "kind"), [("down", WiroStoreError), ("superseded", WiroSupersededError)])
def test_a_fence_that_cannot_be_written_orders_nothing(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, state: str, kind: type[WiroError]
) -> None:
    submission = begin()
    setattr(shelf, state, True)
    with pytest.raises(kind):
        submission.proceed(order())
    assert wiro.ledger()["calls"] == {}
    assert submission.record is None


@pytest.mark.parametrize(("state", "kind"), [("down", WiroStoreError), ("superseded", WiroSupersededError)])
def test_a_receipt_that_cannot_be_written_leaves_an_intent_that_the_next_try_adopts(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, state: str, kind: type[WiroError]
) -> None:
    shelf.before_set = lambda value: setattr(shelf, state, value["phase"] == "receipt")
    submission = begin()
    with pytest.raises(kind):
        submission.proceed(order())
    assert (shelf.phases, submission.record and submission.record.phase) == (["intent"], "intent")
    setattr(shelf, state, False)
    shelf.before_set = lambda value: None

    adopted = begin().proceed(order(try_number=2))
    assert isinstance(adopted, Standing)
    (run,) = runs(wiro)
    assert run["taskid"] == adopted.record.wiro_task_id == shelf.record["wiro_task_id"]
    assert adopted.record.submitted_at == pytest.approx(run["created"], abs=3)


@pytest.mark.parametrize("stored", ['"text"', '{"v": 2}', "[]", "{}"])
def test_a_record_of_nothing_known_is_looked_past(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, lines: Lines, stored: str
) -> None:
    insist(begin(), order())
    shelf.text = stored
    adopted = insist(begin(), order(try_number=2))
    assert "cannot be read, Wiro is asked instead" in lines.of("warning")[0]
    (run,) = runs(wiro)
    assert run["taskid"] == adopted.record.wiro_task_id == shelf.record["wiro_task_id"]


def test_a_superseded_try_that_finds_its_run_touches_nothing(
    wiro: LocalWiro, client: WiroClient, shelf: Shelf, begin: Begin
) -> None:
    asks = order(try_number=2)
    for _ in range(2):
        client.run(TOY, {**ENDLESS, "seed": str(derived_seed(asks.key, 0))})
    submission = begin()
    shelf.superseded = True
    with pytest.raises(WiroSupersededError):
        submission.proceed(asks)
    assert calls(wiro, "Run") == 2
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}


def test_a_superseded_try_that_was_to_order_anew_stops_nothing(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    insist(begin(), order())
    submission = begin()
    shelf.superseded = True
    with pytest.raises(WiroSupersededError):
        submission.proceed(order(try_number=2, max_tries=4, on_clear="resubmit"))
    assert calls(wiro, "Run") == 1
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 0}


def test_a_superseded_try_does_not_sweep_what_its_successor_has_ordered(
    wiro: LocalWiro, client: WiroClient, shelf: Shelf, begin: Begin
) -> None:
    asks = order()
    wiro.set_faults(["run:error_before:times=1"])
    old = begin()
    first = insist(old, asks).record.wiro_task_id
    assert first is not None
    assert shelf.record["doubts"] == 1
    client.kill(first)
    successor = insist(begin(), order(try_number=2)).record.wiro_task_id
    shelf.superseded = True
    # Wiro does not tell the old try at once that its task is over.
    wiro.set_faults(["detail:error:times=5"])
    with suppress(WiroSupersededError):
        insist(old, asks)
    (run,) = [run for run in runs(wiro) if run["taskid"] == successor]
    assert not run["stopped_by_request"]


# Clears


def test_a_clear_that_orders_anew_stops_the_old_run(wiro: LocalWiro, begin: Begin, lines: Lines) -> None:
    old = insist(begin(), order())
    new = insist(begin(), order(try_number=2, max_tries=4, on_clear="resubmit"))
    stopped, kept = runs(wiro)
    assert (stopped["taskid"], kept["taskid"]) == (old.record.wiro_task_id, new.record.wiro_task_id)
    assert (stopped["stopped_by_request"], kept["stopped_by_request"]) == (True, False)
    assert stopped["parameters"]["seed"] != kept["parameters"]["seed"]
    assert f"Wiro task {stopped['taskid']} is superfluous: it is cancelled and is not billed." in lines.of("warning")


def test_a_clear_that_orders_anew_says_that_the_old_one_is_billed(
    begin: Begin, lines: Lines, until: Callable[..., Any]
) -> None:
    old = insist(begin(), order(QUICK)).record.wiro_task_id
    until(old)
    insist(begin(), order(QUICK, try_number=2, max_tries=4, on_clear="resubmit"))
    assert f"Wiro task {old} is superfluous: it is succeeded and is billed." in lines.of("warning")


def test_changed_inputs_order_nothing_until_a_clear(wiro: LocalWiro, begin: Begin) -> None:
    old = insist(begin(), order())
    changed = {"prompt": "Another plot [wiro:hang]"}
    with pytest.raises(WiroOrderError, match="The inputs are not those of try 1") as caught:
        begin().proceed(order(changed, try_number=2))
    assert caught.value.wiro_task_id == old.record.wiro_task_id
    assert not caught.value.retryable
    assert len(runs(wiro)) == 1
    insist(begin(), order(changed, try_number=2, max_tries=4))
    assert [run["stopped_by_request"] for run in runs(wiro)] == [False, False]


# The fence is fresh when the inputs leave


def test_a_fence_that_is_stale_when_the_inputs_leave_is_taken_anew_and_not_for_ever(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FENCE", 0.0)
    with pytest.raises(WiroOrderError, match="too slow: nothing was sent") as caught:
        begin().proceed(order())
    assert caught.value.retryable
    assert shelf.phases == ["intent"] * 5 + ["open"]
    assert len(lines.of("warning")) == 5
    assert runs(wiro) == []


def test_one_stale_fence_is_followed_by_a_fresh_one(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FENCE", 0.0)

    def heal(value: Mapping[str, Any]) -> None:
        if shelf.written:
            monkeypatch.setattr(driver, "FENCE", 20.0)

    shelf.before_set = heal
    begin().proceed(order())
    assert shelf.phases == ["intent", "intent", "receipt"]
    assert len(runs(wiro)) == 1
    assert shelf.written[1]["first"] > shelf.written[0]["first"]


def test_a_store_that_is_slow_to_confirm_makes_its_fence_stale(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FENCE", 0.1)
    shelf.before_set = lambda value: time.sleep(0.2)
    with pytest.raises(WiroOrderError, match="too slow: nothing was sent"):
        begin().proceed(order())
    assert runs(wiro) == []


@pytest.mark.parametrize("stopped", ["monotonic", "time"])
def test_a_machine_that_slept_takes_a_new_fence_whichever_of_its_clocks_stood(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    went_on = itertools.count(time.time(), driver.FENCE + 1)
    stood = time.time()
    clocks: dict[str, Callable[[], float]] = {name: lambda: next(went_on) for name in ("monotonic", "time")}
    asks = order()
    monkeypatch.setattr(driver, "time", SimpleNamespace(**{**clocks, stopped: lambda: stood}))
    with pytest.raises(WiroOrderError, match="too slow: nothing was sent"):
        begin().proceed(asks)
    assert runs(wiro) == []


@pytest.mark.parametrize("when", ["before the fence", "after the fence"])
def test_a_process_that_is_killed_right_before_sending_sends_nothing(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, when: str
) -> None:
    flags = [True] if when == "before the fence" else []
    shelf.before_set = lambda value: flags.append(True)
    with pytest.raises(WiroOrderError, match="before anything was ordered") as caught:
        begin(killed=lambda: bool(flags)).proceed(order())
    assert caught.value.retryable
    assert runs(wiro) == []
    assert shelf.phases == ["intent", "open"]
    insist(begin(), order(try_number=2))
    assert len(runs(wiro)) == 1


# Certain refusals


REFUSALS: list[tuple[str, Callable[[LocalWiro], None], dict[str, Any], type[WiroError], int | None]] = [
    ("too many requests", lambda wiro: wiro.set_faults(["run:rate_limit"]), {}, WiroBusyError, 0),
    ("a redirect", lambda wiro: wiro.set_faults(["run:redirect"]), {}, WiroConfigurationError, None),
    ("too many tasks", lambda wiro: wiro.set_limit(0), {}, WiroBusyError, 96),
    ("too little money", lambda wiro: wiro.set_balance("0.001"), {}, WiroBalanceError, 97),
    ("an unknown model", lambda wiro: None, {"model": "local/no-such-model"}, WiroNotFoundError, 1),
    ("a closed model", lambda wiro: None, {"model": "local/members-only"}, WiroAuthenticationError, 98),
    ("a wrong input", lambda wiro: None, {"inputs": {"prompt": ""}}, WiroBadRequestError, 0),
    ("no model's name", lambda wiro: None, {"model": "nonsense"}, WiroConfigurationError, None),
]


@pytest.mark.parametrize(
    ("arrange", "changes", "kind", "code"), [pytest.param(*row[1:], id=row[0]) for row in REFUSALS]
)
def test_a_certain_refusal_leaves_the_order_open(
    wiro: LocalWiro,
    shelf: Shelf,
    begin: Begin,
    arrange: Callable[[LocalWiro], None],
    changes: dict[str, Any],
    kind: type[WiroError],
    code: int | None,
) -> None:
    arrange(wiro)
    with pytest.raises(WiroError) as caught:
        begin().proceed(order(**changes))
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert runs(wiro) == []
    assert shelf.phases == ["intent", "open"]
    assert calls(wiro, "Task/List") == 0
    wiro.set_faults([])
    wiro.set_limit(None)
    wiro.set_balance(500)
    insist(begin(), order(try_number=2))
    assert len(runs(wiro)) == 1


def test_no_connection_leaves_the_order_open(shelf: Shelf, begin: Begin, make_client: MakeClient) -> None:
    with pytest.raises(WiroConnectionError, match="Nothing was sent"):
        begin(make_client("http://127.0.0.1:9")).proceed(order())
    assert shelf.phases == ["intent", "open"]


def test_a_certain_refusal_that_cannot_be_noted_is_looked_for(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, lines: Lines
) -> None:
    shelf.before_set = lambda value: setattr(shelf, "down", value["phase"] == "open")
    wiro.set_faults(["run:rate_limit"])
    with pytest.raises(WiroBusyError):
        begin().proceed(order())
    assert shelf.phases == ["intent"]
    assert "the next try looks at Wiro" in lines.of("warning")[0]
    shelf.down = False
    wiro.set_faults([])
    went = begin().proceed(order(try_number=2))
    assert isinstance(went, Later)
    assert went.until == pytest.approx(shelf.written[0]["until"] + 0.2, abs=0.01)
    assert runs(wiro) == []


def test_failed_runs_are_ordered_again_and_not_for_ever(
    wiro: LocalWiro, begin: Begin, until: Callable[..., Any]
) -> None:
    asks = order({"prompt": "[wiro:fail]"}, model=SEEDANCE)
    for number in range(1, 4):
        until(insist(begin(), asks).record.wiro_task_id)
        assert len(runs(wiro)) == number
    with pytest.raises(WiroOrderError, match="Wiro ended 3 Runs") as caught:
        begin().proceed(asks)
    assert not caught.value.retryable
    assert len(runs(wiro)) == 3
    assert calls(wiro, "Task/List") == 0
