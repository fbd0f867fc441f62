"""One live Airflow and one local Wiro for all tests of this folder."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wiro.emulator import LocalWiro
from scripts.local_airflow import LocalAirflow
from tests.readme import snippets

CANARY_KEY = "canary-key-6f1d2c"
CANARY_SECRET = "canary-secret-9b7e40"
DAGS = Path(__file__).with_name("dags")


EXAMPLES = Path(__file__).parents[2] / "dags_examples"
NIGHT = """prompt,resolution,ratio,duration,fps
"A night train, seen from a bridge",480p,16:9,5,24
"A night train that derails [wiro:fail]",,,10.0,
"""
README_DAGS = ("clips", "poster", "postcard", "catalogue")
PLACES = 3
QUEUED = [f"In the queue, {number} [wiro:slow=900]" for number in range(8)]
BATCH = [*(f"In the batch, {number}" for number in range(5)), "In the batch, and fails [wiro:fail]"]
COUNT = 20
FAILS, IS_CANCELLED, IS_SLOW = 3, 7, 0
ENDINGS = ["A kite over dunes", "A kite that tears [wiro:fail]", "A kite let go [wiro:cancel]"]
AWKWARD = [
    "A sign that reads {{ braces }} and {% raw %} and {# a comment #}",
    "Quotes ' \" ` and a backslash \\ and a tab\tand\na second line",
    "Emoji 🦊🏳️‍🌈 beside Ünïcödé and 漢字",
    "مدينة قديمة عند الغروب, with \u202emarks\u202c",
    "x" * 1191 + " the end.",
    "ends like a file.sql",
]


def twenty() -> list[tuple[str, str]]:
    """Return prompt and ratio of twenty videos: real prompts where they are at hand, else our own."""
    file = Path(__file__).parents[3] / "shared" / "prompts" / "vbench2_long.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    prompts = [line for line in lines if line.strip()][:COUNT] or [f"A boat of paper, take {n}" for n in range(COUNT)]
    prompts[FAILS] += " [wiro:fail]"
    prompts[IS_CANCELLED] += " [wiro:cancel]"
    prompts[IS_SLOW] += " [wiro:slow=2400]"
    return [(prompt, "9:16" if index % 2 else "16:9") for index, prompt in enumerate(prompts)]


def connection(base_url: str, key: str | None = CANARY_KEY, secret: str | None = CANARY_SECRET) -> str:
    extra = {"api_secret": secret} if secret else {}
    return json.dumps({"conn_type": "wiro", "host": base_url, "password": key, "extra": extra})


@pytest.fixture(scope="session")
def wiro() -> Iterator[LocalWiro]:
    with LocalWiro(api_key=CANARY_KEY, api_secret=CANARY_SECRET, speed=60, balance=5000) as server:
        yield server


@pytest.fixture(scope="session")
def small_wiro() -> Iterator[LocalWiro]:
    """An account that admits three tasks at a time."""
    with LocalWiro(api_key=CANARY_KEY, api_secret=CANARY_SECRET, speed=60, limit=PLACES) as server:
        yield server


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="session")
def videos(home: Path) -> Path:
    return home / "videos"


@pytest.fixture(scope="session")
def airflow(wiro: LocalWiro, small_wiro: LocalWiro, home: Path, videos: Path) -> Iterator[LocalAirflow]:
    env = {
        "WIRO_VIDEOS_DIR": str(videos),
        "WIRO_PROMPTS_CSV": str(home / "prompts.csv"),
        "WIRO_POLL_INTERVAL": "1",
        "WIRO_PAGES_DIR": str(home / "pages"),
        "AIRFLOW__WIRO__UI_MEDIA_ROOTS": str(videos),
        "AIRFLOW_CONN_WIRO_DEFAULT": connection(wiro.base_url),
        "AIRFLOW_CONN_WIRO_SMALL": connection(small_wiro.base_url),
        "AIRFLOW_CONN_WIRO_WRONG_SECRET": connection(wiro.base_url, secret="canary-wrong-31c5"),
        "AIRFLOW_CONN_WIRO_HALF": connection(wiro.base_url, key=None),
        "AIRFLOW_CONN_WIRO_UNREACHABLE": connection("http://127.0.0.1:9/v1"),
    }
    dags = home / "dags"
    shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    files = {f"readme_{number}.py": snippet for number, snippet in enumerate(snippets("python"))}
    files["nightly_batch.py"] = (EXAMPLES / "nightly_batch.py").read_text(encoding="utf-8")
    for name, text in files.items():
        text = text.replace('schedule="0 2 * * *"', "schedule=None")  # else unpausing starts last night's run, too
        (dags / name).write_text(text.replace("/tmp/wiro-videos", str(videos)), encoding="utf-8")
    choose_takes = (EXAMPLES / "choose_takes.py").read_text(encoding="utf-8")
    (dags / "choose_takes.py").write_text(choose_takes.replace('"retries": 2', '"retries": 0'), encoding="utf-8")
    shutil.copy(EXAMPLES / "publish_on_asset.py", dags)
    (home / "prompts.csv").write_text(NIGHT, encoding="utf-8-sig")
    with LocalAirflow(home, dags, env) as running:
        for dag_id in ("form", "nightly_batch", "publish_on_asset", "choose_takes", *README_DAGS):
            running.api.wait_for_dag(dag_id)
        assert running.api.import_errors() == []
        running.api.pause("publish_on_asset", paused=False)  # an event starts only what is not paused
        yield running


class Run:
    """A Dag run and what became of it."""

    def __init__(self, airflow: LocalAirflow, dag_id: str, conf: Mapping[str, Any] | None = None) -> None:
        self.api = api = airflow.api
        self.scheduler_log = airflow.processes.log_file("scheduler")
        self.dag_id = dag_id
        api.pause(dag_id, paused=False)
        self.run_id = api.trigger(dag_id, conf)

    def wait(self, timeout: float = 240) -> str:
        return self.api.wait_for_run(self.dag_id, self.run_id, timeout)

    def instances(self) -> dict[tuple[str, int], dict[str, Any]]:
        found = self.api.task_instances(self.dag_id, self.run_id)
        return {(instance["task_id"], instance["map_index"]): instance for instance in found}

    def states(self) -> dict[tuple[str, int], str]:
        return {key: instance["state"] for key, instance in self.instances().items()}

    def until(self, wanted: Callable[[dict[tuple[str, int], str]], bool], timeout: float = 90) -> None:
        deadline = time.monotonic() + timeout
        while not wanted(self.states()):
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.3)

    def xcom(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        return self.api.xcom(self.dag_id, self.run_id, task_id, map_index, key)

    def log(self, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        return self.api.log(self.dag_id, self.run_id, task_id, map_index, try_number)

    def failures(self) -> str:
        """Return the logs of what failed, for a test that expected nothing to."""
        return "\n\n".join(
            f"{task_id}[{map_index}]:\n{self.log(task_id, map_index, instance['try_number'])}"
            for (task_id, map_index), instance in self.instances().items()
            if instance["state"] == "failed"
        )

    def question(self, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Wait until a task asks a person, and until its answer may come."""
        asked = self.api.question(self.dag_id, self.run_id, task_id, map_index, timeout=90)
        # an answer before the scheduler knows that the asking process has ended fails the task (docs/airflow-quirks.md)
        line = rf"TaskInstance Finished: .*task_id={task_id}, run_id={re.escape(self.run_id)}, map_index={map_index},"
        self.until(lambda _: re.search(line, self.scheduler_log.read_text(errors="replace")) is not None)
        return asked

    def answer(self, task_id: str, chosen: str, map_index: int = -1, **fields: Any) -> None:
        self.api.answer(self.dag_id, self.run_id, task_id, [chosen], map_index, fields)

    def mark(self, task_id: str, state: str, map_index: int = -1) -> None:
        self.api.set_task_state(self.dag_id, self.run_id, task_id, state, map_index)


