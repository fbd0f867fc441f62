from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_wiro.api.auth import Nonces, WiroAuth, sign
from airflow_provider_wiro.exceptions import WiroAPIError, WiroAuthenticationError, WiroError

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Scripted

# Made with: printf %s "$SECRET$NONCE" | openssl dgst -sha256 -hmac "$KEY"
VECTORS = [
    (
        "wiro-key-7f3a9",
        "wiro-secret-51bc",
        "1734513807",
        "89ee333f47d31c6ee7be73d572e003e8d44b57bcdab2506b51b0f458bbb6af91",
    ),
    (
        "k3y with space & $pecial=\"'`\\",
        "s€cret/+=: %0A\t{}🎬",
        "1734513807123456",
        "13b650cce2a1d45be3ea7649e4cf835808692535595874c9ecbed6ecbebaf8d3",
    ),
    ("9" * 80, "ñ" * 70, "0", "90b6b356529bba42627c1d8b57de15c98574aae460302cf33817d02158641a73"),
    ("x" * 200, "", "42", "e8dc60d5aa8f94b73fd14b3ae9fb853c1221fa81ce0b99cc47d437cae3dc8077"),
]
KEY, SECRET = "key-1f0c9d7e5b", "secret-77a0b3c1d9"


def signed_headers(auth: WiroAuth) -> dict[str, str]:
    prepared = requests.Request("POST", "http://127.0.0.1/v1/Run/a/b", auth=auth).prepare()
    return {name: str(value) for name, value in prepared.headers.items()}


@pytest.mark.parametrize(("key", "secret", "nonce", "signature"), VECTORS)
def test_signature_is_the_one_that_openssl_made(key: str, secret: str, nonce: str, signature: str) -> None:
    assert sign(key, secret, nonce) == signature


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
@pytest.mark.parametrize(("key", "secret", "nonce"), [vector[:3] for vector in VECTORS])
def test_signature_is_the_one_that_openssl_makes(key: str, secret: str, nonce: str) -> None:
    printed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", key],
        input=f"{secret}{nonce}".encode(),
        capture_output=True,
        check=True,
    ).stdout.decode()

    assert sign(key, secret, nonce) == printed.rpartition("= ")[2].strip()


def test_each_request_has_key_nonce_and_the_signature_of_that_nonce() -> None:
    headers = signed_headers(WiroAuth(KEY, SECRET))

    assert headers["x-api-key"] == KEY
    assert headers["x-nonce"].isdigit()
    assert headers["x-signature"] == sign(KEY, SECRET, headers["x-nonce"])


def test_a_key_only_project_sends_only_the_key() -> None:
    headers = signed_headers(WiroAuth(KEY))

    assert {name for name in headers if name.lower().startswith("x-")} == {"x-api-key"}
    assert headers["x-api-key"] == KEY


def test_what_goes_over_the_wire(scripted: Callable[..., Scripted], make_client: Callable[..., WiroClient]) -> None:
    server = scripted({"result": True, "errors": [], "tasklist": [], "total": "0"})
    make_client(server.url, KEY, SECRET).list_tasks()
    make_client(server.url, KEY, None).list_tasks()

    signed, key_only = (asked.headers for asked in server.asked)
    assert signed["x-signature"] == sign(KEY, SECRET, signed["x-nonce"])
    assert key_only["x-api-key"] == KEY
    assert not {"x-nonce", "x-signature", "authorization", "cookie"} & set(key_only)
    assert SECRET not in str(signed)


def test_a_key_only_project_is_let_in(make_client: Callable[..., WiroClient]) -> None:
    from airflow_provider_wiro.emulator.local import LocalWiro

    with LocalWiro(api_key=KEY, api_secret="") as server:
        assert make_client(server.base_url, KEY, None).list_tasks().total == 0
        # A signature is one header more than this project asks for, and does no harm.
        assert make_client(server.base_url, KEY, SECRET).list_tasks().total == 0


@pytest.mark.parametrize(
    ("key", "secret"),
    [("local-key", None), ("local-key", "local-secreT"), ("another-key", "local-secret"), ("", "local-secret")],
)
def test_wrong_credentials_are_refused(
    wiro: LocalWiro, make_client: Callable[..., WiroClient], key: str, secret: str | None
) -> None:
    with pytest.raises(WiroAuthenticationError) as caught:
        make_client(wiro.base_url, key, secret).list_tasks()

    assert caught.value.http_status == 401
    assert not caught.value.retryable
    assert wiro.ledger()["calls"] == {"Task/List": 1}


