from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.batch import Case, Killer, wrong
from benchmarks.batch_report import TITLES, markdown
from benchmarks.meters import CpuMeter, Usage, most_in_flight, throughput, worker_phases
from scripts.cluster import COMPONENTS, TRIGGERERS, Cluster

# as Celery writes it under Airflow
LOG = """\
2026-01-01T19:37:00.1Z [info     ] Task execute_workload[49f8d657-8727] received [celery.worker.strategy]
2026-01-01T19:37:02.6Z [info     ] Task execute_workload[49f8d657-8727] succeeded in 2.5s: None [celery.app.trace]
2026-01-01T19:37:03.1Z [info     ] Task execute_workload[7ddc120d-6c0d] succeeded in 0.25s: None [celery.app.trace]
2026-01-01T19:37:04.1Z [error    ] Task execute_workload[11111111-6c0d] raised unexpected: Fault() [celery.app.trace]
"""
BURN = "import time\nwhile time.process_time() < {}: pass\n"
# a child that has ended counts, and so does its parent
PARENT = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {BURN.format(0.5)!r}]); print('done')"
FINE: dict[str, Any] = {
    "accepted_runs": 20,
    "files": 20,
    "kills": ["worker", "triggerers"],
    "most_in_flight": 10,
    "paid_runs": 20,
    "state": "success",
    "tasks_by_tries": {"1": 20},
    "tries_that_failed": 0,
    "videos_paid_once": 20,
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "home", tmp_path)
    cluster.processes.open()
    yield cluster
    cluster.stop()


def run(created: float, ended: float) -> dict[str, float]:
    return {"created": created, "ended": ended}


def test_a_place_that_is_free_again_is_not_counted_twice() -> None:
    assert most_in_flight([run(0, 10), run(0, 20), run(10, 30), run(20, 30)]) == 2
    assert most_in_flight([run(0, 10), run(9.9, 20), run(5, 30)]) == 3
    assert most_in_flight([]) == 0


def test_the_ideal_is_that_no_place_is_ever_free() -> None:
    pace = throughput([run(0, 10), run(0, 10), run(12, 22), run(12, 22)], 2)
    assert pace == {
        "mean_seconds": 10,
        "ideal_seconds": 20,
        "seconds": 22,
        "of_ideal": 20 / 22,
        "mean_empty_seconds": 2,
        "longest_empty_seconds": 2,
    }
    assert throughput([run(0, 10)], 2)["mean_empty_seconds"] == 0


def test_worker_seconds_are_those_that_celery_tells(cluster: Cluster) -> None:
    cluster.processes.log_file("worker-1").write_text(LOG)
    cluster.processes.log_file("worker-2").write_text(LOG)
    assert worker_phases(cluster) == (6, 5.5)


def test_cpu_seconds_of_processes_that_have_ended_or_were_killed_count(cluster: Cluster) -> None:
    cpu = CpuMeter(cluster)
    cluster.processes.start("worker-1", [sys.executable, "-c", PARENT + "\ntime.sleep(600)"])
    give_up = time.monotonic() + 60
    while "done" not in cluster.processes.tail("worker-1") and time.monotonic() < give_up:
        time.sleep(0.05)
    used = cpu.read()
    assert used.components["worker-1"] >= 0.5
    assert used.airflow == sum(used.components.values())
    cpu.lose("worker-1")
    cluster.processes.kill("worker-1")
    assert cpu.read().components["worker-1"] >= used.components["worker-1"]


def test_usage_between_two_moments() -> None:
    def usage(factor: float) -> Usage:
        return Usage(dict.fromkeys(COMPONENTS, factor), 20 * factor, 2 * factor, 100 * factor)

    used = Usage.since(usage(1), usage(3))
    assert (used.moment, used.program, used.services) == (200, 4, 4)
    assert used.airflow == 2 * (len(COMPONENTS) - 2)
    assert used.others == 40 - 4 - 2 * len(COMPONENTS)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({}, []),
        ({"state": "failed"}, ["the Dag run is failed"]),
        ({"paid_runs": 21, "accepted_runs": 21}, ["accepted_runs is 21, not 20", "paid_runs is 21, not 20"]),
        ({"kills": ["worker"]}, ["of the two kills, 1 came to pass"]),
        ({"tries_that_failed": 1}, ["attempts have failed: {'1': 20}"]),
        ({"tasks_by_tries": {"1": 19, "2": 1}}, ["attempts have failed: {'1': 19, '2': 1}"]),
        ({"most_in_flight": 11}, ["11 were in flight at the same time"]),
    ],
)
def test_what_is_wrong(figures: Mapping[str, Any], words: list[str]) -> None:
    case = Case("mapped", 20, 60, limit=10, kill=True)
    assert wrong(case, {**FINE, **figures}) == [f"mapped: {what}" for what in words]


class Stage:
    """What a killer sees and does."""

    def __init__(self) -> None:
        self.accepted = self.paid = 0
        self.busy: list[str] = []
        self.deferred = False
        self.killed: list[str] = []
        self.processes = self

    def ledger(self) -> dict[str, Any]:
        return {"runs": [{"billed": number < self.paid} for number in range(self.accepted)]}

    def tasks(self, worker: str) -> list[str]:
        return [worker] if worker in self.busy else []

    def sql(self, query: str) -> list[tuple[int]]:
        return [(1,)] if self.deferred else []

    def kill(self, component: str) -> None:
        self.killed.append(component)

    def heal(self) -> list[str]:
        return self.killed

    def lose(self, component: str) -> None:
        assert component not in self.killed


def test_the_busy_worker_is_killed_first_and_then_the_triggerers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.batch.DOWN", 0)
    stage: Any = Stage()
    killer = Killer(Case("batch", 20, 60, kill=True), stage, stage, stage)
    stage.accepted, stage.busy = 4, ["worker-2"]
    killer.tick()
    assert stage.killed == []
    stage.accepted = 5
    killer.tick()
    assert stage.killed == ["worker-2"]
    stage.accepted, stage.deferred = 9, True
    for _ in range(3):
        killer.tick()
    assert stage.killed == ["worker-2"]
    stage.accepted, stage.paid = 20, 19
    killer.tick()
    assert stage.killed == ["worker-2", *TRIGGERERS]
    assert len(killer.done) == 2


def figures_of(number: float) -> dict[str, Any]:
    more = {"calls": {"Run": 20}, "refusals": {"96": 3}, "kills": ["worker after 5 Runs"], "throughput": None}
    return {**dict.fromkeys(TITLES, number), **more}


def test_the_table_has_the_ratio_of_both_forms() -> None:
    report = {
        "command": "python -m benchmarks.batch",
        **dict.fromkeys(("airflow", "python", "provider"), "1.0"),
        **dict.fromkeys(("cores", "concurrency", "videos", "seconds_of_a_video"), 2),
        "forms": {"mapped": figures_of(2000), "batch": figures_of(50.0)},
        "wrong": ["batch: bad"],
    }
    lines = markdown(report).splitlines()
    assert "|  | mapped | batch | batch / mapped |" in lines
    assert "| worker seconds | 2,000 | 50.0 | 0.025 |" in lines
    assert "| requests: Run | 20 | 20 | 1.000 |" in lines
    assert "| refused with code 96 | 3 | 3 | 1.000 |" in lines
    assert "batch: killed worker after 5 Runs." in lines
    assert lines[-1] == "**Wrong:** batch: bad"
