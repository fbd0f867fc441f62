"""As much of Airflow's task instances as the operators use, with what was seen of its task state store in 3.3.2.

A record survives retries and clears. A try that another one has superseded reads "nothing", and its writes fail with
HTTP 404 (`docs/airflow-quirks.md`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_wiro.emulator import LocalWiro


class StateStore:
    """What `context["task_state_store"]` is to one try; the file is what all tries of one task instance share."""

    def __init__(self, file: Path, try_id: int) -> None:
        self.file = file
        self.try_id = try_id
        self.before_set: Callable[[dict[str, Any]], None] = lambda value: None
        self.after_set: Callable[[dict[str, Any]], None] = lambda value: None

    def _load(self) -> dict[str, Any]:
        return json.loads(self.file.read_text()) if self.file.exists() else {"try_id": self.try_id, "values": {}}

    def get(self, key: str) -> Any:
        state = self._load()
        return state["values"].get(key) if state["try_id"] == self.try_id else None

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        self.before_set(value)
        state = self._load()
        if state["try_id"] != self.try_id:
            detail = {"status_code": 404, "message": "not found"}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        state["values"][key] = json.loads(json.dumps(value))
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(state))
        draft.replace(self.file)
        self.after_set(value)


@dataclass
class Instance:
    """One task instance through its tries and clears."""

    folder: Path
    map_index: int = -1
    retries: int = 3
    try_number: int = 0
    max_tries: int = 3
    run_started: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(seconds=5))
    clear_number: int = 0
    state: str = "running"
    siblings: list[str] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)
    push_problem: Exception | None = None
    _ids: int = 0

    def start(self) -> dict[str, Any]:
        """Begin the next try, superseding the one before; return its context."""
        self.try_number += 1
        self._ids += 1
        self.xcoms.clear()
        store = StateStore(self.folder / f"state{self.map_index}.json", self._ids)
        state = store._load()
        store.file.write_text(json.dumps({**state, "try_id": self._ids}))
        return self.context(store)

    def resume(self, context: dict[str, Any]) -> dict[str, Any]:
        """Return the context of the process in which a deferred try goes on."""
        return self.context(context["task_state_store"])

    def context(self, store: StateStore) -> dict[str, Any]:
        ti = SimpleNamespace(
            dag_id="dag",
            run_id="manual__1",
            task_id="video",
            map_index=self.map_index,
            try_number=self.try_number,
            max_tries=self.max_tries,
            xcom_push=self._push,
            xcom_pull=lambda key, **_: [*self.siblings, None] if key == "wiro_task_id" else self.xcoms.get(key),
            get_task_states=lambda **_: {
                "manual__1": {f"video_{self.map_index}" if self.map_index >= 0 else "video": self.state}
            },
        )
        dag_run = SimpleNamespace(
            start_date=self.run_started, run_after=self.run_started, clear_number=self.clear_number
        )
        return {"ti": ti, "dag_run": dag_run, "task_state_store": store}

    def clear(self) -> None:
        """Do what Airflow does when somebody clears the task instance."""
        self.max_tries = self.try_number + self.retries
        self.clear_number += 1

    @property
    def record(self) -> dict[str, Any] | None:
        """What the store holds now."""
        state = json.loads((self.folder / f"state{self.map_index}.json").read_text())
        found: dict[str, Any] | None = state["values"].get("wiro")
        return found

    def wipe(self) -> None:
        """Lose the record, as a later Airflow may at a clear, or a failover."""
        file = self.folder / f"state{self.map_index}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "values": {}}))

    def _push(self, key: str, value: Any) -> None:
        if self.push_problem is not None:
            raise self.push_problem
        self.xcoms[key] = value


def event_of(deferred: TaskDeferred) -> Any:
    """Run a deferral's trigger without its grace, and return what it says."""
    trigger = deferred.trigger
    if isinstance(trigger, DateTimeTrigger):
        time.sleep(max(0.0, trigger.moment.timestamp() - time.time()))
        return None
    path, arguments = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"

    async def first() -> Any:
        async for event in type(trigger)(**{**arguments, "grace": 0.0}).run():
            return event.payload

    return asyncio.run(first())


def finish(make: Callable[[], Any], context: dict[str, Any]) -> Any:
    """Run one try to its end, each resume with an operator of its own as in a process of its own."""
    method, arguments = "", {}
    while True:
        try:
            operator = make()
            if not method:
                return operator.execute(context)
            return operator.resume_execution(method, arguments, context)
        except TaskDeferred as deferred:
            method = deferred.method_name
            arguments = {**(deferred.kwargs or {}), "event": event_of(deferred)}


def runs(wiro: LocalWiro) -> list[dict[str, Any]]:
    """Return what Wiro accepted of ours, oldest first."""
    return [run for run in wiro.ledger()["runs"] if not run["foreign"]]


def billed(wiro: LocalWiro) -> list[str]:
    """Return the ids of our runs that were paid."""
    return [run["taskid"] for run in runs(wiro) if run["billed"]]
