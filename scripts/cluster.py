"""A distributed Airflow on this machine, for as long as a ``with`` block lasts, and the faults to try on it.

PostgreSQL, Redis, the CeleryExecutor with two workers, and two triggerers, beside the components that every
Airflow has. Each can be killed, in whole or in part, or frozen, and :meth:`Cluster.heal` starts again what
died, as a service manager would. All else is as in :mod:`scripts.local_airflow`: for tests, never for
anything else.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psutil
import requests
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from scripts.airflow_api import AirflowApi
from scripts.cluster_services import crash_postgres, postgres_program, start_postgres, start_redis
from scripts.local_airflow import (
    HOST,
    AirflowNotReady,
    LocalAirflow,
    as_variables,
    base_settings,
    child_environment,
    free_ports,
    listens,
)
from scripts.processes import ChildDied, kill_all, lives

Part = Literal["tree", "main", "supervisors", "tasks"]
"""What of a component a fault is to hit; see :meth:`Cluster.kill`."""

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
SERVICES = ("postgres", "redis")
"""What is not Airflow's own, in the order of the start."""

_WORKER = ("celery", "worker", "--without-mingle", "--without-gossip", "--skip-serve-logs", "--celery-hostname")
_AIRFLOW_COMPONENTS: dict[str, tuple[str, ...]] = {
    # with PostgreSQL, one process can answer people and tasks: nobody waits for a lock on the whole database
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    **{name: ("triggerer", "--skip-serve-logs") for name in TRIGGERERS},
    **{name: (*_WORKER, f"{name}@%h") for name in WORKERS},
}
COMPONENTS = (*_AIRFLOW_COMPONENTS, *SERVICES)
"""The names of everything that a cluster consists of."""

_HEARTBEATS = {"SchedulerJob": ("scheduler",), "DagProcessorJob": ("dag-processor",), "TriggererJob": TRIGGERERS}

# Airflow's own values make every recovery take minutes; each is named behind.
#
# Two are left alone. [scheduler] task_queued_timeout (600): a task that exceeds it twice is failed, however
# many retries it has. [database] sql_alchemy_pool_pre_ping: without it nobody survives a new PostgreSQL.
QUICK_RECOVERY = {
    "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "30",  # 86400
    "CELERY__OPERATION_TIMEOUT": "5",  # 1: on two busy cores, orders to the workers get lost
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",  # 5
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",  # 30
    "SCHEDULER__JOB_HEARTBEAT_SEC": "1",  # 5
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",  # 300
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",  # 30
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",  # 5
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # 1
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",  # 0: a part of the timeout
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",  # 300
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",  # 10
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",  # 120
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",  # 5
    # 30; a triggerer that looks up its first connection does not beat for 6 s, and must not be taken for dead
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "WORKERS__MAX_FAILED_HEARTBEATS": "3",  # 3
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # 5
}


