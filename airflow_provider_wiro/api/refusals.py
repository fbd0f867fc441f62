"""What a refusal means: from Wiro's envelope and HTTP status to an error of the tree.

The codes and messages are those of Wiro's documentation. Entries of ``errors`` may lack a code or be plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_wiro.exceptions import (
    ACCOUNT_IS_FULL,
    WiroAPIError,
    WiroAuthenticationError,
    WiroBadRequestError,
    WiroBalanceError,
    WiroBusyError,
    WiroConnectionError,
    WiroError,
    WiroNotFoundError,
    WiroRunUnknownError,
)

_CREDENTIALS = re.compile(r"project authorization|signature authentication|requested ip", re.IGNORECASE)
_PARAMETERS = re.compile(
    r"request (parameters?|files?)\b|must be (an? )?(integer|float|between|one of)|is required|are invalid",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(r"suspend|permission", re.IGNORECASE)
# As in "… With your current balance of $100.00, you can run up to 10 tasks at the same time. …"
_LIMIT = re.compile(r"\bup to (\d{1,6}) (?:concurrent )?tasks?\b", re.IGNORECASE)
_MESSAGE_LENGTH = 300


def refusal(
    answer: Mapping[str, Any],
    http_status: int,
    endpoint: str,
    retry_after: float | None,
    redact: Callable[[str], str],
) -> WiroError:
    """Return the error for an answer that grants nothing.

    :param answer: the envelope; empty where the answer had none.
    :param http_status: the answer's HTTP status.
    :param endpoint: what was asked, such as ``Task/Detail``.
    :param retry_after: seconds that the answer asks to wait, or ``None``.
    :param redact: takes the credentials out of a text.
    :return: the error to raise.
    """
    code, message = _first(answer.get("errors"))
    text = f"{endpoint}: Wiro refused: {redact(message)[:_MESSAGE_LENGTH] or 'no message'}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    if http_status == 429 or code == ACCOUNT_IS_FULL:
        limit = _LIMIT.search(message) if code == ACCOUNT_IS_FULL else None
        return WiroBusyError(
            text,
            code=code,
            http_status=http_status,
            retry_after=retry_after,
            limit=int(limit[1]) if limit else None,
        )
    if code == 0 and http_status < 400 and not _CREDENTIALS.search(message):
        return _code_zero(text, message, endpoint, http_status)
    kind = _kind(code, message, endpoint, http_status)
    return kind(text, code=code, http_status=http_status)


def _kind(code: int, message: str, endpoint: str, http_status: int) -> type[WiroError]:
    if http_status in (403, 408):  # Wiro answers neither: something on the way does, perhaps after passing it on
        return WiroRunUnknownError if endpoint == "Run" else WiroConnectionError
    if http_status == 401 or code in (98, 99) or _CREDENTIALS.search(message):
        return WiroAuthenticationError
    if code == 97:
        return WiroBalanceError
    # For Cancel and Kill, code 1 says that the task is not in a state to be stopped.
    if http_status == 404 or (code == 1 and endpoint not in ("Task/Cancel", "Task/Kill")):
        return WiroNotFoundError
    if http_status == 400 or _PARAMETERS.search(message):
        return WiroBadRequestError
    return WiroAPIError


def _code_zero(text: str, message: str, endpoint: str, http_status: int) -> WiroError:
    """Tell a wrong parameter, which never passes, from a fault of the server, which may."""
    if _PARAMETERS.search(message):
        return WiroBadRequestError(text, code=0, http_status=http_status)
    if _ACCOUNT.search(message):
        return WiroAPIError(text, code=0, http_status=http_status)
    if endpoint == "Run":
        return WiroRunUnknownError(text, code=0, http_status=http_status)
    return WiroAPIError(
        text, code=0, http_status=http_status, retryable=True, advice="It may be passing: try again later."
    )


def _first(errors: Any) -> tuple[int, str]:
    """Return code and message of the first entry; no code counts as 0, Wiro's code for everything else."""
    entry = errors[0] if isinstance(errors, list) and errors else errors
    if isinstance(entry, Mapping):
        code = str(entry.get("code", "")).strip()
        return (int(code) if re.fullmatch(r"[0-9]{1,6}", code) else 0), str(entry.get("message") or "")
    return 0, str(entry or "")
