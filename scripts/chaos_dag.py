"""The Dag of the chaos run, copied into its Airflow: identical pairs of videos, one mapped task.

What varies comes from a JSON file, whose path is in ``WIRO_CHAOS``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_wiro.exceptions import WiroConnectionError, WiroRunUnknownError
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.submission import driver
from airflow_provider_wiro.submission.decision import Attempt, Listing
from airflow_provider_wiro.submission.record import Record

SETTINGS: dict[str, Any] = json.loads(Path(os.environ["WIRO_CHAOS"]).read_text(encoding="utf-8"))


class Slow(driver.Submission):
    """The real thing, but its Run takes a while to leave, as over a long line: what comes between has time to come."""

    def _check(self, started: tuple[float, float]) -> None:
        time.sleep(SETTINGS["linger"])
        super()._check(started)


class ReceiptOnly(driver.Submission):
    """What Airflow's ``ResumableJobMixin`` does: the id is kept once it is known, and nothing else is."""

    def _submit(self, record: Record | None, attempt: Attempt, files: Mapping[str, Any] | None) -> None:
        assert record is not None
        inputs = attempt.sought(record).inputs
        try:
            receipt = self._client.run(attempt.model, inputs, files, lambda: time.sleep(SETTINGS["linger"]))
        except WiroRunUnknownError as error:
            raise WiroConnectionError(error.message) from error
        self._write(record.accepted(receipt.wiro_task_id, time.time()))

    def _list(self, since: float, attempt: Attempt, record: Record | None) -> Listing:
        return Listing(())


class Video(SeedanceRunOperator):
    """Is ready for a server that answers within seconds; what these are is no argument of the operator."""

    def execute(self, context: Any) -> Any:
        """Order, as the product does."""
        driver.FENCE, driver.POST = SETTINGS["fence"], SETTINGS["post"]
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        """Resume, as the product does."""
        driver.FENCE, driver.POST = SETTINGS["fence"], SETTINGS["post"]
        return super().resume_execution(next_method, next_kwargs, context)

    def _make_submission(self, context: Any, hook: Any) -> driver.Submission:
        submission = super()._make_submission(context, hook)
        submission.__class__ = Slow if SETTINGS["protected"] else ReceiptOnly
        return submission


with DAG("chaos", schedule=None, max_active_tasks=64):
    Video.partial(
        task_id="video",
        wait_for_completion=True,
        destination=SETTINGS["destination"],
        poll_interval=1.0,
        timeout=600.0,
        settle=SETTINGS["settle"],
        fps=16,
        retries=40,
        retry_delay=timedelta(seconds=1),
    ).expand(prompt=SETTINGS["prompts"])
