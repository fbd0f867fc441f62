"""Waiting without a worker, for a task and for a place in the account, and what the operators share besides."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pendulum
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
)

from airflow_provider_wiro.exceptions import (
    ACCOUNT_IS_FULL,
    WiroBusyError,
    WiroConfigurationError,
    WiroError,
    WiroOrderError,
    WiroRunUnknownError,
    WiroStoreError,
    WiroTaskCancelledError,
    WiroTaskFailedError,
    WiroTaskTimeoutError,
)
from airflow_provider_wiro.operators._depot import Depot
from airflow_provider_wiro.page import failures_told
from airflow_provider_wiro.parsing import CheckedPartial, Later, check_destination, check_verify, is_unresolved
from airflow_provider_wiro.submission.decision import MAX_FAILURES, ON_CLEAR, ON_UNKNOWN
from airflow_provider_wiro.submission.record import Record
from airflow_provider_wiro.triggers.wiro import WiroPlaceTrigger, WiroTaskTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_wiro.hooks.wiro import WiroHook
    from airflow_provider_wiro.submission.driver import Submission

BACKSTOP = 300.0
"""Seconds by which Airflow's own limit of a deferral comes after ours."""
_TEN_YEARS = 10 * 366 * 86400
_SHORT = 10.0  # seconds; deferring for less may make Airflow 3.3 run the try twice


def seconds(value: float | timedelta) -> float:
    """Return a length of time in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


class WaitsElsewhere(BaseOperator):
    """The part of the ordering operators that waits, in the triggerer or on the worker."""

    wiro_conn_id: str
    deferrable: bool
    poll_interval: float
    max_poll_interval: float | None
    timeout: float
    destination: str | None
    verify: str
    delete_remote: bool
    reuse: bool
    cancel_on_kill: bool
    cancel_on_timeout: bool
    on_unknown: str
    on_clear: str
    settle: float
    max_cost: Any
    _killed = False
    _queued_since = 0.0
    _request = ""
    """What makes equal requests known by, where their files are stored."""
    _submission: Submission | None = None

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Begin a mapped task whose literals are checked when the Dag is parsed."""
        begun = super().partial(**kwargs)
        begun._expand_called = True  # replaced, not forgotten
        return CheckedPartial(operator_class=cls, kwargs=begun.kwargs, params=begun.params)

    @staticmethod
    def check_seconds(arguments: Mapping[str, Any]) -> None:
        """Check the arguments that are lengths of time, as far as they are known.

        :param arguments: some or all of the operator's arguments.
        :raises WiroConfigurationError: one of them is not allowed.
        """
        for name in ("poll_interval", "max_poll_interval", "timeout", "settle"):
            value = arguments.get(name, Later())
            if (value is None and name == "max_poll_interval") or isinstance(value, (Later, timedelta)):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _TEN_YEARS:
                raise WiroConfigurationError(
                    f"{name} is {value!r}, allowed: a number of seconds above 0, of ten years at most."
                )

    @staticmethod
    def check_policies(on_unknown: Any, on_clear: Any) -> None:
        """Check the two policies, as far as they are known.

        :param on_unknown: the argument.
        :param on_clear: the argument.
        :raises WiroConfigurationError: one of them is not allowed.
        """
        for name, value, allowed in (("on_unknown", on_unknown, ON_UNKNOWN), ("on_clear", on_clear, ON_CLEAR)):
            if not is_unresolved(value) and value not in allowed:
                raise WiroConfigurationError(f"{name} is {value!r}, allowed: {', '.join(map(repr, allowed))}.")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the wait; where Airflow's own limit of the deferral ended it, look at the task once more."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            self.log.warning("No trigger has told the end of the wait in time: looking at Wiro.")
            return self.execute(context)
        except TaskDeferralError:
            self.log.error("The trigger failed. A retry, or a clear, goes on with what is ordered: paid once.")
            raise

    def _wait_for_a_place(self, refusal: WiroBusyError, looking_since: float) -> None:
        """Wait until the account, or the request rate, may admit the order: no retry is used up."""
        came_back = self._queued_since > 0
        self._queued_since = self._queued_since or time.time()
        end_time = self._queued_since + self.timeout
        if time.time() >= end_time:
            raise self._no_place() if refusal.code == ACCOUNT_IS_FULL else refusal
        if not came_back:
            self.log.info("Nothing is ordered yet, waiting: %s", refusal.message)
        elif refusal.code == ACCOUNT_IS_FULL:
            self.log.info("The place is taken already, waiting for another one.")
        if refusal.code != ACCOUNT_IS_FULL or not self.deferrable:
            pause = refusal.retry_after or self.poll_interval * random.uniform(0.8, 1.2)
            self._wait_until(min(time.time() + pause, end_time), looking_since)
            return
        self.defer(
            trigger=WiroPlaceTrigger(
                wiro_conn_id=self.wiro_conn_id,
                since=self._queued_since,
                limit=refusal.limit,
                came_back=came_back,
                end_time=end_time,
            ),
            method_name="order_again",
            timeout=timedelta(seconds=end_time - time.time() + BACKSTOP),
        )

    def _no_place(self) -> WiroBusyError:
        return WiroBusyError(
            f"No place in the Wiro account came free within {self.timeout:g} s.",
            code=ACCOUNT_IS_FULL,
            advice="A longer `timeout` waits longer; a higher balance admits more tasks at once.",
        )

    def _wait_until(self, moment: float, looking_since: float) -> None:
        """Wait in the triggerer, or here where it is soon or a worker is to wait."""
        seconds = moment - time.time()
        if not self.deferrable or seconds < _SHORT:
            time.sleep(max(0.0, seconds))
            return
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.defer(
            trigger=DateTimeTrigger(moment=pendulum.from_timestamp(moment)),
            method_name="look_again",
            kwargs={"looking_since": looking_since, "queued_since": self._queued_since},
            timeout=timedelta(seconds=seconds + BACKSTOP),
        )

    def _defer(self, wiro_task_id: str, end_time: float) -> NoReturn:
        self.defer(
            trigger=WiroTaskTrigger(
                wiro_conn_id=self.wiro_conn_id,
                wiro_task_id=wiro_task_id,
                poll_interval=self.poll_interval,
                end_time=end_time,
                cancel_on_kill=self.cancel_on_kill,
                max_poll_interval=self.max_poll_interval,
            ),
            method_name="execute_complete",
            kwargs={"end_time": end_time, "request": self._request},
            # The trigger owns the deadline; this is for a night without any triggerer.
            timeout=timedelta(seconds=max(0.0, end_time - time.time()) + BACKSTOP),
        )

    @contextmanager
    def _explained(self, context: Context) -> Iterator[None]:
        """Let every failure say what a retry and a clear will do; one that no retry can mend is not retried."""
        try:
            with self._told(context):
                yield
        except WiroError as error:
            outlook = self._outlook(error)
            error.advice = f"{error.advice} {outlook}".strip()
            if error.retryable:
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except (Exception, AirflowTaskTimeout) as error:
            if not isinstance(error, (AirflowFailException, AirflowSkipException)):
                self.log.error("%s", self._outlook(error))
            raise

    def _told(self, context: Context) -> AbstractContextManager[None]:
        """Let the page of videos know of failures."""
        return failures_told(context, self.log, self._known_id)

    def _known_id(self) -> str | None:
        record = self._submission.record if self._submission is not None else None
        return record.wiro_task_id if record is not None else None

    def _outlook(self, error: BaseException) -> str:
        return outlook(self._submission.record if self._submission is not None else None, error, self.on_clear)

    def _open_destination(self) -> None:
        """Find out before anything is paid whether there is such a store."""
        from airflow_provider_wiro.outputs.store import open_folder

        check_destination(self.destination)
        check_verify(self.verify)
        open_folder(self.destination)

    def _depot(self) -> Depot:
        return Depot(str(self.destination), self.verify, self.delete_remote, self.log)

    def _hook(self) -> WiroHook:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        return WiroHook(self.wiro_conn_id)


