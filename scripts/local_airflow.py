"""A whole Airflow on this machine, for as long as a ``with`` block lasts.

SQLite, the LocalExecutor and the components (api-server, scheduler, dag-processor, triggerer), each a process
of its own that writes into ``HOME/run/NAME.log``. Everybody is an admin, and only the loopback is
listened on: for trying things out and for tests, never for anything else.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote

import requests

from scripts.airflow_api import AirflowApi
from scripts.processes import Processes

HOST = "127.0.0.1"
AIRFLOW = (sys.executable, "-m", "airflow")

# The tasks' log files lie on the same disk, so nobody has to serve them.
#
# What people ask and what tasks ask is answered by two processes. Airflow writes its audit log on the event
# loop: in a single process, a click in the browser waits there for SQLite's lock while the task's request
# that holds it waits for the loop, until one of them gives up after seconds, and the click or the task
# fails.
COMPONENTS = {
    "api-server": ("api-server", "--apps", "core"),
    "execution-api": ("api-server", "--apps", "execution"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


class AirflowNotReady(RuntimeError):
    """Airflow was not healthy in time; the message tells which component, and where its log is."""


class LocalAirflow:
    """An Airflow that starts on entering the context and is gone, every process of it, after leaving it.

    A second start on the same home goes on with the same database. It works after an unclean stop, too:
    whatever that left running is ended first.

    :param home: its folder (``AIRFLOW_HOME``); made if it does not exist. One Airflow at a time.
    :param dags_folder: where the Dags are.
    :param env: more environment for its processes, and so for the tasks: connections, or settings that win
        over the ones made here (``AIRFLOW__SECTION__KEY``). Variables of this process whose names begin
        with ``AIRFLOW`` are not passed on.
    :param port: the port that the api-server gets if it is free, else it gets another; any free one by
        default.
    :param timeout: seconds within which all must be healthy; 240 by default.
    """

    components: ClassVar[Mapping[str, Sequence[str]]] = COMPONENTS
    """The components, and Airflow's arguments for each, in the order of their start."""
    needed_last: ClassVar[Collection[str]] = ("api-server", "execution-api", "watchdog")
    """What ends after the others: a task that is just ending tells the api-server, and insists."""

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        timeout: float = 240,
    ) -> None:
        self.home = home.resolve()
        self.dags_folder = dags_folder.resolve()
        self.processes = Processes(self.home / "run")
        self.url = ""
        self._extra_env = dict(env or {})
        self._preferred_port = port
        self._timeout = timeout
        self._execution_port = 0
        self._env: dict[str, str] = {}
        self._database_file = self.home / "airflow.db"
        self._launched: dict[str, datetime] = {}
        self._api: AirflowApi | None = None

    @property
    def api(self) -> AirflowApi:
        """The REST API of the running Airflow."""
        if self._api is None:
            raise RuntimeError("Airflow has not been started")
        return self._api

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes, for a command that is to mean this Airflow."""
        return dict(self._env)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until it is healthy.

        :raises FolderInUse: if another process runs an Airflow in this home.
        :raises ChildDied: if a component ends instead of getting ready, with the end of its log.
        :raises AirflowNotReady: if it is not healthy in time.
        """
        try:
            self.processes.open()
            self._configure()
            self._migrate()
            for component in self.components:
                self.launch(component)
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[str]:
        """End every process, and return the components that left some which had to be killed."""
        if self._api:
            self._api.close()
            self._api = None
        return self.processes.stop(last=self.needed_last)

    def launch(self, component: str) -> None:
        """Start a component, the first time or again after :meth:`kill`.

        :param component: one of :attr:`components`.
        """
        self._launched[component] = datetime.now(UTC)
        env = self._env
        if component == "execution-api":
            env = {**env, "AIRFLOW__API__PORT": str(self._execution_port)}
        self.processes.start(component, [*AIRFLOW, *self.components[component]], env=env, cwd=self.home)

    def kill(self, component: str) -> list[int]:
        """Kill a component and its children at once, as a crash would, and return the ids of its processes.

        :param component: one of :attr:`components`.
        """
        pids = [process.pid for process in self.processes.family(component)]
        self.processes.kill(component)
        return pids

    def wait_until_healthy(self) -> None:
        """Wait until every component works, each since it was last started.

        :raises ChildDied: if one has ended, with the end of its log.
        :raises AirflowNotReady: if they are not healthy in time.
        """
        give_up = time.monotonic() + self._timeout
        while lacking := self._not_healthy():
            self.processes.check()
            if time.monotonic() > give_up:
                parts = ", ".join(lacking)
                logs = self.processes.folder
                raise AirflowNotReady(f"not healthy after {self._timeout:.0f} s: {parts}; see the logs in {logs}")
            time.sleep(0.25)

    def run_url(self, dag_id: str, run_id: str) -> str:
        """Return where a Dag run is seen in the browser.

        :param dag_id: the Dag.
        :param run_id: its run.
        """
        return f"{self.url}/dags/{dag_id}/runs/{quote(run_id, safe='')}"

    def _configure(self) -> None:
        ports = free_ports(4, self._preferred_port)
        self._execution_port = ports[1]
        self.url = f"http://{HOST}:{ports[0]}"
        self._api = AirflowApi(self.url)
        settings = _settings(self.home, self.dags_folder, ports)
        self._env = child_environment(os.environ, settings, self._extra_env)

    def _migrate(self) -> None:
        # it takes some seconds even where there is nothing to do
        version = importlib.metadata.version("apache-airflow-core")
        mark = self.home / "run" / "migrated"
        if self._database_file.exists() and mark.exists() and mark.read_text() == version:
            return
        self.processes.run("migration", [*AIRFLOW, "db", "migrate"], env=self._env, cwd=self.home)
        mark.write_text(version)

    def _not_healthy(self) -> list[str]:
        try:
            report = self.api.health()
        except requests.RequestException:
            return ["api-server"]
        if not listens(self._execution_port):
            return ["execution-api"]
        beating = ("scheduler", "dag-processor", "triggerer")
        return [part for part in beating if not _beats(report, part.replace("-", "_"), self._launched[part])]


