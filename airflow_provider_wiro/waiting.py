"""Waiting for a task, in whichever process: one decision for trigger, sensor and operator, and the words they share."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pendulum
from airflow.providers.common.compat.sdk import conf

from airflow_provider_wiro.api.tasks import Outcome, WiroTask
from airflow_provider_wiro.exceptions import (
    WiroAuthenticationError,
    WiroBusyError,
    WiroConfigurationError,
    WiroError,
    WiroNotFoundError,
)

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient

TIMEOUT = "timeout"
"""Waiting is over because the deadline passed."""
REFUSED = "refused"
"""Waiting is over because Wiro will not show the task: credentials refused, or no such task for a minute."""
PLACE = "place"
"""Waiting is over because a place in the account seems to be free."""
ENDED = "ended"
"""Waiting is over because tasks of a batch have ended."""

# Right after a Run, Wiro may not know its task yet (Wiro's documentation, code 1).
_NOT_FOUND_PATIENCE = 60.0


class Log(Protocol):
    """What is asked of the logger of an operator, a sensor or a trigger."""

    def info(self, event: str, *args: Any) -> Any:
        """Log what goes as it should."""

    def warning(self, event: str, *args: Any) -> Any:
        """Log what needs no hand yet."""

    def error(self, event: str, *args: Any) -> Any:
        """Log what needs a hand."""


def default_deferrable() -> bool:
    """Return what the environment says of Airflow's ``[operators] default_deferrable``, else True.

    Airflow ships False and writes it into every ``airflow.cfg`` that it generates, so that a file cannot tell what
    somebody decided from what nobody did; and False holds a worker for every waiting video.
    """
    if "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE" not in os.environ:
        return True
    return bool(conf.getboolean("operators", "default_deferrable"))


def longest_interval(poll_interval: float, max_poll_interval: float | None) -> float:
    """Return the seconds between two looks while a task is not expected to end.

    :param poll_interval: seconds between two looks while it may end at any moment.
    :param max_poll_interval: as the user says; default: four times that.
    """
    return 4 * poll_interval if max_poll_interval is None else max_poll_interval


@dataclass
class Wait:
    """Decides after each look at one task whether the waiting is over. Pure but for its log lines.

    :param wiro_task_id: the task.
    :param end_time: unix time at which the waiting ends.
    :param log: gets one line for each change: of status, into an outage, out of it.
    :param missing_since: unix time since when Wiro has not known the task, where it does not; default: from the first
        look that finds nothing.
    """

    wiro_task_id: str
    end_time: float
    log: Log
    missing_since: float | None = None
    _status: str | None = None
    _in_trouble: bool = False

    def after_look(self, look: WiroTask | WiroError, now: float) -> str | None:
        """Return how the waiting ended, or ``None`` to go on.

        :param look: the task, or why it could not be read.
        :param now: unix time.
        :return: an :class:`~airflow_provider_wiro.api.tasks.Outcome` value, ``timeout``, ``refused`` or ``None``.
        """
        if isinstance(look, WiroTask):
            self._log_task(look)
            if look.outcome.is_terminal:
                return look.outcome.value
        elif self._is_final(look, now):
            self.log.error("Wiro task %s cannot be watched: %s", self.wiro_task_id, look)
            return REFUSED
        return TIMEOUT if now >= self.end_time else None

    def pause(self, look: WiroTask | WiroError, poll_interval: float, now: float) -> float:
        """Return the seconds until the next look: the interval, spread a little, and never past the deadline."""
        wanted = poll_interval * random.uniform(0.9, 1.1)
        if isinstance(look, WiroBusyError) and look.retry_after is not None:
            wanted = max(wanted, look.retry_after)
        return max(0.0, min(wanted, self.end_time - now))

    def _log_task(self, task: WiroTask) -> None:
        if self._in_trouble:
            self.log.info("Wiro task %s can be read again.", self.wiro_task_id)
        self._in_trouble, self.missing_since = False, None
        if task.status == self._status:
            return
        self._status = task.status
        if task.is_known_status:
            self.log.info("Wiro task %s: %s", self.wiro_task_id, task.status)
        else:
            self.log.warning(
                "Wiro task %s has a status that is not documented, %r: waiting on.", self.wiro_task_id, task.status
            )

    def _is_final(self, error: WiroError, now: float) -> bool:
        if isinstance(error, (WiroAuthenticationError, WiroConfigurationError)):
            return True
        if isinstance(error, WiroNotFoundError):
            self.missing_since = now if self.missing_since is None else self.missing_since
            if now - self.missing_since >= _NOT_FOUND_PATIENCE:
                return True
        if not self._in_trouble:
            until = pendulum.from_timestamp(self.end_time).to_iso8601_string()
            if isinstance(error, WiroNotFoundError):
                until = f"it has been missing for {_NOT_FOUND_PATIENCE:g} s"
            self.log.warning("Wiro task %s cannot be read, trying on until %s: %s", self.wiro_task_id, until, error)
        self._in_trouble = True
        return False


def wait_for_end(
    client: WiroClient,
    wait: Wait,
    poll_interval: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> str:
    """Look at a task until the waiting is over, holding this thread.

    :param client: reads the task.
    :param wait: decides.
    :param poll_interval: seconds between two looks.
    :param sleep: called with seconds between two looks.
    :param now: tells the unix time.
    :return: how it ended, as :meth:`Wait.after_look` says.
    """
    while True:
        look = look_at(client, wait.wiro_task_id)
        ended = wait.after_look(look, now())
        if ended is not None:
            return ended
        sleep(wait.pause(look, poll_interval, now()))


def look_at(client: WiroClient, wiro_task_id: str) -> WiroTask | WiroError:
    """Return the task, or why it cannot be read."""
    try:
        return client.get_task(wiro_task_id)
    except WiroError as error:
        return error


def read_reference(task: Any) -> tuple[str | None, str | None]:
    """Return id and token, one of them ``None``, of what a user gave as ``task``.

    :param task: what a run operator returned (a mapping with ``wiro_task_id``), an id, or ``{"task_token": …}``.
    :raises WiroConfigurationError: it is none of these.
    """
    given = task if isinstance(task, Mapping) else {"wiro_task_id": task}
    for key in ("wiro_task_id", "task_token"):
        value = given.get(key)
        text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        # What a template makes of a mapping or of nothing is text, too.
        if text and not text.startswith(("{", "[")) and text not in ("None", "null"):
            return (text, None) if key == "wiro_task_id" else (None, text)
    shown = f"a mapping with {sorted(map(str, task))}" if isinstance(task, Mapping) else repr(task)
    raise WiroConfigurationError(
        f"task is {shown}, allowed: what a run operator returned, a Wiro task id, or {{'task_token': …}}.",
        advice="Pass `submit.output`; in a template, name the id: `{{ ti.xcom_pull('submit')['wiro_task_id'] }}`.",
    )


def read_event(event: Any) -> tuple[str, str]:
    """Return task id and outcome word of a trigger's event.

    :param event: the event's payload.
    :raises WiroConfigurationError: it is not an event of :class:`~airflow_provider_wiro.triggers.wiro.WiroTaskTrigger`.
    """
    payload = event if isinstance(event, Mapping) else {}
    wiro_task_id, word = payload.get("wiro_task_id"), payload.get("status")
    words = {*(outcome.value for outcome in Outcome if outcome.is_terminal), TIMEOUT, REFUSED}
    if not isinstance(wiro_task_id, str) or not isinstance(word, str) or word not in words:
        raise WiroConfigurationError(f"The trigger's event {event!r} is not one of WiroTaskTrigger's.")
    return wiro_task_id, word


def read_place(event: Any) -> tuple[str, float]:
    """Return the word of a place trigger's event, and the unix time at which the order was first refused.

    :param event: the event's payload.
    :raises WiroConfigurationError: it is no event of :class:`~airflow_provider_wiro.triggers.wiro.WiroPlaceTrigger`.
    """
    payload = event if isinstance(event, Mapping) else {}
    word, since = payload.get("status"), payload.get("since")
    if word not in (PLACE, TIMEOUT, REFUSED) or not isinstance(since, (int, float)):
        raise WiroConfigurationError(f"The trigger's event {event!r} is not one of WiroPlaceTrigger's.")
    return str(word), float(since)


def read_batch_event(event: Any) -> tuple[str, int, float, int | None]:
    """Return word, free places, unix time of the refusal and limit of a batch trigger's event.

    :param event: the event's payload.
    :raises WiroConfigurationError: it is no event of :class:`~airflow_provider_wiro.triggers.batch.WiroBatchTrigger`.
    """
    payload = event if isinstance(event, Mapping) else {}
    word, places = payload.get("status"), payload.get("places")
    since, limit = payload.get("since"), payload.get("limit")
    numbers = isinstance(places, int) and isinstance(since, (int, float)) and isinstance(limit, int | None)
    if word not in (ENDED, PLACE, TIMEOUT, REFUSED) or not numbers:
        raise WiroConfigurationError(f"The trigger's event {event!r} is not one of WiroBatchTrigger's.")
    return str(word), int(payload["places"]), float(payload["since"]), limit


def submitted(wiro_task_id: str, model: str, at: float) -> dict[str, Any]:
    """Return what a submitted task is known by in XCom.

    :param at: unix time of the submission.
    """
    return {
        "wiro_task_id": wiro_task_id,
        "model": model,
        "submitted_at": pendulum.from_timestamp(round(at)).to_iso8601_string(),
    }


def describe(task: WiroTask, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what an ended task is known by in XCom: facts, no capability and no content.

    :param task: the task.
    :param known: what was returned when it was submitted, for what the answer leaves out.
    """
    known = known or {}
    try:
        created = pendulum.from_timestamp(task.created_at).to_iso8601_string() if task.created_at else None
    except (ValueError, OverflowError):
        created = None
    return {
        "wiro_task_id": task.wiro_task_id,
        "model": task.model or known.get("model"),
        "submitted_at": known.get("submitted_at") or created,
        "status": task.outcome.value,
        "total_cost": None if task.total_cost is None else f"{task.total_cost.normalize():f}",
        "elapsed_seconds": task.elapsed_seconds,
        "outputs": [
            {
                "name": output.name,
                "content_type": output.content_type,
                "size": output.size,
                "url": output.url,
            }
            for output in task.outputs
        ],
    }


