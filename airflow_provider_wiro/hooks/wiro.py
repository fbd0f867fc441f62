"""The hook: an Airflow connection of type ``wiro`` becomes a client of the Wiro API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret

from airflow_provider_wiro.api.auth import WiroAuth
from airflow_provider_wiro.api.client import BASE_URL, WiroClient
from airflow_provider_wiro.api.pricing import estimate_cost
from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroError

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.sdk import Connection

    from airflow_provider_wiro.api.tasks import RunReceipt, TaskPage, WiroTask


class WiroHook(BaseHook):
    """Signs and sends requests with the credentials of an Airflow connection.

    The connection's fields, as the form labels them: *API key* (``password``), *API secret* (extra ``api_secret``;
    empty for a key-only project), *Output hosts* (extra ``output_hosts``: where files may come from beside Wiro's own
    hosts, separated by commas, ``*.`` in front of a name for all below) and *Base URL* (``host``; empty for Wiro's own,
    without a path ``/v1`` is added). Key and secret are registered with Airflow's secrets masker as soon as they are
    read.

    :param wiro_conn_id: id of the connection; default ``wiro_default``.
    """

    conn_name_attr = "wiro_conn_id"
    default_conn_name = "wiro_default"
    conn_type = "wiro"
    hook_name = "Wiro AI"

    def __init__(self, wiro_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.wiro_conn_id = wiro_conn_id
        self._output_hosts: tuple[str, ...] = ()
        self._models: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"WiroHook(wiro_conn_id={self.wiro_conn_id!r})"

    def get_conn(self) -> WiroClient:
        """Return the connection's client; the connection is looked up once for each hook.

        :raises WiroConfigurationError: there is no such connection, or a field of it cannot be used.
        """
        return self._client

    async def aget_client(self, **options: Any) -> WiroClient:
        """Return a new client without blocking an event loop.

        :param options: as for :class:`~airflow_provider_wiro.api.client.WiroClient`.
        :raises WiroConfigurationError: there is no such connection, or a field of it cannot be used.
        """
        try:
            connection = await self.aget_connection(self.wiro_conn_id)
        except AirflowNotFoundException:
            raise self._no_connection() from None
        key, secret = self._credentials(connection)
        await amask_secret(key)
        if secret is not None:
            await amask_secret(secret)
        return WiroClient(WiroAuth(key, secret), self._base_url(connection), **options)

    def get_client(self, **options: Any) -> WiroClient:
        """Return a new client.

        :param options: as for :class:`~airflow_provider_wiro.api.client.WiroClient`.
        :raises WiroConfigurationError: there is no such connection, or a field of it cannot be used.
        """
        return WiroClient(*self._project, **options)

    @cached_property
    def _client(self) -> WiroClient:
        return self.get_client()

    @cached_property
    def _project(self) -> tuple[WiroAuth, str]:
        try:
            connection = self.get_connection(self.wiro_conn_id)
        except AirflowNotFoundException:
            raise self._no_connection() from None
        self._output_hosts = self._hosts(connection.extra_dejson.get("output_hosts"))
        key, secret = self._credentials(connection)
        mask_secret(key)
        if secret is not None:
            mask_secret(secret)
        return WiroAuth(key, secret), self._base_url(connection)

    @property
    def output_hosts(self) -> tuple[str, ...]:
        """The hosts from which files are taken beside Wiro's own.

        :raises WiroConfigurationError: there is no such connection, or a field of it cannot be used.
        """
        self.get_conn()
        return self._output_hosts

    def run(self, model: str, inputs: Mapping[str, Any], files: Mapping[str, str | Path] | None = None) -> RunReceipt:
        """Order one run; see :meth:`WiroClient.run <airflow_provider_wiro.api.client.WiroClient.run>`."""
        return self.get_conn().run(model, inputs, files)

    def get_task(self, wiro_task_id: str | None = None, task_token: str | None = None) -> WiroTask:
        """Read one task by its id or its token."""
        return self.get_conn().get_task(wiro_task_id, task_token)

    def list_tasks(self, start: int = 0, limit: int = 100, model: str | None = None) -> TaskPage:
        """Read a page of the project's tasks, newest first."""
        return self.get_conn().list_tasks(start, limit, model)

    def stop_task(self, wiro_task_id: str) -> WiroTask:
        """End a task: Cancel while it is queued, Kill while it runs; return it as it stands afterwards."""
        return self.get_conn().stop_task(wiro_task_id)

    def delete_files(self, wiro_task_id: str) -> None:
        """Delete the inputs and outputs of a task that has ended.

        :param wiro_task_id: its id; the token that Wiro wants is read, used and forgotten.
        :raises WiroAPIError: Wiro refused, for instance because the task still runs.
        """
        token = self.get_task(wiro_task_id).task_token
        if token is None:
            raise WiroConfigurationError("Wiro tells no token for this task.", wiro_task_id=wiro_task_id)
        self.get_conn().delete_files(token)

    def get_model(self, model: str) -> dict[str, Any]:
        """Read what Wiro tells about a model: parameters, prices, running times."""
        return self.get_conn().get_model(model)

    def estimate_cost(self, model: str, inputs: Mapping[str, Any]) -> Decimal | None:
        """Return what a run is going to cost in US dollars, or ``None`` where that cannot be known before it.

        What Wiro tells of a model is read once for each hook.

        :param model: ``owner/name``.
        :param inputs: the run's inputs by their names on the wire; one that is left out has its default.
        :return: see :func:`airflow_provider_wiro.api.pricing.estimate_cost`.
        :raises WiroNotFoundError: no such model.
        :raises WiroError: Wiro does not tell.
        """
        key = model.lower()
        if key not in self._models:
            self._models[key] = self.get_model(model)
        return estimate_cost(self._models[key], inputs)

    def upload(self, path: str | Path) -> str:
        """Store a local file of at most 100 MB at Wiro and return its address."""
        return self.get_conn().upload(path)

    def task_url(self, wiro_task_id: str) -> str:
        """Return where a person can look at a task.

        Wiro documents no address for a single task, so its own host gives the panel, with the id for the eye; any other
        host is a local Wiro, which has a page for each task.
        """
        base = urlsplit(self.get_conn().base_url)
        if (base.hostname or "").endswith("wiro.ai"):
            return f"https://wiro.ai/panel/project#task-{wiro_task_id}"
        return f"{base.scheme}://{base.netloc}/tasks/{wiro_task_id}"

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection by listing one task: that proves the signature and spends nothing."""
        try:
            client = self.get_client(attempts=1, read_timeout=20.0)
            page = client.list_tasks(limit=1)
        except WiroError as error:
            return False, str(error)
        newest = f"its newest task is {page.tasks[0].wiro_task_id}" if page.tasks else "it has no task yet"
        return True, f"{urlsplit(client.base_url).netloc} accepts the credentials; the project answers, and {newest}."

    def _credentials(self, connection: Connection) -> tuple[str, str | None]:
        key = self._credential(connection.password, "API key")
        secret = self._credential(connection.extra_dejson.get("api_secret"), "API secret")
        if connection.login:
            raise WiroConfigurationError(
                f"Connection {self.wiro_conn_id!r} has a login, which Wiro does not use.",
                advice="Put the key into the field 'API key' (password) and the secret into 'API secret' (extra).",
            )
        if key is None:
            half = ", although it has an 'API secret'" if secret else ""
            raise WiroConfigurationError(f"Connection {self.wiro_conn_id!r} has no 'API key'{half}.")
        return key, secret

    def _credential(self, value: Any, label: str) -> str | None:
        text = "" if value is None else str(value).strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise WiroConfigurationError(
                f"'{label}' of connection {self.wiro_conn_id!r} has a character that no Wiro credential has "
                "(a space, a line break, or one outside ASCII)."
            )
        return text or None

    def _hosts(self, value: Any) -> tuple[str, ...]:
        names = value if isinstance(value, list) else str(value or "").split(",")
        hosts = tuple(name for name in (str(each).strip().lower() for each in names) if name)
        for host in hosts:
            if not re.fullmatch(r"(\*\.[a-z0-9-]+\.)?[a-z0-9.-]*[a-z0-9]", host):
                raise WiroConfigurationError(
                    f"'Output hosts' of connection {self.wiro_conn_id!r} has {host!r}, allowed: names of hosts, "
                    "separated by commas, such as cdn.example.com or *.example.com."
                )
        return hosts

    def _base_url(self, connection: Connection) -> str:
        host = (connection.host or "").strip()
        if not host:
            return BASE_URL
        url = host if "://" in host else f"https://{host}"
        try:
            parts = urlsplit(url)
            port = parts.port or connection.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise WiroConfigurationError(
                f"'Base URL' of connection {self.wiro_conn_id!r} cannot be used, allowed: an address such as "
                f"{BASE_URL}."
            )
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            self.log.warning("Connection %r sends its API key unencrypted: use https.", self.wiro_conn_id)
        netloc = f"{name}:{port}" if port and port != {"http": 80, "https": 443}[parts.scheme] else name
        return f"{parts.scheme}://{netloc}{parts.path.rstrip('/') or '/v1'}"

    def _no_connection(self) -> WiroConfigurationError:
        return WiroConfigurationError(
            f"There is no connection {self.wiro_conn_id!r}, or Airflow cannot read it.",
            advice="Add one of type 'Wiro AI' with an 'API key' (and an 'API secret' for a signature project).",
        )


def _is_loopback(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return False
