"""What many videos cost in Airflow: as mapped tasks, and as one task for all of them.

Each form gets a new distributed Airflow on this machine (PostgreSQL, Redis, two Celery workers, two triggerers) and
a local Wiro; what is left of them is in ``.bench/``. With ``--kill`` the worker and later the triggerers are killed
under it; with ``--limit`` the account admits only so many tasks at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airflow_provider_wiro.emulator import LocalWiro
from benchmarks import meters
from benchmarks.batch_report import markdown
from scripts.chaos import stock_footage
from scripts.cluster import QUICK_RECOVERY, TRIGGERERS, WORKERS, Cluster

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"
DAG = Path(__file__).with_name("batch_dag.py")
DAG_ID = "benchmark"
FORMS = ("mapped", "batch")
WIRO_SECONDS = 60.0
"""What the local Wiro takes for a video of 480p and 5 seconds at speed 1, on average."""
POLL_SECONDS = 15.0
"""The operators' default for such a video."""
FPS = 16
"""The rate of the film that stands for all videos: to draw each would cost more than Airflow does."""
IDLE = 30.0
"""Seconds in which an Airflow without work is measured; a Dag file is parsed again after as many."""
DOWN = 3.0
"""Seconds that what was killed stays dead."""

# Airflow's own patience, but for these two.
KEPT = {
    "AIRFLOW__CELERY__OPERATION_TIMEOUT": QUICK_RECOVERY["CELERY__OPERATION_TIMEOUT"],
    # With Airflow's own 5 s, many a task holds its worker for seconds after it has ended: mapped tasks would suffer.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}


@dataclass(frozen=True)
class Case:
    """What is to be measured."""

    form: str
    videos: int
    seconds: float
    """How long a video takes at Wiro, on average."""
    limit: int | None = None
    kill: bool = False
    concurrency: int = 2
    """How many tasks each of the two workers runs at a time."""
    timeout: float = 4 * 3600.0
    """Seconds after which a Dag run that has not ended is judged as it is."""

    @property
    def prompts(self) -> list[str]:
        """The videos."""
        return [f"Benchmark video {number}" for number in range(self.videos)]


class PlainCluster(Cluster):
    """A cluster with Airflow's own patience: a quick recovery would cost CPU that nobody spends."""

    def _configure(self) -> None:
        super()._configure()
        for name in QUICK_RECOVERY:
            self._env.pop(f"AIRFLOW__{name}", None)
        self._env |= KEPT


class Killer:
    """Kills a worker while it orders, and both triggerers while one waits; starts them again after a moment.

    :param case: what is measured.
    :param cluster: the Airflow.
    :param wiro: the local Wiro.
    :param cpu: the meter, which is to know before a component dies.
    """

    def __init__(self, case: Case, cluster: Cluster, wiro: LocalWiro, cpu: meters.CpuMeter) -> None:
        self._case, self._cluster, self._wiro, self._cpu = case, cluster, wiro, cpu
        self._heal_at = 0.0
        self.done: list[str] = []

    def tick(self) -> None:
        """Do what is due."""
        if self._heal_at:
            if time.monotonic() >= self._heal_at:
                self._heal_at = 0.0
                say(f"    started again: {', '.join(self._cluster.heal())}")
            return
        runs = self._wiro.ledger()["runs"]
        accepted, paid = len(runs), sum(run["billed"] for run in runs)
        if not self.done and accepted >= self._case.videos / 4:
            if busy := [worker for worker in WORKERS if self._cluster.tasks(worker)]:
                self._strike(busy, f"worker after {accepted} Runs, {paid} paid")
        elif len(self.done) == 1 and accepted >= self._case.videos / 2 and paid < self._case.videos and self._waits():
            self._strike(TRIGGERERS, f"triggerers after {accepted} Runs, {paid} paid")

    def _strike(self, components: Sequence[str], what: str) -> None:
        for component in components:
            self._cpu.lose(component)
            self._cluster.kill(component)
        self._heal_at = time.monotonic() + DOWN
        self.done.append(what)
        say(f"    killed: {what}")

    def _waits(self) -> bool:
        return bool(self._cluster.sql("select 1 from trigger where triggerer_id is not null"))


def say(text: str = "") -> None:
    """Print a line at once, also where the output is a pipe."""
    print(text, file=sys.stderr, flush=True)


def measure(case: Case) -> dict[str, Any]:
    """Make the videos in one form, and return the figures.

    :param case: what is to be measured.
    """
    home = FOLDER / case.form
    shutil.rmtree(home, ignore_errors=True)
    (home / "dags").mkdir(parents=True)
    shutil.copy(DAG, home / "dags")
    settings = home / "benchmark.json"
    settings.write_text(json.dumps(_settings(case, home)), encoding="utf-8")
    wiro = LocalWiro(speed=WIRO_SECONDS / case.seconds, balance=100_000, limit=case.limit)
    with stock_footage(), wiro:
        env = {
            "AIRFLOW_CONN_WIRO_DEFAULT": wiro.connection_json(),
            # one of the cluster's quick values: a task that runs for longer would be given to a second worker
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
            "AIRFLOW__CORE__MAX_MAP_LENGTH": str(max(1024, case.videos)),
            "WIRO_BENCHMARK": str(settings),
        }
        kind = Cluster if case.kill else PlainCluster
        with kind(home, home / "dags", env, concurrency=case.concurrency) as cluster:
            return _figures(case, cluster, wiro)


def _settings(case: Case, home: Path) -> dict[str, Any]:
    return {
        "destination": str(home / "videos"),
        "form": case.form,
        "fps": FPS,
        "poll_interval": POLL_SECONDS * case.seconds / WIRO_SECONDS,
        "prompts": case.prompts,
        "timeout": case.timeout,
    }


def _figures(case: Case, cluster: Cluster, wiro: LocalWiro) -> dict[str, Any]:
    cluster.api.wait_for_dag(DAG_ID)
    cluster.api.pause(DAG_ID, paused=False)
    cpu = meters.CpuMeter(cluster)
    killer = Killer(case, cluster, wiro, cpu)
    load = meters.load()
    before = cpu.read()
    time.sleep(IDLE)
    idle = meters.Usage.since(before, cpu.read())
    rows, written = meters.rows_there(cluster), meters.rows_written(cluster)
    before = cpu.read()
    cluster.api.trigger(DAG_ID)
    _wait(case, cluster, wiro, killer)
    used = meters.Usage.since(before, cpu.read())
    added = meters.rows_there(cluster) - rows
    return {
        **_run_of(cluster),
        **_cpu_figures(used, idle),
        "load_before": load,
        **dict(zip(("worker_phases", "worker_seconds"), meters.worker_phases(cluster), strict=True)),
        "rows_added": added.total(),
        "rows_added_to": dict(added.most_common()),
        "rows_written": meters.rows_written(cluster) - written,
        **_wiro_figures(case, wiro.ledger()),
        "files": sum(1 for _ in (cluster.home / "videos").rglob("*.mp4")),
        "kills": killer.done,
    }


def _wait(case: Case, cluster: Cluster, wiro: LocalWiro, killer: Killer) -> None:
    begun, told, asked = time.monotonic(), 0.0, 0.0
    state = ""
    while state not in ("success", "failed") and (seconds := time.monotonic() - begun) < case.timeout:
        if case.kill:
            killer.tick()
        if seconds >= asked:
            state, asked = _run_of(cluster)["state"], seconds + 1
        if seconds >= told:
            runs = wiro.ledger()["runs"]
            say(f"    {seconds:5.0f} s  {state}: {len(runs)} Runs, {sum(run['billed'] for run in runs)} paid")
            told = seconds + 30
        time.sleep(0.1)
    # the last task has told Airflow that it is done before its process is
    give_up = time.monotonic() + 60
    while not meters.is_idle(cluster) and time.monotonic() < give_up:
        time.sleep(0.1)
    cluster.heal()


def _run_of(cluster: Cluster) -> dict[str, Any]:
    ((state, seconds),) = cluster.sql("select state, extract(epoch from end_date - start_date) from dag_run")
    tries = cluster.sql("select try_number, count(*) from task_instance group by 1 order by 1")
    ((again,),) = cluster.sql("select count(*) from task_instance_history")
    return {
        "state": str(state),
        "wall_seconds": float(seconds or 0),
        "tasks_by_tries": {str(number): int(count) for number, count in tries},
        "tries_that_failed": int(again),
    }


def _cpu_figures(used: meters.Usage, idle: meters.Usage) -> dict[str, Any]:
    rate = idle.airflow / idle.moment
    return {
        "cpu_seconds": used.airflow,
        "cpu_seconds_above_idle": used.airflow - rate * used.moment,
        "cpu_seconds_by_component": dict(used.components),
        "cpu_seconds_of_databases": used.services,
        "cpu_seconds_of_local_wiro": used.program,
        "cpu_seconds_of_others": used.others,
        "cores_used_when_idle": rate,
    }


def _wiro_figures(case: Case, ledger: Mapping[str, Any]) -> dict[str, Any]:
    runs = ledger["runs"]
    ended = [run for run in runs if run["ended"] is not None]
    paid = Counter(run["parameters"]["prompt"] for run in runs if run["billed"])
    return {
        "run_calls": ledger["calls"].get("Run", 0),
        "accepted_runs": len(runs),
        "paid_runs": paid.total(),
        "videos_paid_once": sum(paid[prompt] == 1 for prompt in case.prompts),
        "calls": dict(sorted(ledger["calls"].items())),
        "calls_total": sum(ledger["calls"].values()),
        "downloads": ledger["cdn"]["requests"],
        "refusals": dict(ledger["refusals"]),
        "most_in_flight": meters.most_in_flight(ended),
        "throughput": meters.throughput(ended, case.limit) if case.limit and ended else None,
    }


def wrong(case: Case, figures: Mapping[str, Any]) -> list[str]:
    """Return what must not be, in words.

    :param case: what was measured.
    :param figures: what came out.
    """
    found = []
    if figures["state"] != "success":
        found.append(f"the Dag run is {figures['state']}")
    for name in ("accepted_runs", "paid_runs", "videos_paid_once", "files"):
        if figures[name] != case.videos:
            found.append(f"{name} is {figures[name]}, not {case.videos}")
    if case.kill and len(figures["kills"]) != 2:
        found.append(f"of the two kills, {len(figures['kills'])} came to pass")
    if case.limit and (figures["tries_that_failed"] or set(figures["tasks_by_tries"]) != {"1"}):
        found.append(f"attempts have failed: {figures['tasks_by_tries']}")
    if case.limit and figures["most_in_flight"] > case.limit:
        found.append(f"{figures['most_in_flight']} were in flight at the same time")
    return [f"{case.form}: {what}" for what in found]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--form", choices=(*FORMS, "both"), default="both", help="default: both, one after the other")
    parser.add_argument("--videos", type=int, metavar="N", help="default: 1000, with --limit 200")
    parser.add_argument("--seconds", type=float, metavar="S", help="of a video at Wiro; default: 5, else 60 (below)")
    parser.add_argument("--limit", type=int, metavar="N", help="tasks that Wiro admits at a time (60 s each)")
    parser.add_argument("--kill", action="store_true", help="kill worker and triggerers, batch form only (60 s each)")
    parser.add_argument("--concurrency", type=int, default=2, metavar="N", help="tasks a worker of two; default: 2")
    parser.add_argument("--timeout", type=float, default=4 * 3600, metavar="S", help="of a form; default: four hours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if options.kill and options.form not in ("batch", "both"):
        parser.error("--kill is for the batch form")
    if options.kill:
        options.form = "batch"
    options.videos = options.videos or (200 if options.limit else 1000)
    options.seconds = options.seconds or (WIRO_SECONDS if options.limit or options.kill else 5.0)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print a table, and return the exit code.

    :param arguments: those of the command line by default.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _options(arguments)
    forms = FORMS if options.form == "both" else (options.form,)
    figures: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for form in forms:
        case = Case(
            form,
            options.videos,
            options.seconds,
            options.limit,
            options.kill,
            options.concurrency,
            options.timeout,
        )
        say(f"{form}: {case.videos} videos of {case.seconds:g} s")
        figures[form] = measure(case)
        faults += wrong(case, figures[form])
    report = {
        "command": shlex.join(["python", "-m", "benchmarks.batch", *given]),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "provider": version("airflow-provider-wiro"),
        "cores": os.cpu_count(),
        "videos": options.videos,
        "seconds_of_a_video": options.seconds,
        "concurrency": 2 * options.concurrency,
        "forms": figures,
        "wrong": faults,
    }
    print(markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
