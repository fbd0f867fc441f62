"""Three cheap videos run without asking; twelve wait for a person, who approves or rejects."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_wiro.emulator import LocalWiro

from .conftest import Run, runs_of

pytestmark = pytest.mark.integration


def order(start: Callable[..., Run], name: str, count: int) -> Run:
    return start("budget", videos=[{"prompt": f"{name}, {number}"} for number in range(count)])


@pytest.fixture(scope="module")
def nights(start: Callable[..., Run]) -> dict[str, Run]:
    return {name: order(start, name, count) for name, count in (("cheap", 3), ("approved", 12), ("rejected", 12))}


def test_cheap_videos_run_without_asking(nights: dict[str, Run], wiro: LocalWiro) -> None:
    run = nights["cheap"]
    assert run.wait() == "success", run.failures()
    answered = run.xcom("approve")
    assert (answered["chosen_options"], answered["estimated_cost"], answered["videos"]) == (["Approve"], "0.3", 3)
    assert run.xcom("order")["total_cost"] == "0.3"
    assert [run["billed"] for number in range(3) for run in runs_of(wiro, f"cheap, {number}")] == [True] * 3


def test_what_is_approved_goes_on(nights: dict[str, Run], wiro: LocalWiro) -> None:
    run = nights["approved"]
    asked = run.question("approve")
    assert asked["subject"] == "Order 12 videos for about $1.20?"
    assert "| **in all** | | **12** | | **$1.20** |" in asked["body"]
    assert runs_of(wiro, "approved, 0") == []
    run.answer("approve", "Approve", note="go on")
    assert run.wait() == "success", run.failures()
    answered = run.xcom("approve")
    assert (answered["videos"], answered["estimated_cost"]) == (12, "1.2")
    assert (answered["chosen_options"], answered["params_input"]) == (["Approve"], {"note": "go on"})
    assert run.xcom("order")["total_cost"] == answered["estimated_cost"]


def test_who_approves_an_unknown_price_gets_what_was_asked_for(
    start: Callable[..., Run], nights: dict[str, Run], wiro: LocalWiro
) -> None:
    for run in nights.values():
        run.until(lambda states: states.get(("approve", -1)) in ("success", "awaiting_input"))
    wiro.set_faults(["tool:no_prices"])
    try:
        run = order(start, "unknown", 1)
        assert run.question("approve")["subject"] == "Order 1 video at an unknown price?"
        run.answer("approve", "Approve", note="")
        assert run.wait() == "success", run.failures()
    finally:
        wiro.set_faults([])
    assert (run.xcom("approve", key="estimated_cost"), run.xcom("order")["total_cost"]) == (None, "0.1")


def test_what_is_rejected_is_skipped_and_costs_nothing(nights: dict[str, Run], wiro: LocalWiro) -> None:
    run = nights["rejected"]
    run.question("approve")
    run.answer("approve", "Reject", note="too dear")
    assert run.wait() == "success", run.failures()
    assert run.states() == {("videos", -1): "success", ("approve", -1): "success", ("order", -1): "skipped"}
    told = run.api.call("GET", f"/dags/budget/dagRuns/{run.run_id}/taskInstances/approve/-1/hitlDetails")
    assert (told["chosen_options"], told["params_input"]) == (["Reject"], {"note": "too dear"})
    assert [runs_of(wiro, f"rejected, {number}") for number in range(12)] == [[]] * 12
