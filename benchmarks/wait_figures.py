"""The figures of the samples: their medians, the table, and what the watcher of this package has promised."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.wait_contenders import NAIVE, OURS


@dataclass(frozen=True)
class Sample:
    """What one process used to wait for all its jobs. Seconds and MB."""

    cpu: float
    """User and system, from when the jobs begin until the last event, without the probe's share."""
    probe_cpu: float
    """What measuring the stalls took."""
    memory: float
    """The peak, above what the process had when all was imported."""
    stall: float
    """The longest time in which the event loop did nothing else."""
    seconds: float
    lag_median: float | None
    """From a job's end to its event; early ones are left out."""
    lag_p99: float | None
    lag_max: float | None
    early: int
    """Events that said that a job had ended before it had."""
    missing: int
    """Jobs without an event that says that they succeeded."""
    unwanted: tuple[str, ...]
    """A few of the events and errors that said something else."""
    requests: int
    connections: int
    server_cpu: float
    asked: dict[str, int]
    faults: dict[str, int]


@dataclass(frozen=True)
class Row:
    """The medians of one contender's samples; what was wrong is counted over all."""

    name: str
    package: str
    version: str
    says: str
    jobs: int
    rounds: int
    faults: bool
    cpu: float
    of_naive: float | None
    """The CPU seconds as a share of the naive trigger's."""
    memory: float
    requests_per_job: float
    connections: float
    lag_median: float | None
    lag_p99: float | None
    lag_max: float | None
    stall: float
    early: int
    missing: int


def row_of(samples: Sequence[Sample], naive_cpu: float | None, **about: Any) -> Row:
    """Sum up the samples of one contender and number of jobs.

    :param samples: at least one.
    :param naive_cpu: the naive trigger's median of the CPU seconds for the same jobs.
    :param about: the fields of the row that are not measured.
    """

    def median(read: Callable[[Sample], float | None]) -> float | None:
        known = [value for value in map(read, samples) if value is not None]
        return statistics.median(known) if known else None

    cpu = statistics.median(sample.cpu for sample in samples)
    return Row(
        **about,
        rounds=len(samples),
        cpu=cpu,
        of_naive=cpu / naive_cpu if naive_cpu else None,
        memory=statistics.median(sample.memory for sample in samples),
        requests_per_job=statistics.median(sample.requests for sample in samples) / about["jobs"],
        connections=statistics.median(sample.connections for sample in samples),
        lag_median=median(lambda sample: sample.lag_median),
        lag_p99=median(lambda sample: sample.lag_p99),
        lag_max=median(lambda sample: sample.lag_max),
        stall=statistics.median(sample.stall for sample in samples),
        early=sum(sample.early for sample in samples),
        missing=sum(sample.missing for sample in samples),
    )


def _shown(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| jobs | trigger | version | CPU s | of naive's | MB | requests per job | connections "
        "| lag median s | p99 | max | longest stall ms | early | missing |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row.name}: {row.says}{', among faults' if row.faults else ''}"
        lines.append(
            f"| {row.jobs} | {name} | {row.version} | {row.cpu:.2f} | {_shown(row.of_naive, 3)} | {row.memory:.1f} "
            f"| {row.requests_per_job:.2f} | {row.connections:.0f} | {_shown(row.lag_median)} | {_shown(row.lag_p99)} "
            f"| {_shown(row.lag_max)} | {row.stall * 1000:.0f} | {row.early} | {row.missing} |"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Check:
    """A promise, and what was found: a text, and whether it is kept."""

    promise: str
    found: str
    kept: bool

    def __str__(self) -> str:
        return f"{'pass' if self.kept else 'FAIL'}  {self.promise}: {self.found}"


def checks(rows: Sequence[Row], interval: float) -> list[Check]:
    """Hold the rows against what this package has promised; what was not measured counts as not kept.

    :param rows: all rows.
    :param interval: seconds between two looks.
    """

    def row(jobs: int, name: str = OURS) -> Row | None:
        return next((r for r in rows if (r.name, r.jobs, r.faults) == (name, jobs, False)), None)

    thousand, ten_thousand, naive = row(1_000), row(10_000), row(1_000, NAIVE)
    found = [
        _most("1,000 jobs: CPU, as a share of the naive trigger's", thousand if naive else None, 1 / 15, _of_naive),
        _most("1,000 jobs: requests per job", thousand, 0.6, lambda r: r.requests_per_job),
        _most("1,000 jobs: connections", thousand, 4, lambda r: r.connections),
        _most("1,000 jobs: lag, p99, s", thousand, interval + 0.3, lambda r: r.lag_p99),
        _most("1,000 jobs: longest stall, s", thousand, 0.05, lambda r: r.stall),
        _most("1,000 jobs: memory, MB", thousand, 20, lambda r: r.memory),
        _most("1,000 jobs: events early or missing", thousand, 0, _wrong),
        _most("10,000 jobs: events early or missing", ten_thousand, 0, _wrong),
        _most(
            "10,000 jobs: CPU per job, as a share of that for 1,000",
            ten_thousand if thousand else None,
            1.1,
            lambda r: r.cpu / r.jobs / (thousand.cpu / thousand.jobs) if thousand else None,
        ),
        _most("10,000 jobs: lag, p99, s", ten_thousand, 2 * interval, lambda r: r.lag_p99),
    ]
    among_faults = next((r for r in rows if r.faults), None)
    found.append(_most("among faults: events early or missing", among_faults, 0, _wrong))
    return found


def _of_naive(row: Row) -> float | None:
    return row.of_naive


def _wrong(row: Row) -> float:
    return row.early + row.missing


def _most(promise: str, row: Row | None, most: float, read: Callable[[Row], float | None]) -> Check:
    value = None if row is None else read(row)
    promise = f"{promise}, at most {most:.3g}"
    if value is None:
        return Check(promise, "not measured", False)
    return Check(promise, f"{value:.3g}", value <= most)
