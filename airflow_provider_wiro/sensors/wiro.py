"""The sensor that waits for one Wiro task, wherever it was submitted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_wiro.api.tasks import WiroTask, ensure_succeeded
from airflow_provider_wiro.exceptions import (
    WiroConfigurationError,
    WiroError,
    WiroTaskError,
    without_useless_retries,
)
from airflow_provider_wiro.links import WiroTaskLink, WiroVideoLink
from airflow_provider_wiro.page import END_KEY, ORDER_KEY, end_of, failures_told, tell
from airflow_provider_wiro.parsing import is_settled
from airflow_provider_wiro.templating import DataFromOtherTasks
from airflow_provider_wiro.triggers.wiro import WiroTaskTrigger
from airflow_provider_wiro.waiting import (
    TIMEOUT,
    StopOnKill,
    Wait,
    default_deferrable,
    describe,
    log_succeeded,
    read_event,
    read_reference,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_wiro.hooks.wiro import WiroHook


_DOC_MD = """\
Waits until a task at [Wiro](https://wiro.ai) has ended. The button **Wiro task** under *Details* opens it there.
Ending this task stops the remote one.
"""


def _may_retry(error: WiroError) -> bool:
    # The sensor did not submit: waiting once more for a task that has failed changes nothing.
    return error.retryable and not isinstance(error, WiroTaskError)


class WiroTaskSensor(DataFromOtherTasks, BaseSensorOperator):
    """Waits until a Wiro task has succeeded; fails, without useless retries, when it failed or was cancelled.

    By default it defers and holds no worker; with ``deferrable=False`` it pokes, in any of Airflow's sensor modes. Both
    judge a task by the same function. It returns the task's facts: ``wiro_task_id``, ``model``, ``submitted_at``,
    ``status``, ``total_cost`` (US dollars, decimal string), ``elapsed_seconds``, ``outputs``.

    :param task: what a run operator returned, a Wiro task id, or ``{"task_token": …}`` for a task from elsewhere.
        (templated)
    :param wiro_conn_id: the connection; default ``wiro_default``. (templated)
    :param deferrable: wait in the triggerer; default True, or what the environment variable
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` says.
    :param poll_interval: seconds between two looks while the task may end at any moment, another name for Airflow's
        ``poke_interval``; default 15.
    :param max_poll_interval: seconds between two looks in the triggerer while it is not expected to end, going by the
        runs of its model that have been seen; default: four times `poll_interval`.
    :param timeout: seconds from the sensor's start; default: Airflow's ``[sensors] default_timeout``. As for every
        sensor, a time-out is not retried.
    :param cancel_on_kill: whether the remote task is stopped when somebody ends this Airflow task; default True.
    :raises AirflowFailException: the task failed, was cancelled, does not exist, or the credentials are refused.
    :raises AirflowSensorTimeout: it did not end in time; it goes on at Wiro.
    """

    template_fields: Sequence[str] = ("task", "wiro_conn_id")
    operator_extra_links = (WiroTaskLink(), WiroVideoLink())
    custom_operator_name = "Wiro wait"
    ui_color = "#efe6fb"

    def __init__(
        self,
        *,
        task: Any,
        wiro_conn_id: str = "wiro_default",
        deferrable: bool = default_deferrable(),
        poll_interval: float = 15.0,
        max_poll_interval: float | None = None,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"doc_md": _DOC_MD, "poke_interval": poll_interval, **kwargs})
        self.task = task
        self.wiro_conn_id = wiro_conn_id
        self.deferrable = deferrable
        self.max_poll_interval = max_poll_interval
        self.cancel_on_kill = cancel_on_kill
        self._wait: Wait | None = None
        self._stop_on_kill: StopOnKill | None = None
        self._seen_id: str | None = None
        for name, value in (("poll_interval", self.poke_interval), ("max_poll_interval", max_poll_interval)):
            if value is not None and value <= 0:
                raise WiroConfigurationError(f"{name} is {value!r}, allowed: a number of seconds above 0.")
        if is_settled(task):
            read_reference(task)

    def execute(self, context: Context) -> Any:
        """Look once, then wait."""
        if not self.deferrable:
            with failures_told(context, self.log, self._known_id):
                return super().execute(context)
        try:
            with without_useless_retries(_may_retry), failures_told(context, self.log, self._known_id):
                return self._look_and_defer(context)
        except AirflowException as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def execute_complete(self, context: Context, event: Any, end_time: float | None = None) -> dict[str, Any]:
        """Read the task that the trigger spoke of, and decide.

        :param context: Airflow's context.
        :param event: the trigger's payload.
        :param end_time: unix time at which the waiting ends.
        """
        with without_useless_retries(_may_retry), failures_told(context, self.log, self._known_id):
            wiro_task_id, word = read_event(event)
            self._seen_id = wiro_task_id
            task = self._hook().get_task(wiro_task_id)
            if task.outcome.is_terminal:
                return self._conclude(context, task)
            if word == TIMEOUT:
                raise AirflowSensorTimeout(
                    f"Wiro task {wiro_task_id} did not end within {self.timeout:g} s and goes on at Wiro "
                    f"({task.status}): it is billed if it succeeds. Clear this sensor to wait again; that submits "
                    "nothing."
                )
            self._defer(wiro_task_id, end_time or time.time() + self.timeout)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look at the task once; outages are ridden out like in the triggerer."""
        with without_useless_retries(_may_retry):
            hook = self._hook()
            if self._wait is None:
                wiro_task_id = self._task_id(hook)
                self._push_link(context, hook, wiro_task_id)
                # In mode `reschedule`, each look is a process of its own.
                first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
                began = first.timestamp() if first else None
                self._wait = Wait(wiro_task_id, (began or time.time()) + self.timeout, self.log, missing_since=began)
                if self.cancel_on_kill:
                    brisk = hook.get_client(**StopOnKill.CLIENT)
                    self._stop_on_kill = StopOnKill(brisk, wiro_task_id, self.log)
            try:
                look: WiroTask | WiroError = hook.get_task(self._wait.wiro_task_id)
            except WiroError as error:
                look = error
            # The deadline is Airflow's own here.
            if self._wait.after_look(look, time.time()) in (None, TIMEOUT):
                return False
            if isinstance(look, WiroError):
                raise look
            return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, look))

    def on_kill(self) -> None:
        """Stop the remote task; while deferred, the trigger does it."""
        if self._stop_on_kill is not None:
            self._stop_on_kill()

    def _look_and_defer(self, context: Context) -> dict[str, Any]:
        hook = self._hook()
        wiro_task_id = self._task_id(hook)
        self._push_link(context, hook, wiro_task_id)
        try:
            task = hook.get_task(wiro_task_id)
        except WiroError as error:
            self.log.warning("Wiro task %s cannot be read yet: %s", wiro_task_id, error)
        else:
            if task.outcome.is_terminal:
                return self._conclude(context, task)
        self._defer(wiro_task_id, time.time() + self.timeout)

    def _defer(self, wiro_task_id: str, end_time: float) -> NoReturn:
        self.defer(
            trigger=WiroTaskTrigger(
                wiro_conn_id=self.wiro_conn_id,
                wiro_task_id=wiro_task_id,
                poll_interval=self.poke_interval,
                end_time=end_time,
                cancel_on_kill=self.cancel_on_kill,
                max_poll_interval=self.max_poll_interval,
            ),
            method_name="execute_complete",
            kwargs={"end_time": end_time},
        )

    def _conclude(self, context: Context, task: WiroTask) -> dict[str, Any]:
        self._stop_on_kill = None
        ensure_succeeded(task)
        log_succeeded(self.log, task)
        done = describe(task, self.task if isinstance(self.task, Mapping) else None)
        tell(context, self.log, END_KEY, end_of(done, None if self._is_known else task.inputs))
        return done

    @property
    def _is_known(self) -> bool:
        """Whether another task of this Dag run has told the page of videos what was ordered."""
        return isinstance(self.task, Mapping) and "submitted_at" in self.task

    def _known_id(self) -> str | None:
        return self._seen_id

    def _task_id(self, hook: WiroHook) -> str:
        wiro_task_id, token = read_reference(self.task)
        # Tasks are waited for by id: the token is a capability that must not be stored.
        self._seen_id = wiro_task_id or hook.get_task(task_token=token).wiro_task_id
        return self._seen_id

    def _push_link(self, context: Context, hook: WiroHook, wiro_task_id: str) -> None:
        url = hook.task_url(wiro_task_id)
        context["ti"].xcom_push(key=WiroTaskLink().xcom_key, value=url)
        if not self._is_known:
            tell(context, self.log, ORDER_KEY, {"status": "running", "wiro_task_id": wiro_task_id, "url": url})

    def _hook(self) -> WiroHook:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        return WiroHook(self.wiro_conn_id)
