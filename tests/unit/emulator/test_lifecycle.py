from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest

from airflow_provider_wiro.emulator.account import Account, RefusedError, money
from airflow_provider_wiro.emulator.catalogue import MODELS
from airflow_provider_wiro.emulator.lifecycle import Marks, make_plan, read_marks, wiro_seconds
from airflow_provider_wiro.emulator.settings import read_balance
from airflow_provider_wiro.emulator.wire import show

ALL = [
    "task_queue",
    "task_accept",
    "task_assign",
    "task_preprocess_start",
    "task_preprocess_end",
    "task_start",
    "task_output",
    "task_output_full",
    "task_end",
    "task_postprocess_start",
    "task_postprocess_end",
]
SEEDANCE = next(model for model in MODELS if model.slug == "ByteDance/text-to-video-seedance-v1")


@dataclass
class Film:
    data: bytes | None = None
    drawn_at: float | None = None
    problem: str = ""


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def open_account(balance: float = 500, speed: float = 1) -> tuple[Account, Clock]:
    clock = Clock()
    return Account(Decimal(str(balance)), speed, clock), clock


def walk(prompt: str, film: Film | None, steps: int = 400, step: float = 0.25) -> tuple[Account, list[str]]:
    account, clock = open_account()
    task = account.accept(SEEDANCE, {"prompt": prompt}, lambda _: film)
    seen = [task.status(clock.now)]
    for _ in range(steps):
        clock.now += step
        account.settle()
        if task.status(clock.now) != seen[-1]:
            seen.append(task.status(clock.now))
    return account, seen


def test_a_task_passes_through_every_status_in_order() -> None:
    account, seen = walk("A kite", Film(b"film", 1_800_000_001.0))
    assert seen == ALL
    assert account.billed_total == Decimal("0.10")


def test_the_ledger_tells_when_each_run_ended() -> None:
    account, clock = open_account()
    begun = clock.now
    film = Film(b"film", begun)
    task = account.accept(SEEDANCE, {"prompt": "A kite [wiro:slow=40]"}, lambda _: film)
    account.accept(SEEDANCE, {"prompt": "A kite [wiro:hang]"})
    stopped = account.accept(SEEDANCE, {"prompt": "A kite"}, lambda _: film)
    clock.now += 1
    account.settle()
    account.cancel(stopped)
    assert [run["ended"] for run in account.ledger({})["runs"]] == [None, None, begun + 1]
    clock.now += 1000
    assert task.status(clock.now) == "task_postprocess_end"
    assert [run["ended"] for run in account.ledger({})["runs"]] == [begun + 40, None, begun + 1]


def test_a_task_waits_in_task_output_for_its_drawing_and_then_goes_on_at_its_pace() -> None:
    film = Film()
    account, clock = open_account()
    task = account.accept(SEEDANCE, {"prompt": "A kite"}, lambda _: film)
    clock.now += 500
    assert task.status(clock.now) == "task_output"
    shown = show(task, clock.now, "http://x")
    assert (shown["starttime"] != "0", shown["endtime"], shown["postprocessendtime"]) == (True, "0", "0")
    film.data, film.drawn_at = b"film", clock.now
    assert task.status(clock.now) == "task_output_full"
    clock.now += 5
    assert task.status(clock.now) in ("task_end", "task_postprocess_start")
    clock.now += 10
    assert task.status(clock.now) == "task_postprocess_end"
    shown = show(task, clock.now, "http://x")
    assert float(str(shown["elapsedseconds"])) > 480


@pytest.mark.parametrize(
    ("mark", "last", "pexit"),
    [
        ("[wiro:fail]", "task_postprocess_end", "1"),
        ("[wiro:error]", "task_error", "1"),
        ("[wiro:cancel]", "task_cancel", ""),
        ("[wiro:hang]", "task_output", ""),
    ],
)
def test_marks_force_an_end_that_is_not_billed(mark: str, last: str, pexit: str) -> None:
    account, seen = walk(f"A kite {mark}", Film(b"film", 0.0))
    (task,) = account.tasks.values()
    assert seen[-1] == last
    assert task.pexit(account.now) == pexit
    assert account.billed_total == 0
    shown = show(task, account.now, "http://x")
    assert shown["outputs"] == []
    assert bool(shown["debugerror"]) == (pexit == "1")


