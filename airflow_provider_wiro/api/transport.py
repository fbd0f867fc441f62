"""What lies between a request and `requests`: bodies, failures before anything left, and what headers tell."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError, SSLError

from airflow_provider_wiro.api.tasks import ServerClock
from airflow_provider_wiro.exceptions import WiroConfigurationError

# OpenSSL's words for a handshake that did not come about.
_HANDSHAKE = re.compile(
    "CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS_AVAILABLE|HANDSHAKE_FAILURE"
    "|HTTP_REQUEST"
)


class GuardedBody(io.BytesIO):
    """A body that asks before its first byte leaves: after the connection stands, right before the write."""

    def __init__(self, body: bytes | str | None, before_sending: Callable[[], None]) -> None:
        super().__init__(body.encode() if isinstance(body, str) else body or b"")
        self._before_sending = before_sending

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes to send."""
        if self.tell() == 0:
            self._before_sending()
        return super().read(size)


def never_sent(error: Exception) -> bool:
    """Tell whether the request certainly did not reach a server: no name, no connection, no trust, no proxy."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    if isinstance(reason, (NewConnectionError, ConnectTimeoutError, ProxyError)):
        return True
    # Any other TLS error may have come while the answer was read.
    words = [str(getattr(arg, "reason", "")) for arg in reason.args] if isinstance(reason, SSLError) else []
    return any(_HANDSHAKE.search(word) for word in words)


def request_body(body: Mapping[str, Any], files: Mapping[str, str | Path] | None, opened: ExitStack) -> dict[str, Any]:
    """Return the body as `requests` takes it: JSON, or multipart where files go along (Wiro's documentation)."""
    if not files:
        return {"json": dict(body)}
    parts = {}
    for name, path in files.items():
        try:
            parts[name] = (Path(path).name, opened.enter_context(Path(path).open("rb")))  # noqa: SIM115
        except OSError as error:
            raise WiroConfigurationError(f"files[{name!r}] is {str(path)!r}: {error.strerror}.") from error
    return {"data": dict(body), "files": parts}


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds that an answer asks to wait: a number, or an HTTP date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def server_clock(response: requests.Response, began: float, ended: float) -> ServerClock | None:
    """Return how the server's clock differs from this machine's, by the ``Date`` of its answer.

    :param response: the answer.
    :param began: unix time at which the request began, by this machine.
    :param ended: unix time at which its answer was there.
    :return: ``None`` where the answer has no such date.
    """
    try:
        told = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return None
    # `Date` leaves the fraction of its second out.
    return ServerClock(told + 0.5 - (began + ended) / 2, 0.5 + (ended - began) / 2)
