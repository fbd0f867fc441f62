"""The figures of :mod:`benchmarks.batch` as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "wall_seconds": "wall seconds of the Dag run",
    "cpu_seconds": "CPU seconds of Airflow",
    "cpu_seconds_above_idle": "of these, more than when it is idle",
    "cpu_seconds_of_databases": "CPU seconds of PostgreSQL and Redis",
    "worker_seconds": "worker seconds",
    "worker_phases": "times a worker was taken",
    "rows_added": "database rows added",
    "rows_written": "database rows inserted, updated or deleted",
    "run_calls": "Run calls",
    "paid_runs": "paid runs",
    "calls_total": "requests to Wiro",
    "downloads": "requests for files",
    "tries_that_failed": "attempts that failed",
    "most_in_flight": "in flight at Wiro at most",
    "cpu_seconds_of_local_wiro": "CPU seconds of the local Wiro",
    "cpu_seconds_of_others": "CPU seconds of others on the machine",
}
_NOT_COMPARED = ("cpu_seconds_of_local_wiro", "cpu_seconds_of_others", "most_in_flight", "tries_that_failed")


def markdown(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown.

    :param report: what :mod:`benchmarks.batch` writes as JSON.
    """
    forms: Mapping[str, Mapping[str, Any]] = report["forms"]
    head = ["", *forms, *(["batch / mapped"] if len(forms) == 2 else [])]
    lines = [
        f"`{report['command']}`: Airflow {report['airflow']}, Python {report['python']}, airflow-provider-wiro "
        f"{report['provider']}, {report['cores']} cores, two workers with {report['concurrency']} places; "
        f"{report['videos']} videos of {report['seconds_of_a_video']:g} s.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(_row(name, forms) for name in TITLES),
        *_counts("requests: {}", "calls", forms),
        *_counts("refused with code {}", "refusals", forms),
    ]
    for form, figures in forms.items():
        lines += _story(form, figures)
    return "\n".join(lines + [f"\n**Wrong:** {what}" for what in report["wrong"]])


def _row(name: str, forms: Mapping[str, Mapping[str, Any]]) -> str:
    return _line(TITLES[name], [figures[name] for figures in forms.values()], compared=name not in _NOT_COMPARED)


def _counts(title: str, name: str, forms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    keys = sorted({key for figures in forms.values() for key in figures[name]})
    return [_line(title.format(key), [figures[name].get(key, 0) for figures in forms.values()]) for key in keys]


def _line(title: str, values: list[float], *, compared: bool = True) -> str:
    cells = [f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" for value in values]
    if len(values) == 2:
        cells.append(f"{values[1] / values[0]:.3f}" if compared and values[0] else "")
    return f"| {title} | {' | '.join(cells)} |"


def _story(form: str, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    if figures["kills"]:
        lines.append(f"\n{form}: killed {'; '.join(figures['kills'])}.")
    if pace := figures["throughput"]:
        lines.append(
            f"\n{form}: the runs took {pace['seconds']:.0f} s, {pace['mean_seconds']:.1f} s each on average; with the "
            f"limit used to the full {pace['ideal_seconds']:.0f} s ({pace['of_ideal']:.0%}). A place that came free "
            f"was empty for {pace['mean_empty_seconds']:.1f} s on average, {pace['longest_empty_seconds']:.1f} s at "
            "most."
        )
    return lines
