"""One sample: fetches files of a local CDN in a process of its own, and says what that took. Linux only.

``python -m benchmarks.fetch_sample WAY URL COUNT SIZE FOLDER``; the ways are ``ours``, ``curl`` and ``one-by-one``.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import requests

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask
from airflow_provider_wiro.outputs import Delivery, fetch
from airflow_provider_wiro.outputs.sources import Sources
from benchmarks.wait_sample import forget_peak, memory


def ours(urls: list[str], size: int, folder: Path) -> None:
    """Fetch the files as the outputs of one task, as the operators do."""
    outputs = tuple(WiroOutput(f"{number}.mp4", "video/mp4", size, url) for number, url in enumerate(urls))
    task = WiroTask("4711", "task_postprocess_end", "0", outputs=outputs)
    delivery = Delivery(task, {"wiro_task_id": "4711"}, {}, "none")
    log = logging.getLogger("sample")
    log.setLevel(logging.WARNING)
    fetch(delivery, str(folder), Sources(urls[0]), log, lambda: task)


def one_by_one(urls: list[str], size: int, folder: Path) -> None:
    """Fetch the files as a task does that somebody writes in a minute."""
    folder.mkdir()
    for number, url in enumerate(urls, 1):
        answer = requests.get(url, timeout=60)
        answer.raise_for_status()
        (folder / f"4711-{number}.mp4").write_bytes(answer.content)


def curl(urls: list[str], size: int, folder: Path) -> None:
    """Fetch the files with a program for it, which neither hashes nor waits for the disk."""
    folder.mkdir()
    for number, url in enumerate(urls, 1):
        subprocess.run(["curl", "-sSf", "-o", str(folder / f"4711-{number}.mp4"), url], check=True)


WAYS = {"ours": ours, "curl": curl, "one-by-one": one_by_one}


def cpu_seconds() -> float:
    """Return what this process and the children that have ended have used, in user and system mode."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def warm_up(size: int, file: Path) -> None:
    """Write as much as will be written, and remove it: whose turn it is must not decide who has memory at hand."""
    block = bytes(1 << 20)
    with file.open("wb") as writing:
        for _ in range(0, size, len(block)):
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())
    file.unlink()
    os.sync()


def main() -> None:
    """Take the sample, and print it as a line of JSON."""
    way, url, count, size, folder = sys.argv[1:]
    urls = [f"{url}/{size}/{number}" for number in range(int(count))]
    warm_up(int(size) * int(count), Path(folder).with_suffix(".warm"))
    gc.collect()
    forget_peak()
    idle, used, began = memory("VmRSS"), cpu_seconds(), time.perf_counter()
    WAYS[way](urls, int(size), Path(folder))
    seconds = time.perf_counter() - began
    figures = {"seconds": seconds, "cpu": cpu_seconds() - used, "memory": memory("VmHWM") - idle}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
