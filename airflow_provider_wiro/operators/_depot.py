"""Where an operator's files go, and all that is to be done about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_provider_wiro.exceptions import WiroError
from airflow_provider_wiro.waiting import Log

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_wiro.api.tasks import WiroTask
    from airflow_provider_wiro.hooks.wiro import WiroHook


@dataclass(frozen=True)
class Depot:
    """Stores files as an operator's arguments say."""

    destination: str
    verify: str
    delete_remote: bool
    log: Log

    def fetched_before(self, wiro_task_id: str) -> dict[str, Any] | None:
        """Return what an earlier fetch returned, where its manifest and files are there, else ``None``."""
        from airflow_provider_wiro.outputs import read_manifest

        done = read_manifest(self.destination, wiro_task_id)
        if done is not None:
            self.log.info("Wiro task %s has been fetched before: %s", wiro_task_id, done["manifest"])
            done.pop("inputs", None)
        return done

    def fetch(
        self,
        hook: WiroHook,
        task: WiroTask,
        facts: Mapping[str, Any],
        ordered: Mapping[str, Any] | None = None,
        request: str = "",
    ) -> dict[str, Any]:
        """Store the outputs of a task that has succeeded, unless they are there.

        :param hook: asks Wiro.
        :param task: the task.
        :param facts: what it is known by.
        :param ordered: the inputs as they were sent, where that is known; else what Wiro echoes is taken for them.
        :param request: what makes equal requests known by, where these may be answered with these files.
        :return: see :func:`airflow_provider_wiro.outputs.fetch`.
        """
        from airflow_provider_wiro.outputs import Delivery, fetch
        from airflow_provider_wiro.outputs.reuse import remember
        from airflow_provider_wiro.outputs.sources import Sources

        done = self.fetched_before(task.wiro_task_id)
        if done is None:
            delivery = Delivery(task, facts, {**task.inputs, **(ordered or {})}, self.verify)
            sources = Sources(hook.get_conn().base_url, hook.output_hosts)
            done = fetch(
                delivery, self.destination, sources, self.log, read_again=lambda: hook.get_task(task.wiro_task_id)
            )
            _note_lineage(hook, task, done, self.log)
        if request:
            remember(self.destination, request, task.wiro_task_id)
        if self.delete_remote:
            self.delete(hook, task.wiro_task_id)
        return done

    def delete(self, hook: WiroHook, wiro_task_id: str) -> None:
        """Delete a task's files at Wiro, if its manifest can be read back and its files are there.

        What cannot be deleted is told and left: the video is there, and Wiro forgets its files some day by itself.
        """
        from airflow_provider_wiro.outputs import read_manifest

        if read_manifest(self.destination, wiro_task_id) is None:
            self.log.warning("The manifest of Wiro task %s cannot be read back: nothing is deleted.", wiro_task_id)
            return
        try:
            hook.delete_files(wiro_task_id)
        except WiroError as error:
            self.log.warning("The files of Wiro task %s stay at Wiro: %s", wiro_task_id, error)
        else:
            self.log.info("The files of Wiro task %s are deleted at Wiro.", wiro_task_id)


def _note_lineage(hook: WiroHook, task: WiroTask, done: Mapping[str, Any], log: Log) -> None:
    """Tell Airflow's lineage where files came from and went to."""
    from airflow.sdk.lineage import get_hook_lineage_collector

    try:
        collector = get_hook_lineage_collector()
        for output, file in zip(task.outputs, done["files"], strict=True):
            uri = file["uri"] if "://" in file["uri"] else f"file://{file['uri']}"
            if output.url is not None:
                collector.add_input_asset(context=hook, uri=output.url)
            collector.add_output_asset(context=hook, uri=uri)
    except Exception as error:  # an address that no asset may have must not lose a video that is there
        log.warning("Lineage does not know of Wiro task %s: %s: %s", task.wiro_task_id, type(error).__name__, error)


def tell_outlets(operator: BaseOperator, context: Context, extra: Mapping[str, Any]) -> None:
    """Put what was made into the events of the assets that a task has for outlets.

    :param operator: the task's.
    :param context: Airflow's context.
    :param extra: what is told.
    """
    for outlet in operator.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)


def summary_of(done: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an asset's event says of one task: no address at Wiro, which expires."""
    told = ("wiro_task_id", "total_cost", "manifest", "reused_from")
    return {"videos": 1, **{name: done[name] for name in told if name in done}}
