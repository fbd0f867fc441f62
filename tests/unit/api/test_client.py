from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_wiro.api.tasks import Outcome
from airflow_provider_wiro.exceptions import (
    WiroAPIError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroError,
    WiroNotFoundError,
    WiroRunUnknownError,
)
from tests.unit.api.support import GOOD, NO_TASKS, QUEUED, TOY, calls, one_task, runs, toy

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import MakeClient, Scripting, Until


# What each endpoint does


def test_run_and_read_by_id_and_by_token(client: WiroClient, wiro: LocalWiro, until: Until) -> None:
    receipt = client.run(TOY, {"prompt": "hello"})
    task = until(receipt.wiro_task_id)

    assert task.outcome is Outcome.SUCCEEDED
    assert (task.model, task.inputs) == (TOY, {"prompt": "hello"})
    assert task.total_cost == Decimal("0.01")
    assert client.get_task(task_token=receipt.task_token) == task
    assert [run["taskid"] for run in runs(wiro)] == [receipt.wiro_task_id]


def test_tasks_are_listed_newest_first_page_by_page(client: WiroClient) -> None:
    ids = [toy(client, str(number)) for number in range(5)]

    page = client.list_tasks(start=1, limit=2)

    assert [task.wiro_task_id for task in page.tasks] == [ids[3], ids[2]]
    assert page.total == 5
    assert len(client.list_tasks().tasks) == 5


def test_tasks_are_listed_by_model(client: WiroClient) -> None:
    toy(client)
    fails = client.run("ByteDance/text-to-video-seedance-v1", {"prompt": "[wiro:fail] x"}).wiro_task_id

    assert [task.wiro_task_id for task in client.list_tasks(model="seedance").tasks] == [fails]


def test_a_project_without_tasks(client: WiroClient, scripted: Scripting, make_client: MakeClient) -> None:
    assert (client.list_tasks().tasks, client.list_tasks().total) == ((), 0)

    answers = {"result": False, "errors": [{"code": 1, "message": "There is no task yet."}]}
    assert make_client(scripted(answers).url).list_tasks().total == 0


@pytest.mark.parametrize(
    ("total", "expected"),
    [("3", 3), (3, 3), (None, None), ("x", None), ("-1", None), ("²", None), ("9" * 5000, None), ([], None)],
    ids=lambda value: str(value)[:9],
)
def test_odd_totals(scripted: Scripting, make_client: MakeClient, total: Any, expected: int | None) -> None:
    page = make_client(scripted({**one_task("task_start"), "total": total}).url).list_tasks()

    assert page.total == expected
    assert len(page.tasks) == 1


@pytest.mark.parametrize("odd", [{}, {"tasklist": "none"}, {"tasklist": None}, {"tasklist": [{"id": "5"}, "text"]}])
def test_an_answer_without_a_list_of_tasks_is_no_empty_list(
    scripted: Scripting, make_client: MakeClient, odd: dict[str, Any]
) -> None:
    with pytest.raises(WiroConnectionError, match="no list of tasks"):
        make_client(scripted({**GOOD, **odd}).url, attempts=1).list_tasks()


def test_an_address_that_is_not_found_is_no_project_without_tasks(
    scripted: Scripting, make_client: MakeClient, answer: Any
) -> None:
    nothing = {"result": False, "errors": [{"code": 1, "message": "There is no task yet."}]}
    assert make_client(scripted(nothing).url).list_tasks().tasks == ()
    elsewhere = answer(b'{"result": false, "errors": [{"code": 0, "message": "Error parsing url."}]}', status=404)
    with pytest.raises(WiroNotFoundError):
        make_client(scripted(elsewhere).url).list_tasks()


def test_files_are_deleted_and_deleting_again_does_no_harm(client: WiroClient, until: Until) -> None:
    receipt = client.run(TOY, {"prompt": "hello"})
    assert until(receipt.wiro_task_id).outputs
    client.delete_files(receipt.task_token)
    client.delete_files(receipt.task_token)

    assert client.get_task(receipt.wiro_task_id).outputs == ()


def test_files_of_a_running_task_are_not_deleted(client: WiroClient) -> None:
    receipt = client.run(TOY, {"prompt": QUEUED})

    with pytest.raises(WiroAPIError):
        client.delete_files(receipt.task_token)


def test_a_model_is_described(client: WiroClient) -> None:
    model = client.get_model("ByteDance/text-to-video-seedance-v1")

    assert (model["slugowner"], model["slugproject"]) == ("ByteDance", "text-to-video-seedance-v1")
    assert json.loads(model["dynamicprice"])


@pytest.mark.parametrize("tool", [None, [], {}, ["text"], "text"])
def test_an_answer_without_a_model(scripted: Scripting, make_client: MakeClient, tool: Any) -> None:
    with pytest.raises(WiroNotFoundError, match="owner/name"):
        make_client(scripted({**GOOD, "tool": tool}).url).get_model("owner/name")


def test_a_file_is_stored(client: WiroClient, tmp_path: Path) -> None:
    path = tmp_path / 'first "frame" é.png'
    path.write_bytes(bytes(range(256)) * 100)

    url = client.upload(path)

    assert requests.get(url, timeout=5).content == path.read_bytes()
    assert client.upload(str(path)) != url


