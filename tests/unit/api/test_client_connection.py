from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroConnectionError, WiroError, WiroRunUnknownError
from tests.unit.api.support import GOOD, calls, run_and_read, toy

if TYPE_CHECKING:
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import MakeClient, Scripting


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# No connection: nothing was sent, and nothing can have been accepted


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
