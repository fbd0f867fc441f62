"""Code 96: an account that runs as many tasks as it may lets an order wait, and no retry is used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroBusyError
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.triggers.wiro import WiroPlaceTrigger
from tests.readme import row
from tests.unit.instances import Instance, billed, finish, runs

Make = Callable[..., SeedanceRunOperator]


@pytest.fixture
def full(wiro: LocalWiro) -> Iterator[LocalWiro]:
    """An account with one place, which a stranger has."""
    wiro.set_limit(1)
    wiro.run_foreign(prompt="Somebody else's [wiro:slow=2500]")
    yield wiro
    wiro.set_limit(None)


def deferred(make: Make, instance: Instance) -> WiroPlaceTrigger:
    with pytest.raises(TaskDeferred) as raised:
        make().execute(instance.start())
    assert raised.value.method_name == "order_again"
    assert isinstance(raised.value.trigger, WiroPlaceTrigger)
    return raised.value.trigger


@row("the account runs as many tasks as it may (code 96), or asks for fewer requests (429)")
def test_it_waits_in_the_triggerer_and_orders_when_a_place_is_free(
    row: str, full: LocalWiro, make: Make, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    delivered = finish(make, instance.start())
    assert delivered["status"] == "succeeded"
    assert (len(runs(full)), len(billed(full)), instance.try_number) == (1, 1, 1)
    said = capsys.readouterr().out
    assert said.count("you can run up to 1 tasks") == 1


def test_the_trigger_knows_the_limit_and_no_secret(full: LocalWiro, make: Make, instance: Instance) -> None:
    before = time.time()
    trigger = deferred(make, instance)
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_wiro.triggers.wiro.WiroPlaceTrigger"
    assert arguments["limit"] == 1
    assert arguments["came_back"] is False
    assert before <= arguments["since"] <= time.time()
    assert arguments["end_time"] == pytest.approx(arguments["since"] + 3600)
    assert WiroPlaceTrigger(**arguments).serialize() == (path, arguments)


def test_who_comes_back_keeps_its_turn(full: LocalWiro, make: Make, instance: Instance) -> None:
    trigger = deferred(make, instance)
    with pytest.raises(TaskDeferred) as raised:
        make().order_again(
            instance.context(instance.start()["task_state_store"]), {"status": "place", "since": trigger.since}
        )
    again = raised.value.trigger
    assert isinstance(again, WiroPlaceTrigger)
    assert (again.since, again.came_back, again.end_time) == (trigger.since, True, trigger.end_time)


def test_no_place_within_the_timeout_says_so_and_a_retry_orders(
    full: LocalWiro, make: Make, instance: Instance
) -> None:
    context = instance.start()
    with pytest.raises(WiroBusyError, match="No place .* within 3600 s. .* Nothing is ordered. A retry, or a clear,"):
        make().order_again(context, {"status": "timeout", "since": 1.0})
    with pytest.raises(WiroBusyError, match="within 0.2 s"):
        finish(lambda: make(timeout=0.2), context)
    full.set_limit(None)
    assert finish(make, instance.start())["status"] == "succeeded"
    assert len(billed(full)) == 1


def test_a_worker_waits_where_it_was_told_to(full: LocalWiro, make: Make, instance: Instance) -> None:
    assert finish(lambda: make(deferrable=False), instance.start())["status"] == "succeeded"
    assert len(billed(full)) == 1


def test_a_request_rate_is_waited_for_as_well(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    wiro.set_faults(["run:rate_limit:seconds=0:times=2"])
    assert finish(make, instance.start())["status"] == "succeeded"
    assert (len(billed(wiro)), instance.try_number) == (1, 1)


@pytest.mark.parametrize("event", [None, {}, {"status": "place"}, {"status": "cheers", "since": 1.0}])
def test_a_strange_event_is_refused(make: Make, instance: Instance, event: object) -> None:
    with pytest.raises(AirflowFailException, match="is not one of WiroPlaceTrigger's"):
        make().order_again(instance.start(), event)