@pytest.mark.parametrize("stored", [None, [], {}, ["text"], [{}], [{"url": None}]])
def test_a_stored_file_without_an_address(
    scripted: Scripting, make_client: MakeClient, tmp_path: Path, stored: Any
) -> None:
    (tmp_path / "a").write_text("a")

    with pytest.raises(WiroConnectionError, match="no address"):
        make_client(scripted({**GOOD, "list": stored}).url).upload(tmp_path / "a")


def test_a_run_with_a_file_sends_inputs_and_file(client: WiroClient, wiro: LocalWiro, tmp_path: Path) -> None:
    (tmp_path / "frame.png").write_bytes(b"\x89PNG")
    prompt = 'a "quoted" {brace} 🎬 line\nand another'

    client.run(TOY, {"prompt": prompt, "seed": "7"}, {"inputImageUrl": tmp_path / "frame.png"})

    (run,) = runs(wiro)
    assert (run["parameters"]["seed"], run["parameters"]["prompt"]) == ("7", prompt)
    assert requests.get(run["parameters"]["inputImageUrl"], timeout=5).content == b"\x89PNG"


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_a_file_that_cannot_be_read(client: WiroClient, wiro: LocalWiro, tmp_path: Path, name: str) -> None:
    (tmp_path / "good.png").write_bytes(b"x")
    with pytest.raises(WiroConfigurationError, match="files\\['image'\\]"):
        client.run(TOY, {"prompt": "p"}, {"first": tmp_path / "good.png", "image": tmp_path / name})
    with pytest.raises(WiroConfigurationError):
        client.upload(tmp_path / name)

    assert calls(wiro) == {}


# How requests look


def test_a_run_without_files_is_json(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted({**GOOD, "taskid": 5, "socketaccesstoken": "t"})
    inputs = {"prompt": 'a "b" {c} é🎬\n', "seed": "7"}

    receipt = make_client(f"{server.url}/v1/").run("Some Owner/a+b?c#d", inputs)

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/Run/Some%20Owner/a%2Bb%3Fc%23d")
    assert asked.headers["content-type"] == "application/json"
    assert json.loads(asked.body) == inputs
    assert (receipt.wiro_task_id, receipt.task_token) == ("5", "t")


def test_a_list_is_asked_for_in_the_published_clients_words(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(NO_TASKS)
    client = make_client(server.url)
    client.list_tasks()
    client.list_tasks(200, 50, "seedance")

    words = {"type": "model", "sort": "id", "order": "DESC"}
    assert [json.loads(asked.body) for asked in server.asked] == [
        {**words, "start": "0", "limit": "100"},
        {**words, "start": "200", "limit": "50", "modelName": "seedance"},
    ]


def test_a_task_is_asked_for_by_id_or_token(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(one_task("task_start"))
    client = make_client(server.url)
    client.get_task("5")
    client.get_task(task_token="t")

    assert [json.loads(asked.body) for asked in server.asked] == [{"taskid": "5"}, {"tasktoken": "t"}]
    for given in ({}, {"wiro_task_id": "5", "task_token": "t"}):
        with pytest.raises(ValueError, match="either"):
            client.get_task(**given)


def test_stopping_uses_every_name_of_the_id(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(GOOD)
    client = make_client(server.url)
    client.cancel("5")
    client.kill("5")

    assert [asked.path for asked in server.asked] == ["/Task/Cancel", "/Task/Kill"]
    for asked in server.asked:
        assert json.loads(asked.body) == {"taskid": "5", "tasktoken": "5", "socketaccesstoken": "5"}


def test_a_netrc_adds_nothing(
    scripted: Scripting, make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password netrc-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = scripted({**GOOD, "taskid": "5"})
    make_client(server.url).run(TOY, {})

    assert "authorization" not in server.asked[0].headers
    assert server.asked[0].headers["x-api-key"] == "local-key"


@pytest.mark.parametrize("model", ["", "name", "owner/", "/name", "a/b/c"])
def test_a_model_needs_owner_and_name(client: WiroClient, wiro: LocalWiro, model: str) -> None:
    with pytest.raises(WiroConfigurationError, match="owner/name"):
        client.run(model, {"prompt": "p"})

    assert calls(wiro) == {}


@pytest.mark.parametrize("value", [{1}, Decimal(1), float("nan"), object()], ids=["set", "Decimal", "NaN", "object"])
def test_inputs_that_json_cannot_hold(client: WiroClient, wiro: LocalWiro, value: Any) -> None:
    with pytest.raises(WiroError) as caught:
        client.run(TOY, {"prompt": "p", "seed": value})

    assert not isinstance(caught.value, WiroRunUnknownError)
    assert not caught.value.retryable
    assert calls(wiro) == {}


def test_each_run_has_a_connection_of_its_own(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = toy(client)
    for _ in range(5):
        client.get_task(wiro_task_id)
    assert wiro.ledger()["connections"] == 2

    for _ in range(2):
        toy(client)
    client.get_task(wiro_task_id)

    # The reads share one.
    assert wiro.ledger()["connections"] == 4
