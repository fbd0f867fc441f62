"""A process that ends at any step of the protocol costs nothing: the next try finds what it left."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_wiro.emulator import LocalWiro
from tests.integration.dags.faults import IN_RESUME, POINTS

from .conftest import Run, runs_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
SUBMITS = [point for point in POINTS if point not in (*IN_RESUME, "before the deferral")]


@pytest.fixture(scope="module")
def crashed(long_runs: dict[str, Run]) -> Run:
    run = long_runs["crash_points"]
    assert run.wait() == "success", run.failures()
    return run


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_in_the_one_task_form_pays_once_and_delivers(crashed: Run, wiro: LocalWiro, point: str) -> None:
    index = POINTS.index(point)
    delivered = crashed.xcom("whole", index)
    (file,) = delivered["files"]
    assert Path(file["uri"]).stat().st_size == file["size"]
    assert crashed.instances()["whole", index]["try_number"] == 2, "it crashed once"
    (run,) = (run for run in runs_of(wiro, "Twins that crash") if run["taskid"] == delivered["wiro_task_id"])
    assert run["billed"] is True


@pytest.mark.parametrize("point", SUBMITS)
def test_a_crash_in_a_submit_pays_once(crashed: Run, wiro: LocalWiro, point: str) -> None:
    index = SUBMITS.index(point)
    known = crashed.xcom("submit", index)
    assert crashed.instances()["submit", index]["try_number"] == 2, "it crashed once"
    assert known["wiro_task_id"] in {run["taskid"] for run in runs_of(wiro, "Submits that crash")}


@pytest.mark.parametrize(("prompt", "points"), [("Twins that crash", POINTS), ("Submits that crash", SUBMITS)])
def test_no_crash_has_ordered_twice(crashed: Run, wiro: LocalWiro, prompt: str, points: list[str]) -> None:
    runs = runs_of(wiro, prompt)
    assert len(runs) == len(points)
    assert len({run["parameters"]["seed"] for run in runs}) == len(points), "twins have seeds of their own"


def test_the_log_of_the_second_try_tells_what_was_found(crashed: Run) -> None:
    found = crashed.log("whole", POINTS.index("after the send"), try_number=2)
    assert "is this order's Run" in found
    absent = crashed.log("whole", POINTS.index("after the fence"), try_number=2)
    assert "No Run of this order is among Wiro's tasks: it is sent now" in absent
    assert "Ordering a run of ByteDance/text-to-video-seedance-v1 with seed" in absent