def _beats(report: Mapping[str, Mapping[str, str | None]], part: str, since: datetime) -> bool:
    # Right after a restart the last heartbeats of the component's predecessor still count as health.
    state = report.get(part, {})
    beat = state.get(f"latest_{part}_heartbeat")
    return state.get("status") == "healthy" and beat is not None and datetime.fromisoformat(beat) >= since


def free_ports(count: int, preferred: int | None = None) -> list[int]:
    """Return ports of the loopback that nobody listens on.

    :param count: how many.
    :param preferred: which one to take first, if it is free.
    """
    ports = [preferred] if preferred and _is_free(preferred) else []
    with ExitStack() as stack:
        while len(ports) < count:
            # held open until all are chosen, else the same one could be found twice
            holder = stack.enter_context(socket.socket())
            holder.bind((HOST, 0))
            if (port := holder.getsockname()[1]) not in ports:
                ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as servers do: a port that only lingers in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    # where a server listens on every address, some systems let the loopback be bound all the same
    return not listens(port)


def listens(port: int) -> bool:
    """Return whether somebody answers at a port of the loopback.

    :param port: the port.
    """
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def child_environment(
    inherited: Mapping[str, str], settings: Mapping[str, str], extra: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of Airflow's processes.

    :param inherited: this process's environment; its ``AIRFLOW…`` variables belong to another Airflow.
    :param settings: what :class:`LocalAirflow` sets.
    :param extra: what its user adds; wins over everything.
    """
    unwanted = ("PYTHONDONTWRITEBYTECODE",)  # without its .pyc files Airflow takes twice as long to start
    kept = {name: value for name, value in inherited.items() if not name.startswith("AIRFLOW") and name not in unwanted}
    local = ",".join([HOST, "localhost", socket.gethostname()])
    proxies = {name: ",".join(filter(None, [inherited.get(name), local])) for name in ("no_proxy", "NO_PROXY")}
    return {**kept, **proxies, "PYTHONUNBUFFERED": "1", **settings, **extra}


def base_settings(home: Path, dags_folder: Path, api: int, execution_api: int, unused: Sequence[int]) -> dict[str, str]:
    """Return what every Airflow here is told, as ``SECTION__KEY``.

    :param home: its ``AIRFLOW_HOME``.
    :param dags_folder: where the Dags are.
    :param api: the port where people ask.
    :param execution_api: the port where tasks ask.
    :param unused: two ports where nobody listens.
    """
    keys = _secrets(home / "secrets.json")
    trigger_logs, worker_logs = map(str, unused)
    return {
        "API__BASE_URL": f"http://{HOST}:{api}",
        "API__HOST": HOST,
        "API__PORT": str(api),
        "API__SECRET_KEY": keys["api"],
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": keys["jwt"],
        "CORE__DAGS_FOLDER": str(dags_folder),
        "CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{execution_api}/execution/",
        "CORE__FERNET_KEY": keys["fernet"],
        # a laptop's full name may need a name server that does not answer
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        # nobody listens there: another Airflow's log server must not be asked instead
        "LOGGING__TRIGGER_LOG_SERVER_PORT": trigger_logs,
        "LOGGING__WORKER_LOG_SERVER_PORT": worker_logs,
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def as_variables(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return settings as the environment variables that Airflow reads, with its home.

    :param home: its ``AIRFLOW_HOME``.
    :param settings: the settings, by ``SECTION__KEY``.
    """
    return {"AIRFLOW_HOME": str(home)} | {f"AIRFLOW__{name}": value for name, value in settings.items()}


def _settings(home: Path, dags_folder: Path, ports: Sequence[int]) -> dict[str, str]:
    settings = base_settings(home, dags_folder, ports[0], ports[1], ports[2:]) | {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__TEST_CONNECTION": "Enabled",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        # with Airflow's own 5 s, a third of all tasks hold their worker for 5 s after they have ended
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    return as_variables(home, settings)


def _secrets(file: Path) -> dict[str, str]:
    # what is encrypted in the database must be readable at the next start
    try:
        kept: dict[str, str] = json.loads(file.read_text())
        return kept
    except FileNotFoundError:
        keys = {
            "api": secrets.token_hex(16),
            "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "jwt": secrets.token_hex(32),
        }
    file.touch(mode=0o600)
    file.write_text(json.dumps(keys))
    return keys
