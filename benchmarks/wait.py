"""What it costs to wait for many remote jobs in one event loop, as a triggerer does.

All jobs begin at once, each lasts for a time drawn from a fixed seed, and each trigger asks every second. A sample is
a process that waits and a server that it asks over TLS; the contenders take turns, so that a busy moment of the machine
hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.wait_bench import Bench, SampleError
from benchmarks.wait_contenders import CONTENDERS, NAIVE, OURS, Contender, find
from benchmarks.wait_figures import Row, Sample, checks, row_of, table
from benchmarks.wait_jobs import Conditions

_NAMES = tuple(contender.name for contender in CONTENDERS)
_BELOW = ("apache-airflow", "aiohttp", "requests", "urllib3", "httpx", "openai", "anthropic", "uvloop")
_FAULTY_JOBS = 1_000


def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution, or ``None``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def faulty(jobs: int, interval: float, outage: float) -> Conditions:
    """Return conditions under which much goes wrong. Jobs end before, during and after the list's outage.

    :param jobs: how many are waited for.
    :param interval: seconds between two looks.
    :param outage: for how many seconds there is no Task/List.
    """
    return Conditions(
        jobs,
        interval,
        longest=16.0 + outage,
        others=2_000,
        others_per_second=5.0,
        failing=0.05,
        resetting=0.02,
        outage_begins=12.0,
        outage=outage,
    )


class Results:
    """The samples so far.

    :param bench: where they are taken.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples: dict[tuple[str, Conditions], list[Sample]] = {}

    def take(self, contender: Contender, conditions: Conditions, what: str) -> None:
        """Take one more; one that fails is told and left out.

        :param contender: who.
        :param conditions: for what.
        :param what: told on standard error.
        """
        try:
            sample = self._bench.sample(contender, conditions)
        except SampleError as error:
            print(f"{contender.name}, {what}: failed: {error}", file=sys.stderr)
            return
        self._samples.setdefault((contender.name, conditions), []).append(sample)
        unwanted = f"; unwanted: {list(sample.unwanted)}" if sample.unwanted else ""
        print(f"{contender.name}, {what}: {sample.seconds:.0f} s, CPU {sample.cpu:.2f} s{unwanted}", file=sys.stderr)

    def rows(self) -> list[Row]:
        """Sum up."""
        return [self._row(*measured) for measured in self._samples]

    def samples(self) -> list[dict[str, Any]]:
        """Return all samples with their conditions."""
        return [
            {"name": name, "conditions": asdict(conditions), **asdict(sample)}
            for (name, conditions), samples in self._samples.items()
            for sample in samples
        ]

    def _row(self, name: str, conditions: Conditions) -> Row:
        contender, naive = find(name), self._samples.get((NAIVE, conditions))
        return row_of(
            self._samples[name, conditions],
            statistics.median(sample.cpu for sample in naive) if naive else None,
            name=name,
            package=contender.package,
            version=installed_version(contender.package) or "",
            says=contender.says,
            jobs=conditions.jobs,
            faults=conditions.failing > 0,
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", default="100,1000", metavar="N,…", help="how many jobs (default: 100,1000)")
    parser.add_argument("--rounds", type=int, default=3, help="samples for each contender and number (default: 3)")
    parser.add_argument("--contenders", default=",".join(_NAMES), metavar="NAME,…", help=f"of {', '.join(_NAMES)}")
    parser.add_argument("--most", type=int, default=1_000, help="for more jobs, only ours is measured (default: 1000)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks (default: 1)")
    parser.add_argument("--faults", action="store_true", help=f"ours also waits for {_FAULTY_JOBS} jobs among faults")
    parser.add_argument("--list-outage", type=float, default=60.0, help="seconds without Task/List there (default: 60)")
    parser.add_argument(
        "--check", action="store_true", help="hold ours against what it promises; exit code 1 if broken"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    options.jobs = [int(jobs) for jobs in options.jobs.split(",")]
    options.contenders = options.contenders.split(",")
    if options.rounds < 0 or min(options.jobs) < 1 or options.interval <= 0:
        parser.error("--rounds: at least 0; --jobs: at least 1; --interval: more than 0")
    if unknown := set(options.contenders) - set(_NAMES):
        parser.error(f"--contenders: there is no {', '.join(sorted(unknown))}")
    return options


def measure(options: argparse.Namespace, contenders: list[Contender], results: Results) -> None:
    """Take all samples, in turns."""
    for jobs in options.jobs:
        taking_part = [contender for contender in contenders if jobs <= options.most or contender.name == OURS]
        for turn in range(1, options.rounds + 1):
            for contender in taking_part:
                what = f"{jobs} jobs, round {turn} of {options.rounds}"
                results.take(contender, Conditions(jobs, options.interval), what)
    if options.faults:
        conditions = faulty(_FAULTY_JOBS, options.interval, options.list_outage)
        results.take(find(OURS), conditions, f"{_FAULTY_JOBS} jobs among faults")


def main() -> int:
    """Measure what is installed, print a table and the checks, and write the figures where asked to."""
    options = parse()
    chosen = [contender for contender in CONTENDERS if contender.name in options.contenders]
    missing = sorted({each.package for each in chosen if installed_version(each.package) is None})
    if missing:
        print(f"left out, not installed: {', '.join(missing)} (see benchmarks/README.md)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="wait-") as home:
        results = Results(Bench(Path(home)))
        measure(options, [contender for contender in chosen if contender.package not in missing], results)
    rows = results.rows()
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.wait", *sys.argv[1:]]),
        "python": platform.python_version(),
        "versions": {package: installed_version(package) for package in _BELOW},
        "cores": os.cpu_count(),
        "interval": options.interval,
        "rounds": options.rounds,
    }
    versions = ", ".join(f"{package} {number}" for package, number in about["versions"].items() if number)
    print(f"`{about['command']}`\n\nPython {about['python']}, {versions}; {about['cores']} cores\n\n{table(rows)}")
    if options.json:
        text = json.dumps({**about, "rows": [asdict(row) for row in rows], "samples": results.samples()}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    kept = True
    if options.check:
        found = checks(rows, options.interval)
        kept = all(check.kept for check in found)
        print("\n" + "\n".join(map(str, found)))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
