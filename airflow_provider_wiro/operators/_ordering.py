"""How the run operators order, wait and deliver: a retry goes on with what an earlier try has ordered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import (
    AirflowFailException,
)

from airflow_provider_wiro.api.seedance import find_model
from airflow_provider_wiro.api.tasks import Outcome, WiroTask, ensure_succeeded
from airflow_provider_wiro.exceptions import (
    WiroBusyError,
    WiroError,
    WiroNotFoundError,
    WiroTaskCancelledError,
    WiroTaskTimeoutError,
)
from airflow_provider_wiro.links import WiroTaskLink
from airflow_provider_wiro.operators._depot import summary_of, tell_outlets
from airflow_provider_wiro.operators._elsewhere import WaitsElsewhere
from airflow_provider_wiro.page import END_KEY, ORDER_KEY, end_of, order_of, tell
from airflow_provider_wiro.submission.decision import Attempt
from airflow_provider_wiro.submission.record import logical_key
from airflow_provider_wiro.waiting import (
    REFUSED,
    TIMEOUT,
    StopOnKill,
    Wait,
    describe,
    log_not_stopped,
    log_stopped,
    log_succeeded,
    read_event,
    read_place,
    submitted,
    wait_for_end,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_wiro.hooks.wiro import WiroHook
    from airflow_provider_wiro.submission.driver import Standing, Submission
    from airflow_provider_wiro.submission.record import Record


class OrdersOnce(WaitsElsewhere):
    """The part of :class:`~airflow_provider_wiro.operators.wiro.WiroRunOperator` that runs."""

    model: str
    files: Mapping[str, str] | None
    wait_for_completion: bool
    _looking_since = 0.0
    _stop_on_kill: StopOnKill | None = None

    def wire_inputs(self) -> dict[str, Any]:
        """Return the inputs as they are sent; every template is rendered by now."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Order, or go on with what an earlier try has ordered; wait if asked to."""
        from airflow_provider_wiro.submission.driver import Later

        with self._explained(context):
            inputs = self.wire_inputs()
            self.check_policies(self.on_unknown, self.on_clear)
            if self.destination is not None:
                self._open_destination()
                self._request = self._request_of(inputs)
            hook = self._hook()
            self._submission = submission = self._make_submission(context, hook)
            attempt = self._attempt(context, hook, inputs)
            submission.load()
            reused = self._reused(context, attempt)
            if reused is not None:
                return reused
            while True:
                try:
                    standing = submission.proceed(attempt, self.files)
                except WiroBusyError as error:
                    if not self._queued_since:
                        tell(context, self.log, ORDER_KEY, order_of(self.model, inputs, "queued"))
                    self._wait_for_a_place(error, attempt.looking_since)
                    continue
                if not isinstance(standing, Later):
                    return self._ordered(context, hook, standing, attempt)
                if submission.record is not None and submission.record.wiro_task_id is not None:
                    self._announce(context, hook, submission.record, attempt)
                self._wait_until(standing.until, attempt.looking_since)

    def look_again(
        self, context: Context, event: Any, looking_since: float = 0.0, queued_since: float = 0.0
    ) -> dict[str, Any]:
        """Go on where the outcome of a Run could not be known at once, or Wiro asked to come back later.

        :param context: Airflow's context.
        :param event: says that the time has come.
        :param looking_since: unix time at which this try began to look; `dag.test()` drops it.
        :param queued_since: unix time at which this try was first refused for want of a place.
        """
        self._looking_since, self._queued_since = looking_since, queued_since
        return self.execute(context)

    def order_again(self, context: Context, event: Any) -> dict[str, Any]:
        """Order where a place in the account seems to have come free.

        :param context: Airflow's context.
        :param event: the trigger's payload.
        """
        with self._explained(context):
            word, self._queued_since = read_place(event)
            if word == TIMEOUT:
                raise self._no_place()
        return self.execute(context)

    def execute_complete(
        self, context: Context, event: Any, end_time: float | None = None, request: str = ""
    ) -> dict[str, Any]:
        """Read the task that the trigger spoke of, and decide.

        :param context: Airflow's context.
        :param event: the trigger's payload.
        :param end_time: unix time at which the waiting ends.
        :param request: what makes equal requests known by.
        """
        self._request = request
        with self._explained(context):
            wiro_task_id, word = read_event(event)
            if word == REFUSED:
                self.log.warning("The triggerer cannot read Wiro task %s; its lines above tell why.", wiro_task_id)
            hook = self._hook()
            self._submission = submission = self._make_submission(context, hook)
            record = submission.load()
            if record is not None and record.doubts:
                # The seed tells enough, and a decorated function is not called in a resume.
                submission.sweep(replace(self._attempt(context, hook, {}), key=record.key))
            # `dag.test()` drops what was deferred with.
            end_time = end_time or (record.since if record is not None else time.time()) + self.timeout
            return self._conclude(context, hook, wiro_task_id, time.time() if word == TIMEOUT else end_time)

    def on_kill(self) -> None:
        """Stop the remote task where a worker waits for it.

        While it is deferred, the trigger does it. In the seconds on a worker in between, Airflow also calls this when
        a try has lost its api-server and another one follows the same remote task: it only keeps a Run from being sent.
        """
        self._killed = True
        if self._stop_on_kill is not None:
            self._stop_on_kill()

    def _make_submission(self, context: Context, hook: WiroHook) -> Submission:
        from airflow_provider_wiro.operators._budget import Budget
        from airflow_provider_wiro.operators._state import TaskStateStore, claimed_by_siblings
        from airflow_provider_wiro.submission.driver import Submission

        return Submission(
            hook.get_conn(),
            TaskStateStore(context),
            self.log,
            killed=lambda: self._killed,
            claimed=lambda: claimed_by_siblings(context),
            admit=Budget(hook, self.max_cost, lambda: [(self.model, self.wire_inputs())], self.log).admit,
        )

    def _request_of(self, inputs: Mapping[str, Any]) -> str:
        """Return what makes equal requests known by; files that are sent along are not looked into."""
        from airflow_provider_wiro.outputs.reuse import request_key

        return "" if self.files else request_key(self.model, inputs)

    def _reused(self, context: Context, attempt: Attempt) -> dict[str, Any] | None:
        """Deliver what an equal request has made before, unless this order has a Run of its own."""
        from airflow_provider_wiro.outputs.reuse import deliver_again, find_published

        record = self._submission.record if self._submission is not None else None
        wants_new = attempt.max_tries > attempt.retries and self.on_clear == "resubmit"
        if not self.reuse or not self._request or wants_new or (record is not None and record.unfinished):
            return None
        found = find_published(str(self.destination), self._request, self.verify)
        if found is None:
            return None
        done = deliver_again(str(self.destination), f"reused-{attempt.key[:32]}", found)
        self.log.info(
            "Not ordered: Wiro task %s has made the same before, and it is in %s", done["reused_from"], done["manifest"]
        )
        done.pop("inputs", None)
        tell(context, self.log, ORDER_KEY, order_of(self.model, found["inputs"], "running"))
        tell(context, self.log, END_KEY, end_of(done))
        tell_outlets(self, context, summary_of(done))
        return done

    def _attempt(self, context: Context, hook: WiroHook, inputs: dict[str, Any]) -> Attempt:
        from airflow_provider_wiro.operators._state import earliest, place_of

        ti, place = context["ti"], place_of(context)
        return Attempt(
            key=logical_key(place, hook.get_conn().base_url, self.model, inputs, self.files),
            model=self.model,
            inputs=inputs,
            try_number=ti.try_number,
            max_tries=ti.max_tries,
            retries=self.retries or 0,
            run_started=earliest(context),
            looking_since=self._looking_since or time.time(),
            marked=find_model(self.model) is not None and "seed" not in inputs,
            mapped=place.map_index >= 0,
            has_files=bool(self.files),
            settle=self.settle,
            on_unknown=self.on_unknown,
            on_clear=self.on_clear,
        )

    def _ordered(self, context: Context, hook: WiroHook, standing: Standing, attempt: Attempt) -> dict[str, Any]:
        from airflow_provider_wiro.operators._state import is_over

        record = standing.record
        wiro_task_id = str(record.wiro_task_id)
        self._announce(context, hook, record, attempt)
        if self._killed and self.cancel_on_kill and is_over(context):  # while the order was on its way
            StopOnKill(hook.get_client(**StopOnKill.CLIENT), wiro_task_id, self.log)()
            raise AirflowFailException(f"Airflow ended this process while Wiro task {wiro_task_id} was being ordered.")
        if not self.wait_for_completion:
            return submitted(wiro_task_id, self.model, record.submitted_at)
        end_time = record.since + self.timeout
        if standing.task is None or standing.task.outcome is Outcome.RUNNING:
            if self.deferrable and time.time() < end_time:
                self._defer(wiro_task_id, end_time)
            if self.cancel_on_kill:
                self._stop_on_kill = StopOnKill(hook.get_client(**StopOnKill.CLIENT), wiro_task_id, self.log)
            wait_for_end(hook.get_conn(), Wait(wiro_task_id, end_time, self.log), self.poll_interval)
        return self._conclude(context, hook, wiro_task_id, end_time)

    def _announce(self, context: Context, hook: WiroHook, record: Record, attempt: Attempt) -> None:
        """Tell people, and siblings that look for a Run of their own, which Wiro task is this one's."""
        from airflow_provider_wiro.operators._state import CLAIM_KEY

        wiro_task_id = str(record.wiro_task_id)
        url = hook.task_url(wiro_task_id)
        self.log.info("%s has the order as Wiro task %s: %s", self.model, wiro_task_id, url)
        context["ti"].xcom_push(key=CLAIM_KEY, value=wiro_task_id)
        context["ti"].xcom_push(key=WiroTaskLink().xcom_key, value=url)
        known = {"wiro_task_id": wiro_task_id, "url": url, "ordered_at": record.submitted_at}
        order = order_of(self.model, attempt.sought(record).inputs, "running", **known)
        tell(context, self.log, ORDER_KEY, order)

    def _conclude(self, context: Context, hook: WiroHook, wiro_task_id: str, end_time: float) -> dict[str, Any]:
        """Deliver a task that succeeded, wait on for one that runs and has time left, raise for any other."""
        has_time = self.deferrable and time.time() < end_time
        try:
            task = hook.get_task(wiro_task_id)
        except WiroError as error:
            if error.retryable and has_time:
                self.log.warning("Wiro task %s cannot be read, waiting on: %s", wiro_task_id, error)
                self._defer(wiro_task_id, end_time)
            # The next try looks through the list before it calls a task gone.
            error.retryable = error.retryable or isinstance(error, WiroNotFoundError)
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
                advice="It is not billed.",
            )
        ensure_succeeded(task)
        log_succeeded(self.log, task)
        delivered = self._deliver(hook, task)
        if self._submission is not None:
            self._submission.finish()
        tell(context, self.log, END_KEY, end_of(delivered))
        tell_outlets(self, context, summary_of(delivered))
        return delivered

    def _deliver(self, hook: WiroHook, task: WiroTask) -> dict[str, Any]:
        facts = describe(task, {"model": self.model})
        if self.destination is None:
            return facts
        try:
            ordered = self.wire_inputs()
        except WiroError:  # a decorated function is not called in a resume
            ordered = {}
        return self._depot().fetch(hook, task, facts, ordered, self._request)

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
                retryable=True,
                advice="It is billed if it succeeds.",
            )
        raise WiroTaskTimeoutError(
            f"{late} and was stopped.",
            wiro_task_id=task.wiro_task_id,
            retryable=True,
            advice="It is not billed. A longer `timeout` gives it more time.",
        )
