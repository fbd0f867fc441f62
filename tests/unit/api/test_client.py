from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_wiro.api.client import MAY_RESEND
from airflow_provider_wiro.api.tasks import Outcome, WiroTask
from airflow_provider_wiro.exceptions import (
    WiroAPIError,
    WiroAuthenticationError,
    WiroBadRequestError,
    WiroBalanceError,
    WiroBusyError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroError,
    WiroNotFoundError,
    WiroRunUnknownError,
)

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Answer, Scripted

    Until = Callable[..., WiroTask]
    Scripting = Callable[..., Scripted]
    MakeClient = Callable[..., WiroClient]

TOY = "local/echo-text"  # a model without files: nothing has to be drawn
QUEUED = "[wiro:slow=999999] in the queue for half a minute"
HANGING = "[wiro:hang][wiro:slow=10] never ends"
GOOD = {"result": True, "errors": []}
NO_TASKS = {**GOOD, "tasklist": [], "total": "0"}


def toy(client: WiroClient, prompt: str = "hello") -> str:
    return client.run(TOY, {"prompt": prompt}).wiro_task_id


def calls(wiro: LocalWiro) -> dict[str, int]:
    return dict(wiro.ledger()["calls"])


def runs(wiro: LocalWiro) -> list[dict[str, Any]]:
    return list(wiro.ledger()["runs"])


def one_task(status: str, **fields: Any) -> dict[str, Any]:
    return {**GOOD, "tasklist": [{"id": "5", "status": status, **fields}], "total": "1"}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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


def test_entries_that_are_no_tasks_are_passed_over(scripted: Scripting, make_client: MakeClient) -> None:
    entries: list[Any] = ["text", None, {"id": "5", "status": "task_start"}, []]
    client = make_client(scripted({**GOOD, "tasklist": entries}, {**GOOD, "tasklist": "none"}).url)

    assert [task.wiro_task_id for task in client.list_tasks().tasks] == ["5"]
    assert client.list_tasks().tasks == ()


def test_cancel_a_queued_task(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = toy(client, QUEUED)
    client.cancel(wiro_task_id)

    assert client.get_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}


def test_kill_a_running_task(client: WiroClient, wiro: LocalWiro, until: Until) -> None:
    wiro_task_id = toy(client, HANGING)
    until(wiro_task_id, lambda task: task.status == "task_output")
    client.kill(wiro_task_id)

    assert client.get_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 1}


def test_a_task_in_the_wrong_state_cannot_be_stopped(client: WiroClient, wiro: LocalWiro, until: Until) -> None:
    queued, ended = toy(client, QUEUED), toy(client)
    until(ended)
    for stop, wiro_task_id in ((client.kill, queued), (client.kill, ended), (client.cancel, ended)):
        with pytest.raises(WiroAPIError) as caught:
            stop(wiro_task_id)
        assert type(caught.value) is WiroAPIError
        assert not caught.value.retryable
    # A refusal is an answer: it is not asked again.
    assert (calls(wiro)["Task/Kill"], calls(wiro)["Task/Cancel"]) == (2, 1)


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


# A Run is sent once, whatever happens


RUN_FAULTS = [
    # fault, error, retryable, how many runs the server has accepted
    ("error_before", WiroRunUnknownError, False, 0),
    ("error_after", WiroRunUnknownError, False, 1),
    ("reset_before", WiroRunUnknownError, False, 0),
    ("reset_after", WiroRunUnknownError, False, 1),
    ("late:seconds=0.3", WiroRunUnknownError, False, 1),
    ("slow:seconds=1", WiroRunUnknownError, False, 1),
    ("truncated", WiroRunUnknownError, False, 1),
    ("html", WiroRunUnknownError, False, 0),
    ("rate_limit:seconds=3", WiroBusyError, True, 0),
    ("redirect", WiroConfigurationError, False, 0),
]


@pytest.mark.parametrize(("fault", "kind", "retryable", "accepted"), RUN_FAULTS)
def test_a_run_is_sent_once(
    wiro: LocalWiro,
    make_client: MakeClient,
    naps: list[float],
    fault: str,
    kind: type[WiroError],
    retryable: bool,
    accepted: int,
) -> None:
    client = make_client(wiro.base_url, read_timeout=0.5)
    wiro.set_faults([f"run:{fault}"])

    with pytest.raises(WiroError) as caught:
        toy(client)

    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert "Run" in str(caught.value)
    deadline = time.monotonic() + 5
    while len(runs(wiro)) < accepted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(runs(wiro)) == accepted
    assert calls(wiro) == {"Run": 1}
    assert naps == []


