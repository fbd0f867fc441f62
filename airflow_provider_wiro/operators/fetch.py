"""Fetch what a task made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_wiro.api.tasks import Outcome, ensure_succeeded
from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroTaskError, without_useless_retries
from airflow_provider_wiro.links import WiroTaskLink, WiroVideoLink
from airflow_provider_wiro.operators._depot import Depot, summary_of, tell_outlets
from airflow_provider_wiro.page import END_KEY, end_of, failures_told, tell
from airflow_provider_wiro.parsing import check_destination, check_verify, is_settled
from airflow_provider_wiro.templating import DataFromOtherTasks
from airflow_provider_wiro.waiting import describe, read_reference

if TYPE_CHECKING:
    from airflow.sdk import Context

_DOC_MD = """\
Stores the outputs of a [Wiro](https://wiro.ai) task, and a manifest beside them. Running it again asks Wiro nothing.
"""


class WiroFetchOutputsOperator(DataFromOtherTasks, BaseOperator):
    """Stores the outputs of a task that has succeeded, and a manifest beside them.

    The files are ``<destination>/<task id>.mp4`` (numbered where there are several) and ``<destination>/<task
    id>.json``, the manifest. Running it again for a task whose manifest and files are there asks Wiro nothing. It
    returns the facts that :class:`~airflow_provider_wiro.sensors.wiro.WiroTaskSensor` returns, with ``files`` (``uri``,
    ``name``, ``size`` in bytes, ``sha256``, ``content_type``) and ``manifest`` (its address).

    :param task: what a run operator or the sensor returned, a Wiro task id, or ``{"task_token": …}``. (templated)
    :param destination: folder: a local path, or an address that Airflow's object storage understands, with its
        connection, such as ``s3://aws_default@bucket/videos``. (templated)
    :param verify: ``container`` (default): an MP4 has to be whole and, for the Seedance models, as ordered in size,
        duration and frame rate, by what the file says of itself. ``none``: only the number of bytes has to be right.
        (templated)
    :param delete_remote: whether the files, inputs and outputs, are deleted at Wiro once the manifest has been read
        back; default False. What cannot be deleted is logged, and fails nothing.
    :param wiro_conn_id: the connection; default ``wiro_default``. (templated)
    :raises WiroTaskError: the task still runs; a retry looks again.
    :raises WiroOutputError: a file cannot be had whole, or the folder cannot be written; a retry fetches again.
    :raises AirflowFailException: the task failed, was cancelled, does not exist or has no outputs, a video is not what
        was ordered, or an address may not be asked.
    """

    template_fields: Sequence[str] = ("task", "destination", "verify", "wiro_conn_id")
    operator_extra_links = (WiroTaskLink(), WiroVideoLink())
    custom_operator_name = "Wiro fetch"
    ui_color = "#f6effe"

    def __init__(
        self,
        *,
        task: Any,
        destination: str,
        verify: str = "container",
        delete_remote: bool = False,
        wiro_conn_id: str = "wiro_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"doc_md": _DOC_MD, **kwargs})
        self.task = task
        self.destination = destination
        self.verify = verify
        self.delete_remote = delete_remote
        self.wiro_conn_id = wiro_conn_id
        if is_settled(task):
            read_reference(task)
        check_destination(destination, needed=True)
        check_verify(verify)

    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch, unless it has been done before."""
        with failures_told(context, self.log, self._known_id):
            return self._fetch(context)

    def _fetch(self, context: Context) -> dict[str, Any]:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        with without_useless_retries():
            check_destination(self.destination, needed=True)
            check_verify(self.verify)
            wiro_task_id, token = read_reference(self.task)
            depot = Depot(self.destination, self.verify, self.delete_remote, self.log)
            hook = WiroHook(self.wiro_conn_id)
            done = depot.fetched_before(wiro_task_id) if wiro_task_id else None
            if done is not None:
                if self.delete_remote:
                    depot.delete(hook, done["wiro_task_id"])
                return self._tell(context, done)
            task = hook.get_task(wiro_task_id, token)
            context["ti"].xcom_push(key=WiroTaskLink().xcom_key, value=hook.task_url(task.wiro_task_id))
            if task.outcome is Outcome.RUNNING:
                raise WiroTaskError(
                    f"It still runs ({task.status}).",
                    wiro_task_id=task.wiro_task_id,
                    retryable=True,
                    advice="Put a WiroTaskSensor before the fetch.",
                )
        with without_useless_retries(lambda error: error.retryable and not isinstance(error, WiroTaskError)):
            ensure_succeeded(task)
            facts = describe(task, self.task if isinstance(self.task, Mapping) else None)
            done = depot.fetch(hook, task, facts)
            return self._tell(context, done, None if self._is_known else task.inputs)

    @property
    def _is_known(self) -> bool:
        """Whether another task of this Dag run has told what was ordered."""
        return isinstance(self.task, Mapping) and "submitted_at" in self.task

    def _known_id(self) -> str | None:
        try:
            return read_reference(self.task)[0]
        except WiroConfigurationError:
            return None

    def _tell(self, context: Context, done: dict[str, Any], inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Tell the page of videos and the outlets of what is there; return it."""
        tell(context, self.log, END_KEY, end_of(done, inputs))
        tell_outlets(self, context, summary_of(done))
        return done
