"""What a look brings: a list in pages, without echo, without time, or not at all."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.exceptions import WiroAuthenticationError, WiroRunUnknownError
from airflow_provider_wiro.submission.decision import LOOK_AGAIN, LOOK_PATIENCE
from airflow_provider_wiro.submission.driver import Later, Standing
from airflow_provider_wiro.submission.record import Phase, Record
from tests.unit.submission.shelf import ENDLESS, TOY, Shelf, calls, insist, order, runs

if TYPE_CHECKING:
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Lines, MakeClient
    from tests.unit.submission.conftest import Begin

FOREIGN: dict[str, Any] = {"model": TOY, "prompt": "Somebody else's [wiro:hang]", "seed": "5"}
ALIKE: dict[str, Any] = {**ENDLESS, "seed": "7"}


def lost(wiro: LocalWiro, begin: Begin, asks: Any, fault: str = "error_after", **options: Any) -> Any:
    """Order, lose the answer, and find no list: an intent is left."""
    wiro.set_faults([f"run:{fault}:times=1", "list:off"])
    submission = begin(**options)
    assert isinstance(submission.proceed(asks), Later)
    wiro.set_faults([])
    return submission


# No list, no Run


@pytest.mark.parametrize("kind", ["off", "error", "reset", "html", "truncated", "rate_limit"])
def test_without_a_list_nothing_is_sent(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, make_client: MakeClient, lines: Lines, kind: str
) -> None:
    wiro.set_faults(["run:error_before:times=1", f"list:{kind}"])
    submission, asks = begin(make_client(wiro.base_url, attempts=1)), order(settle=0.01)
    for _ in range(2):
        went = submission.proceed(asks)
        assert isinstance(went, Later)
        assert went.until == pytest.approx(time.time() + LOOK_AGAIN, abs=2)
    assert calls(wiro, "Run") == 1
    assert shelf.phases == ["intent", "intent"]
    assert "Wiro does not tell its tasks now" in lines.of("info")[-1]
    wiro.set_faults([])
    insist(submission, asks)
    assert len(runs(wiro)) == 1


def test_a_later_try_without_a_record_sends_nothing_without_a_list(wiro: LocalWiro, begin: Begin) -> None:
    wiro.set_faults(["list:off"])
    assert isinstance(begin().proceed(order(try_number=2)), Later)
    assert calls(wiro, "Run") == 0


def test_a_try_that_looked_long_enough_leaves_it_to_the_next_one(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    asks = order(settle=0.01)
    submission = lost(wiro, begin, asks)
    wiro.set_faults(["list:off"])
    with pytest.raises(WiroRunUnknownError, match="Wiro does not tell its tasks") as caught:
        submission.proceed(order(settle=0.01, looking_since=time.time() - LOOK_PATIENCE))
    assert caught.value.retryable
    assert shelf.record["phase"] == "intent"
    wiro.set_faults([])
    insist(begin(), order(try_number=2))
    assert len(runs(wiro)) == 1


@pytest.mark.parametrize("phase", ["intent", "receipt"])
def test_refused_credentials_end_a_look(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, make_client: MakeClient, phase: str
) -> None:
    if phase == "intent":
        lost(wiro, begin, order())
    else:
        insist(begin(), order())
    before = shelf.text
    with pytest.raises(WiroAuthenticationError):
        begin(make_client(wiro.base_url, "wrong-key")).proceed(order(try_number=2))
    assert (calls(wiro, "Run"), shelf.text) == (1, before)


@pytest.mark.parametrize("kind", ["error", "reset", "html"])
def test_a_task_that_cannot_be_read_stands_all_the_same(wiro: LocalWiro, begin: Begin, kind: str) -> None:
    first = insist(begin(), order())
    wiro.set_faults([f"detail:{kind}"])
    again = begin().proceed(order(try_number=2))
    assert again == Standing(first.record, None)
    assert calls(wiro, "Run") == 1


def test_a_task_that_wiro_does_not_know_yet_stands_and_one_that_it_forgot_is_looked_for(
    wiro: LocalWiro, shelf: Shelf, begin: Begin
) -> None:
    standing = insist(begin(), order())
    wiro.set_faults(["detail:early:seconds=60"])
    assert insist(begin(), order(try_number=2)) == Standing(standing.record, None)
    # A minute later it is no longer a matter of patience: the list knows the task.
    aged = {"first": -90.0, "until": -80.0, "submitted_at": -89.0}
    record = {name: value + time.time() if name in aged else value for name, value in {**shelf.record, **aged}.items()}
    shelf.text = json.dumps(record)
    found = insist(begin(), order(try_number=2))
    assert found.record.wiro_task_id == standing.record.wiro_task_id
    assert (calls(wiro, "Run"), calls(wiro, "Task/List")) == (1, 1)


def test_a_task_that_is_nowhere_is_ordered_again(wiro: LocalWiro, shelf: Shelf, begin: Begin) -> None:
    asks = order(try_number=2)
    gone = Record(asks.key, Phase.RECEIPT, 3, 1, first=time.time() - 300, until=time.time() - 220, wiro_task_id="1")
    shelf.set(gone.to_json())
    standing = insist(begin(), asks)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]
    assert shelf.record["history"] == ["1"]


# Pages


@pytest.mark.parametrize(("newer", "pages"), [(99, 1), (100, 2), (150, 2), (200, 3)])
def test_an_order_among_the_oldest_of_several_pages_is_found(
    wiro: LocalWiro, begin: Begin, newer: int, pages: int
) -> None:
    lost(wiro, begin, order())
    wiro.run_foreign(count=newer, **FOREIGN)
    standing = begin().proceed(order(try_number=2))
    assert isinstance(standing, Standing)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]
    assert calls(wiro, "Task/List") == 1 + pages
    assert calls(wiro, "Task/Detail") == 0


def test_pages_from_before_the_order_are_not_read(wiro: LocalWiro, begin: Begin) -> None:
    wiro.set_clock_offset(-1000)
    wiro.run_foreign(count=150, **FOREIGN)
    wiro.set_clock_offset(0)
    wiro.set_faults(["run:error_before:times=1"])
    assert isinstance(begin().proceed(order()), Later)
    assert calls(wiro, "Task/List") == 1


def test_a_page_that_fails_makes_the_whole_look_fail(wiro: LocalWiro, begin: Begin, make_client: MakeClient) -> None:
    lost(wiro, begin, order(settle=0.01), "error_before")
    wiro.run_foreign(count=150, **FOREIGN)
    submission = begin(make_client(wiro.base_url, attempts=1))
    wiro.set_faults(["list:slow:seconds=0.01:times=1", "list:error"])
    assert isinstance(submission.proceed(order(settle=0.01, try_number=2)), Later)
    assert (calls(wiro, "Run"), wiro.ledger()["faults"]["list:error"]) == (1, 1)


def test_ids_that_are_numbers_are_ids(wiro: LocalWiro, begin: Begin) -> None:
    wiro.set_faults(["run:error_after:times=1", "list:int_ids"])
    standing = insist(begin(), order())
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


# Clocks


@pytest.mark.parametrize("faults", [[], ["any:no_date"], ["list:no_createtime"]], ids=str)
@pytest.mark.parametrize("offset", [-90.0, 0.0, 90.0])
def test_a_clock_that_is_off_hides_nothing_and_shows_nothing_else(
    wiro: LocalWiro, begin: Begin, faults: list[str], offset: float
) -> None:
    wiro.set_clock_offset(offset)
    wiro.set_faults(["run:error_after:times=1", *faults])
    standing = insist(begin(), order())
    (run,) = runs(wiro)
    assert run["taskid"] == standing.record.wiro_task_id
    if faults != ["any:no_date"]:
        assert standing.record.submitted_at == pytest.approx(run["created"], abs=3)


@pytest.mark.parametrize("offset", [-90.0, 0.0, 90.0])
def test_what_others_ran_before_is_no_suspect(wiro: LocalWiro, begin: Begin, offset: float) -> None:
    wiro.set_clock_offset(offset - 30)
    wiro.run_foreign(count=3, **FOREIGN)
    wiro.set_clock_offset(offset)
    wiro.set_faults(["run:error_before:times=1", "echo:off"])
    standing = insist(begin(), order())
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


# Echo


def test_a_list_without_echo_is_healed_by_detail(wiro: LocalWiro, begin: Begin) -> None:
    wiro.run_foreign(count=3, **FOREIGN)
    wiro.set_faults(["run:error_after:times=1", "echo:off_in_list"])
    standing = begin().proceed(order(settle=60))
    assert isinstance(standing, Standing)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]
    assert calls(wiro, "Task/Detail") == 4


def test_only_so_many_details_are_asked_in_a_look_and_the_rest_stays_suspect(wiro: LocalWiro, begin: Begin) -> None:
    wiro.run_foreign(count=25, **FOREIGN)
    wiro.set_faults(["run:error_before:times=1", "echo:off_in_list"])
    submission = begin()
    assert isinstance(submission.proceed(order(settle=60)), Later)
    assert calls(wiro, "Task/Detail") == 20
    with pytest.raises(WiroRunUnknownError, match="may be it"):
        insist(submission, order(settle=0.01))
    assert (runs(wiro), calls(wiro, "Task/Detail")) == ([], 40)


def test_what_the_list_rules_out_is_not_asked_for(wiro: LocalWiro, begin: Begin) -> None:
    wiro.run_foreign(count=3, model=TOY, prompt="Somebody else's, without a seed [wiro:hang]")
    wiro.set_faults(["run:error_before:times=1"])
    assert isinstance(begin().proceed(order()), Later)
    assert calls(wiro, "Task/Detail") == 0


def test_a_detail_that_fails_makes_the_whole_look_fail(wiro: LocalWiro, begin: Begin) -> None:
    lost(wiro, begin, order(settle=0.01), "error_before")
    wiro.run_foreign(**FOREIGN)
    wiro.set_faults(["echo:off_in_list", "detail:error"])
    assert isinstance(begin().proceed(order(settle=0.01, try_number=2)), Later)
    assert calls(wiro, "Run") == 1


@pytest.mark.parametrize("echo", ["off", "partial"])
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not accepted"])
def test_without_echo_a_run_that_may_be_ours_is_not_sent_again(
    wiro: LocalWiro, shelf: Shelf, begin: Begin, echo: str, accepted: bool
) -> None:
    wiro.set_faults([f"run:{'error_after' if accepted else 'error_before'}:times=1", f"echo:{echo}"])
    if not accepted:
        wiro.run_foreign(model=TOY, **ENDLESS)
    submission, asks = begin(), order()
    with pytest.raises(WiroRunUnknownError, match="may be it. .*on_unknown='adopt'") as caught:
        insist(submission, asks)
    (run,) = wiro.ledger()["runs"]
    assert caught.value.wiro_task_id == run["taskid"]
    assert not caught.value.retryable
    assert (calls(wiro, "Run"), shelf.record["phase"]) == (1, "intent")
    adopted = insist(begin(), order(try_number=2, max_tries=4, on_unknown="adopt"))
    assert adopted.record.wiro_task_id == run["taskid"]
    assert calls(wiro, "Run") == 1


def test_without_echo_a_run_may_be_sent_again_if_somebody_says_so(wiro: LocalWiro, begin: Begin) -> None:
    wiro.set_faults(["run:error_after:times=1", "echo:off"])
    insist(begin(), order(on_unknown="resubmit"))
    assert len(runs(wiro)) == 2


@pytest.mark.parametrize("echo", ["off", "partial"])
def test_without_echo_and_without_others_absence_is_proved_by_time_and_model(
    wiro: LocalWiro, begin: Begin, echo: str
) -> None:
    wiro.run_foreign(model="ByteDance/seedance-pro-v1", prompt="Somebody else's [wiro:hang]")
    wiro.set_faults(["run:error_before:times=1", f"echo:{echo}"])
    standing = insist(begin(), order())
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


@pytest.mark.parametrize("echo", [[], ["echo:off"]], ids=["echo", "no echo"])
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "alone"])
def test_claims_of_siblings_are_asked_for_where_they_matter(
    wiro: LocalWiro, begin: Begin, echo: list[str], mapped: bool
) -> None:
    others = frozenset(wiro.run_foreign(count=2, **FOREIGN))
    asked: list[int] = []

    def claimed() -> frozenset[str]:
        asked.append(1)
        return others

    wiro.set_faults(["run:error_before:times=1", *echo])
    submission, asks = begin(claimed=claimed), order(mapped=mapped)
    if echo and not mapped:
        with pytest.raises(WiroRunUnknownError):
            insist(submission, asks)
        assert runs(wiro) == []
    else:
        insist(submission, asks)
        assert len(runs(wiro)) == 1
    assert bool(asked) is bool(mapped and echo)


# A seed of the user's


def test_equal_inputs_are_adopted_after_the_final_moment(wiro: LocalWiro, begin: Begin) -> None:
    wiro.set_faults(["run:error_after:times=1"])
    submission, asks = begin(), order(ALIKE, marked=False)
    assert isinstance(submission.proceed(asks), Later)
    standing = insist(submission, asks)
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


def test_two_with_equal_inputs_are_a_question(wiro: LocalWiro, begin: Begin) -> None:
    wiro.run_foreign(model=TOY, **ALIKE)
    wiro.set_faults(["run:error_after:times=1"])
    with pytest.raises(WiroRunUnknownError, match="one of Wiro task"):
        insist(begin(), order(ALIKE, marked=False))
    assert len(runs(wiro)) == 1


@pytest.mark.parametrize(
    "inputs",
    [
        {**ENDLESS, "strength": "0.5", "note": "  two   words "},
        {**ENDLESS, "negative": ""},
        {**ENDLESS, "tags": ["harbour", "dawn"]},
        {**ENDLESS, "camera": {"pan": 5}},
    ],
    ids=["texts", "an empty text", "a list", "a mapping"],
)
def test_an_accepted_run_is_not_sent_again_whatever_its_inputs_are(
    wiro: LocalWiro, begin: Begin, inputs: dict[str, Any]
) -> None:
    wiro.set_faults(["run:error_after:times=1"])
    standing = insist(begin(), order(inputs, marked=False))
    assert [run["taskid"] for run in runs(wiro)] == [standing.record.wiro_task_id]


def test_equal_inputs_with_another_file_are_not_the_same_order(wiro: LocalWiro, begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "first.png").write_bytes(b"png")
    (other,) = wiro.run_foreign(model=TOY, **ALIKE, image="https://example.org/another.png")
    wiro.set_faults(["run:error_before:times=1"])
    taken: str | None = None
    with suppress(WiroRunUnknownError):  # nothing tells: nothing is taken
        asks = order(ALIKE, marked=False, has_files=True)
        taken = insist(begin(), asks, files={"image": tmp_path / "first.png"}).record.wiro_task_id
    assert taken != other
