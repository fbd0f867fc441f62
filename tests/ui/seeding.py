"""Puts Dag runs into a metadata database, as if they had run: thousands of videos in a second."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BEGINNING = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
MODEL = "ByteDance/text-to-video-seedance-v1"


class Seeds:
    """Writes rows beside a running api-server.

    :param file: the SQLite database of an Airflow that knows the Dags of ``tests/ui/dags``.
    """

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, timeout=30)
        self._versions = dict(self._connection.execute("select dag_id, id from dag_version"))
        (self._runs,) = self._connection.execute("select coalesce(max(id), 0) from dag_run").fetchone()

    def close(self) -> None:
        self._connection.close()

    def run(self, dag_id: str, run_id: str, state: str = "success") -> Run:
        """Add a Dag run, newer than all others."""
        self._runs += 1
        began = BEGINNING + timedelta(minutes=self._runs)
        self._insert(
            "dag_run",
            [
                {
                    "id": self._runs,
                    "dag_id": dag_id,
                    "run_id": run_id,
                    "run_type": "manual",
                    "state": state,
                    "queued_at": _moment(began),
                    "start_date": _moment(began),
                    "end_date": _moment(began + timedelta(minutes=3)) if state != "running" else None,
                    "run_after": _moment(began),
                    "logical_date": _moment(began),
                    "created_at": _moment(began),
                    "updated_at": _moment(began),
                    "triggered_by": "REST_API",
                    "conf": "{}",
                    "log_template_id": 2,
                    "created_dag_version_id": self._versions[dag_id],
                    "clear_number": 0,
                    "span_status": "not_started",
                }
            ],
        )
        self._connection.commit()
        return Run(self, dag_id, run_id, self._runs, began, self._versions[dag_id])

    def forget(self) -> None:
        """Remove every Dag run and all that belongs to it."""
        for table in ("xcom", "task_instance", "dag_run"):
            self._connection.execute(f"delete from {table}")
        self._connection.commit()

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        self._connection.executemany(
            f"insert or replace into {table} ({', '.join(names)}) values ({marks})", [dict(row) for row in rows]
        )


class Run:
    """A Dag run to which task instances and XComs are added."""

    def __init__(self, seeds: Seeds, dag_id: str, run_id: str, number: int, began: datetime, version: str) -> None:
        self.seeds, self.dag_id, self.run_id, self.number = seeds, dag_id, run_id, number
        self._began, self._version = began, version

    def instances(
        self, task_id: str, states: Sequence[str], *, mapped: bool = True, labels: Sequence[str] = ()
    ) -> None:
        """Add the instances of a task, a state for each."""
        rows = [
            {
                "id": uuid.uuid4().hex,
                "task_id": task_id,
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "map_index": index if mapped else -1,
                "state": state,
                "start_date": _moment(self._began),
                "end_date": _moment(self._began + timedelta(seconds=50)),
                "duration": 50.0,
                "try_number": 1,
                "max_tries": 0,
                "pool": "default_pool",
                "pool_slots": 1,
                "queue": "default",
                "priority_weight": 1,
                "operator": "SeedanceRunOperator",
                "executor_config": b"\x80\x05}\x94.",
                "updated_at": _moment(self._began),
                "rendered_map_index": labels[index] if labels else None,
                "task_display_name": task_id,
                "span_status": "not_started",
                "dag_version_id": self._version,
            }
            for index, state in enumerate(states)
        ]
        self._insert("task_instance", rows)

    def xcoms(self, task_id: str, key: str, values: Mapping[int, Any], *, after: float = 0.0) -> None:
        """Add an XCom for each map index."""
        rows = [
            {
                "dag_run_id": self.number,
                "task_id": task_id,
                "map_index": map_index,
                "key": key,
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "value": json.dumps(value),
                "timestamp": _moment(self._began + timedelta(seconds=after)),
            }
            for map_index, value in values.items()
        ]
        self._insert("xcom", rows)

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.seeds._insert(table, rows)
        self.seeds._connection.commit()

    def mapped(self, orders: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any] | None]) -> None:
        """Add videos of a mapped task that orders, waits and fetches in one."""
        states = [_state_of(order, end) for order, end in zip(orders, ends, strict=True)]
        self.instances("submit", states, labels=[str(order["inputs"]["prompt"])[:60] for order in orders])
        self.xcoms("submit", "wiro_video", dict(enumerate(orders)))
        self.xcoms("submit", "wiro_video_end", {i: end for i, end in enumerate(ends) if end}, after=60)

    def batch(self, orders: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any] | None]) -> None:
        """Add the same videos as one task's."""
        states = [_state_of(order, end) for order, end in zip(orders, ends, strict=True)]
        self.instances("batch", ["deferred" if "deferred" in states else "success"], mapped=False)
        videos = [{**order, **(end or {}), "index": i} for i, (order, end) in enumerate(zip(orders, ends, strict=True))]
        for number in range(0, len(videos), 64):
            self.xcoms("batch", f"wiro_videos_{number // 64}", {-1: videos[number : number + 64]})


def order(number: int, prompt: str, **inputs: Any) -> dict[str, Any]:
    """Return what is told of an order."""
    known = {"resolution": "480p", "ratio": "16:9", "duration": "5", "fps": "24", "seed": str(1000 + number)}
    return {
        "status": "running",
        "wiro_task_id": str(90_000_000 + number),
        "model": MODEL,
        "inputs": {"prompt": prompt, **known, **inputs},
        "url": f"https://wiro.ai/panel/project#task-{90_000_000 + number}",
        "ordered_at": BEGINNING.timestamp(),
    }


def succeeded(number: int, uri: str | None, **more: Any) -> dict[str, Any]:
    """Return what is told of a video that is there."""
    video = {"width": 864, "height": 480, "duration": 5.04, "frame_rate": 24.0, "codec": "avc1"}
    file = {
        "uri": uri,
        "name": str(uri).rsplit("/", 1)[-1],
        "size": 40_000,
        "content_type": "video/mp4",
        "video": video,
    }
    return {
        "status": "succeeded",
        "wiro_task_id": str(90_000_000 + number),
        "total_cost": "0.12",
        "elapsed_seconds": 41.5,
        "outputs": [{"url": f"https://cdn1.wiro.ai/{number}/out.mp4", "content_type": "video/mp4"}],
        "files": [file] if uri else [],
        **more,
    }


def failed(
    number: int, error: str = "The model failed (task_postprocess_end, pexit 1): content policy"
) -> dict[str, Any]:
    """Return what is told of a video that will not come."""
    return {"status": "failed", "wiro_task_id": str(90_000_000 + number), "error": error}


def _state_of(order: Mapping[str, Any], end: Mapping[str, Any] | None) -> str:
    if end is None:
        return "deferred"
    return "success" if end["status"] == "succeeded" else "failed"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