def test_a_secret_with_odd_characters_signs_requests(make_client: Callable[..., WiroClient]) -> None:
    from airflow_provider_wiro.emulator.local import LocalWiro

    secret = " s€cret/+=: %0A\t{}🎬\u202e"
    with LocalWiro(api_key=KEY, api_secret=secret) as server:
        assert make_client(server.base_url, KEY, secret).list_tasks().total == 0


def test_nonces_increase_and_never_repeat_over_threads() -> None:
    nonces = Nonces()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change in the midst of things, not only now and then
    try:
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda _: [int(nonces()) for _ in range(2_000)], range(8)))
    finally:
        sys.setswitchinterval(interval)

    for one_thread in taken:
        assert all(later > earlier for earlier, later in zip(one_thread, one_thread[1:], strict=False))
    assert len({nonce for one_thread in taken for nonce in one_thread}) == 16_000


def test_nonces_increase_while_the_clock_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    nonces = Nonces()
    first = int(nonces())
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)

    assert [int(nonces()) - first for _ in range(3)] == [1, 2, 3]


def test_nonces_are_near_the_unix_time_in_microseconds() -> None:
    assert abs(int(Nonces()()) / 1e6 - time.time()) < 5


def test_two_auths_of_one_process_never_share_a_nonce(wiro: LocalWiro, make_client: Callable[..., WiroClient]) -> None:
    clients = [make_client(wiro.base_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: [one.list_tasks() for _ in range(10)], clients))

    ledger = wiro.ledger()
    assert ledger["calls"] == {"Task/List": 40}
    assert ledger["reused_nonces"] == 0


def test_repr_shows_no_secret() -> None:
    for auth in (WiroAuth(KEY, SECRET), WiroAuth(KEY)):
        assert KEY not in repr(auth)
        assert SECRET not in repr(auth)
    assert repr(WiroAuth(KEY)) != repr(WiroAuth(KEY, SECRET))


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        (KEY, SECRET),
        (KEY, None),
        ("key.*(+[", r"secret\d+$^"),
        ("abcdef-and-more", "abcdef"),  # the one is the beginning of the other
        ("abcdef", "abcdef-and-more"),
    ],
)
def test_redaction_leaves_nothing_of_key_and_secret(key: str, secret: str | None) -> None:
    redacted = WiroAuth(key, secret).redact(f"before {key} between {secret or ''}{key} after")

    for gone in filter(None, (key, secret, "and-more")):
        assert gone not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


def test_redaction_leaves_other_texts_alone() -> None:
    text = "Project authorization is not valid."

    assert WiroAuth("a", "t").redact(text) == text
    assert WiroAuth("abcdef", "").redact(text) == text


@pytest.mark.parametrize("http_status", [200, 401, 500])
def test_credentials_quoted_by_a_server_do_not_reach_an_error(
    scripted: Callable[..., Scripted],
    answer: Callable[..., object],
    make_client: Callable[..., WiroClient],
    http_status: int,
) -> None:
    message = f"{'x' * 275} key {KEY} secret {SECRET}"
    envelope = {"result": False, "errors": [{"code": 5, "message": message}]}
    server = scripted(answer(json.dumps(envelope).encode(), http_status))

    with pytest.raises(WiroError) as caught:
        make_client(server.url, KEY, SECRET, attempts=1).list_tasks()

    assert "Task/List" in str(caught.value)
    # The text is cut, and must not be cut through a secret that is then no longer found.
    for part in (KEY, SECRET, KEY[:8], SECRET[:8]):
        assert part not in str(caught.value)
        assert part not in repr(caught.value)


@pytest.mark.parametrize("key", ["key-1f0c9d7e5b\n", "key-1f0c9d7e5b\r\nx-evil: 1", "key-1f0c9d7e5bключ"])
def test_a_key_that_no_header_can_carry_is_an_error_of_ours_without_the_key(
    wiro: LocalWiro, make_client: Callable[..., WiroClient], key: str
) -> None:
    with pytest.raises(WiroError) as caught:
        make_client(wiro.base_url, key).list_tasks()

    assert not isinstance(caught.value, WiroAPIError)
    assert not caught.value.retryable
    assert "key-1f0c9d7e5b" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert wiro.ledger()["calls"] == {}
