from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.api.refusals import refusal
from airflow_provider_wiro.exceptions import (
    WiroAPIError,
    WiroAuthenticationError,
    WiroBadRequestError,
    WiroBalanceError,
    WiroBusyError,
    WiroError,
    WiroNotFoundError,
    WiroRunUnknownError,
)

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from tests.unit.conftest import Scripted

LIMIT = (
    "You have reached your concurrent task limit. With your current balance of $100.00, you can run up to 10 tasks at "
    "the same time."
)

# endpoint, code, message, HTTP status, expected class, retryable
DOCUMENTED = [
    ("Run", 0, "Request parameter [prompt] required", 200, WiroBadRequestError, False),
    ("Run", 0, "Request parameter [seed] must be integer or float", 200, WiroBadRequestError, False),
    ("Run", 0, "Request parameter [duration] must be between 5 and 10", 200, WiroBadRequestError, False),
    ("Run", 0, "Request files [inputImage] required", 200, WiroBadRequestError, False),
    ("Run", 0, "Request parameters are invalid.", 200, WiroBadRequestError, False),
    ("Task/Detail", 0, "Request parameter [tasktoken] required", 200, WiroBadRequestError, False),
    ("Run", 0, "Your account is suspended.", 200, WiroAPIError, False),
    ("Run", 0, "You don't have any permission for this action.", 200, WiroAPIError, False),
    ("Task/List", 0, "You don't have any permission for this action.", 200, WiroAPIError, False),
    ("Task/Detail", 0, "Internal error, please try again.", 200, WiroAPIError, True),
    ("Run", 0, "Internal error, please try again.", 200, WiroRunUnknownError, False),
    ("Run", 0, "Project authorization is not founded.", 401, WiroAuthenticationError, False),
    ("Run", 0, "Project authorization is not valid.", 401, WiroAuthenticationError, False),
    (
        "Task/List",
        0,
        "Project requires signature authentication. x-signature and x-nonce headers are required.",
        401,
        WiroAuthenticationError,
        False,
    ),
    ("Run", 0, "Requested ip 203.0.113.7 is not allowed.", 401, WiroAuthenticationError, False),
    ("Run", 0, "Project authorization is not valid.", 200, WiroAuthenticationError, False),
    ("Run", 0, "Error parsing url.", 404, WiroNotFoundError, False),
    ("Run", 1, "slug-owner-project-not-exist", 200, WiroNotFoundError, False),
    ("Run", 1, "tool-not-accessible", 200, WiroNotFoundError, False),
    ("Tool/Detail", 1, "slug-owner-project-not-exist", 200, WiroNotFoundError, False),
    ("Task/Detail", 1, "There is no task yet.", 200, WiroNotFoundError, False),
    ("Task/Cancel", 1, "Task is not in a cancellable state.", 200, WiroAPIError, False),
    ("Task/Kill", 1, "Task could not be killed: it is in task_queue", 200, WiroAPIError, False),
    ("Run", 96, LIMIT, 200, WiroBusyError, True),
    ("Run", 97, "Insufficient balance", 200, WiroBalanceError, False),
    ("Run", 98, "sign in to run this model", 200, WiroAuthenticationError, False),
    ("Run", 99, "Authorization bearer token is invalid.", 401, WiroAuthenticationError, False),
    ("Run", 0, "Too many requests", 429, WiroBusyError, True),
    ("Task/Detail", 0, "Too many requests", 429, WiroBusyError, True),
]


def refused(errors: Any, http_status: int = 200, endpoint: str = "Run", retry_after: float | None = None) -> WiroError:
    return refusal({"result": False, "errors": errors}, http_status, endpoint, retry_after, lambda text: text)


@pytest.mark.parametrize(("endpoint", "code", "message", "http_status", "kind", "retryable"), DOCUMENTED)
@pytest.mark.parametrize("as_text", [False, True], ids=["number", "text"])
def test_documented_refusals(
    endpoint: str, code: int, message: str, http_status: int, kind: type[WiroError], retryable: bool, as_text: bool
) -> None:
    error = refused([{"code": str(code) if as_text else code, "message": message}], http_status, endpoint)

    assert type(error) is kind
    assert error.retryable is retryable
    assert error.code == code
    assert error.http_status == http_status
    assert endpoint in str(error)
    assert message in str(error)


