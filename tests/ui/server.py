"""An api-server alone: what the page needs of Airflow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from scripts.local_airflow import AIRFLOW, HOST, as_variables, base_settings, child_environment, free_ports, listens
from scripts.processes import Processes

DAGS = Path(__file__).with_name("dags")
PASSWORDS = {"viewer": "canary-password-of-viewer", "admin": "canary-password-of-admin"}
_PATIENCE = 120.0

# What the Dag processor does for a Dag file, once.
_PARSE = """
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.utils.session import create_session
manager = DagBundlesManager()
manager.sync_bundles_to_db()
[bundle] = manager.get_all_dag_bundles()
bundle.initialize()
bag = BundleDagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
assert not bag.import_errors, bag.import_errors
with create_session() as session:
    sync_bag_to_db(bag, bundle.name, None, session=session)
"""


def settings(home: Path, port: int, path: str = "", **more: str) -> dict[str, str]:
    """Return the environment of an api-server.

    :param home: its AIRFLOW_HOME.
    :param port: where it listens.
    :param path: the path under which it lives, such as "/airflow".
    :param more: what else it is told, as SECTION__KEY.
    """
    file = home / "passwords.json"
    file.write_text(json.dumps(PASSWORDS))
    own = {
        "API__BASE_URL": f"http://{HOST}:{port}{path}",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(file),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer,admin:admin",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }
    unused = free_ports(2)
    return as_variables(home, base_settings(home, DAGS, port, port, unused) | own | more)


def prepare(home: Path) -> Path:
    """Migrate a database, parse the Dags of this folder, and return the database's file."""
    processes = Processes(home / "processes")
    processes.open()
    try:
        env = child_environment(os.environ, settings(home, 1), {})
        processes.run("migration", [*AIRFLOW, "db", "migrate"], env=env, cwd=home)
        processes.run("parsing", [AIRFLOW[0], "-c", _PARSE], env=env, cwd=home)
    finally:
        processes.stop()
    return home / "airflow.db"


@dataclass(frozen=True)
class Server:
    """A running api-server."""

    url: str
    """With its path, without a slash at the end."""
    log: Path

    def login(self, user: str | None) -> Client:
        """Return a client that is logged in as a user of the auth manager; as nobody for None."""
        client = Client(self.url)
        if user is not None:
            body = {"username": user, "password": PASSWORDS[user]}
            answer = requests.post(f"{self.url}/auth/token", json=body, timeout=30)
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    @cached_property
    def viewer(self) -> Client:
        return self.login("viewer")


class Client(requests.Session):
    """Asks for addresses relative to Airflow's own."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.trust_env = False

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        options.setdefault("timeout", 60)
        return super().request(method, url if "://" in url else f"{self.base}/{url}", *args, **options)

    def videos(self, **query: Any) -> dict[str, Any]:
        """Return the answer of wiro/api/videos."""
        answer = self.get("wiro/api/videos", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def running(home: Path, *, path: str = "", extra: Mapping[str, str] | None = None, **more: str) -> Iterator[Server]:
    """Run an api-server on a database from :func:`prepare`.

    :param home: where the database is.
    :param path: see :func:`settings`.
    :param extra: more of the environment, such as connections.
    :param more: see :func:`settings`.
    """
    [port] = free_ports(1)
    env = child_environment(os.environ, settings(home, port, path, **more), extra or {})
    processes = Processes(home / f"processes-{port}")
    processes.open()
    try:
        processes.start("api-server", [*AIRFLOW, "api-server"], env=env, cwd=home)
        give_up = time.monotonic() + _PATIENCE
        while not listens(port):
            processes.check()
            assert time.monotonic() < give_up, processes.tail("api-server")
            time.sleep(0.1)
        yield Server(f"http://{HOST}:{port}{path}", processes.folder / "api-server.log")
    finally:
        processes.stop()
