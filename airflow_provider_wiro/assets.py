"""Assets of the scheme ``wiro``: a name for what a pipeline makes at Wiro, wherever the files end up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

if TYPE_CHECKING:
    from airflow.sdk import Asset


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return the address of an asset as Airflow keeps it.

    :param uri: ``wiro://name`` or ``wiro://name/part``.
    :raises ValueError: it has no name, or has a user, a port or a query. (Airflow drops a fragment before.)
    """
    if not uri.hostname or uri.netloc.lower() != uri.hostname or uri.query:
        raise ValueError(f"The address of an asset is {uri.geturl()!r}, allowed: wiro://name or wiro://name/part.")
    return uri._replace(netloc=uri.netloc.lower(), path=uri.path.rstrip("/"))


def create_asset(*, name: str, extra: dict[str, Any] | None = None) -> Asset:
    """Return the asset of a name.

    :param name: what is behind ``wiro://``.
    :param extra: the asset's.
    """
    from airflow.sdk import Asset

    return Asset(uri=f"wiro://{name}", extra=extra or {})