def test_an_unknown_run_says_what_to_do(wiro: LocalWiro, client: WiroClient) -> None:
    wiro.set_faults(["run:reset_after"])

    with pytest.raises(WiroRunUnknownError, match="not known whether the run was accepted") as caught:
        toy(client)

    assert "WiroFetchOutputsOperator" in str(caught.value)


def test_a_run_with_a_file_is_sent_once(client: WiroClient, wiro: LocalWiro, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    wiro.set_faults(["run:error_after"])
    with pytest.raises(WiroRunUnknownError):
        client.run(TOY, {"prompt": "p"}, {"file": tmp_path / "a"})

    assert calls(wiro) == {"Run": 1}


@pytest.mark.parametrize("kind", ["error", "reset", "html", "truncated", "rate_limit"])
def test_an_upload_is_sent_once(
    client: WiroClient, wiro: LocalWiro, tmp_path: Path, naps: list[float], kind: str
) -> None:
    (tmp_path / "a").write_text("a")
    wiro.set_faults([f"any:{kind}"])
    with pytest.raises(WiroError) as caught:
        client.upload(tmp_path / "a")

    assert isinstance(caught.value, WiroConnectionError | WiroBusyError)
    assert not isinstance(caught.value, WiroRunUnknownError)
    assert calls(wiro) == {"File/Upload": 1}
    assert naps == []


@pytest.mark.parametrize(
    ("model", "balance", "kind", "code"),
    [
        ("local/no-such-model", 500, WiroNotFoundError, 1),
        ("local/not-accessible", 500, WiroNotFoundError, 1),
        ("local/members-only", 500, WiroAuthenticationError, 98),
        ("ByteDance/text-to-video-seedance-v1", "0.01", WiroBalanceError, 97),
    ],
)
def test_refused_runs(
    client: WiroClient, wiro: LocalWiro, model: str, balance: float | str, kind: type[WiroError], code: int
) -> None:
    wiro.set_balance(balance)
    with pytest.raises(kind) as caught:
        client.run(model, {"prompt": "p"})

    assert caught.value.code == code
    assert not caught.value.retryable
    assert (calls(wiro), runs(wiro)) == ({"Run": 1}, [])


def test_a_bad_parameter_is_refused(client: WiroClient) -> None:
    with pytest.raises(WiroBadRequestError, match="seed"):
        client.run("ByteDance/text-to-video-seedance-v1", {"prompt": "p", "seed": "x"})


def test_the_account_limit(client: WiroClient, wiro: LocalWiro, naps: list[float]) -> None:
    wiro.set_balance(10)
    toy(client, QUEUED)
    with pytest.raises(WiroBusyError) as caught:
        toy(client)

    assert (caught.value.code, caught.value.retryable, naps) == (96, True, [])
    assert len(runs(wiro)) == 1


# Reads are sent again


READS: dict[str, tuple[str, Callable[[WiroClient], object]]] = {
    "detail": ("Task/Detail", lambda client: client.get_task(toy(client))),
    "list": ("Task/List", lambda client: client.list_tasks()),
    "tool": ("Tool/Detail", lambda client: client.get_model(TOY)),
}


@pytest.mark.parametrize("kind", ["error", "reset", "slow:seconds=0.8", "rate_limit:seconds=0", "truncated", "html"])
@pytest.mark.parametrize("point", list(READS))
def test_a_read_is_sent_again_until_it_is_answered(
    wiro: LocalWiro, make_client: MakeClient, naps: list[float], point: str, kind: str
) -> None:
    endpoint, read = READS[point]
    wiro.set_faults([f"{point}:{kind}:times=2"])

    assert read(make_client(wiro.base_url, read_timeout=0.4 if "slow" in kind else 5))
    assert calls(wiro)[endpoint] == 3
    assert len(naps) == 2


@pytest.mark.parametrize(
    ("kind", "error", "http_status"),
    [
        ("error", WiroConnectionError, 500),
        ("reset", WiroConnectionError, None),
        ("html", WiroConnectionError, 200),
        ("truncated", WiroConnectionError, 200),
        ("rate_limit:seconds=0", WiroBusyError, 429),
    ],
)
def test_a_read_is_given_up_after_some_attempts(
    wiro: LocalWiro,
    make_client: MakeClient,
    naps: list[float],
    kind: str,
    error: type[WiroError],
    http_status: int | None,
) -> None:
    wiro.set_faults([f"list:{kind}"])
    with pytest.raises(error) as caught:
        make_client(wiro.base_url, attempts=4, max_wait=2).list_tasks()

    assert type(caught.value) is error
    assert caught.value.http_status == http_status
    assert caught.value.retryable
    assert calls(wiro) == {"Task/List": 4}
    assert len(naps) == 3
    assert all(0 <= nap <= 2 for nap in naps)


def test_a_client_may_try_once(wiro: LocalWiro, make_client: MakeClient, naps: list[float]) -> None:
    wiro.set_faults(["list:error"])
    with pytest.raises(WiroConnectionError):
        make_client(wiro.base_url, attempts=1).list_tasks()

    assert (calls(wiro), naps) == ({"Task/List": 1}, [])


def test_a_refusal_is_not_asked_again(wiro: LocalWiro, client: WiroClient, naps: list[float]) -> None:
    with pytest.raises(WiroNotFoundError):
        client.get_task("1")

    assert (calls(wiro), naps) == ({"Task/Detail": 1}, [])


def test_a_server_fault_in_words_is_asked_again(scripted: Scripting, make_client: MakeClient) -> None:
    fault = {"result": False, "errors": [{"code": 0, "message": "Internal error"}]}
    server = scripted(fault, fault, NO_TASKS)

    assert make_client(server.url).list_tasks().total == 0
    assert len(server.asked) == 3


def test_retry_after_is_honoured(wiro: LocalWiro, client: WiroClient, naps: list[float]) -> None:
    wiro.set_faults(["list:rate_limit:seconds=7:times=2"])
    client.list_tasks()

    assert naps == [7.0, 7.0]


def test_retry_after_is_cut_to_the_longest_pause(wiro: LocalWiro, make_client: MakeClient, naps: list[float]) -> None:
    wiro.set_faults(["list:rate_limit:seconds=3000:times=2"])
    make_client(wiro.base_url, max_wait=11).list_tasks()

    assert naps == [11.0, 11.0]


def test_retry_after_may_be_a_date(
    scripted: Scripting, answer: type[Answer], make_client: MakeClient, naps: list[float]
) -> None:
    def limited(when: datetime) -> Answer:
        return answer(b"{}", 429, {"Retry-After": format_datetime(when, usegmt=True)})

    now = datetime.now(UTC)
    server = scripted(limited(now + timedelta(seconds=20)), limited(now - timedelta(days=1)), NO_TASKS)
    make_client(server.url).list_tasks()

    assert naps[0] == pytest.approx(20, abs=2)
    assert naps[1] == 0


@pytest.mark.parametrize("value", ["soon", "", "-5", "1.5", "²", "Wed, 99 Foo 9999 99:99:99 GMT", "9" * 5000])
def test_an_odd_retry_after(
    scripted: Scripting, answer: type[Answer], make_client: MakeClient, naps: list[float], value: str
) -> None:
    header = value.encode().decode("latin-1")
    server = scripted(answer(b"{}", 429, {"Retry-After": header}), NO_TASKS)
    make_client(server.url, max_wait=5).list_tasks()

    assert len(naps) == 1
    assert 0 <= naps[0] <= 5


def test_what_may_be_sent_again() -> None:
    assert {name for name, again in MAY_RESEND.items() if not again} == {"Run", "File/Upload"}


# No connection: nothing was sent, and nothing can have been accepted


def run_and_read(client: WiroClient) -> list[WiroError]:
    """Return the errors of a Run and of a read."""
    errors = []
    for call in (lambda: toy(client), lambda: client.list_tasks()):
        with pytest.raises(WiroError) as caught:
            call()
        errors.append(caught.value)
    return errors


def assert_never_sent(errors: list[WiroError]) -> None:
    for error in errors:
        assert type(error) is WiroConnectionError
        assert error.retryable
        assert "Nothing was sent" in str(error)
        assert "local-key" not in str(error)


def test_a_closed_port(make_client: MakeClient, free_port: int, naps: list[float]) -> None:
    client = make_client(f"http://127.0.0.1:{free_port}/v1")
    assert_never_sent(run_and_read(client))

    assert len(naps) == 4  # all of them the read's


def test_a_host_that_does_not_answer(make_client: MakeClient) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            client = make_client(f"http://127.0.0.1:{address[1]}/v1", connect_timeout=0.3, attempts=1)
            assert_never_sent(run_and_read(client))
        finally:
            for one in waiting:
                one.close()


def test_a_name_that_does_not_exist(make_client: MakeClient) -> None:
    assert_never_sent(run_and_read(make_client("https://wiro.invalid/v1", attempts=1)))


def test_a_certificate_that_nobody_trusts(
    scripted: Scripting, make_client: MakeClient, certificate: tuple[Path, Path]
) -> None:
    server = scripted(GOOD, certificate=certificate)
    assert_never_sent(run_and_read(make_client(server.url, attempts=1)))

    assert server.asked == []


def test_a_certificate_that_is_trusted(
    scripted: Scripting,
    make_client: MakeClient,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    server = scripted({**GOOD, "taskid": "5"}, certificate=certificate)

    assert toy(make_client(server.url)) == "5"


def test_tls_to_a_port_that_speaks_http(wiro: LocalWiro, make_client: MakeClient) -> None:
    client = make_client(wiro.base_url.replace("http:", "https:"), attempts=1, read_timeout=2)
    assert_never_sent(run_and_read(client))

    assert calls(wiro) == {}


def test_a_proxy_that_is_down(make_client: MakeClient, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port}")

    assert_never_sent(run_and_read(make_client("http://wiro.invalid/v1", attempts=1)))


@pytest.mark.parametrize(
    ("variable", "value", "base_url"),
    [
        ("http_proxy", "http:///nowhere", "http://wiro.invalid/v1"),
        ("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem", "https://127.0.0.1:1/v1"),
    ],
)
def test_an_environment_that_cannot_be_used(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, base_url: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)

    for error in run_and_read(make_client(base_url, attempts=1)):
        assert not isinstance(error, WiroRunUnknownError)
        assert "Nothing was sent" in str(error)


@pytest.mark.parametrize("base_url", ["nonsense", "ftp://127.0.0.1/v1", "http://", "http://[::1/v1"])
def test_a_base_url_that_cannot_be_used(make_client: MakeClient, base_url: str) -> None:
    for error in run_and_read(make_client(base_url)):
        assert isinstance(error, WiroConfigurationError)
        assert not error.retryable


# Answers that are not Wiro's


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


# Stopping


def test_stopping_a_queued_task(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = toy(client, QUEUED)

    assert client.stop_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}


@pytest.mark.parametrize("prompt", [HANGING, "[wiro:slow=9999] runs for a while"])
def test_stopping_a_running_task(wiro: LocalWiro, client: WiroClient, until: Until, prompt: str) -> None:
    wiro_task_id = toy(client, prompt)
    until(wiro_task_id, lambda task: task.status not in ("task_queue", "task_accept", "task_assign"))

    assert client.stop_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 1}


@pytest.mark.parametrize(
    ("prompt", "outcome"),
    [
        ("hello", Outcome.SUCCEEDED),
        ("[wiro:fail] x", Outcome.FAILED),
        ("[wiro:error] x", Outcome.FAILED),
        ("[wiro:cancel] x", Outcome.CANCELLED),
    ],
)
def test_stopping_a_task_that_has_ended(
    client: WiroClient, wiro: LocalWiro, until: Until, prompt: str, outcome: Outcome
) -> None:
    wiro_task_id = toy(client, prompt)
    until(wiro_task_id)

    assert client.stop_task(wiro_task_id).outcome is outcome
    assert not {"Task/Cancel", "Task/Kill"} & set(calls(wiro))


def test_stopping_a_task_that_does_not_exist(client: WiroClient) -> None:
    with pytest.raises(WiroNotFoundError):
        client.stop_task("1")


NOT_NOW = {"result": False, "errors": [{"code": 1, "message": "Task is not in a cancellable state."}]}


def test_stopping_a_task_that_moves_on_meanwhile(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(one_task("task_queue"), NOT_NOW, GOOD, one_task("task_cancel"))

    assert make_client(server.url).stop_task("5").outcome is Outcome.CANCELLED
    assert [asked.path for asked in server.asked] == ["/Task/Detail", "/Task/Cancel", "/Task/Kill", "/Task/Detail"]


def test_stopping_a_task_that_ends_by_itself_meanwhile(
    scripted: Scripting, make_client: MakeClient, naps: list[float]
) -> None:
    server = scripted(one_task("task_output"), NOT_NOW, NOT_NOW, one_task("task_postprocess_end", pexit="0"))

    assert make_client(server.url).stop_task("5").outcome is Outcome.SUCCEEDED
    assert [asked.path for asked in server.asked][1:3] == ["/Task/Kill", "/Task/Cancel"]
    assert sum(naps) < 2


def test_a_task_that_does_not_stop_is_returned_as_it_is(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(*[one_task("task_output"), GOOD] * 10)
    task = make_client(server.url).stop_task("5")

    assert task.outcome is Outcome.RUNNING
    assert [asked.path for asked in server.asked].count("/Task/Kill") == 3


@pytest.mark.parametrize("attempts", [1, 5])
@pytest.mark.parametrize("kind", ["truncated", "slow:seconds=0.6", "reset", "error", "html", "rate_limit:seconds=0"])
def test_a_stop_whose_answer_is_lost(
    wiro: LocalWiro, make_client: MakeClient, client: WiroClient, kind: str, attempts: int
) -> None:
    """The next look tells whether it has stopped; and there are three rounds."""
    wiro_task_id = toy(client, QUEUED)
    wiro.set_faults([f"cancel:{kind}:times=1"])
    stopping = make_client(wiro.base_url, attempts=attempts, read_timeout=0.3)

    assert stopping.stop_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}