@dataclass
class StopOnKill:
    """Ends a remote task from within ``on_kill``.

    Airflow calls ``on_kill`` inside a signal handler, where its SDK may not be asked for anything: what is needed is
    captured before. Airflow kills the process after five seconds.

    :param client: a client of its own, made with :attr:`CLIENT`: the time is short.
    :param wiro_task_id: the task to end.
    :param log: gets the line that says how it ended.
    """

    CLIENT: ClassVar[dict[str, float]] = {"connect_timeout": 1, "read_timeout": 2, "attempts": 1}
    PATIENCE: ClassVar[float] = 2.0

    client: WiroClient
    wiro_task_id: str
    log: Log

    def __call__(self) -> WiroTask | None:
        """Cancel or kill the task; return it as it stands afterwards, or ``None`` if that is not known."""
        try:
            task = self.client.stop_task(self.wiro_task_id, self.PATIENCE)
        except Exception as error:
            log_not_stopped(self.log, self.wiro_task_id, error)
            return None
        log_stopped(self.log, task)
        return task


def log_succeeded(log: Log, task: WiroTask) -> None:
    """Say that a task has succeeded, and what it cost."""
    cost = "an unknown cost" if task.total_cost is None else f"${task.total_cost:.2f}"
    log.info("Wiro task %s succeeded for %s with %d output(s).", task.wiro_task_id, cost, len(task.outputs))


def log_stopped(log: Log, task: WiroTask) -> None:
    """Say how a task stands after it was asked to stop."""
    if task.outcome is Outcome.RUNNING:
        log.error("Wiro task %s did not stop: it is billed if it succeeds. Kill it at Wiro.", task.wiro_task_id)
    elif task.outcome is Outcome.SUCCEEDED:
        log.info("Wiro task %s had already succeeded, and is billed: its outputs can be fetched.", task.wiro_task_id)
    else:
        log.info("Wiro task %s is stopped (%s): it is not billed.", task.wiro_task_id, task.outcome.value)


def log_not_stopped(log: Log, wiro_task_id: str, error: Exception) -> None:
    """Say that a task could not be stopped, and what that costs."""
    log.error(
        "Wiro task %s could not be stopped, and is billed if it succeeds. Kill it at Wiro. (%s)", wiro_task_id, error
    )
