"""Signing: how a request proves which project it comes from.

Two kinds of project exist, and the kind is fixed when a project is made (Wiro's documentation): *signature* projects
send ``x-api-key``, ``x-nonce`` and ``x-signature``; *key only* projects send ``x-api-key`` alone.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time

import requests
from requests.auth import AuthBase

from airflow_provider_wiro.exceptions import WiroConfigurationError


def sign(api_key: str, api_secret: str, nonce: str) -> str:
    """Return the signature of one request.

    The tool sheet gives it as an ``openssl`` line: HMAC-SHA256 with the API *key* as key over secret and nonce joined.

    :param api_key: the project's key.
    :param api_secret: the project's secret.
    :param nonce: the value that goes into ``x-nonce``.
    :return: 64 lower-case hexadecimal digits.
    """
    return hmac.new(api_key.encode(), f"{api_secret}{nonce}".encode(), hashlib.sha256).hexdigest()


class Nonces:
    """Strictly increasing whole numbers, near the unix time in microseconds, also across threads.

    The tool sheet allows "unix time or any random integer value". Microseconds keep the processes of a nightly batch,
    which share one key, from choosing the same number; the lock keeps the threads of one process from it.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.RLock()  # on_kill may ask inside a signal handler

    def __call__(self) -> str:
        """Return the next one, as text."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000)
            return str(self._last)


_nonces = Nonces()


class WiroAuth(AuthBase):
    """Puts the credentials on a request, with a new nonce each time.

    :param api_key: the project's key.
    :param api_secret: the project's secret; ``None`` for a key-only project.
    """

    def __init__(self, api_key: str, api_secret: str | None = None) -> None:
        self._api_key = api_key
        self._api_secret = api_secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the headers; `requests` calls this.

        :raises WiroConfigurationError: the key is not what a header can carry.
        """
        if not self._api_key.isascii() or not self._api_key.isprintable():
            raise WiroConfigurationError("The API key has a character that no header can carry. Nothing was sent.")
        request.headers["x-api-key"] = self._api_key
        if self._api_secret is not None:
            nonce = _nonces()
            request.headers["x-nonce"] = nonce
            request.headers["x-signature"] = sign(self._api_key, self._api_secret, nonce)
        return request

    def redact(self, text: str) -> str:
        """Return `text` without the key and the secret: a server may quote them in what it answers."""
        # The longer one first: it may begin with the shorter one.
        for secret in sorted((self._api_secret or "", self._api_key), key=len, reverse=True):
            if len(secret) > 5:  # a shorter one is no credential, and would garble every text
                text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        return f"WiroAuth({'key only' if self._api_secret is None else 'signature'})"
