"""`make demo` as its user runs it: interrupted, then again, with the port that it likes best taken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.readme import README

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROOT = README.parent


class Demo:
    """A running demo, and every process that it ever started."""

    def __init__(self, videos: Path) -> None:
        environment = os.environ | {"DEMO_ONCE": "1", "WIRO_VIDEOS_DIR": str(videos)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scripts.demo"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        self.started: set[psutil.Process] = set()
        self.lines: list[str] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            while self.process.poll() is None:
                self.started.update(root.children(recursive=True))
                time.sleep(0.2)

    def output(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            yield line

    def left_over(self) -> list[psutil.Process]:
        _, alive = psutil.wait_procs(list(self.started), timeout=5)
        return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def taken_port() -> Iterator[None]:
    with socket.socket() as holder:
        # The demo before may have left it lingering in TIME_WAIT, which the next one takes for free.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # a server that listens there is as good
            holder.bind(("127.0.0.1", 8080))
            holder.listen()
        yield


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    demo = Demo(tmp_path_factory.mktemp("interrupted"))
    for line in demo.output():
        if "Airflow is ready" in line:
            demo.process.send_signal(signal.SIGINT)
    demo.process.wait(60)
    return demo


@pytest.fixture(scope="module")
def finished(interrupted: Demo, taken_port: None, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    demo = Demo(tmp_path_factory.mktemp("finished"))
    for _ in demo.output():
        pass
    demo.process.wait(60)
    return demo


def test_ctrl_c_stops_every_process(interrupted: Demo) -> None:
    assert interrupted.process.returncode == 130, interrupted.lines
    assert len(interrupted.started) > 5
    assert interrupted.left_over() == []


def test_the_next_run_makes_every_video_as_ordered(finished: Demo) -> None:
    text = "".join(finished.lines)
    assert finished.process.returncode == 0, text
    assert "12 of 12 videos are as ordered." in text
    assert "$1.54  in total, at the local Wiro's made-up prices" in text
    assert re.search(r"\d+ s  12 videos: \d+ submitted, \d+ waiting", text)
    folder = Path(re.search(r"^Videos +(.+)$", text, re.MULTILINE)[1])  # type: ignore[index]
    assert len(list(folder.glob("*.mp4"))) == 12
    batch = json.loads(Path(re.search(r"^Manifest +(.+)$", text, re.MULTILINE)[1]).read_text())  # type: ignore[index]
    assert (batch["videos"], batch["failed"], batch["total_cost"]) == (12, 0, "1.54")
    assert re.search(r"^Airflow +http://127\.0\.0\.1:(?!8080/)\d+/dags/nightly_batch/runs/", text, re.MULTILINE)


def test_it_stops_cleanly_by_itself(finished: Demo) -> None:
    assert "Everything is stopped." in finished.lines[-1]
    assert finished.left_over() == []
