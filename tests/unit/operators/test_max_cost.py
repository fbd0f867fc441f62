"""`max_cost`: refused before anything is paid, never in the way of what is ordered, and never guessed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroConfigurationError
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroRunOperator
from tests.unit.instances import Instance, billed, finish, runs

Make = Callable[..., SeedanceRunOperator]
DEAR = {"duration": 10, "resolution": "720p"}


@pytest.fixture
def batch(tmp_path: Path) -> Callable[..., SeedanceBatchOperator]:
    def batch(count: int = 3, **arguments: Any) -> SeedanceBatchOperator:
        return SeedanceBatchOperator(
            **{
                "task_id": "video",
                "videos": [{"prompt": f"Video {number}"} for number in range(count)],
                "poll_interval": 0.05,
                "settle": 0.5,
                "retries": 3,
                "destination": str(tmp_path / "videos"),
                **arguments,
            }
        )

    return batch


@pytest.mark.parametrize("limit", [0.1, "0.10", Decimal("0.1"), 1])
def test_what_costs_no_more_is_ordered(
    wiro: LocalWiro, make: Make, instance: Instance, limit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = finish(lambda: make(max_cost=limit), instance.start())
    assert done["total_cost"] == "0.1"
    assert len(billed(wiro)) == 1
    assert "Estimated: $0.10. max_cost is" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [0.4399, "0.43", 0])
def test_what_costs_more_is_refused_before_it_is_sent(
    wiro: LocalWiro, make: Make, instance: Instance, limit: Any
) -> None:
    with pytest.raises(AirflowFailException, match=r"WiroCostError: 1 order is estimated to cost \$0\.44, and"):
        finish(lambda: make(**DEAR, max_cost=limit), instance.start())
    assert runs(wiro) == []
    assert wiro.ledger()["calls"] == {"Tool/Detail": 1}


def test_without_a_limit_nobody_asks_for_prices(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    finish(lambda: make(**DEAR), instance.start())
    assert "Tool/Detail" not in wiro.ledger()["calls"]


def test_an_unknown_price_is_refused(wiro: LocalWiro, instance: Instance) -> None:
    def make() -> WiroRunOperator:
        return WiroRunOperator(task_id="video", model="local/echo-text", inputs={"prompt": "Hi"}, max_cost=100)

    wiro.set_faults(["tool:no_prices"])
    with pytest.raises(AirflowFailException, match=r"WiroCostError: .* before they run \(local/echo-text\), and"):
        finish(make, instance.start())
    assert runs(wiro) == []


def test_an_order_that_stands_is_gone_on_with(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    make(**DEAR, wait_for_completion=False, destination=None).execute(instance.start())
    done = finish(lambda: make(**DEAR, max_cost=0.01), instance.start())
    assert done["total_cost"] == "0.44"
    assert len(runs(wiro)) == 1


def test_a_new_video_in_place_of_an_old_one_is_refused_before_the_old_one_is_stopped(
    wiro: LocalWiro, make: Make, instance: Instance
) -> None:
    slow = {**DEAR, "prompt": "[wiro:hang] A door"}
    make(**slow, wait_for_completion=False, destination=None).execute(instance.start())
    instance.clear()
    with pytest.raises(AirflowFailException, match="WiroCostError"):
        finish(lambda: make(**slow, on_clear="resubmit", max_cost=0.01), instance.start())
    (run,) = runs(wiro)
    assert wiro.ledger()["calls"].get("Task/Kill", 0) == wiro.ledger()["calls"].get("Task/Cancel", 0) == 0
    assert not run["billed"]


def test_a_raised_limit_and_a_clear_order_it(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    with pytest.raises(AirflowFailException):
        finish(lambda: make(**DEAR, max_cost=0.2), instance.start())
    instance.clear()
    assert finish(lambda: make(**DEAR, max_cost=0.5), instance.start())["total_cost"] == "0.44"
    assert len(billed(wiro)) == 1


def test_prices_that_cannot_be_read_order_nothing_and_are_asked_for_again(
    wiro: LocalWiro, make: Make, instance: Instance
) -> None:
    wiro.set_faults(["tool:error"])
    with pytest.raises(Exception, match="HTTP 500"):
        finish(lambda: make(max_cost=1), instance.start())
    assert runs(wiro) == []
    wiro.set_faults([])
    assert finish(lambda: make(max_cost=1), instance.start())["total_cost"] == "0.1"


@pytest.mark.parametrize("value", [True, -1, float("nan"), float("inf"), "a lot", "", "1e3", "-1", "None", [], 10**10])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: SeedanceRunOperator(task_id="video", prompt="A door", max_cost=value),
        lambda value: SeedanceRunOperator.partial(task_id="video", max_cost=value).expand(prompt=["A door"]),
        lambda value: SeedanceBatchOperator(task_id="video", videos=[], destination="/tmp/x", max_cost=value),
    ],
    ids=["run", "mapped", "batch"],
)
def test_what_is_no_amount_is_refused_at_parse(value: Any, make: Callable[[Any], Any]) -> None:
    with pytest.raises(WiroConfigurationError, match=r"max_cost is .*, allowed: US dollars"):
        make(value)


def test_a_template_is_taken_at_parse_and_checked_when_it_is_rendered(
    wiro: LocalWiro, make: Make, instance: Instance
) -> None:
    operator = make(max_cost="{{ params.limit }}")
    operator.render_template_fields({"params": {"limit": "plenty"}})
    with pytest.raises(AirflowFailException, match="max_cost is 'plenty', allowed"):
        operator.execute(instance.start())
    assert runs(wiro) == []


# Many


def test_a_batch_is_held_against_the_sum(
    wiro: LocalWiro, batch: Callable[..., Any], instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AirflowFailException, match=r"WiroCostError: 3 orders together .* \$0\.30, .* is \$0\.29"):
        finish(lambda: batch(max_cost=0.29), instance.start())
    assert runs(wiro) == []
    instance.clear()
    assert finish(lambda: batch(max_cost=0.3), instance.start())["total_cost"] == "0.3"
    assert len(billed(wiro)) == 3
    assert "Estimated: $0.30. max_cost is $0.30." in capsys.readouterr().out


def test_one_unknown_price_in_a_batch_is_enough(wiro: LocalWiro, batch: Callable[..., Any], instance: Instance) -> None:
    wiro.set_faults(["tool:no_prices:times=1"])
    videos = [{"prompt": "Unknown", "model": "ByteDance/seedance-pro-v1"}, {"prompt": "Known"}]
    with pytest.raises(AirflowFailException, match=r"What 1 of 2 orders cost .* \(ByteDance/seedance-pro-v1\)"):
        finish(lambda: batch(videos=videos, max_cost=100), instance.start())
    assert runs(wiro) == []


def test_what_is_reused_costs_nothing(wiro: LocalWiro, batch: Callable[..., Any], instance: Instance) -> None:
    finish(lambda: batch(2), instance.start())
    folder = instance.folder / "other"
    folder.mkdir()
    other = Instance(folder, map_index=7)
    assert finish(lambda: batch(3, reuse=True, max_cost=0.1), other.start())["total_cost"] == "0.1"
    assert len(runs(wiro)) == 3


def test_the_rest_of_a_batch_is_refused_and_what_stands_is_delivered(
    wiro: LocalWiro, batch: Callable[..., Any], instance: Instance
) -> None:
    mixed = [{"prompt": "Good"}, {"prompt": "[wiro:fail] Bad"}]
    with pytest.raises(Exception, match="1 of 2 videos failed"):
        finish(lambda: batch(videos=mixed), instance.start())
    with pytest.raises(AirflowFailException, match="1 of 2 videos failed.*WiroCostError: 2 orders together"):
        finish(lambda: batch(videos=mixed, max_cost=0.15), instance.start())
    assert len(runs(wiro)) == 2
