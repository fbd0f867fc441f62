"""Three cheap videos run without asking; twelve wait for a person, who approves or rejects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_wiro.emulator import LocalWiro

from .conftest import Run, runs_of

pytestmark = pytest.mark.integration


def order(start: Callable[..., Run], name: str, count: int) -> Run:
    return start("budget", videos=[{"prompt": f"{name}, {number}"} for number in range(count)])


def question(run: Run) -> Mapping[str, Any]:
    """Wait until the run asks, and return what."""
    run.until(lambda states: states["approve", -1] == "awaiting_input")
    found: Mapping[str, Any] = run.api.call("GET", path(run))
    return found


def path(run: Run) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/approve/-1/hitlDetails"


def answer(run: Run, chosen: str, note: str) -> None:
    run.api.call("PATCH", path(run), body={"chosen_options": [chosen], "params_input": {"note": note}})


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
    asked = question(run)
    assert asked["subject"] == "Order 12 videos for about $1.20?"
    assert "| **in all** | | **12** | | **$1.20** |" in asked["body"]
    assert runs_of(wiro, "approved, 0") == []
    answer(run, "Approve", "go on")
    assert run.wait() == "success", run.failures()
    answered = run.xcom("approve")
    assert (answered["videos"], answered["estimated_cost"]) == (12, "1.2")
    assert (answered["chosen_options"], answered["params_input"]) == (["Approve"], {"note": "go on"})
    assert run.xcom("order")["total_cost"] == answered["estimated_cost"]


def test_what_is_rejected_is_skipped_and_costs_nothing(nights: dict[str, Run], wiro: LocalWiro) -> None:
    run = nights["rejected"]
    question(run)
    answer(run, "Reject", "too dear")
    assert run.wait() == "success", run.failures()
    assert run.states() == {("videos", -1): "success", ("approve", -1): "success", ("order", -1): "skipped"}
    told = run.api.call("GET", path(run))
    assert (told["chosen_options"], told["params_input"]) == (["Reject"], {"note": "too dear"})
    assert [runs_of(wiro, f"rejected, {number}") for number in range(12)] == [[]] * 12