def test_a_system_cancel_has_its_time() -> None:
    account, _ = walk("[wiro:cancel]", None)
    (task,) = account.tasks.values()
    assert int(str(show(task, account.now, "")["canceltime"])) == pytest.approx(task.created + 5, abs=2)


def test_the_unknown_mark_passes_through_a_word_nobody_knows() -> None:
    _, seen = walk("[wiro:unknown]", Film(b"film", 0.0))
    assert [status for status in seen if status not in ALL] == ["task_rehearsal"]
    assert seen[-1] == "task_postprocess_end"


def test_the_slow_mark_sets_the_seconds() -> None:
    plan = make_plan(read_marks("x [wiro:slow=120] y"), 60)
    assert plan.begins("task_postprocess_end") == 120
    assert read_marks("[wiro:slow=] [wiro:nothing]") == Marks()
    assert read_marks("[wiro:error][wiro:fail]").end == "error"


def test_times_depend_on_the_order_and_jitter_on_the_id() -> None:
    small = [wiro_seconds(number, {}, video=True) for number in range(200)]
    assert 54 <= min(small) < 57
    assert 63 < max(small) <= 66
    assert small == [wiro_seconds(number, {}, video=True) for number in range(200)]
    assert wiro_seconds(1, {"resolution": "720p"}, video=True) > small[1]
    assert wiro_seconds(1, {"duration": "10"}, video=True) > small[1]
    assert wiro_seconds(1, {}, video=False) < 6


def test_speed_scales_the_clock_but_not_the_elapsed_seconds() -> None:
    shown = []
    for speed in (1, 60):
        account, clock = open_account(speed=speed)
        account._next = 77
        task = account.accept(SEEDANCE, {"prompt": "A kite"}, lambda _: Film(b"film", 0.0))
        clock.now += 70 / speed
        account.settle()
        shown.append(show(task, clock.now, ""))
    assert shown[0]["status"] == shown[1]["status"] == "task_postprocess_end"
    assert float(str(shown[0]["elapsedseconds"])) == pytest.approx(float(str(shown[1]["elapsedseconds"])), abs=0.01)


@pytest.mark.parametrize(
    ("balance", "limit"), [(0, 1), (10, 1), (50, 5), (99.99, 9), (100, 10), (250, 25), (250.01, None)]
)
def test_the_limit_follows_the_balance(balance: float, limit: int | None) -> None:
    assert open_account(balance)[0].limit == limit


def test_code_96_names_balance_and_limit_and_ends_with_a_task() -> None:
    account, clock = open_account(20)
    for _ in range(2):
        account.accept(SEEDANCE, {"prompt": "A kite"}, lambda _: Film(b"film", 0.0))
    with pytest.raises(RefusedError, match=r"balance of \$20\.00, you can run up to 2 tasks") as refused:
        account.accept(SEEDANCE, {"prompt": "A kite"})
    assert refused.value.code == 96
    clock.now += 100
    # Two of 0.10 are paid now, and 19.80 allow one.
    assert account.accept(SEEDANCE, {"prompt": "A kite"})
    assert account.limit == 1


def test_code_97_without_the_price() -> None:
    account, _ = open_account(0.19)
    assert account.accept(SEEDANCE, {"prompt": "x [wiro:error]"})
    with pytest.raises(RefusedError, match="Insufficient balance") as refused:
        account.admit(SEEDANCE, {"prompt": "x", "duration": "10"})
    assert refused.value.code == 97


def test_forgetting_keeps_ids_apart_and_brings_the_balance_back() -> None:
    account, clock = open_account(100)
    first = account.accept(SEEDANCE, {"prompt": "A kite"}, lambda _: Film(b"film", 0.0))
    clock.now += 100
    account.settle()
    assert account.balance == Decimal("99.90")
    fresh = account.forget()
    assert fresh.balance == 100
    assert fresh.accept(SEEDANCE, {"prompt": "A kite"}).number > first.number
    assert len(fresh.tasks) == 1


def test_money() -> None:
    assert [money(Decimal(text)) for text in ("0", "1.2", "0.125", "100")] == [
        "0.00",
        "1.20",
        "0.125",
        "100.00",
    ]
    for wrong in ("-1", "nan", "inf", "x", None, True, "1e9"):
        with pytest.raises(ValueError, match="from 0 to 1000000"):
            read_balance(wrong)
