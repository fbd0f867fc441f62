"""The example that asks a person: what is asked, what is shown, and that only what was picked goes on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from airflow_provider_wiro.previews import MOST_BYTES
from scripts.local_airflow import LocalAirflow

from .conftest import Run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MARKED = "A *fox*, {{ braces }} | a [link](http://example.org)\nand a <b>second</b> line"
ESCAPED = r"A \*fox\*\, \{\{ braces \}\} \| a \[link\]\(http\:\/\/example\.org\) and a \<b\>second\<\/b\> line"
SLOW = "A heron that takes its time [wiro:slow=480]"
FAILS = "A kite that tears [wiro:fail]"
NONE = "None of them"


@pytest.fixture(scope="module")
def run(start: Callable[..., Run]) -> Run:
    """A run that waits for its answers; a whole prompt failed, and a single take of another one."""
    run = start("choose_takes", prompts=[MARKED, SLOW, FAILS], takes=2)
    run.until(lambda states: states.get(("video", 3)) == "deferred")
    run.mark("video", "failed", 3)
    run.until(lambda states: ("choose", 1) in states)
    return run


@pytest.fixture(scope="module")
def questions(run: Run) -> list[dict[str, Any]]:
    return [run.question("choose", number) for number in (0, 1)]


def test_takes_that_failed_are_not_on_offer(run: Run, questions: list[dict[str, Any]]) -> None:
    states = run.states()
    assert [states["video", number] for number in range(6)] == ["success"] * 3 + ["failed"] * 3
    assert [question["options"] for question in questions] == [["Take 1", "Take 2", NONE], ["Take 1", NONE]]
    seeds = {run.xcom("video", number, "wiro_video")["inputs"]["seed"] for number in range(6)}
    assert len(seeds) == 6


def test_a_prompt_is_shown_as_it_is(questions: list[dict[str, Any]]) -> None:
    marked, slow = questions
    assert marked["body"].splitlines()[0] == f"> {ESCAPED}"
    assert marked["subject"] == f"Which take is the best? {' '.join(MARKED.split())}"
    assert slow["task_instance"]["rendered_map_index"] == SLOW


def test_the_moving_pictures_are_served(airflow: LocalAirflow, questions: list[dict[str, Any]]) -> None:
    addresses = [address for each in questions for address in re.findall(r"!\[Take \d\]\((\S+?)\)", each["body"])]
    assert len(addresses) == 3
    for address in addresses:
        answer = requests.get(f"{airflow.url}/{address}", timeout=30)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/webp")
        assert len(answer.content) < MOST_BYTES
        picture = Image.open(io.BytesIO(answer.content))
        assert picture.size == (240, 133)
        assert picture.n_frames > 10  # type: ignore[attr-defined]


def test_only_the_picked_take_goes_on(run: Run, questions: list[dict[str, Any]]) -> None:
    assert run.api.run_state(run.dag_id, run.run_id) == "running"
    for number, choice in enumerate(["Take 2", NONE]):
        run.answer("choose", choice, number)
    assert run.wait(60) == "success", f"{run.states()}\n{run.failures()}"
    (file,) = run.xcom("video", 1)["files"]
    taken = Path(run.xcom("publish", 0))
    assert [path for path in taken.parent.iterdir()] == [taken]
    assert (taken.parent.name, taken.name) == ("picked", file["name"])
    assert taken.read_bytes() == Path(file["uri"]).read_bytes()
    assert ("publish", 1) not in run.states()
