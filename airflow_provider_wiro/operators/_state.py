"""Where Airflow keeps an order's record, and what it knows of the task instance that orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_provider_wiro.exceptions import WiroStoreError, WiroSupersededError
from airflow_provider_wiro.submission.record import Place

if TYPE_CHECKING:
    from airflow.sdk import Context

STORE_KEY = "wiro"
"""The key of the record in Airflow's task state store."""
CLAIM_KEY = "wiro_task_id"
"""The key of the XCom that tells a task instance's Wiro task, also while it waits."""

_SUPERSEDED = (404, 409, 410)
_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class TaskStateStore:
    """Airflow's task state store, as :class:`airflow_provider_wiro.submission.driver.Store`.

    :param context: Airflow's context.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context["task_state_store"]

    def get(self) -> Any:
        """Return the record, or ``None``.

        :raises WiroStoreError: the store does not answer.
        """
        return self.read(STORE_KEY)

    def set(self, value: Mapping[str, Any]) -> None:
        """Write the record; it is durable when this returns.

        :raises WiroSupersededError: another try has taken over.
        :raises WiroStoreError: the store does not answer.
        """
        self.write(STORE_KEY, value)

    def read(self, key: str) -> Any:
        """Return the value of a key, or ``None``.

        :param key: the key.
        :raises WiroStoreError: the store does not answer.
        """
        try:
            return self._store.get(key)
        except Exception as error:
            raise WiroStoreError(f"The record of this order cannot be read ({_words(error)}).") from error

    def write(self, key: str, value: Mapping[str, Any]) -> None:
        """Write a value; it is durable when this returns.

        :param key: the key.
        :param value: a JSON object.
        :raises WiroSupersededError: another try has taken over.
        :raises WiroStoreError: the store does not answer.
        """
        try:
            self._store.set(key, dict(value), retention=NEVER_EXPIRE)
        except Exception as error:
            if _status(error) in _SUPERSEDED:
                raise WiroSupersededError(
                    f"Airflow has given this task to another try ({_words(error)}): this process sends nothing."
                ) from error
            raise WiroStoreError(f"The record of this order cannot be written ({_words(error)}).") from error


def place_of(context: Context) -> Place:
    """Return which task instance this is."""
    ti = context["ti"]
    return Place(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def earliest(context: Context) -> float:
    """Return the unix time before which nothing of this Dag run can have been ordered."""
    dag_run: Any = context["dag_run"]
    # A clear moves `start_date`.
    started = None if dag_run.clear_number else dag_run.start_date
    return float((started or dag_run.run_after).timestamp())


def claimed_by_siblings(context: Context) -> frozenset[str]:
    """Return the Wiro tasks that the other instances of the same mapped task call theirs."""
    ti = context["ti"]
    claims = ti.xcom_pull(task_ids=[ti.task_id], key=CLAIM_KEY)
    return frozenset(str(claim) for claim in claims or () if claim)


def is_over(context: Context) -> bool:
    """Tell whether somebody has ended this task instance; any doubt is a no."""
    place = place_of(context)
    mapped = place.map_index >= 0
    try:
        states = context["ti"].get_task_states(
            dag_id=place.dag_id,
            run_ids=[place.run_id],
            task_ids=[place.task_id],
            map_index=place.map_index if mapped else None,
        )
    except Exception:
        return False
    name = f"{place.task_id}_{place.map_index}" if mapped else place.task_id
    return str(states.get(place.run_id, {}).get(name)) in _OVER


def _status(error: Exception) -> Any:
    detail = error.error.detail if isinstance(error, AirflowRuntimeError) else None
    return detail.get("status_code") if isinstance(detail, Mapping) else None


def _words(error: Exception) -> str:
    status = _status(error)
    return f"{type(error).__name__}{f', HTTP {status}' if status else ''}"
