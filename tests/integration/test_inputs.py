"""Prompts arrive as they were written, and what cannot be right is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_wiro.emulator import LocalWiro

from .conftest import AWKWARD, Run, runs_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_awkward_prompts_arrive_unchanged(long_runs: dict[str, Run], wiro: LocalWiro) -> None:
    assert len(AWKWARD[4]) == 1200
    run = long_runs["awkward_prompts"]
    assert run.wait() == "success", run.failures()
    # expand, expand_kwargs and the decorator send each; the first also goes as a plain XCom and to another model.
    assert [len(runs_of(wiro, prompt)) for prompt in AWKWARD] == [5, 3, 3, 3, 3, 3]
    assert [len(runs_of(wiro, f"{prompt}!")) for prompt in AWKWARD] == [1] * len(AWKWARD)
    assert len(runs_of(wiro, "by template")) == len(AWKWARD)
    assert run.xcom("any_model")["outputs"][0]["content_type"] == "raw"


def test_a_prompt_from_the_form_keeps_its_braces(start: Callable[..., Run], wiro: LocalWiro) -> None:
    prompt = "From the form: {{ ds }} stays"
    run = start("form", prompt=prompt)
    assert run.wait() == "success", run.failures()
    (order,) = runs_of(wiro, prompt)
    # The form leaves it empty: it is derived.
    assert 0 <= int(order["parameters"]["seed"]) < 2**31 - 1


@pytest.fixture(scope="module")
def refused(long_runs: dict[str, Run]) -> Run:
    assert long_runs["refused"].wait() == "failed"
    return long_runs["refused"]


@pytest.mark.parametrize(
    ("task_id", "map_index", "tries", "words"),
    [
        ("wrong_option", 1, 1, ["WiroInputError", "resolution is '4k', allowed: '480p', '720p'"]),
        ("wrong_option", 2, 1, ["WiroInputError", "prompt is '', allowed: text that is not empty"]),
        ("wrong_option", 3, 1, ["resolution is '4k'", "prompt is ''"]),
        ("template", -1, 1, ["WiroInputError", "resolution is 'HD', allowed: '480p', '720p'"]),
        ("wrong_secret", -1, 1, ["WiroAuthenticationError", "HTTP 401", "'API secret'"]),
        ("no_connection", -1, 1, ["WiroConfigurationError", "There is no connection 'wiro_nowhere'"]),
        ("half_connection", -1, 1, ["WiroConfigurationError", "has no 'API key', although it has an 'API secret'"]),
        ("unreachable", -1, 2, ["WiroConnectionError", "no connection to 127.0.0.1:9", "Nothing was sent"]),
        ("unknown_model", -1, 1, ["WiroNotFoundError", "code 1", "slug-owner-project-not-exist"]),
        ("not_a_task", -1, 1, ["WiroConfigurationError", "task is 'None'"]),
    ],
)
def test_what_cannot_be_right_fails_once_and_says_why(
    refused: Run, task_id: str, map_index: int, tries: int, words: list[str]
) -> None:
    instance = refused.instances()[task_id, map_index]
    assert (instance["state"], instance["try_number"]) == ("failed", tries)
    log = refused.log(task_id, map_index, tries)
    assert [word for word in words if word not in log] == [], log


def test_the_good_one_among_them_went_through(refused: Run) -> None:
    assert refused.states()["wrong_option", 0] == "success"
