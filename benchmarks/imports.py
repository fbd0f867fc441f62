"""What a Dag file's imports cost: seconds and modules that a provider adds after ``import airflow.sdk``.

A Dag processor imports the Dag files again and again, each time in a new process, so this is paid for every parse.
Each sample is an interpreter of its own; the providers take turns, so that a busy moment of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HEAVY = ("requests", "urllib3", "httpx", "aiohttp", "openai", "anthropic", "fastapi", "pandas", "numpy", "sqlalchemy")

SAMPLE = """
import importlib, json, sys, time
import airflow.sdk
before = set(sys.modules)
started = time.perf_counter()
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
seconds = time.perf_counter() - started
print("\\n" + json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""


@dataclass(frozen=True)
class Contender:
    """A provider, and what a Dag file that submits and waits imports of it."""

    package: str
    imports: tuple[str, ...]


CONTENDERS = (
    Contender(
        "airflow-provider-wiro",
        (
            "airflow_provider_wiro.operators.seedance",
            "airflow_provider_wiro.operators.wiro",
            "airflow_provider_wiro.sensors.wiro",
        ),
    ),
    Contender(
        "apache-airflow-providers-http",
        ("airflow.providers.http.operators.http", "airflow.providers.http.sensors.http"),
    ),
    Contender("apache-airflow-providers-openai", ("airflow.providers.openai.operators.openai",)),
    Contender(
        "apache-airflow-providers-anthropic",
        ("airflow.providers.anthropic.operators.batch", "airflow.providers.anthropic.sensors.batch"),
    ),
)


@dataclass(frozen=True)
class Row:
    """What one provider adds."""

    package: str
    version: str
    imports: tuple[str, ...]
    seconds: float
    """Median over the rounds."""
    fastest: float
    slowest: float
    modules: int
    heavy: tuple[str, ...]
    """The weighty ones among the packages that were not loaded before."""


def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution, or ``None``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def take_sample(contender: Contender, environment: dict[str, str]) -> tuple[float, list[str]]:
    """Import in a new interpreter; return the seconds and the modules that came with it.

    :param contender: what to import.
    :param environment: the interpreter's environment.
    :raises subprocess.CalledProcessError: the import failed.
    """
    command = [sys.executable, "-c", SAMPLE, json.dumps(contender.imports)]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(ended.stdout.splitlines()[-1])
    return answer["seconds"], answer["modules"]


def measure(contenders: list[Contender], rounds: int) -> list[Row]:
    """Measure in turns, after one round that is not counted: it writes the byte code and warms the disk's cache.

    :param contenders: what is installed.
    :param rounds: samples for each.
    """
    left_out = ("AIRFLOW_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    seconds: dict[str, list[float]] = {contender.package: [] for contender in contenders}
    modules: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="imports-") as home:
        environment["AIRFLOW_HOME"] = home
        for turn in range(rounds + 1):
            for contender in contenders:
                taken, modules[contender.package] = take_sample(contender, environment)
                if turn:
                    seconds[contender.package].append(taken)
            print(f"round {turn} of {rounds}" if turn else "warmed up", file=sys.stderr)
    return [row_of(contender, seconds[contender.package], modules[contender.package]) for contender in contenders]


def row_of(contender: Contender, seconds: list[float], modules: list[str]) -> Row:
    """Sum up the samples of one provider."""
    return Row(
        package=contender.package,
        version=installed_version(contender.package) or "",
        imports=contender.imports,
        seconds=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        modules=len(modules),
        heavy=tuple(sorted({module.partition(".")[0] for module in modules} & set(HEAVY))),
    )


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| provider | version | median s | fastest | slowest | modules added | among them |",
        "|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.package} | {row.version} | {row.seconds:.3f} | {row.fastest:.3f} | {row.slowest:.3f} | {row.modules} "
        f"| {', '.join(row.heavy) or '–'} |"
        for row in rows
    )
    return "\n".join(lines)


def main() -> None:
    """Measure what is installed, print a table, and write the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="samples for each provider (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    missing = [contender.package for contender in CONTENDERS if installed_version(contender.package) is None]
    if missing:
        print(f"left out, not installed: {', '.join(missing)} (see benchmarks/README.md)", file=sys.stderr)
    rows = measure([contender for contender in CONTENDERS if contender.package not in missing], options.rounds)
    airflow = installed_version("apache-airflow")
    print(f"Python {platform.python_version()}, Airflow {airflow}, {options.rounds} rounds, {os.cpu_count()} cores\n")
    print(table(rows))
    if options.json:
        figures = {
            "python": platform.python_version(),
            "airflow": airflow,
            "rounds": options.rounds,
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
