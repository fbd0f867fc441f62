"""What fetching costs: one large file beside curl, and many small ones beside ``requests.get`` one by one.

The files come from a server of this machine and go to the same disk. A sample is a process of its own that first
writes and removes as much as it will fetch; the ways take turns, so that a busy moment of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
START = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
OF_CURL, MEMORY, TIMES = 0.8, 64.0, 5.0
"""What this package promises: at least this share of curl's speed, less than so many MB, so many times as fast."""


@dataclass(frozen=True)
class Case:
    """What is fetched, and what it is held against."""

    name: str
    count: int
    size: int
    """Bytes of each file."""
    latency: float
    """Seconds between a request and its answer."""
    against: str

    @property
    def megabytes(self) -> float:
        """All files together."""
        return self.count * self.size / 1e6


@dataclass(frozen=True)
class Row:
    """The medians of one way in one case."""

    case: str
    way: str
    seconds: float
    fastest: float
    slowest: float
    speed: float
    """MB per second."""
    cpu: float
    memory: float | None
    """MB at most, above what the process had before; the largest of all rounds."""
    ratio: float
    """The median of the rounds' ratios: how many times as fast as what it is held against."""


def cases(options: argparse.Namespace) -> tuple[Case, Case]:
    """Return what is measured."""
    return (
        Case("one file", 1, options.large * 1_000_000, 0.0, "curl"),
        Case("many files", options.files, options.small * 1_000_000, options.latency / 1000, "one-by-one"),
    )


def make_file(path: Path, size: int) -> None:
    """Write a file that begins like an MP4."""
    with path.open("wb") as file:
        file.write(START)
        for written in range(len(START), size, 1 << 20):
            file.write(bytes(min(1 << 20, size - written)))


@contextmanager
def serving(folder: Path, latency: float) -> Iterator[str]:
    """Serve a folder's files from another process; give its address."""
    command = [sys.executable, "-m", "benchmarks.fetch_server", str(folder), str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


def take_sample(case: Case, way: str, url: str, home: Path) -> dict[str, float]:
    """Fetch in a new process; see that all files are there and whole.

    :param case: what to fetch.
    :param way: how.
    :param url: where the server is.
    :param home: on the disk that is written to.
    :raises subprocess.CalledProcessError: it failed.
    :raises ValueError: a file is missing or has another size.
    """
    target = home / "fetched"
    command = [sys.executable, "-m", "benchmarks.fetch_sample", way, url, str(case.count), str(case.size), str(target)]
    environment = {**os.environ, "AIRFLOW_HOME": str(home / "airflow"), "NO_PROXY": "127.0.0.1"}
    try:
        ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        sizes = [path.stat().st_size for path in target.glob("*.mp4")]
        if sizes != [case.size] * case.count:
            raise ValueError(f"{way} has fetched {len(sizes)} files of {sum(sizes)} bytes")
    finally:
        shutil.rmtree(target, ignore_errors=True)
    figures: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def measure(case: Case, rounds: int, home: Path) -> dict[str, list[dict[str, float]]]:
    """Take all samples of a case, in turns, after one round that is not counted."""
    source = home / "source"
    source.mkdir(exist_ok=True)
    make_file(source / str(case.size), case.size)
    samples: dict[str, list[dict[str, float]]] = {"ours": [], case.against: []}
    with serving(source, case.latency) as url:
        for turn in range(rounds + 1):
            for way, taken in samples.items():
                sample = take_sample(case, way, url, home)
                if turn:
                    taken.append(sample)
            told = ", ".join(f"{way} {taken[-1]['seconds']:.2f} s" for way, taken in samples.items() if taken)
            print(f"{case.name}, {f'round {turn} of {rounds}: {told}' if turn else 'warmed up'}", file=sys.stderr)
    return samples


def rows_of(case: Case, samples: dict[str, list[dict[str, float]]]) -> list[Row]:
    """Sum up the samples of one case."""
    rows = []
    for way, taken in samples.items():
        seconds = [sample["seconds"] for sample in taken]
        pairs = zip(samples[case.against], taken, strict=True)
        median = statistics.median(seconds)
        rows.append(
            Row(
                case=f"{case.name}: {case.count} × {case.size / 1e6:,.0f} MB, latency {case.latency * 1000:.0f} ms",
                way=way,
                seconds=median,
                fastest=min(seconds),
                slowest=max(seconds),
                speed=case.megabytes / median,
                cpu=statistics.median(sample["cpu"] for sample in taken),
                memory=None if way == "curl" else max(sample["memory"] for sample in taken),
                ratio=statistics.median(other["seconds"] / own["seconds"] for other, own in pairs),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | way | median s | fastest | slowest | MB/s | CPU s | more memory, MB | times as fast |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.case} | {row.way} | {row.seconds:.2f} | {row.fastest:.2f} | {row.slowest:.2f} | {row.speed:,.0f} "
        f"| {row.cpu:.2f} | {'–' if row.memory is None else f'{row.memory:.0f}'} | {row.ratio:.2f} |"
        for row in rows
    )
    return "\n".join(lines)


def checks(large: Row, many: Row) -> list[tuple[bool, str]]:
    """Hold this package's figures against what it promises.

    :param large: of one large file.
    :param many: of many small ones.
    """
    most = max(large.memory or 0.0, many.memory or 0.0)
    return [
        (large.ratio >= OF_CURL, f"one large file: {large.ratio:.0%} of curl's speed; promised: {OF_CURL:.0%}"),
        (most < MEMORY, f"memory: {most:.0f} MB more than idle; promised: less than {MEMORY:.0f}"),
        (many.ratio >= TIMES, f"many files: {many.ratio:.1f} times as fast as one by one; promised: {TIMES:.0f}"),
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="samples for each way (default: 5)")
    parser.add_argument("--large", type=int, default=1000, metavar="MB", help="of the large file (default: 1000)")
    parser.add_argument("--files", type=int, default=200, metavar="N", help="how many small ones (default: 200)")
    parser.add_argument("--small", type=int, default=2, metavar="MB", help="of each small one (default: 2)")
    parser.add_argument("--latency", type=float, default=30.0, metavar="MS", help="of the small ones (default: 30)")
    parser.add_argument("--folder", type=Path, help="on the disk that is written to (default: where the system says)")
    parser.add_argument(
        "--check", action="store_true", help="hold ours against what it promises; exit code 1 if broken"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.large, options.files, options.small) < 1 or options.latency < 0:
        parser.error("--rounds, --large, --files, --small: at least 1; --latency: at least 0")
    if shutil.which("curl") is None:
        parser.error("curl is not installed")
    return options


def main() -> int:
    """Measure, print a table and the checks, and write the figures where asked to."""
    options = parse()
    rows: list[Row] = []
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=options.folder) as home:
        for case in cases(options):
            taken = measure(case, options.rounds, Path(home))
            rows += rows_of(case, taken)
            samples.append({**asdict(case), "samples": taken})
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.fetch", *sys.argv[1:]]),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rounds": options.rounds,
    }
    print(
        f"`{about['command']}`\n\nPython {about['python']}, Airflow {about['airflow']}; {about['cores']} cores, load "
        f"{about['load']:.1f} at the end; {options.rounds} rounds\n\n{table(rows)}"
    )
    found = checks(rows[0], rows[2])
    if options.json:
        text = json.dumps({**about, "rows": [asdict(row) for row in rows], "cases": samples}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    if not options.check:
        return 0
    print("\n" + "\n".join(f"{'kept' if kept else 'BROKEN'}: {says}" for kept, says in found))
    return 0 if all(kept for kept, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
