from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from tests.unit.emulator.support import KEY, SECRET, SEEDANCE, VIDEO, Caller

HANG: dict[str, Any] = {"prompt": "A kite [wiro:hang]"}


@pytest.fixture
def wiro(wiro: LocalWiro) -> Iterator[LocalWiro]:
    yield wiro
    wiro.set_clock_offset(0)


def dates(answer: requests.Response) -> list[str]:
    """All Date headers: requests itself would join several."""
    return list(answer.raw.headers.getlist("date"))


def told(answer: requests.Response) -> float:
    (date,) = dates(answer)
    return parsedate_to_datetime(date).timestamp()


def test_a_right_clock_and_one_date(caller: Caller) -> None:
    urls = [f"{caller.wiro.url}/{path}" for path in ("", "ledger", "cdn/0-0/0.mp4", "nothing", "v1/Task/List")]
    for answer in (*(requests.get(url, timeout=5) for url in urls), caller.post("Task/List")):
        assert told(answer) == pytest.approx(time.time(), abs=3)
        assert "server" not in answer.headers


@pytest.mark.parametrize("offset", [90, -90.5])
def test_all_that_is_told_is_off(caller: Caller, offset: float) -> None:
    caller.wiro.set_clock_offset(offset)
    began = time.time()
    task = caller.video()
    elapsed = time.time() - began
    (listed,) = caller.ask("Task/List")["tasklist"]
    (output,) = task["outputs"]
    (tool,) = caller.ask("Tool/Detail", slugowner="ByteDance", slugproject=SEEDANCE.split("/")[1])["tool"]
    upload = caller.post("File/Upload", files={"file": ("a.png", b"x", "image/png")}).json()["list"][0]
    moments = [value for shown in (task, listed) for name, value in shown.items() if name.endswith("time")]
    moments = [value for value in moments if value != "0"]
    assert len(moments) == 18
    moments += [output["addedtime"], output["modifiedtime"], tool["taskstat"]["lastruntime"], upload["addedtime"]]
    for moment in (*map(float, moments), told(caller.post("Task/List")), told(requests.get(output["url"], timeout=5))):
        assert moment == pytest.approx(began + offset, abs=elapsed + 3)
    # What really happened is no matter of the clock.
    assert caller.wiro.ledger()["runs"][0]["created"] == pytest.approx(began, abs=elapsed + 1)


def test_a_task_takes_as_long_as_ever(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    slow_wiro.set_clock_offset(1e8)
    taskid = caller.run(**HANG)
    assert caller.task(taskid)["status"] == "task_queue"
    slow_wiro.set_clock_offset(-1e8)
    assert caller.task(taskid)["status"] == "task_queue"
    assert caller.task(taskid)["elapsedseconds"] == "0.0000"


def test_a_clock_set_by_http_leaves_older_tasks_alone_and_outlives_a_reset(caller: Caller) -> None:
    control = f"{caller.wiro.url}/control/clock"
    old = caller.task(caller.run(**HANG))
    assert requests.post(control, json={"offset": 3600}, timeout=5).json() == {"offset": 3600}
    assert caller.task(old["id"])["createtime"] == old["createtime"]
    caller.wiro.reset()
    new = caller.task(caller.run(**HANG))
    assert int(new["createtime"]) - int(old["createtime"]) == pytest.approx(3600, abs=10)
    for wrong in (None, "90", True, 1e9, float("nan")):
        assert requests.post(control, data=str({"offset": wrong}), timeout=5).status_code == 400
    assert told(caller.post("Task/List")) == pytest.approx(time.time() + 3600, abs=3)


def test_a_clock_that_is_wrong_from_the_start() -> None:
    with LocalWiro(api_key=KEY, api_secret=SECRET, clock_offset=-7200) as wiro:
        assert told(Caller(wiro).post("Task/List")) == pytest.approx(time.time() - 7200, abs=3)


@pytest.mark.parametrize("point", ["any", "run", "detail", "list"])
def test_the_date_can_be_missing(caller: Caller, point: str) -> None:
    taskid = caller.run(**VIDEO)
    caller.wiro.set_faults([f"{point}:no_date"])
    asked = {
        "run": caller.post(f"Run/{SEEDANCE}", HANG),
        "detail": caller.post("Task/Detail", {"taskid": taskid}),
        "list": caller.post("Task/List"),
    }
    missing = [name for name, answer in asked.items() if dates(answer) == []]
    assert missing == (list(asked) if point == "any" else [point])
    assert all(answer.json()["result"] for answer in asked.values())
    assert caller.wiro.ledger()["faults"] == {f"{name}:no_date": 1 for name in missing}


def test_a_missing_date_comes_beside_other_faults_and_refusals(caller: Caller) -> None:
    caller.wiro.set_faults(["run:error_before:times=1", "run:reset_before:times=1", "any:no_date"])
    failed = caller.post(f"Run/{SEEDANCE}", HANG)
    assert (failed.status_code, dates(failed)) == (500, [])
    with pytest.raises(requests.ConnectionError):
        caller.post(f"Run/{SEEDANCE}", HANG)
    assert dates(caller.post(f"Run/{SEEDANCE}", {"prompt": ""})) == []
    happened = {"run:error_before": 1, "run:reset_before": 1, "run:no_date": 2}
    assert caller.wiro.ledger()["faults"] == happened
