"""The budget's approval: who is asked, what about, and what is returned; answers in a real Airflow have live tests."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroInputError
from airflow_provider_wiro.operators.approval import WiroBudgetApprovalOperator
from tests.unit.instances import Instance, runs

SEVEN = [{"prompt": f"Video {number}"} for number in range(7)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow is told to ask; without a task process there is nobody to tell."""
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **question: questions.append(question))
    return questions


def context_of(instance: Instance) -> dict[str, Any]:
    context = instance.start()
    context["ti"].id = "an-id"
    return {**context, "task_instance": context["ti"]}


def question(asked: list[dict[str, Any]], instance: Instance, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(TaskAwaitingInput):
        WiroBudgetApprovalOperator(task_id="video", **arguments).execute(context_of(instance))
    (found,) = asked
    return found["subject"], found["body"]


@pytest.mark.parametrize("limit", ["0.7", 0.7, 5])
def test_nobody_is_asked_up_to_the_amount(
    wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance, limit: Any
) -> None:
    operator = WiroBudgetApprovalOperator(
        task_id="video", videos=SEVEN, auto_approve_up_to=limit, params={"most": Param(5, type="integer")}
    )
    assert operator.execute(context_of(instance)) == {
        "chosen_options": ["Approve"],
        "params_input": {"most": 5},
        "responded_at": None,
        "responded_by_user": None,
        "videos": 7,
        "estimated_cost": "0.7",
    }
    assert asked == []
    assert wiro.ledger()["calls"] == {"Tool/Detail": 1}


@pytest.mark.parametrize(("arguments", "subject"), [({"auto_approve_up_to": 0.69}, "7 videos"), ({}, "7 videos")])
def test_a_person_is_asked_above_it(
    wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance, arguments: dict[str, Any], subject: str
) -> None:
    assert question(asked, instance, videos=SEVEN, **arguments)[0] == f"Order {subject} for about $0.70?"
    assert runs(wiro) == []


def test_nothing_to_order_needs_no_approval(wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance) -> None:
    answer = WiroBudgetApprovalOperator(task_id="video", videos=[]).execute(context_of(instance))
    assert (answer["videos"], answer["estimated_cost"], asked) == (0, "0", [])


def test_the_table_tells_each_kind_and_the_first_prompts(
    wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance
) -> None:
    videos = [*SEVEN, {"prompt": "Large", "resolution": "720p", "duration": 10, "model": "ByteDance/seedance-pro-v1"}]
    subject, body = question(asked, instance, videos=videos, body="For **the spring** campaign.")
    assert subject == "Order 8 videos for about $1.22?"
    assert body.splitlines()[:8] == [
        "For **the spring** campaign.",
        "",
        "| model | ordered | videos | each | together |",
        "|---|---|--:|--:|--:|",
        r"| ByteDance\/text\-to\-video\-seedance\-v1 | 480p\, 5 s | 7 | $0.10 | $0.70 |",
        r"| ByteDance\/seedance\-pro\-v1 | 720p\, 10 s | 1 | $0.52 | $0.52 |",
        "| **in all** | | **8** | | **$1.22** |",
        "",
    ]
    assert body.splitlines()[-7:] == [*(f"{n + 1}. Video {n}" for n in range(5)), "", "… and 3 more"]


def test_an_unknown_price_is_asked_about(wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance) -> None:
    wiro.set_faults(["tool:no_prices:times=1"])
    videos = [{"prompt": "Unknown", "model": "ByteDance/seedance-pro-v1"}, *SEVEN]
    subject, body = question(asked, instance, videos=videos, auto_approve_up_to=100)
    assert subject == "Order 8 videos for more than $0.70, of 1 the price is unknown?"
    assert r"| ByteDance\/seedance\-pro\-v1 | 480p\, 5 s | 1 | unknown | unknown |" in body
    assert "| **in all** | | **8** | | unknown |" in body
    assert instance.xcoms["estimate"] == {"videos": 8, "estimated_cost": None}


def test_a_model_without_prices_has_no_amount(wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance) -> None:
    wiro.set_faults(["tool:no_prices"])
    assert question(asked, instance, videos=SEVEN[:1])[0] == "Order 1 video at an unknown price?"


def test_a_prompt_from_anywhere_is_text(wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance) -> None:
    prompt = "# <img src=x onerror=alert(1)>\n\n| [a](javascript:b) ![c](http://d/e.png) {{ conn.wiro }} " + "x" * 200
    _, body = question(asked, instance, videos=[{"prompt": prompt}])
    (line,) = (line for line in body.splitlines() if line.startswith("1. "))
    assert line.startswith(r"1. \# \<img src\=x onerror\=alert\(1\)\> \| \[a\]\(javascript\:b\) \!\[c\]\(http\:")
    assert line.endswith("x…")
    assert "{{" not in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"videos": SEVEN, "auto_approve_up_to": "much"}, "auto_approve_up_to is 'much', allowed: US dollars"),
        ({"videos": SEVEN, "auto_approve_up_to": -1}, "auto_approve_up_to is -1"),
        ({"videos": "a video"}, "videos is str, allowed: a list of mappings"),
    ],
)
def test_literals_are_checked_at_parse(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(WiroConfigurationError, match=words):
        WiroBudgetApprovalOperator(task_id="video", **arguments)


def test_inputs_are_checked_at_parse() -> None:
    with pytest.raises(WiroInputError, match=r"videos\[1\]: ratio is '2:1'"):
        WiroBudgetApprovalOperator(task_id="video", videos=[{"prompt": "A"}, {"prompt": "B", "ratio": "2:1"}])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("auto_approve_up_to", None, "auto_approve_up_to is None"),
        ("auto_approve_up_to", "None", "auto_approve_up_to is 'None'"),
        ("videos", [{"prompt": ""}], r"videos\[0\]: prompt is ''"),
        ("model", "nobody/nothing", "WiroInputError"),
    ],
)
def test_what_comes_later_is_checked_before_anybody_is_asked(
    wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance, name: str, value: Any, words: str
) -> None:
    operator = WiroBudgetApprovalOperator(task_id="video", videos=SEVEN)
    setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=words):
        operator.execute(context_of(instance))
    assert asked == []


def test_prices_that_cannot_be_read_are_asked_for_again(
    wiro: LocalWiro, asked: list[dict[str, Any]], instance: Instance
) -> None:
    wiro.set_faults(["tool:error"])
    with pytest.raises(Exception, match="HTTP 500"):
        WiroBudgetApprovalOperator(task_id="video", videos=SEVEN).execute(context_of(instance))
    assert asked == []
