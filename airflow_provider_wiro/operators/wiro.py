"""Order a run of any model; the fetching operator, beside it, has a file of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from airflow_provider_wiro.api.seedance import find_model, wire_inputs
from airflow_provider_wiro.api.tasks import Outcome, WiroTask, ensure_succeeded
from airflow_provider_wiro.exceptions import (
    WiroConfigurationError,
    WiroError,
    WiroOutputError,
    WiroRunUnknownError,
    WiroTaskCancelledError,
    WiroTaskError,
    WiroTaskTimeoutError,
    without_useless_retries,
)
from airflow_provider_wiro.links import WiroTaskLink
from airflow_provider_wiro.operators.fetch import WiroFetchOutputsOperator, fetch_to
from airflow_provider_wiro.parsing import CheckedPartial, Later, check_destination, is_unresolved
from airflow_provider_wiro.templating import DataFromOtherTasks
from airflow_provider_wiro.triggers.wiro import WiroTaskTrigger
from airflow_provider_wiro.waiting import (
    REFUSED,
    TIMEOUT,
    StopOnKill,
    Wait,
    default_deferrable,
    describe,
    log_not_stopped,
    log_stopped,
    log_succeeded,
    read_event,
    submitted,
    wait_for_end,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_wiro.hooks.wiro import WiroHook

_TEN_YEARS = 10 * 366 * 86400
_DOC_MD = """\
Orders a run at [Wiro](https://wiro.ai). The button **Wiro task** under *Details* opens it there, also while it waits;
the XCom `return_value` holds its id, and its cost and outputs where this task waits for its end.
"""


__all__ = ["WiroFetchOutputsOperator", "WiroRunOperator"]


class WiroRunOperator(DataFromOtherTasks, BaseOperator):
    """Orders one run of any Wiro model; waits for it and fetches its files if asked to.

    It returns ``{"wiro_task_id", "model", "submitted_at"}``; with ``wait_for_completion`` also ``status``,
    ``total_cost`` (US dollars, decimal string), ``elapsed_seconds`` and ``outputs``; with ``destination`` also
    ``files`` and ``manifest``.

    :param model: ``owner/name``. (templated)
    :param inputs: the model's inputs, by their names on the wire. Numbers and booleans are sent as text, as Wiro's
        tool sheets do; ``None`` is left out; those of a Seedance model are checked first. (templated)
    :param files: input name and path of a local file, sent along as multipart. (templated)
    :param wiro_conn_id: the connection; default ``wiro_default``. (templated)
    :param wait_for_completion: wait until the run has ended; default False: submit only.
    :param deferrable: wait in the triggerer and not on a worker; default True, or what the environment variable
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` says.
    :param poll_interval: seconds (or a timedelta) between two looks at the task; default 15.
    :param timeout: seconds (or a timedelta) from the submission until the waiting ends; default 3600.
    :param destination: folder to fetch the outputs to, as for :class:`WiroFetchOutputsOperator`; needs
        ``wait_for_completion``. (templated)
    :param cancel_on_kill: whether the remote task is stopped when somebody ends this Airflow task; default True.
    :param cancel_on_timeout: whether the remote task is stopped when `timeout` has passed; default True.
    :raises WiroInputError: an input is not allowed; for literals when the Dag is parsed, for templates before any
        request.
    :raises WiroAPIError: Wiro refused, and nothing was accepted.
    :raises WiroConnectionError: no connection stood, and nothing was sent.
    :raises WiroTaskFailedError: the model failed; Airflow may retry, which orders anew.
    :raises WiroTaskTimeoutError: it did not end in time and was stopped; Airflow may retry, which orders anew.
    :raises AirflowFailException: in place of any error that a retry cannot mend or might pay twice for; its text begins
        with the error's name.
    """

    template_fields: Sequence[str] = ("model", "inputs", "files", "wiro_conn_id", "destination")
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json", "files": "json"}
    operator_extra_links = (WiroTaskLink(),)
    custom_operator_name = "Wiro run"
    ui_color = "#d9c7f7"

    def __init__(
        self,
        *,
        model: str,
        inputs: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
        wiro_conn_id: str = "wiro_default",
        wait_for_completion: bool = False,
        deferrable: bool = default_deferrable(),
        poll_interval: float | timedelta = 15.0,
        timeout: float | timedelta = 3600.0,
        destination: str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"doc_md": _DOC_MD, **kwargs})
        self.model = model
        self.inputs = inputs
        self.files = files
        self.wiro_conn_id = wiro_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = _seconds(poll_interval)
        self.timeout = _seconds(timeout)
        self.destination = destination
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self._stop_on_kill: StopOnKill | None = None
        self._killed = False
        self.check_arguments(
            model=model,
            inputs=inputs,
            wait_for_completion=wait_for_completion,
            poll_interval=poll_interval,
            timeout=timeout,
            destination=destination,
        )

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Begin a mapped task whose literals are checked when the Dag is parsed."""
        begun = super().partial(**kwargs)
        begun._expand_called = True  # replaced, not forgotten
        return CheckedPartial(operator_class=cls, kwargs=begun.kwargs, params=begun.params)

    @classmethod
    def check_arguments(cls, **arguments: Any) -> None:
        """Check the arguments that are known when the Dag is parsed.

        :param arguments: some or all of the operator's arguments.
        :raises WiroConfigurationError: one of them is not allowed.
        """
        for name in ("poll_interval", "timeout"):
            value = arguments.get(name, 1)
            if isinstance(value, (Later, timedelta)):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _TEN_YEARS:
                raise WiroConfigurationError(
                    f"{name} is {value!r}, allowed: a number of seconds above 0, of ten years at most."
                )
        if arguments.get("destination") is not None and not arguments.get("wait_for_completion"):
            raise WiroConfigurationError(
                "destination is given without wait_for_completion=True, and only an ended task has files.",
                advice="Set wait_for_completion=True, or fetch in a task of its own with WiroFetchOutputsOperator.",
            )
        check_destination(arguments.get("destination"))
        cls.check_inputs(arguments)

    @classmethod
    def check_inputs(cls, arguments: Mapping[str, Any]) -> None:
        """Check the inputs among the arguments, as far as they are known.

        :param arguments: some or all of the operator's arguments.
        :raises WiroInputError: an input is not allowed.
        """
        model, inputs = arguments.get("model", Later()), arguments.get("inputs", Later())
        if not is_unresolved(model) and not re.fullmatch(r"[^/\s]+/[^/\s]+", str(model)):
            raise WiroConfigurationError(f"model is {model!r}, allowed: 'owner/name'.")
        if not is_unresolved(inputs) and not isinstance(inputs, Mapping):
            raise WiroConfigurationError(f"inputs is {inputs!r}, allowed: a mapping of input names and values.")
        if isinstance(model, str) and find_model(model) and isinstance(inputs, Mapping):
            wire_inputs(model, inputs, is_unresolved)

    def wire_inputs(self) -> dict[str, Any]:
        """Return the inputs as they are sent; every template is rendered by now.

        :raises WiroInputError: an input is not allowed.
        """
        if find_model(self.model) and isinstance(self.inputs, Mapping):
            return dict(wire_inputs(self.model, self.inputs))
        if not isinstance(self.inputs, Mapping):
            raise WiroConfigurationError(f"inputs is {self.inputs!r}, allowed: a mapping of input names and values.")
        return {name: _wire_form(value) for name, value in self.inputs.items() if value is not None}

    def execute(self, context: Context) -> dict[str, Any]:
        """Order, and wait if asked to."""
        with without_useless_retries():
            inputs = self.wire_inputs()
            if self.destination is not None:
                self._open_destination()
            hook = self._hook()
            brisk = hook.get_client(**StopOnKill.CLIENT) if self.cancel_on_kill else None
            if self._killed:
                raise WiroError("Airflow ended this process before anything was ordered.", retryable=True)
            self.log.info("Ordering a run of %s", self.model)
            try:
                receipt = hook.run(self.model, inputs, self.files)
            except AirflowTaskTimeout as error:
                raise WiroRunUnknownError("execution_timeout passed while the run was being ordered.") from error
        if brisk is not None:
            self._stop_on_kill = StopOnKill(brisk, receipt.wiro_task_id, self.log)
        with self._order_stands(receipt.wiro_task_id):
            return self._ordered(context, hook, receipt.wiro_task_id)

    def execute_complete(self, context: Context, event: Any, end_time: float | None = None) -> dict[str, Any]:
        """Read the task that the trigger spoke of, and decide.

        :param context: Airflow's context.
        :param event: the trigger's payload.
        :param end_time: unix time at which the waiting ends.
        """
        with self._order_stands():
            wiro_task_id, word = read_event(event)
        with self._order_stands(wiro_task_id):
            if word == REFUSED:
                self.log.warning("The triggerer cannot read Wiro task %s; its lines above tell why.", wiro_task_id)
            end_time = time.time() if word == TIMEOUT else end_time or time.time() + self.timeout
            return self._conclude(wiro_task_id, end_time)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the wait; where the trigger itself has failed, do not order again."""
        with self._order_stands():
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Stop the remote task; while deferred, the trigger does it."""
        self._killed = True
        if self._stop_on_kill is not None:
            self._stop_on_kill()

    @contextmanager
    def _order_stands(self, wiro_task_id: str | None = None) -> Iterator[None]:
        """Guard what follows an order: Airflow may retry only where that order is known to cost nothing.

        :param wiro_task_id: the order, where known.
        """
        order = f"Wiro task {wiro_task_id}" if wiro_task_id else "The Wiro task that the log above names"
        stands = (
            f"{order} is ordered: it is not retried, because that would order again. Wait for it with WiroTaskSensor "
            "and fetch it with WiroFetchOutputsOperator."
        )
        try:
            yield
        except (WiroTaskError, WiroOutputError) as error:  # they name the task and say what to do
            if error.retryable and isinstance(error, WiroTaskError):
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except AirflowTaskTimeout as error:
            # Airflow calls on_kill only for a time-out that leaves `execute`.
            stopped = self._stop_on_kill() if self._stop_on_kill is not None else None
            if stopped is not None and stopped.outcome in (Outcome.CANCELLED, Outcome.FAILED):
                raise WiroTaskTimeoutError(
                    "execution_timeout passed, and it was stopped.",
                    wiro_task_id=wiro_task_id,
                    retryable=True,
                    advice="It is not billed. A retry orders anew.",
                ) from error
            raise AirflowFailException(f"execution_timeout passed. {stands}") from error
        except Exception as error:
            if isinstance(error, (AirflowFailException, AirflowSkipException)) and not isinstance(error, WiroError):
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error} {stands}") from error

    def _ordered(self, context: Context, hook: WiroHook, wiro_task_id: str) -> dict[str, Any]:
        known = submitted(wiro_task_id, self.model)
        url = hook.task_url(wiro_task_id)
        self.log.info("%s accepted the order as Wiro task %s: %s", self.model, wiro_task_id, url)
        context["ti"].xcom_push(key=WiroTaskLink().xcom_key, value=url)
        if self._killed:  # while the order was on its way
            self.on_kill()
            raise AirflowFailException(f"Airflow ended this process while Wiro task {wiro_task_id} was being ordered.")
        if not self.wait_for_completion:
            return known
        end_time = time.time() + self.timeout
        if self.deferrable:
            self._defer(wiro_task_id, end_time)
        wait_for_end(hook.get_conn(), Wait(wiro_task_id, end_time, self.log), self.poll_interval)
        return self._conclude(wiro_task_id, end_time)

    def _defer(self, wiro_task_id: str, end_time: float) -> NoReturn:
        self.defer(
            trigger=WiroTaskTrigger(
                wiro_conn_id=self.wiro_conn_id,
                wiro_task_id=wiro_task_id,
                poll_interval=self.poll_interval,
                end_time=end_time,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            kwargs={"end_time": end_time},
        )

    def _conclude(self, wiro_task_id: str, end_time: float) -> dict[str, Any]:
        """Deliver a task that succeeded, wait on for one that runs and has time left, raise for any other."""
        hook = self._hook()
        has_time = self.deferrable and time.time() < end_time
        try:
            task = hook.get_task(wiro_task_id)
        except WiroError as error:
            if error.retryable and has_time:
                self.log.warning("Wiro task %s cannot be read, waiting on: %s", wiro_task_id, error)
                self._defer(wiro_task_id, end_time)
            raise
        if task.outcome is Outcome.RUNNING:
            if has_time:
                self._defer(wiro_task_id, end_time)
            task = self._time_out(hook, task)
        self._stop_on_kill = None
        if self._killed and task.outcome is Outcome.CANCELLED:
            raise WiroTaskCancelledError(
                "It was stopped because Airflow ended this process.",
                wiro_task_id=wiro_task_id,
                retryable=True,
                advice="It is not billed. A retry orders anew.",
            )
        ensure_succeeded(task)
        facts = describe(task, {"model": self.model})
        log_succeeded(self.log, task)
        return facts if self.destination is None else fetch_to(hook, task, self.destination, facts, self.log)

    def _time_out(self, hook: WiroHook, task: WiroTask) -> WiroTask:
        """Stop a task whose time is up; return it if it has succeeded meanwhile, else raise."""
        if self.cancel_on_timeout:
            try:
                task = hook.stop_task(task.wiro_task_id)
                log_stopped(self.log, task)
            except WiroError as error:
                log_not_stopped(self.log, task.wiro_task_id, error)
        if task.outcome is Outcome.SUCCEEDED:
            return task
        late = f"It did not end within {self.timeout:g} s"
        if task.outcome is Outcome.RUNNING:
            raise WiroTaskTimeoutError(
                f"{late} and goes on at Wiro ({task.status}).",
                wiro_task_id=task.wiro_task_id,
                advice="It is billed if it succeeds: fetch it with WiroTaskSensor and WiroFetchOutputsOperator, "
                "or kill it.",
            )
        raise WiroTaskTimeoutError(
            f"{late} and was stopped.",
            wiro_task_id=task.wiro_task_id,
            retryable=True,
            advice="It is not billed. A retry orders anew; a longer `timeout` gives it more time.",
        )

    def _open_destination(self) -> None:
        """Find out before anything is paid whether there is such a store."""
        from airflow_provider_wiro.outputs import open_folder

        check_destination(self.destination)
        open_folder(self.destination)

    def _hook(self) -> WiroHook:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        return WiroHook(self.wiro_conn_id)


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _wire_form(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value
