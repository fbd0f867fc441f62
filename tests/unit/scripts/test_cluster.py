from __future__ import annotations

import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from scripts.cluster import COMPONENTS, QUICK_RECOVERY, SERVICES, Cluster, cluster_settings, without_heartbeat
from scripts.cluster_services import let_pass
from scripts.processes import lives

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(seconds=1)
EARLIER = START - timedelta(seconds=1)
LAUNCHED = {"scheduler": START, "dag-processor": START, "triggerer-1": START, "triggerer-2": START}
HEALTHY = [("SchedulerJob", LATER), ("DagProcessorJob", LATER), ("TriggererJob", LATER), ("TriggererJob", LATER)]

# As a worker does: its child, the supervisor, starts a task in a process group of its own, and has for a
# moment another child that is none. Every process says its name and its id.
WORKER = """
import os, sys, time
def born(name):
    os.write(1, f"{name} {os.getpid()}\\n".encode())
    time.sleep(600)
if os.fork():
    born("main")
if os.fork():
    if os.fork():
        born("supervisor")
    born("helper")
os.setpgid(0, 0)
born("task")
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "home", tmp_path)
    cluster.processes.open()
    yield cluster
    cluster.stop()


@pytest.fixture
def born(cluster: Cluster) -> dict[str, int]:
    """Start what looks like a worker, and return the ids of its processes."""
    cluster.processes.start("worker-1", [sys.executable, "-c", WORKER])
    assert until(lambda: len(cluster.processes.tail("worker-1").splitlines()) == 4)
    return {name: int(pid) for name, pid in map(str.split, cluster.processes.tail("worker-1").splitlines())}


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.05)
    return False


def ids(processes: list[psutil.Process]) -> list[int]:
    return [process.pid for process in processes]


def test_a_task_is_told_from_other_children_of_its_supervisor(cluster: Cluster, born: dict[str, int]) -> None:
    assert ids(cluster.supervisors("worker-1")) == [born["supervisor"]]
    assert ids(cluster.tasks("worker-1")) == [born["task"]]


def test_the_orphan_of_a_killed_supervisor_lives_until_the_stop(cluster: Cluster, born: dict[str, int]) -> None:
    assert cluster.kill("worker-1", "supervisors") == [born["supervisor"]]
    assert ids(cluster.orphans) == [born["task"]]

    # what heal() does for a worker whose main process has died, too
    cluster.kill("worker-1", "main")
    assert cluster.processes.kill("worker-1", spare=cluster.orphans) == [born["helper"]]
    (orphan,) = cluster.orphans

    cluster.stop()
    assert not lives(orphan)


def test_a_tree_is_killed_with_its_orphans(cluster: Cluster, born: dict[str, int]) -> None:
    cluster.kill("worker-1", "supervisors")
    cluster.kill("worker-1")
    assert cluster.orphans == []
    assert cluster.processes.family("worker-1") == []


def test_what_is_frozen_thaws(cluster: Cluster, born: dict[str, int]) -> None:
    task = psutil.Process(born["task"])
    assert cluster.freeze("worker-1", "tasks") == [task.pid]
    assert until(lambda: task.status() == psutil.STATUS_STOPPED)

    cluster.thaw("worker-1")
    assert until(lambda: task.status() != psutil.STATUS_STOPPED)


def test_the_dead_ones_are_started_again_services_first(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []
    monkeypatch.setattr(cluster, "launch", launched.append)
    cluster.processes.start("scheduler", ["sleep", "600"])

    expected = [*SERVICES, *(name for name in COMPONENTS if name not in (*SERVICES, "scheduler"))]
    assert cluster.heal() == expected
    assert launched == expected


def test_all_are_healthy_once_each_has_reported_since_its_launch() -> None:
    assert without_heartbeat(HEALTHY, LAUNCHED) == []
    assert without_heartbeat(HEALTHY[1:], LAUNCHED) == ["scheduler"]


def test_a_killed_triggerers_last_heartbeat_does_not_count() -> None:
    rows = [*HEALTHY[:3], ("TriggererJob", EARLIER)]
    assert without_heartbeat(rows, LAUNCHED) == ["triggerer-1", "triggerer-2"]


def test_a_job_without_a_heartbeat_does_not_count() -> None:
    assert without_heartbeat([*HEALTHY[1:], ("SchedulerJob", None)], LAUNCHED) == ["scheduler"]


def test_every_setting_is_one_that_airflow_knows() -> None:
    names = [f"AIRFLOW__{name}" for name in cluster_settings("d", "a", "b", 4)]
    script = (
        "import sys\n"
        "from airflow.configuration import conf\n"
        "from airflow.providers_manager import ProvidersManager\n"
        "ProvidersManager().initialize_providers_configuration()\n"
        "for name in sys.argv[1:]:\n"
        "    _, section, option = name.lower().split('__')\n"
        "    if option not in conf.configuration_description[section]['options']: print(name)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, *names], check=True, capture_output=True, text=True, timeout=120
    )
    assert answer.stdout == ""


def test_a_task_that_waits_for_a_worker_is_never_given_up_early() -> None:
    assert "SCHEDULER__TASK_QUEUED_TIMEOUT" not in QUICK_RECOVERY


def test_others_may_pass_through_the_folders_above_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    target = folder / "data"
    target.mkdir(mode=0o700)

    let_pass(target)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o701
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
