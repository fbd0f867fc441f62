"""Orders whose Run cannot be told by its seed, or whose Wiro does not tell: never guessed, never paid twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroError
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroRunOperator
from tests.readme import row
from tests.unit.instances import Instance, billed, finish, runs

Make = Callable[..., SeedanceRunOperator]


def weak(**arguments: Any) -> WiroRunOperator:
    defaults = {
        "task_id": "video",
        "model": "local/echo-text",
        "inputs": {"prompt": "Twins"},
        "settle": 0.3,
        "retries": 3,
        "deferrable": False,
    }
    return WiroRunOperator(**{**defaults, **arguments})


def test_without_a_seed_the_only_equal_run_is_adopted(wiro: LocalWiro, instance: Instance) -> None:
    wiro.set_faults(["run:reset_after:times=1"])
    assert weak().execute(instance.start())["wiro_task_id"] == runs(wiro)[0]["taskid"]
    assert len(runs(wiro)) == 1


def test_equal_orders_of_one_mapped_task_are_never_guessed(wiro: LocalWiro, tmp_path: Path) -> None:
    wiro.set_faults(["run:reset_after:times=1"])
    with pytest.raises(AirflowFailException, match=r"outcome of a Run is not known, and Wiro task \d+ may be it"):
        weak().execute(Instance(tmp_path, map_index=0).start())
    assert len(runs(wiro)) == 1


def test_what_a_sibling_has_claimed_is_not_ours(wiro: LocalWiro, client: WiroClient, tmp_path: Path) -> None:
    instance = Instance(tmp_path, map_index=1)
    instance.siblings.append(client.run("local/echo-text", {"prompt": "Twins"}).wiro_task_id)
    wiro.set_faults(["run:reset_before:times=1"])
    known = weak().execute(instance.start())
    assert known["wiro_task_id"] not in instance.siblings
    assert len(runs(wiro)) == 2


def test_a_sibling_that_has_only_just_ordered_is_waited_for(
    wiro: LocalWiro, client: WiroClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_wiro.submission.decision.CLAIM_PATIENCE", 2.0)
    instance = Instance(tmp_path, map_index=1)
    other = client.run("local/echo-text", {"prompt": "Twins"}).wiro_task_id
    threading.Timer(1.0, instance.siblings.append, [other]).start()
    wiro.set_faults(["run:reset_before:times=1"])
    assert weak().execute(instance.start())["wiro_task_id"] != other
    assert len(runs(wiro)) == 2


def test_an_order_is_claimed_before_its_second_look(wiro: LocalWiro, instance: Instance, make: Make) -> None:
    wiro.set_faults(["run:reset_before:times=1"])
    operator = make(settle=12, deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(instance.start())
    time.sleep(12.5)
    with pytest.raises(TaskDeferred) as second:
        make(settle=12).look_again(instance.resume(instance.start()), None)
    assert second.value.method_name == "look_again"
    assert instance.xcoms["wiro_task_id"] == runs(wiro)[0]["taskid"]


@pytest.mark.parametrize(("policy", "orders"), [("fail", 1), ("adopt", 1), ("resubmit", 2)])
def test_a_silent_wiro_leaves_it_to_on_unknown(
    wiro: LocalWiro, instance: Instance, make: Make, policy: str, orders: int
) -> None:
    wiro.set_faults(["echo:off", "run:reset_after:times=1"])
    context = instance.start()
    operator = make(on_unknown=policy, deferrable=False)
    if policy == "fail":
        with pytest.raises(AirflowFailException, match="may be it.*on_unknown='adopt'"):
            operator.execute(context)
    else:
        assert operator.execute(context)["status"] == "succeeded"
    assert len(runs(wiro)) == orders


def test_a_silent_wiro_without_other_traffic_proves_absence(wiro: LocalWiro, instance: Instance, make: Make) -> None:
    wiro.set_faults(["echo:off", "run:reset_before:times=1"])
    delivered = finish(make, instance.start())
    assert billed(wiro) == [delivered["wiro_task_id"]]


@row("the outcome of an order is unknown, and nothing proves it")
def test_a_silent_wiro_with_other_traffic_fails_and_names_it(
    row: str, wiro: LocalWiro, instance: Instance, make: Make
) -> None:
    wiro.set_faults(["echo:off", "run:reset_before:times=1"])
    foreign = wiro.run_foreign(count=2)
    with pytest.raises(AirflowFailException) as caught:
        make(deferrable=False).execute(instance.start())
    assert all(taskid in str(caught.value) for taskid in foreign)
    assert runs(wiro) == []


@row("Wiro's list is down while an outcome is unknown")
def test_a_list_that_is_down_is_never_taken_for_an_absence(
    row: str, wiro: LocalWiro, instance: Instance, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiro.set_faults(["list:off", "run:reset_before:times=1"])
    with pytest.raises(TaskDeferred) as caught:
        make().execute(instance.start())
    assert runs(wiro) == []
    late = {"looking_since": time.time() - 1000}
    with pytest.raises(WiroError, match="Wiro does not tell its tasks") as gave_up:
        make().resume_execution(caught.value.method_name, {**late, "event": None}, instance.start())
    assert gave_up.value.retryable
    wiro.set_faults([])
    delivered = finish(make, instance.start())
    assert billed(wiro) == [delivered["wiro_task_id"]]