@pytest.mark.parametrize(("endpoint", "code", "message", "http_status", "kind", "retryable"), DOCUMENTED)
def test_refusals_over_http(
    scripted: Callable[..., Scripted],
    answer: Callable[..., Any],
    make_client: Callable[..., WiroClient],
    endpoint: str,
    code: int,
    message: str,
    http_status: int,
    kind: type[WiroError],
    retryable: bool,
) -> None:
    import json

    envelope = {"result": False, "errors": [{"code": code, "message": message}]}
    server = scripted(answer(json.dumps(envelope).encode(), http_status))
    client = make_client(server.url, attempts=1)
    calls: dict[str, Callable[[], object]] = {
        "Run": lambda: client.run("owner/name", {}),
        "Task/Detail": lambda: client.get_task("5"),
        "Task/List": lambda: client.list_tasks(),
        "Task/Cancel": lambda: client.cancel("5"),
        "Task/Kill": lambda: client.kill("5"),
        "Tool/Detail": lambda: client.get_model("owner/name"),
    }

    with pytest.raises(WiroError) as caught:
        calls[endpoint]()

    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("errors", "http_status", "kind", "code"),
    [
        ([{"message": "Request parameter [prompt] required"}], 200, WiroBadRequestError, 0),
        (["Request parameter [prompt] required"], 200, WiroBadRequestError, 0),
        ("Request parameter [prompt] required", 200, WiroBadRequestError, 0),
        ({"code": 97, "message": "Insufficient balance"}, 200, WiroBalanceError, 97),
        (["Project authorization is not valid."], 401, WiroAuthenticationError, 0),
        ([{"code": None, "message": None}], 401, WiroAuthenticationError, 0),
        ([{}], 401, WiroAuthenticationError, 0),
        ([], 401, WiroAuthenticationError, 0),
        ([], 403, WiroRunUnknownError, 0),
        ([], 404, WiroNotFoundError, 0),
        ([], 400, WiroBadRequestError, 0),
        ([], 408, WiroRunUnknownError, 0),
        ([], 413, WiroAPIError, 0),
        ([], 429, WiroBusyError, 0),
        # Nothing tells that a Run was refused before anything happened.
        ([], 200, WiroRunUnknownError, 0),
        (None, 200, WiroRunUnknownError, 0),
        (5, 200, WiroRunUnknownError, 0),
        ([None], 200, WiroRunUnknownError, 0),
        ([[]], 200, WiroRunUnknownError, 0),
        ([{"code": "?", "message": ["x"]}], 200, WiroRunUnknownError, 0),
        ([{"code": "-5", "message": "x"}], 200, WiroRunUnknownError, 0),
        ([{"code": "9" * 5000, "message": "x"}], 401, WiroAuthenticationError, None),
    ],
)
def test_odd_envelopes(errors: Any, http_status: int, kind: type[WiroError], code: int | None) -> None:
    error = refused(errors, http_status)

    assert type(error) is kind
    if code is not None:
        assert error.code == code
    assert str(error)


def test_an_envelope_that_says_nothing_may_be_tried_again_where_nothing_is_ordered() -> None:
    error = refused([], endpoint="Task/Detail")

    assert type(error) is WiroAPIError
    assert error.retryable
    assert "no message" in str(error)


def test_a_busy_answer_tells_how_long_to_wait() -> None:
    error = refused([{"code": 0, "message": "slow down"}], 429, retry_after=17.0)

    assert isinstance(error, WiroBusyError)
    assert error.retry_after == 17.0


def test_messages_are_redacted_before_they_are_cut() -> None:
    message = "x" * 290 + "secret-77a0b3c1d9"
    envelope = {"errors": [{"code": 5, "message": message}]}
    error = refusal(envelope, 200, "Run", None, lambda text: text.replace("secret-77a0b3c1d9", "***"))

    assert "secret" not in str(error)
    assert "***" in str(error)


def test_long_messages_are_cut() -> None:
    assert len(refused([{"code": 5, "message": "x" * 100_000}]).message) < 400


def test_a_message_ends_like_a_sentence() -> None:
    assert refused([{"code": 97, "message": "Insufficient balance"}]).message.endswith("Insufficient balance.")
    assert refused([{"code": 97, "message": "No money!"}]).message.endswith("No money!")
