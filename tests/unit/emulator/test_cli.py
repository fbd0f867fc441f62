from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import psutil
import pytest
import requests

from airflow_provider_wiro.emulator.__main__ import main
from tests.unit.emulator.support import SEEDANCE

COMMAND = [sys.executable, "-m", "airflow_provider_wiro.emulator", "--port", "0"]


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, dict[str, str]]]:
    """Start the command; give the process, its banner and the headers of a project without a secret."""
    # A process group of its own, as a terminal gives it: Ctrl-C reaches all of it.
    process = subprocess.Popen(
        [*COMMAND, "--api-secret", "", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        banner = ""
        while "Ctrl-C" not in banner:
            line = process.stdout.readline()
            assert line, process.communicate()
            banner += line
        yield process, banner, {"x-api-key": "local-key"}
    finally:
        process.kill()
        process.communicate()


def start_drawing(base: str, headers: dict[str, str]) -> None:
    body = {"prompt": "A kite", "resolution": "1080p", "duration": "10"}
    for seed in range(3):
        run = f"{base}/Run/ByteDance/seedance-pro-v1"
        assert requests.post(run, json={**body, "seed": seed}, headers=headers, timeout=5).json()["result"]


def children(process: subprocess.Popen[str], *, within: float = 5) -> list[psutil.Process]:
    deadline = time.monotonic() + within
    while not (found := psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_banner_has_a_connection_that_works() -> None:
    with started("--balance", "20", "--speed", "0.01") as (process, banner, headers):
        line = re.search(r"^export (AIRFLOW_CONN_WIRO_DEFAULT=.*)$", banner, re.MULTILINE)
        assert line is not None
        (word,) = shlex.split(line.group(1))
        connection = json.loads(word.partition("=")[2])
        assert (connection["conn_type"], connection["password"]) == ("wiro", "local-key")
        run = f"{connection['host']}/Run/{SEEDANCE}"
        answers = [requests.post(run, json={"prompt": "x"}, headers=headers, timeout=5).json() for _ in range(3)]
        assert [[error["code"] for error in answer["errors"]] for answer in answers] == [[], [], [96]]
        ledger = re.search(r"^Ledger: +(\S+)$", banner, re.MULTILINE)
        assert ledger is not None
        assert len(requests.get(ledger.group(1), timeout=5).json()["runs"]) == 2
        process.terminate()
        assert process.wait(5) == 0


def test_limit_clock_and_cdn_are_options() -> None:
    options = ("--limit", "1", "--clock-offset=-7200", "--cdn-host", "127.0.0.2", "--speed", "1000000")
    with started(*options) as (_, banner, headers):
        base = re.findall(r"http://\S+/v1", banner)[0]

        def ask(path: str, **body: str) -> dict[str, Any]:
            answer = requests.post(f"{base}/{path}", json=body, headers=headers, timeout=5)
            assert parsedate_to_datetime(answer.headers["date"]).timestamp() == pytest.approx(time.time() - 7200, abs=3)
            return dict(answer.json())

        taskid = ask(f"Run/{SEEDANCE}", prompt="A kite")["taskid"]
        assert [error["code"] for error in ask(f"Run/{SEEDANCE}", prompt="A kite")["errors"]] == [96]
        deadline = time.monotonic() + 20
        while not (outputs := ask("Task/Detail", taskid=taskid)["tasklist"][0]["outputs"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert outputs[0]["url"].startswith("http://127.0.0.2:")
        assert requests.get(outputs[0]["url"], timeout=5).status_code == 200


@pytest.mark.parametrize("how", ["SIGINT to all", "SIGTERM", "SIGKILL"])
def test_it_stops_quickly_and_leaves_nobody(how: str) -> None:
    with started() as (process, banner, headers):
        base = re.findall(r"http://\S+/v1", banner)[0]
        start_drawing(base, headers)
        drawing = children(process)
        began = time.monotonic()
        if how == "SIGINT to all":
            os.killpg(process.pid, signal.SIGINT)
        elif how == "SIGTERM":
            process.terminate()
        else:
            process.kill()
        out, err = process.communicate(timeout=5)
        _, alive = psutil.wait_procs(drawing, timeout=3)
        # Where nobody reaps orphans, a process that has ended stays as a zombie.
        assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
        assert time.monotonic() - began < 4
        assert (out, err) == ("", "")
        assert process.returncode == (-signal.SIGKILL if how == "SIGKILL" else 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "port must be from 0"),
        (["--port", "x"], "invalid int value"),
        (["--speed", "0"], "speed must be a number above 0"),
        (["--balance", "-1"], "balance must be a number of USD from 0"),
        (["--limit", "-1"], "limit must be a whole number from 0"),
        (["--clock-offset", "1e12"], "clock's offset must be a number of seconds"),
        (["--cdn-host", "example.com"], "CDN's host must be a loopback address"),
        (["--fault", "run:nothing"], "is not one of run's kinds error_before"),
        (["--fault", "run:slow:rate=7"], "rate must be a number from 0 to 1"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_importing_is_light() -> None:
    heavy = ("fastapi", "starlette", "uvicorn", "av", "PIL", "requests", "jinja2", "airflow")
    code = (
        "import sys, airflow_provider_wiro.emulator, airflow_provider_wiro.emulator.__main__;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_it_stands_alone() -> None:
    """Not one module of the rest of the package comes in, so that it may judge the rest."""
    code = (
        "import sys, airflow_provider_wiro.emulator as e;"
        "w = e.LocalWiro(); w.__enter__(); w.__exit__(None, None, None);"
        "import airflow_provider_wiro.emulator.drawing;"
        "names = [n for n in sys.modules if n.startswith('airflow')];"
        "print([n for n in names if not n.startswith('airflow_provider_wiro.emulator')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['airflow_provider_wiro']"