class Cluster(LocalAirflow):
    """An Airflow of nine processes that starts on entering the context and is gone after leaving it.

    :param home: its folder (``AIRFLOW_HOME``), which the databases are in, too; made if it does not exist.
        For root, PostgreSQL runs as ``nobody``, and the folders above get the permission to be passed through.
    :param dags_folder: where the Dags are.
    :param env: more environment for its processes, as in :class:`LocalAirflow`.
    :param concurrency: how many tasks each worker runs at a time; 4 by default.
    :param timeout: seconds within which all must be healthy; 240 by default.
    """

    components = _AIRFLOW_COMPONENTS
    needed_last = ("api-server", *SERVICES, "watchdog")

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        concurrency: int = 4,
        timeout: float = 240,
    ) -> None:
        super().__init__(home, dags_folder, env, timeout=timeout)
        self._concurrency = concurrency
        self._postgres = self.home / "postgres"
        self._database_file = self._postgres / "PG_VERSION"
        self._postgres_port = self._redis_port = 0
        self._engine: Engine | None = None
        self._log_read: dict[str, int] = {}
        self._orphans: list[psutil.Process] = []
        self._frozen: dict[str, list[psutil.Process]] = {}

    @property
    def orphans(self) -> list[psutil.Process]:
        """The task processes that live on after :meth:`kill` has taken their supervisors."""
        return [process for process in self._orphans if lives(process)]

    def stop(self) -> list[str]:
        """End every process, and return the components that left some which had to be killed."""
        for name in list(self._frozen):
            self.thaw(name)
        return super().stop()

    def launch(self, component: str) -> None:
        """Start a component, the first time or again after :meth:`kill`; see also :meth:`heal`.

        :param component: one of :data:`COMPONENTS`. A database is waited for until it answers.
        """
        if component == "postgres":
            self._launch_postgres()
        elif component == "redis":
            self._launch_redis()
        else:
            log = self.processes.log_file(component)
            self._log_read[component] = log.stat().st_size if log.exists() else 0
            super().launch(component)

    def kill(self, component: str, what: Part = "tree", most: int | None = None) -> list[int]:
        """Kill a component or a part of it at once, and return the ids of the processes that were hit.

        PostgreSQL crashes in any case as by SIGQUIT: all its processes end, and nothing is put in order.

        :param component: one of :data:`COMPONENTS`.
        :param what: ``tree``, the default, is every process of it, with the tasks of a worker and their
            orphans. ``main`` is only the process that was started. ``supervisors`` are the children of a worker
            that run a task right now; the task process of each lives on as an orphan, which the worker does
            not know and :meth:`heal` leaves alone. ``tasks`` are these task processes.
        :param most: how many supervisors or tasks to hit at most; all by default.
        """
        if component == "postgres":
            self.thaw(component)
            return crash_postgres(self.processes)
        if what == "tree":
            return self.processes.kill(component)
        chosen = self._chosen(component, what, most)
        if what == "supervisors":
            self._orphan([task for supervisor in chosen for task in _tasks_of(supervisor)])
        kill_all(chosen)
        return [process.pid for process in chosen]

    def freeze(self, component: str, what: Part = "tree", most: int | None = None) -> list[int]:
        """Stop the time for a component or a part of it, and return the ids of its processes.

        :param component: one of :data:`COMPONENTS`.
        :param what: which of its processes, as in :meth:`kill`.
        :param most: how many supervisors or tasks at most; all by default.
        """
        chosen = self._chosen(component, what, most)
        self._frozen.setdefault(component, []).extend(chosen)
        for process in chosen:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return [process.pid for process in chosen]

    def thaw(self, component: str) -> None:
        """Let go on what is frozen of a component.

        :param component: one of :data:`COMPONENTS`.
        """
        for process in self._frozen.pop(component, []):
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def pause(self, component: str, seconds: float, what: Part = "tree", most: int | None = None) -> list[int]:
        """Freeze a component or a part of it for some time, and return the ids of its processes.

        :param component: one of :data:`COMPONENTS`.
        :param seconds: for how long.
        :param what: which of its processes, as in :meth:`kill`.
        :param most: how many supervisors or tasks at most; all by default.
        """
        try:
            pids = self.freeze(component, what, most)
            time.sleep(seconds)
            return pids
        finally:
            self.thaw(component)

    def heal(self) -> list[str]:
        """Start again what has died, as a service manager would, and return its names.

        What a dead component left behind is killed first, but for orphans that :meth:`kill` made on purpose.
        Only databases are waited for: :meth:`wait_until_healthy` waits for the others.
        """
        dead = [name for name in (*SERVICES, *self.components) if not self.processes.runs(name)]
        for name in dead:
            self.processes.kill(name, spare=self.orphans)
            self.launch(name)
        return dead

    def supervisors(self, worker: str) -> list[psutil.Process]:
        """Return the processes of a worker that each run a task right now.

        :param worker: one of :data:`WORKERS`.
        """
        leader = self.processes.leader(worker)
        return [child for child in _children(leader) if _tasks_of(child)] if leader else []

    def tasks(self, worker: str) -> list[psutil.Process]:
        """Return the task processes of a worker, without orphans.

        :param worker: one of :data:`WORKERS`.
        """
        return [task for supervisor in self.supervisors(worker) for task in _tasks_of(supervisor)]

    def sql(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Send a statement to Airflow's database and return the rows of its answer.

        :param query: the statement, in which ``:name`` is the place of a value.
        :param values: the values by their names.
        :raises OperationalError: while the database is down.
        """
        if self._engine is None:
            raise RuntimeError("the cluster has not been started")
        with self._engine.begin() as connection:
            result = connection.execute(text(query), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def dump(self) -> bytes:
        """Return everything that is in Airflow's database, to be searched for what must not be there."""
        command = [str(postgres_program("pg_dump")), "--dbname", self._database_url("postgresql")]
        # what is kept as bytes would be written in hexadecimal digits otherwise
        env = {**os.environ, "PGOPTIONS": "-c bytea_output=escape"}
        return subprocess.run(command, env=env, check=True, capture_output=True, timeout=60).stdout

    def _configure(self) -> None:
        api, self._postgres_port, self._redis_port, *unused = free_ports(5)
        self._execution_port = api
        self.url = f"http://{HOST}:{api}"
        self._api = AirflowApi(self.url)
        databases = cluster_settings(
            self._database_url("postgresql+psycopg2"),
            self._database_url("postgresql+asyncpg"),
            f"redis://{HOST}:{self._redis_port}/0",
            self._concurrency,
        )
        settings = base_settings(self.home, self.dags_folder, api, api, unused) | databases
        self._env = child_environment(os.environ, as_variables(self.home, settings), self._extra_env)
        # a connection that is kept would be found broken after each crash
        self._engine = create_engine(
            self._database_url("postgresql+psycopg2"), poolclass=NullPool, connect_args={"connect_timeout": 5}
        )

    def _database_url(self, scheme: str) -> str:
        # of the databases that a new PostgreSQL has, the one that is meant for users
        return f"{scheme}://airflow@{HOST}:{self._postgres_port}/postgres"

    def _migrate(self) -> None:
        for service in SERVICES:
            self.launch(service)
        super()._migrate()

    def _launch_postgres(self) -> None:
        if not self._database_file.exists():
            (self.home / "run" / "migrated").unlink(missing_ok=True)
        start_postgres(self.processes, self._postgres, self._postgres_port)
        self._wait_for("postgres", self._postgres_answers)

    def _postgres_answers(self) -> bool:
        with suppress(OperationalError):
            return bool(self.sql("select 1"))
        return False

    def _launch_redis(self) -> None:
        start_redis(self.processes, self.home / "redis", self._redis_port)
        self._wait_for("redis", lambda: listens(self._redis_port))

    def _wait_for(self, service: str, ready: Callable[[], bool]) -> None:
        give_up = time.monotonic() + self._timeout
        while not ready():
            if not self.processes.runs(service):
                raise ChildDied(f"{service} ended at once:\n{self.processes.tail(service)}")
            if time.monotonic() > give_up:
                raise AirflowNotReady(f"{service} does not answer; see the logs in {self.processes.folder}")
            time.sleep(0.05)

    def _chosen(self, component: str, what: Part, most: int | None) -> list[psutil.Process]:
        if what == "tree":
            return self.processes.family(component)
        if what == "main":
            leader = self.processes.leader(component)
            return [leader] if leader else []
        return (self.supervisors(component) if what == "supervisors" else self.tasks(component))[:most]

    def _orphan(self, tasks: Sequence[psutil.Process]) -> None:
        for task in tasks:
            # written down by itself: it may outlive its worker, whose session is how it is known now
            self.processes.adopt(f"orphan-{task.pid}", task)
            self._orphans.append(task)

    def _not_healthy(self) -> list[str]:
        try:
            self.api.health()
        except requests.RequestException:
            return ["api-server"]
        try:
            rows = self.sql("select job_type, latest_heartbeat from job where state = 'running'")
        except OperationalError:
            return ["postgres"]
        lacking = without_heartbeat(((job, beat) for job, beat in rows), self._launched)
        return lacking + [name for name in WORKERS if " ready." not in self._new_log(name)]

    def _new_log(self, component: str) -> str:
        with self.processes.log_file(component).open("rb") as log:
            log.seek(self._log_read[component])
            return log.read().decode(errors="replace")


def cluster_settings(database: str, async_database: str, broker: str, concurrency: int) -> dict[str, str]:
    """Return what makes an Airflow a distributed one that recovers in seconds, as ``SECTION__KEY``.

    :param database: the address of the database.
    :param async_database: the same, for coroutines.
    :param broker: the address of the message broker.
    :param concurrency: how many tasks each worker runs at a time.
    """
    return QUICK_RECOVERY | {
        "CELERY__BROKER_URL": broker,
        # Not the database: a worker that cannot note there that it begins drops the message, and the task stays
        # queued until `task_queued_timeout`.
        "CELERY__RESULT_BACKEND": broker.removesuffix("/0") + "/1",
        "CELERY__WORKER_CONCURRENCY": str(concurrency),
        "CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "CORE__EXECUTOR": "CeleryExecutor",
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        "CORE__PARALLELISM": "32",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": async_database,
    }


def without_heartbeat(rows: Iterable[tuple[str, datetime | None]], launched: Mapping[str, datetime]) -> list[str]:
    """Return the components that have not all reported since the last of their kind was launched.

    :param rows: kind and latest heartbeat of each job that is not known to have ended. A predecessor that was
        killed is still among them, but its heart stood still before its successor was launched.
    :param launched: when each component was launched.
    """
    beats = list(rows)
    lacking: list[str] = []
    for kind, names in _HEARTBEATS.items():
        since = max(launched[name] for name in names)
        if sum(job == kind and beat is not None and beat >= since for job, beat in beats) < len(names):
            lacking += names
    return lacking


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [child for child in process.children() if lives(child)]
    return []


def _tasks_of(supervisor: psutil.Process) -> list[psutil.Process]:
    # a task leads a process group of its own, unlike the programs that Python modules call for a moment
    tasks: list[psutil.Process] = []
    for child in _children(supervisor):
        with suppress(ProcessLookupError):
            tasks += [child] if os.getpgid(child.pid) == child.pid else []
    return tasks
