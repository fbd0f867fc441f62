"""How the batch operator runs: one task that orders, waits in one trigger, fetches, and goes on until all is over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_wiro.exceptions import (
    WiroBatchError,
    WiroConfigurationError,
    WiroError,
    WiroOrderError,
    WiroStoreError,
)
from airflow_provider_wiro.operators._depot import Depot, tell_outlets
from airflow_provider_wiro.operators._elsewhere import BACKSTOP, WaitsElsewhere
from airflow_provider_wiro.page import end_of, order_of, tell_batch
from airflow_provider_wiro.submission.decision import Attempt
from airflow_provider_wiro.submission.record import Phase, Record, logical_key
from airflow_provider_wiro.waiting import PLACE, read_batch_event

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_wiro.hooks.wiro import WiroHook
    from airflow_provider_wiro.operators._batch import Batch, Item

_STOP_PATIENCE = 2.0  # seconds; Airflow kills a process five seconds after it asked it to end
_NAMED = 20  # failures that are named in XCom and error; the manifest has all


@dataclass
class _Queue:
    """The batch's turn in the account's queue."""

    since: float = 0.0
    limit: int | None = None
    places: int | None = None
    """How many orders may be sent now; ``None`` for as many as Wiro accepts."""

    @property
    def was_let_go(self) -> bool:
        return bool(self.places)


class OrdersMany(WaitsElsewhere):
    """The part of :class:`~airflow_provider_wiro.operators.seedance.SeedanceBatchOperator` that runs."""

    destination: str
    min_success_ratio: float

    def wire_videos(self) -> list[tuple[str, dict[str, Any]]]:
        """Return model and inputs of every video, as they are sent."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Order everything, or go on with what an earlier try has ordered."""
        return self._go_on(context, _Queue(), resumed=False)

    def go_on(self, context: Context, event: Any) -> dict[str, Any]:
        """Go on after a wait.

        :param context: Airflow's context.
        :param event: the trigger's payload.
        """
        with self._explained(context):
            word, places, since, limit = read_batch_event(event)
        return self._go_on(context, _Queue(since, limit, places if word == PLACE else None), resumed=True)

    def on_kill(self) -> None:
        """Keep what is not ordered yet from being sent; what runs is stopped by the trigger, or before this ends."""
        self._killed = True

    def _told(self, context: Context) -> AbstractContextManager[None]:
        return nullcontext()  # each video has been told of by itself

    def _outlook(self, error: BaseException) -> str:
        if isinstance(error, (WiroBatchError, WiroConfigurationError, WiroOrderError, WiroStoreError)):
            return ""  # their own words tell
        retryable = not isinstance(error, WiroError) or error.retryable
        next_start = "A retry, or a clear," if retryable else "Airflow does not retry this. A clear"
        return f"{next_start} goes on with what is ordered, and pays for nothing twice."

    def _go_on(self, context: Context, queue: _Queue, *, resumed: bool) -> dict[str, Any]:
        with self._explained(context):
            self.check_policies(self.on_unknown, self.on_clear)
            self._open_destination()
            hook = self._hook()
            batch = self._make_batch(context, hook)
            batch.load(resumed, lambda item: self._delivered(item) is not None)
            before = {item.index: (item.state, item.wiro_task_id) for item in batch.items} if resumed else {}
            self._reuse(batch)
            batch.check_budget()
            while True:
                try:
                    with self._folded(batch):
                        batch.advance(queue.places)
                finally:
                    before = self._tell_page(context, hook, batch, before)
                if self._killed:
                    self._killed_while_ordering(context, batch)
                self._give_up(batch, queue)
                if batch.is_over:
                    return self._conclude(context, batch)
                queue.places = self._wait(batch, queue)

    @contextmanager
    def _folded(self, batch: Batch) -> Iterator[None]:
        """Fold the lines about single videos in Airflow's log; that some failed is told outside."""
        from airflow_provider_wiro.operators._batch import State

        before = {item.index for item in batch.items if item.state is State.FAILED}
        self.log.info("::group::Ordering, looking, fetching: video by video")
        try:
            yield
        finally:
            self.log.info("::endgroup::")
            failed = [item.index for item in batch.items if item.state is State.FAILED and item.index not in before]
            if failed:
                named = ", ".join(map(str, failed[:_NAMED])) + (" …" if len(failed) > _NAMED else "")
                self.log.warning("Failed: videos[%s]. The lines folded above tell why.", named)

    def _make_batch(self, context: Context, hook: WiroHook) -> Batch:
        from airflow_provider_wiro.operators._batch import Batch, Item, Prefixed, Terms
        from airflow_provider_wiro.operators._budget import Budget
        from airflow_provider_wiro.operators._state import TaskStateStore, earliest, place_of
        from airflow_provider_wiro.outputs.reuse import request_key
        from airflow_provider_wiro.submission.driver import Submission
        from airflow_provider_wiro.submission.shelf import Shelf

        client, store, ti = hook.get_conn(), TaskStateStore(context), context["ti"]
        shelf = Shelf(store.read, store.write)
        equal: Counter[str] = Counter()
        items: list[Item] = []
        budget = Budget(
            hook,
            self.max_cost,
            lambda: [(item.attempt.model, item.attempt.inputs) for item in items if not item.is_reused],
            self.log,
        )
        for index, (model, inputs) in enumerate(self.wire_videos()):
            key = logical_key(place_of(context), client.base_url, model, inputs)
            equal[key] += 1
            key = logical_key(place_of(context), client.base_url, model, inputs, twin=equal[key] - 1)
            attempt = Attempt(
                key=key,
                model=model,
                inputs=inputs,
                try_number=ti.try_number,
                max_tries=ti.max_tries,
                retries=self.retries or 0,
                run_started=earliest(context),
                looking_since=time.time(),
                marked="seed" not in inputs,
                mapped=True,  # others of the batch may have ordered the very same
                settle=self.settle,
                on_unknown=self.on_unknown,
                on_clear=self.on_clear,
            )
            log = Prefixed(self.log, index)
            submission = Submission(
                client,
                shelf.store_of(key),
                log,
                killed=lambda: self._killed,
                claimed=lambda key=key: shelf.ids(but=key),  # type: ignore[misc]
                admit=budget.admit,
            )
            items.append(Item(index, attempt, submission, log))

        def fetch(task: Any, facts: Mapping[str, Any], attempt: Attempt, log: Any) -> dict[str, Any]:
            depot = Depot(self.destination, self.verify, self.delete_remote, log)
            return depot.fetch(hook, task, facts, attempt.inputs, request_key(attempt.model, attempt.inputs))

        terms = Terms(self.timeout, self.cancel_on_timeout, fetch, lambda: self._killed, budget.admit, hook.task_url)
        return Batch(items, shelf, client, self.log, terms)

    def _delivered(self, item: Item) -> dict[str, Any] | None:
        """Return the facts of an order whose files are in the folder, or ``None``."""
        from airflow_provider_wiro.outputs import read_manifest

        if item.facts is None and item.wiro_task_id is not None:
            item.facts = read_manifest(self.destination, item.wiro_task_id)
        return item.facts

    def _reuse(self, batch: Batch) -> None:
        """Take what equal requests have made before, for orders that have no Run of their own."""
        from concurrent.futures import ThreadPoolExecutor

        from airflow_provider_wiro.operators._batch import AT_ONCE, State
        from airflow_provider_wiro.outputs.reuse import find_published, request_key

        queued = batch.queued()
        if (
            not self.reuse
            or not queued
            or (self.on_clear == "resubmit" and queued[0].attempt.max_tries > queued[0].attempt.retries)
        ):
            return

        def look(item: Item) -> None:
            if item.record is not None and item.record.unfinished:
                return
            found = find_published(self.destination, request_key(item.attempt.model, item.attempt.inputs), self.verify)
            if found is not None:
                item.state = State.DONE
                item.facts = {**found, "total_cost": "0", "reused_from": found["wiro_task_id"]}
                item.log.info("Not ordered: Wiro task %s has made the same before.", found["wiro_task_id"])

        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(look, queued))

    def _give_up(self, batch: Batch, queue: _Queue) -> None:
        """Count the time without a place from the last order that Wiro accepted."""
        if not batch.queued():
            return
        if batch.accepted or not queue.since:
            queue.since = time.time()
        if batch.refusal is not None and batch.refusal.limit is not None:
            queue.limit = batch.refusal.limit
        if time.time() >= queue.since + self.timeout:
            batch.give_up_queued(self._no_place())

    def _wait(self, batch: Batch, queue: _Queue) -> int | None:
        """Wait in the triggerer, or here; return how many orders may be sent then."""
        from airflow_provider_wiro.triggers.batch import WiroBatchTrigger

        running, queued, unknown = batch.running(), len(batch.queued()), batch.unknown()
        now = time.time()
        moments = [moment for moment in (batch.next_moment(), queue.since + self.timeout if queued else None) if moment]
        end_time = max(now, min(moments))
        if not self.deferrable:
            pause = batch.refusal.retry_after if batch.refusal is not None else None
            time.sleep(max(0.0, min(pause or self.poll_interval, end_time - now)))
            return 1 if queued else None
        self.log.info(
            "%d of %d videos run, %d wait for a place%s.",
            len(running),
            len(batch.items),
            queued,
            f", and of {len(unknown)} it is not known yet whether a Run was accepted" if unknown else "",
        )
        self.defer(
            trigger=WiroBatchTrigger(
                wiro_conn_id=self.wiro_conn_id,
                ids=running,
                poll_interval=self.poll_interval,
                max_poll_interval=self.max_poll_interval,
                end_time=end_time,
                wanted=queued,
                since=queue.since,
                limit=queue.limit,
                came_back=queue.was_let_go and batch.refusal is not None,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="go_on",
            timeout=timedelta(seconds=end_time - now + BACKSTOP),
        )

    def _tell_page(self, context: Context, hook: WiroHook, batch: Batch, before: Mapping[int, Any]) -> dict[int, Any]:
        """Tell the page of videos what is new; return how everything stands."""
        now = {item.index: (item.state, item.wiro_task_id) for item in batch.items}
        new = [item for item in batch.items if before.get(item.index) != now[item.index]]
        tell_batch(context, self.log, {item.index: self._card(hook, item) for item in new}, anew=not before)
        return now

    def _card(self, hook: WiroHook, item: Item) -> dict[str, Any]:
        """Return what the page of videos is told of one video."""
        from airflow_provider_wiro.operators._batch import State

        states = {State.WANTED: "queued", State.LATER: "queued", State.RUNNING: "running", State.FAILED: "failed"}
        known = {}
        if item.wiro_task_id is not None and item.record is not None:
            url, ordered_at = hook.task_url(item.wiro_task_id), item.record.submitted_at
            known = {"wiro_task_id": item.wiro_task_id, "url": url, "ordered_at": ordered_at}
        card = order_of(item.attempt.model, self._sent(item), states.get(item.state, "succeeded"), **known)
        if item.state is State.DONE:
            card |= end_of(item.facts or {})
        return card | ({"error": item.error[:1000]} if item.state is State.FAILED else {})

    @staticmethod
    def _sent(item: Item) -> Mapping[str, Any]:
        """Return the inputs as they are, or would be, sent."""
        record = item.record or Record(item.attempt.key, Phase.OPEN, 0, 0)
        return item.attempt.sought(record).inputs

    def _killed_while_ordering(self, context: Context, batch: Batch) -> None:
        from airflow_provider_wiro.operators._state import is_over

        if self.cancel_on_kill and is_over(context):
            batch.stop(_STOP_PATIENCE)
        raise AirflowFailException("Airflow ended this process while it ordered; nothing more was sent.")

    def _conclude(self, context: Context, batch: Batch) -> dict[str, Any]:
        """Write the manifest; return its address and the sums, or raise where too little succeeded."""
        from concurrent.futures import ThreadPoolExecutor

        from airflow_provider_wiro.operators._batch import AT_ONCE, State
        from airflow_provider_wiro.outputs.store import write_lines

        with ThreadPoolExecutor(AT_ONCE) as threads:
            lines = list(threads.map(lambda item: self._line(batch, item), batch.items))
        ti = context["ti"]
        mapped = f"-{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
        manifest = write_lines(self.destination, f"batch-{ti.run_id}-{ti.task_id}{mapped}", lines)
        failed = [item for item in batch.items if item.state is State.FAILED]
        cost = sum((Decimal(line["total_cost"]) for line in lines if line["total_cost"] is not None), Decimal(0))
        result = {
            "manifest": manifest,
            "videos": len(lines),
            "succeeded": len(lines) - len(failed),
            "failed": len(failed),
            "total_cost": f"{cost.normalize():f}",
            "failures": [{"index": item.index, "error": item.error} for item in failed[:_NAMED]],
        }
        self.log.info(
            "%d of %d videos succeeded, for $%.2f in all: %s",
            result["succeeded"],
            result["videos"],
            cost,
            manifest,
        )
        needed = self.min_success_ratio * len(lines)
        if len(lines) - len(failed) < needed:
            context["ti"].xcom_push(key="batch", value=result)
            named = "; ".join(f"video {item.index}: {item.error}" for item in failed[:_NAMED])
            raise WiroBatchError(
                f"{len(failed)} of {len(lines)} videos failed, and min_success_ratio is {self.min_success_ratio:g}. "
                f"{named}{' …' if len(failed) > _NAMED else ''}",
                retryable=any(item.retryable for item in failed),
            )
        tell_outlets(self, context, {name: value for name, value in result.items() if name != "failures"})
        return result

    def _line(self, batch: Batch, item: Item) -> dict[str, Any]:
        """Return what the manifest says of one video."""
        from airflow_provider_wiro.operators._batch import State

        if item.state is State.DONE and self._delivered(item) is None:
            try:
                batch.collect(item)
            except WiroError as error:
                batch.fail(item, error)
        facts = item.facts or {}
        done = item.state is State.DONE
        return {
            "index": item.index,
            "status": "succeeded" if done else "failed",
            "wiro_task_id": item.wiro_task_id or facts.get("wiro_task_id"),
            "model": item.attempt.model,
            "inputs": facts["inputs"] if "reused_from" in facts else dict(self._sent(item)),
            "submitted_at": facts.get("submitted_at"),
            "total_cost": facts.get("total_cost"),
            "elapsed_seconds": facts.get("elapsed_seconds"),
            "files": facts.get("files", []),
            **({"reused_from": facts["reused_from"]} if "reused_from" in facts else {}),
            "error": None if done else item.error,
        }