def outlook(record: Record | None, error: BaseException, on_clear: str) -> str:
    """Return what comes next for an order; nothing where the error's own words tell.

    :param record: what is remembered of the order.
    :param error: what ended the try.
    :param on_clear: the operator's argument.
    """
    final_cancel = isinstance(error, WiroTaskCancelledError) and not error.retryable
    nothing_yet = isinstance(error, WiroConfigurationError) and record is None
    if final_cancel or nothing_yet or isinstance(error, (WiroOrderError, WiroRunUnknownError, WiroStoreError)):
        return ""
    retryable = not isinstance(error, WiroError) or error.retryable
    next_start = "A retry, or a clear," if retryable else "Airflow does not retry this. A clear"
    wiro_task_id = record.wiro_task_id if record is not None else getattr(error, "wiro_task_id", None)
    if wiro_task_id is None and (record is None or not record.unfinished):
        return f"Nothing is ordered. {next_start} orders."
    if wiro_task_id is None:
        return f"A Run may have been sent. {next_start} looks for it at Wiro before it sends anything."
    stopped = isinstance(error, WiroTaskTimeoutError) and "was stopped" in error.message
    if stopped or isinstance(error, (WiroTaskFailedError, WiroTaskCancelledError)):
        if retryable and record is not None and record.failures + 1 >= MAX_FAILURES:
            return "It was not the first one: a retry says so, and a clear orders anew."
        return f"{next_start} orders anew."
    again = "" if on_clear == "reattach" else " (a clear orders a new video: on_clear='resubmit')"
    return f"{next_start} goes on with Wiro task {wiro_task_id} and pays for nothing more{again}."