@pytest.fixture(scope="session")
def start(airflow: LocalAirflow) -> Callable[..., Run]:
    def trigger(dag_id: str, **conf: Any) -> Run:
        return Run(airflow, dag_id, conf)

    return trigger


@pytest.fixture(scope="session")
def long_runs(start: Callable[..., Run]) -> dict[str, Run]:
    """The runs that take long, started together: the tests look at them when they have ended."""
    return {
        "three_tasks": start("three_tasks", rows=[{"prompt": prompt, "ratio": ratio} for prompt, ratio in twenty()]),
        "one_task": start("one_task", prompts=[f"{prompt}, one_task" for prompt in ENDINGS]),
        "sync_operator": start("sync_operator", prompts=[f"{prompt}, sync_operator" for prompt in ENDINGS]),
        "refused": start("refused", prompts=["a", ""], resolutions=["480p", "4k"]),
        "late": start("late"),
        "crash_points": start("crash_points"),
        **{dag_id: start(dag_id) for dag_id in README_DAGS},
        "nightly_batch": start("nightly_batch"),
        "queue": start("queue", prompts=QUEUED),
        "batch": start("batch", videos=[{"prompt": prompt, "ratio": "1:1"} for prompt in BATCH]),
        "batch_dies": start("batch_dies"),
        "awkward_prompts": start("awkward_prompts", prompts=AWKWARD, first=AWKWARD[0]),
    }


def runs_of(wiro: LocalWiro, prompt: str) -> list[dict[str, Any]]:
    """Return the ledger's accepted runs of a prompt."""
    return [run for run in wiro.ledger()["runs"] if run["parameters"].get("prompt") == prompt]
