"""What a Dag run has used: CPU, workers, the database, and Wiro."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import psutil

from scripts.cluster import COMPONENTS, SERVICES, WORKERS, Cluster

ENDED = re.compile(r" Task \S+\[\S+\] (?:succeeded in|raised|failed).*", re.ASCII)
_SECONDS = re.compile(r"succeeded in ([\d.]+)s")
COUNTERS_LATE = 11.0
"""Seconds after which a PostgreSQL session that has nothing to do has told what it wrote."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds up to a moment."""

    components: Mapping[str, float]
    machine: float
    """Of all processes, also those of others."""
    program: float
    """Of this process: the local Wiro and the benchmark itself."""
    moment: float

    @classmethod
    def since(cls, before: Self, after: Self) -> Self:
        """Return what was used between two moments."""
        return cls(
            {name: after.components[name] - before.components[name] for name in after.components},
            after.machine - before.machine,
            after.program - before.program,
            after.moment - before.moment,
        )

    @property
    def airflow(self) -> float:
        """CPU seconds of Airflow's own components, without the databases."""
        return sum(seconds for name, seconds in self.components.items() if name not in SERVICES)

    @property
    def services(self) -> float:
        """CPU seconds of PostgreSQL and Redis."""
        return sum(self.components[name] for name in SERVICES)

    @property
    def others(self) -> float:
        """CPU seconds of whatever else ran on the machine."""
        return max(0.0, self.machine - self.program - sum(self.components.values()))


class CpuMeter:
    """Adds up the CPU seconds of an Airflow, also of processes that have ended.

    A process that has ended counts for the one that has waited for it, so the living ones know all, but for those
    of a component that is killed: tell :meth:`lose` before.

    :param cluster: the Airflow.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lost = dict.fromkeys(COMPONENTS, 0.0)

    def lose(self, component: str) -> None:
        """Keep what a component has used, for it is about to be killed."""
        self._lost[component] += self._used(component)

    def read(self) -> Usage:
        """Return what was used until now."""
        return Usage(
            {name: self._lost[name] + self._used(name) for name in COMPONENTS},
            _busy(psutil.cpu_times()),
            time.process_time(),
            time.monotonic(),
        )

    def _used(self, component: str) -> float:
        seconds = 0.0
        for process in self._cluster.processes.family(component):
            with suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:4])  # its own and that of those it has waited for
        return seconds


def _busy(times: Any) -> float:
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def worker_phases(cluster: Cluster) -> tuple[int, float]:
    """Return how often a task has held one of the workers' places, and for how many seconds together.

    Celery tells both when it gives the place free. A task that defers and comes back holds two places, one after
    the other, and none between. A place that was lost with a killed worker is not among them.

    :param cluster: the Airflow.
    """
    phases, seconds = 0, 0.0
    for worker in WORKERS:
        for line in ENDED.findall(cluster.processes.log_file(worker).read_text(errors="replace")):
            phases += 1
            if found := _SECONDS.search(line):
                seconds += float(found[1])
    return phases, seconds


def is_idle(cluster: Cluster) -> bool:
    """Return whether no worker has a task.

    :param cluster: the Airflow.
    """
    return not any(cluster.supervisors(worker) for worker in WORKERS)


def rows_there(cluster: Cluster) -> Counter[str]:
    """Return how many rows are in each table of Airflow's database.

    :param cluster: the Airflow.
    """
    tables = [str(name) for (name,) in cluster.sql("select relname from pg_stat_user_tables")]
    union = " union all ".join(f"select '{name}', count(*) from \"{name}\"" for name in tables)
    return Counter({str(name): int(count) for name, count in cluster.sql(union)})


def rows_written(cluster: Cluster) -> int:
    """Return how many rows were ever inserted, updated or deleted, once every session has told.

    :param cluster: the Airflow.
    """
    time.sleep(COUNTERS_LATE)
    ((count,),) = cluster.sql("select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables")
    return int(count)


def most_in_flight(runs: Iterable[Mapping[str, Any]]) -> int:
    """Return how many runs of a ledger lived at the same time, at most.

    :param runs: the runs; all have ended.
    """
    # at one moment, ends come before beginnings: what has ended admits the next
    changes = sorted([(run["created"], 1) for run in runs] + [(run["ended"], -1) for run in runs])
    return max(accumulate(change for _, change in changes), default=0)


def throughput(runs: Sequence[Mapping[str, Any]], limit: int) -> dict[str, float]:
    """Return how long the runs took together, and how long they must take if a limit is used to the full.

    :param runs: the runs of a ledger; all have ended.
    :param limit: how many may live at the same time.
    """
    mean = sum(run["ended"] - run["created"] for run in runs) / len(runs)
    ideal = len(runs) / limit * mean
    took = max(run["ended"] for run in runs) - min(run["created"] for run in runs)
    # the first end makes room for the first run that found none, and so on
    ends, later = sorted(run["ended"] for run in runs), sorted(run["created"] for run in runs)[limit:]
    empty = [begun - end for begun, end in zip(later, ends, strict=False)]
    return {
        "mean_seconds": mean,
        "ideal_seconds": ideal,
        "seconds": took,
        "of_ideal": ideal / took,
        "mean_empty_seconds": sum(empty) / len(empty) if empty else 0.0,
        "longest_empty_seconds": max(empty, default=0.0),
    }


def load() -> float:
    """Return how many processes wanted a core during the last minute."""
    return os.getloadavg()[0]
