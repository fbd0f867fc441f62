from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.exceptions import (
    WiroConfigurationError,
    WiroConnectionError,
    WiroNotFoundError,
    WiroRunUnknownError,
)
from tests.unit.api.support import GOOD, NO_TASKS, TOY, run_and_read, toy

if TYPE_CHECKING:
    from tests.unit.conftest import Answer, MakeClient, Scripting

HTML = b"<!DOCTYPE html><html><body>Please wait</body></html>"
ODD_ANSWERS: dict[str, dict[str, Any]] = {
    "empty": {"body": b""},
    "spaces": {"body": b"  \n"},
    "html": {"body": HTML, "headers": {"Content-Type": "text/html"}},
    "html that claims to be JSON": {"body": HTML},
    "half of it": {"body": b'{"result": true, "errors": [], "taskid": "5"'},
    "a list": {"body": b'[{"result": true}]'},
    "a text": {"body": b'"result"'},
    "null": {"body": b"null"},
    "true": {"body": b"true"},
    "an object without an envelope": {"body": b'{"taskid": "5"}'},
    "not text": {"body": b"\xff\xfe\x00\x80"},
    "nested too deep": {"body": b"[" * 200_000},
    "a number that is too long": {"body": b'{"result": true, "errors": [], "taskid": ' + b"9" * 5000 + b"}"},
    "500": {"body": b'{"result": false, "errors": [{"code": 0, "message": "x"}]}', "status": 500},
    "502": {"body": HTML, "status": 502, "headers": {"Content-Type": "text/html"}},
    "503 with a result": {"body": b'{"result": true, "taskid": "5"}', "status": 503},
    "202": {"body": b'{"result": true, "taskid": "5"}', "status": 202},
    "cut": {"body": b'{"result": true, "errors": [], "taskid": "5"}', "cut_after": 20},
    "cut before the body": {"body": b'{"result": true}', "cut_after": 0},
    "not really gzip": {"body": b"abc", "headers": {"Content-Encoding": "gzip"}},
}


@pytest.mark.parametrize("name", list(ODD_ANSWERS))
def test_odd_answers(scripted: Scripting, answer: type[Answer], make_client: MakeClient, name: str) -> None:
    server = scripted(answer(**ODD_ANSWERS[name]))
    client = make_client(server.url, attempts=2)

    with pytest.raises(WiroRunUnknownError) as lost:
        client.run(TOY, {"prompt": "p"})
    assert len(server.asked) == 1
    with pytest.raises(WiroConnectionError) as unread:
        client.get_task("5")
    assert len(server.asked) == 3

    assert type(unread.value) is WiroConnectionError
    assert (lost.value.retryable, unread.value.retryable) == (False, True)


@pytest.mark.parametrize("taskid", ["", None, 0])
def test_an_accepted_run_without_an_id(scripted: Scripting, make_client: MakeClient, taskid: Any) -> None:
    with pytest.raises(WiroRunUnknownError, match="no task id"):
        toy(make_client(scripted({**GOOD, "taskid": taskid}).url))


def test_an_answer_without_the_task(scripted: Scripting, make_client: MakeClient) -> None:
    with pytest.raises(WiroNotFoundError) as caught:
        make_client(scripted(NO_TASKS).url).get_task("4711")

    assert caught.value.wiro_task_id == "4711"


def test_a_web_page_in_place_of_the_api(scripted: Scripting, answer: type[Answer], make_client: MakeClient) -> None:
    server = scripted(answer(HTML, 404, {"Content-Type": "text/html"}))
    with pytest.raises(WiroNotFoundError, match="Base URL"):
        toy(make_client(server.url))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_never_followed(
    scripted: Scripting, answer: type[Answer], make_client: MakeClient, tmp_path: Path, status: int
) -> None:
    (tmp_path / "a").write_text("a")
    target = scripted({**GOOD, "taskid": "5", "tasklist": [{"id": "5"}]})
    server = scripted(answer(b"", status, {"Location": f"{target.url}/v1/Run/a/b"}))
    client = make_client(server.url)

    for call in (lambda: toy(client), lambda: client.get_task("5"), lambda: client.upload(tmp_path / "a")):
        with pytest.raises(WiroConfigurationError, match=target.url.partition("//")[2]) as caught:
            call()
        assert not caught.value.retryable
        assert caught.value.http_status == status
    assert target.asked == []
    assert len(server.asked) == 3


@pytest.mark.parametrize("location", ["", "http://[", "http://", "//", "javascript:x", "http://a:b:c/", "\x7f"])
def test_odd_redirects(scripted: Scripting, answer: type[Answer], make_client: MakeClient, location: str) -> None:
    server = scripted(answer(b"", 307, {"Location": location}))
    client = make_client(server.url)

    for error in run_and_read(client):
        assert isinstance(error, WiroConfigurationError)
        # It was sent, so nothing may say that it was not.
        assert "Nothing was sent" not in str(error)
    assert len(server.asked) == 2
