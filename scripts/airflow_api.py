"""What the demo and the tests ask of a running Airflow, over its REST API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import requests

ENDED = ("success", "failed")
"""The states in which a Dag run stays."""


class AirflowApiError(RuntimeError):
    """Airflow refused a request, or what was waited for did not happen; the message tells what."""


class AirflowApi:
    """A small client of Airflow's REST API, for an Airflow that takes everybody as an admin.

    Every method raises :class:`AirflowApiError` if Airflow refuses the request.

    :param url: the address of the api-server, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between us and the loopback

    def close(self) -> None:
        """Close the connections to the api-server."""
        self._session.close()

    def health(self) -> dict[str, dict[str, str | None]]:
        """Return the status and the latest heartbeat of each component.

        :raises requests.RequestException: while the api-server is not up.
        """
        answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=10)
        answer.raise_for_status()
        report: dict[str, dict[str, str | None]] = answer.json()
        return report

    def call(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Send one request and return the decoded answer (None for an empty one).

        :param method: the HTTP method.
        :param path: what follows ``/api/v2``.
        :param params: the query.
        :param body: what to send as JSON.
        """
        if "Authorization" not in self._session.headers:
            token = self._send("GET", "/auth/token")["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
        return self._send(method, f"/api/v2{path}", params=params, json=body)

    def _send(self, method: str, path: str, **content: Any) -> Any:
        headers = {"Accept": "application/json"}
        try:
            answer = self._session.request(method, self.url + path, headers=headers, timeout=60, **content)
        except requests.RequestException as error:
            raise AirflowApiError(f"{method} {path}: {error}") from error
        if not answer.ok:
            raise AirflowApiError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the Dag files that could not be imported, each with ``filename`` and ``stack_trace``."""
        errors: list[dict[str, Any]] = self.call("GET", "/importErrors")["import_errors"]
        return errors

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until Airflow knows a Dag.

        :param dag_id: the Dag.
        :param timeout: seconds to wait; 60 by default.
        :raises AirflowApiError: if it does not appear in time; the message carries the import errors.
        """
        give_up = time.monotonic() + timeout
        while dag_id not in {dag["dag_id"] for dag in self._dags(dag_id)}:
            if time.monotonic() > give_up:
                broken = "\n".join(f"{error['filename']}: {error['stack_trace']}" for error in self.import_errors())
                problem = f"the Dag {dag_id} did not appear within {timeout:.0f} s"
                raise AirflowApiError(f"{problem}; import errors: {broken or 'none'}")
            time.sleep(0.3)

    def _dags(self, dag_id: str) -> list[dict[str, Any]]:
        query = {"dag_id_pattern": dag_id, "exclude_stale": True}
        dags: list[dict[str, Any]] = self.call("GET", "/dags", params=query)["dags"]
        return dags

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause a Dag, or let it run.

        :param dag_id: the Dag.
        :param paused: False to let it run; True by default.
        """
        self.call("PATCH", f"/dags/{_part(dag_id)}", body={"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a Dag and return its run id.

        :param dag_id: the Dag; while it is paused the run stays queued.
        :param conf: the run's configuration; none by default.
        """
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/dags/{_part(dag_id)}/dagRuns", body=body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a Dag run.

        :param dag_id: the Dag.
        :param run_id: its run.
        """
        return str(self.call("GET", _run_path(dag_id, run_id))["state"])

    def unfinished_runs(self, dag_id: str) -> list[str]:
        """Return the ids of a Dag's runs that are queued or running.

        :param dag_id: the Dag.
        """
        query = {"state": ["queued", "running"], "limit": 100}
        runs = self.call("GET", f"/dags/{_part(dag_id)}/dagRuns", params=query)["dag_runs"]
        return [str(run["dag_run_id"]) for run in runs]

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a Dag run, as a user does in the browser; what still runs of it is ended.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param state: ``success``, ``failed`` or ``queued``.
        """
        self.call("PATCH", _run_path(dag_id, run_id), body={"state": state})

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 300) -> str:
        """Wait until a Dag run has ended and return its state, ``success`` or ``failed``.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param timeout: seconds to wait; 300 by default.
        :raises AirflowApiError: if it does not end in time; the message carries the states of its tasks.
        """
        give_up = time.monotonic() + timeout
        while (state := self.run_state(dag_id, run_id)) not in ENDED:
            if time.monotonic() > give_up:
                states = {
                    f"{ti['task_id']}[{ti['map_index']}]": ti["state"] for ti in self.task_instances(dag_id, run_id)
                }
                raise AirflowApiError(f"{run_id} of {dag_id} still runs after {timeout:.0f} s: {states}")
            time.sleep(0.5)
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return every task instance of a run as Airflow tells it (``task_id``, ``map_index``, ``state`` …).

        :param dag_id: the Dag.
        :param run_id: its run.
        """
        found: list[dict[str, Any]] = []
        while True:
            query = {"limit": 100, "offset": len(found)}
            page = self.call("GET", f"{_run_path(dag_id, run_id)}/taskInstances", params=query)
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def question(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, timeout: float = 300
    ) -> dict[str, Any]:
        """Wait until a task asks a person, and return what it asks (``subject``, ``body``, ``options`` …).

        :param dag_id: the Dag.
        :param run_id: its run.
        :param task_id: the task.
        :param map_index: its map index; -1, the default, for a task that is not mapped.
        :param timeout: seconds to wait; 300 by default.
        :raises AirflowApiError: if it does not ask in time; the message carries its state.
        """
        give_up = time.monotonic() + timeout
        while (state := self._state(dag_id, run_id, task_id, map_index)) != "awaiting_input":
            if time.monotonic() > give_up or state in ENDED:
                raise AirflowApiError(f"{task_id} of {run_id} asks nobody: it is {state}")
            time.sleep(0.3)
        found: dict[str, Any] = self.call("GET", _question_path(dag_id, run_id, task_id, map_index))
        return found

    def _state(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str | None:
        found = self.task_instances(dag_id, run_id)
        states = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in found}
        return states.get((task_id, map_index))

    def answer(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        chosen: Sequence[str],
        map_index: int = -1,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Answer what a task asks.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param task_id: the task.
        :param chosen: some of its options.
        :param map_index: its map index; -1, the default, for a task that is not mapped.
        :param fields: what is filled into its form; nothing by default.
        """
        body = {"chosen_options": list(chosen), "params_input": dict(fields or {})}
        self.call("PATCH", _question_path(dag_id, run_id, task_id, map_index), body=body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return what a task instance has pushed, decoded.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param task_id: the task.
        :param map_index: which of a mapped task's instances; -1, the default, for a task that is not mapped.
        :param key: the key it was pushed under; ``return_value`` by default.
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}/xcomEntries/{_part(key)}"
        query = {"map_index": map_index, "deserialize": True}
        return self.call("GET", path, params=query)["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        """Return the log of one try of a task instance as lines of text.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param task_id: the task.
        :param map_index: which of a mapped task's instances; -1, the default, for a task that is not mapped.
        :param try_number: which try; the first by default.
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}/logs/{try_number}"
        answer = self.call("GET", path, params={"map_index": map_index, "full_content": True})
        return "\n".join(line for entry in answer["content"] for line in _log_lines(entry))

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance, as a user does in the browser.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param task_id: the task.
        :param state: ``success``, ``failed`` or ``skipped``.
        :param map_index: which of a mapped task's instances; -1, the default, for a task that is not mapped.
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}"
        if map_index >= 0:
            path += f"/{map_index}"
        self.call("PATCH", path, body={"new_state": state})

    def clear(
        self,
        dag_id: str,
        run_id: str,
        tasks: Sequence[str | tuple[str, int]],
        *,
        downstream: bool = False,
    ) -> None:
        """Clear task instances so that they run again, as a user does in the browser.

        :param dag_id: the Dag.
        :param run_id: its run.
        :param tasks: task ids, or pairs of a task id and a map index.
        :param downstream: whether what comes after them is cleared too; False by default.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(tasks),
            "only_failed": False,
            "include_downstream": downstream,
        }
        self.call("POST", f"/dags/{_part(dag_id)}/clearTaskInstances", body=body)


def _part(name: str) -> str:
    return quote(name, safe="")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"


def _question_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    return f"{_run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}/{map_index}/hitlDetails"


def _log_lines(entry: str | dict[str, Any]) -> list[str]:
    """Return one entry of a task's log as a person reads it, an exception's traceback below its message."""
    if isinstance(entry, str):
        return [entry]
    head = [str(entry[key]) for key in ("timestamp", "level") if entry.get(key)]
    lines = [" ".join([*head, str(entry["event"])])]
    for error in entry.get("error_detail") or []:
        lines += [
            f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
            for frame in error.get("frames") or []
        ]
        lines.append(f"  {error['exc_type']}: {error['exc_value']}")
    return lines
