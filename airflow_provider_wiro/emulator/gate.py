"""Who may use the API: both kinds of project that Wiro's documentation knows, with the messages it gives."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from airflow_provider_wiro.emulator.account import Account, RefusedError


def signature(api_key: str, api_secret: str, nonce: str) -> str:
    """Return the hex HMAC-SHA256 of secret and nonce, keyed with the API key (tool sheet)."""
    return hmac.new(api_key.encode(), (api_secret + nonce).encode(), hashlib.sha256).hexdigest()


def check_credentials(headers: Mapping[str, str], api_key: str, api_secret: str, account: Account) -> None:
    """Let a request through or refuse it.

    :param headers: the request's, with lower-case names or a mapping that does not care.
    :param api_key: the project's key.
    :param api_secret: the project's secret; empty for a project that takes the key alone.
    :param account: counts nonces that come again.
    :raises RefusedError: HTTP 401.
    """
    key = headers.get("x-api-key")
    if key is None and headers.get("authorization", "").lower().startswith("bearer"):
        raise RefusedError(99, "Authorization bearer token is invalid.", 401)
    if not hmac.compare_digest((key or "").encode(), api_key.encode()):
        raise RefusedError(0, "Project authorization is not founded.", 401)
    if not api_secret:
        return
    nonce, given = headers.get("x-nonce"), headers.get("x-signature")
    if not nonce or not given:
        raise RefusedError(
            0,
            "Project requires signature authentication. x-signature and x-nonce headers are required.",
            401,
        )
    right = signature(api_key, api_secret, nonce)
    if not re.fullmatch(r"\d{1,40}", nonce) or not hmac.compare_digest(given.encode(), right.encode()):
        raise RefusedError(0, "Project authorization is not valid.", 401)
    # Wiro accepts a nonce twice; that it came twice is worth a line in the ledger.
    account.reused_nonces += nonce in account.nonces
    account.nonces.add(nonce)
