"""What Airflow and the operators would have left in a metadata database, written straight into it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

BEGIN = datetime(2026, 10, 1, 12, tzinfo=UTC)


class Seed:
    """Writes into a migrated metadata database of SQLite, while an api-server reads it.

    The tables are read off the database, so that nothing of Airflow is imported here.

    :param database: its file.
    """

    def __init__(self, database: Path) -> None:
        self._engine = sa.create_engine(f"sqlite:///{database}", connect_args={"timeout": 30})
        tables = sa.MetaData()
        names = ("dag", "dag_bundle", "dag_run", "dag_version", "task_instance", "xcom")
        tables.reflect(self._engine, only=names)
        self._tables = {name: tables.tables[name] for name in names}

    def close(self) -> None:
        self._engine.dispose()

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._engine.begin() as connection:
            connection.execute(self._tables[table].insert(), [dict(row) for row in rows])

    def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        with self._engine.begin() as connection:
            return connection.execute(query).all()

    def forget(self) -> None:
        """Remove every Dag run, with all that belongs to it."""
        with self._engine.begin() as connection:
            for name in ("xcom", "task_instance", "dag_run"):
                connection.execute(self._tables[name].delete())

    def dag(self, dag_id: str) -> None:
        """Make a Dag that Airflow knows by name only (see `dags/films.py` for those that have a page)."""
        bundles = self._tables["dag_bundle"]
        if not self._all(sa.select(bundles.c.name).where(bundles.c.name == "seeded")):
            self._insert("dag_bundle", [{"name": "seeded", "active": True}])
        values = {"dag_id": dag_id, "bundle_name": "seeded", "fileloc": "/nowhere.py", "relative_fileloc": "nowhere.py"}
        numbers = {"max_active_tasks": 16, "max_consecutive_failed_dag_runs": 0, "fail_fast": False}
        flags = {"is_paused": False, "is_stale": False, "has_task_concurrency_limits": False}
        more = {"exceeds_max_non_backfill": False, "timetable_type": "", "timetable_partitioned": False}
        self._insert("dag", [values | numbers | flags | more | {"timetable_periodic": False}])

    def run(self, dag_id: str, run_id: str, *, at: float = 0, state: str = "running") -> int:
        """Make a Dag run and return its number in the database.

        :param at: how many seconds after BEGIN it is to start.
        """
        when = datetime.fromtimestamp(BEGIN.timestamp() + at, UTC)
        runs, versions = self._tables["dag_run"], self._tables["dag_version"]
        found = self._all(sa.select(versions.c.id).where(versions.c.dag_id == dag_id))
        row = {"dag_id": dag_id, "run_id": run_id, "run_type": "manual", "state": state, "run_after": when}
        times = {"queued_at": when, "start_date": when, "logical_date": when, "end_date": None}
        kind = {"triggered_by": "TEST", "span_status": "not_started", "clear_number": 0, "conf": {}}
        version = {"created_dag_version_id": found[0].id if found else None}
        self._insert("dag_run", [row | times | kind | version])
        chosen = sa.select(runs.c.id).where(runs.c.dag_id == dag_id, runs.c.run_id == run_id)
        return int(self._all(chosen)[0].id)

    def task_instances(
        self, dag_id: str, run_id: str, task_id: str, states: Sequence[str | None], labels: Sequence[str] = ()
    ) -> None:
        """Make a task's instances, mapped ones from index 0; see :meth:`task_instance` for one that is not mapped."""
        indices = range(len(states))
        self._task_instances(dag_id, run_id, task_id, zip(indices, states, labels or [None] * len(states), strict=True))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, state: str | None = "success") -> None:
        """Make the instance of a task that is not mapped."""
        self._task_instances(dag_id, run_id, task_id, [(-1, state, None)])

    def _task_instances(
        self, dag_id: str, run_id: str, task_id: str, each: Iterable[tuple[int, str | None, str | None]]
    ) -> None:
        versions = self._tables["dag_version"]
        found = self._all(sa.select(versions.c.id).where(versions.c.dag_id == dag_id))
        same = {
            "dag_id": dag_id,
            "run_id": run_id,
            "task_id": task_id,
            "task_display_name": task_id,
            "try_number": 1,
            "max_tries": 0,
            "pool": "default_pool",
            "pool_slots": 1,
            "queue": "default",
            "priority_weight": 1,
            "operator": "SeedanceRunOperator",
            "start_date": BEGIN,
            "updated_at": BEGIN,
            "span_status": "not_started",
            "hostname": "",
            "dag_version_id": found[0].id if found else None,
            # as Airflow pickles it, and as its REST API must be able to read it
            "executor_config": bytes.fromhex("80047d942e"),
        }
        rows = [
            {**same, "id": uuid.uuid4().hex, "map_index": index, "state": state, "rendered_map_index": label}
            for index, state, label in each
        ]
        self._insert("task_instance", rows)

    def state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Change the state of a task instance."""
        instances = self._tables["task_instance"]
        same = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        with self._engine.begin() as connection:
            chosen = instances.update().where(*(instances.c[name] == value for name, value in same.items()))
            connection.execute(chosen.values(state=state))

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        key: str,
        value: Any,
        *,
        map_index: int = -1,
        at: float = 0,
        raw: bool = False,
    ) -> None:
        """Push an XCom, over one of the same key.

        :param value: as the operator pushes it.
        :param at: how many seconds after BEGIN.
        :param raw: whether the value is the text of the column itself.
        """
        self.xcoms(dag_id, run_id, [(task_id, map_index, key, value)], at=at, raw=raw)

    def xcoms(
        self,
        dag_id: str,
        run_id: str,
        each: Iterable[tuple[str, int, str, Any]],
        *,
        at: float = 0,
        raw: bool = False,
    ) -> None:
        """Push many XComs of a run: task id, map index, key and value of each."""
        runs = self._tables["dag_run"]
        chosen = sa.select(runs.c.id).where(runs.c.dag_id == dag_id, runs.c.run_id == run_id)
        number = int(self._all(chosen)[0].id)
        when = datetime.fromtimestamp(BEGIN.timestamp() + at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        rows = [
            (number, task_id, index, key, dag_id, run_id, value if raw else json.dumps(value), when, False)
            for task_id, index, key, value in each
        ]
        columns = "dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp, dag_result"
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"INSERT OR REPLACE INTO xcom ({columns}) VALUES ({','.join('?' * 9)})", rows)
