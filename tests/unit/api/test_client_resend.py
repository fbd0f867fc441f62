from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_wiro.api.client import MAY_RESEND
from airflow_provider_wiro.exceptions import (
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
from tests.unit.api.support import NO_TASKS, QUEUED, TOY, calls, runs, toy

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Answer, MakeClient, Scripting


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
