"""One sample: waits for all jobs in one event loop, as a triggerer does, and measures what that takes.

It says ``ready`` when all is imported, reads a moment of the monotonic clock at which all begins, and ends with a line
of figures. Linux only: the peak of the memory is read from ``/proc``.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import math
import resource
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.wait_contenders import Contender, Wanted, find
from benchmarks.wait_jobs import Conditions, Job, first_jobs

PATIENCE = 60.0
"""Seconds after the last job's end in which events are waited for."""
_PROBE = 0.005


class Probe:
    """Measures how long the loop is held up, by how much a short sleep is late."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.sleeps = 0

    async def run(self) -> None:
        """Sleep again and again, until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(_PROBE)
            self.longest = max(self.longest, time.monotonic() - began - _PROBE)
            self.sleeps += 1

    @classmethod
    async def cost(cls) -> float:
        """Return the CPU seconds that each of its sleeps takes."""
        probe, began = cls(), cpu_seconds()
        task = asyncio.create_task(probe.run())
        await asyncio.sleep(2.0)
        task.cancel()
        return (cpu_seconds() - began) / probe.sleeps


@dataclass
class Seen:
    """The events as they came, in monotonic time; an event that is no success counts as none."""

    at: dict[int, float] = field(default_factory=dict)
    unwanted: list[str] = field(default_factory=list)

    async def wait(self, trigger: Any, number: int) -> None:
        """Wait for a trigger's one event."""
        try:
            async for event in trigger.run():
                self._note(event.payload, number)
                return
        except Exception as error:
            self.unwanted.append(f"{type(error).__name__}: {error}")

    def _note(self, payload: Any, number: int) -> None:
        if payload is True or (isinstance(payload, dict) and payload.get("status") in ("success", "succeeded")):
            self.at[number] = time.monotonic()
        else:
            self.unwanted.append(str(payload))


def cpu_seconds() -> float:
    """Return what this process has used, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory(name: str) -> float:
    """Return one of the figures of ``/proc/self/status`` in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def forget_peak() -> None:
    """Let the peak of the memory begin anew: the imports have left one."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


async def wait_for_all(contender: Contender, conditions: Conditions, jobs: list[Job], start: float) -> Seen:
    """Start a trigger for each job, and wait until each has sent its event or the patience is over.

    :param contender: whose triggers.
    :param conditions: the interval, and until when.
    :param jobs: what is waited for.
    :param start: when the jobs have begun, by the monotonic clock.
    """
    seen = Seen()
    over = start + max(job.ends for job in jobs) + PATIENCE
    end_time = time.time() + over - time.monotonic()
    tasks = []
    for job in jobs:
        trigger = contender.trigger(Wanted(job.number, conditions.interval, end_time))
        tasks.append(asyncio.create_task(seen.wait(trigger, job.number)))
        # Airflow's triggerer lets others in twice for each trigger that it makes.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    _, waiting = await asyncio.wait(tasks, timeout=max(0.0, over - time.monotonic()))
    for task in waiting:
        task.cancel()
    return seen


async def measure(contender: Contender, conditions: Conditions) -> dict[str, Any]:
    """Return the figures of one contender; see :class:`wait_figures.Sample`."""
    jobs = first_jobs(conditions)[0]
    probe, probe_cost = Probe(), await Probe.cost()
    gc.collect()
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    forget_peak()
    idle_memory, idle_cpu = memory("VmRSS"), cpu_seconds()
    watching = asyncio.create_task(probe.run())
    seen = await wait_for_all(contender, conditions, jobs, start)
    watching.cancel()
    cpu, peak = cpu_seconds() - idle_cpu, memory("VmHWM")
    figures = {
        "cpu": cpu - probe.sleeps * probe_cost,
        "probe_cpu": probe.sleeps * probe_cost,
        "memory": peak - idle_memory,
        "stall": probe.longest,
        "seconds": time.monotonic() - start,
        "unwanted": sorted(set(seen.unwanted))[:5],
    }
    return figures | _lags(jobs, {number: at - start for number, at in seen.at.items()})


def _lags(jobs: list[Job], seen: dict[int, float]) -> dict[str, Any]:
    lags = sorted(seen[job.number] - job.ends for job in jobs if job.number in seen)
    late = [lag for lag in lags if lag >= 0]
    counts = {"early": len(lags) - len(late), "missing": len(jobs) - len(lags)}
    if not late:
        return counts | {"lag_median": None, "lag_p99": None, "lag_max": None}
    p99 = late[math.ceil(0.99 * len(late)) - 1]
    return counts | {"lag_median": statistics.median(late), "lag_p99": p99, "lag_max": late[-1]}


def main() -> None:
    """Measure by the arguments: contender, conditions."""
    contender, conditions = find(sys.argv[1]), Conditions.loads(sys.argv[2])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for module in contender.imports:
        importlib.import_module(module)
    figures = asyncio.run(measure(contender, conditions))
    print("\n" + json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
