"""The README's Dags run, and its commands do what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from scripts.local_airflow import LocalAirflow
from tests.readme import README, commands, snippets

from .conftest import CANARY_KEY, CANARY_SECRET, README_DAGS, Run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROOT = README.parent
COMMANDS = {
    "make demo": "test_demo.py",
    "make test": "what runs this test",
    "make chaos": "test_chaos.py runs its small form",
    "pip install .": "test_the_package_installs_from_a_checkout",
    'pip install ".[emulator]"': "test_the_package_installs_from_a_checkout",
    "export AIRFLOW_CONN_WIRO_DEFAULT=": "test_the_connection_commands",
    "AIRFLOW__CORE__TEST_CONNECTION=Enabled airflow connections test wiro_default": "test_the_connection_commands",
    "python -m airflow_provider_wiro.emulator --port 8765 --speed 60": "test_the_command_of_the_local_wiro",
}


def test_every_command_is_known_to_a_test() -> None:
    assert len(snippets("python")) == len(README_DAGS)
    assert [line for line in commands() if not line.startswith(tuple(COMMANDS))] == []


@pytest.mark.parametrize("dag_id", README_DAGS)
def test_each_dag_of_the_readme_makes_its_videos(long_runs: dict[str, Run], dag_id: str) -> None:
    run = long_runs[dag_id]
    assert run.wait() == "success", run.failures()
    if dag_id == "catalogue":
        manifest = Path(run.xcom("videos")["manifest"])
        lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        assert [line["inputs"]["prompt"].split()[1] for line in lines] == ["1", "2", "3"]
        assert all(Path(file["uri"]).stat().st_size == file["size"] for line in lines for file in line["files"])
        return
    last = "clip.fetch" if dag_id == "clips" else "video" if dag_id == "poster" else "postcard"
    indexes = (0, 1) if dag_id == "clips" else (-1,)
    for index in indexes:
        (file,) = run.xcom(last, index)["files"]
        assert Path(file["uri"]).stat().st_size == file["size"] > 10_000


def test_the_connection_commands(airflow: LocalAirflow, wiro: LocalWiro) -> None:
    export, check = (line for line in commands() if "WIRO_API_KEY" in line or "connections test" in line)
    environment = airflow.environment | {
        "WIRO_API_KEY": CANARY_KEY,
        "WIRO_API_SECRET": CANARY_SECRET,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # The README's reader has no local Wiro to point to.
    at_home = export.replace('\\"wiro\\"', f'\\"wiro\\", \\"host\\": \\"{wiro.base_url}\\"')
    lists = wiro.ledger()["calls"].get("Task/List", 0)
    for secret, words in ((CANARY_SECRET, "Connection success!"), ("another", "Check the fields 'API key'")):
        done = subprocess.run(
            ["bash", "-c", f"{at_home}\n{check}"],
            env=environment | {"WIRO_API_SECRET": secret},
            capture_output=True,
            text=True,
            check=False,
        )
        assert words in done.stdout, done.stdout + done.stderr[-2000:]
        assert CANARY_SECRET not in done.stdout + done.stderr
    assert wiro.ledger()["calls"]["Task/List"] == lists + 2


def test_the_command_of_the_local_wiro() -> None:
    (command,) = (line for line in commands() if "emulator --port" in line)
    arguments = command.replace("8765", "0").split()
    with subprocess.Popen([sys.executable, *arguments[1:]], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            printed = next(line for line in server.stdout if "AIRFLOW_CONN_WIRO_DEFAULT" in line)
            connection = json.loads(re.search(r"'(\{.*\})'", printed)[1])  # type: ignore[index]
            assert requests.get(connection["host"].removesuffix("/v1") + "/ledger", timeout=10).json()["runs"] == []
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0


def test_the_package_installs_from_a_checkout(tmp_path: Path, run_in: Callable[..., str]) -> None:
    run_in(ROOT, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    run_in(
        tmp_path, sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)
    )
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import airflow_provider_wiro, airflow_provider_wiro.emulator.local, airflow_provider_wiro.operators.seedance\n"
        "print(airflow_provider_wiro.__file__)"
    )
    assert run_in(tmp_path, sys.executable, "-c", code).strip().startswith(str(target))
    assert list(target.rglob("emulator/templates/*")) != []


@pytest.fixture
def run_in() -> Callable[..., str]:
    def run(folder: Path, *command: str) -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run
