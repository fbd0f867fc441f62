"""A store like Airflow's, and an order that a driver brings to the local Wiro."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_wiro.exceptions import WiroStoreError, WiroSupersededError
from airflow_provider_wiro.submission.decision import Attempt
from airflow_provider_wiro.submission.driver import Later, Standing, Submission
from airflow_provider_wiro.submission.record import Place, logical_key

if TYPE_CHECKING:
    from airflow_provider_wiro.emulator.local import LocalWiro

TOY = "local/echo-text"  # a model without files: nothing has to be drawn
ENDLESS = {"prompt": "A secret plot [wiro:hang]"}
QUICK = {"prompt": "A secret plot"}
PATIENCE = 20.0


class Shelf:
    """Keeps one record as JSON text, and can be as bad as a store can be."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.written: list[dict[str, Any]] = []
        self.before_set: Callable[[Mapping[str, Any]], object] = lambda value: None
        """Called with what is to be written; raises where it is not to be."""
        self.superseded = False
        """Whether another try has taken over: it reads as nothing, and cannot be written."""
        self.down = False

    def get(self) -> Any:
        if self.down:
            raise WiroStoreError("no api-server")
        return None if self.superseded or self.text is None else json.loads(self.text)

    def set(self, value: Mapping[str, Any]) -> None:
        self.before_set(value)
        if self.down:
            raise WiroStoreError("no api-server")
        if self.superseded:
            raise WiroSupersededError("HTTP 404")
        self.text = json.dumps(value)
        self.written.append(json.loads(self.text))

    @property
    def phases(self) -> list[str]:
        return [str(record["phase"]) for record in self.written]

    @property
    def record(self) -> dict[str, Any]:
        return self.written[-1]


def order(inputs: Mapping[str, Any] = ENDLESS, **changes: Any) -> Attempt:
    """The first try of an order; `settle` is short, and its seed is derived unless `marked` says no."""
    model = changes.get("model", TOY)
    usual: dict[str, Any] = {
        "key": logical_key(Place("dag", "run", "task"), "http://wiro", model, inputs),
        "model": model,
        "inputs": inputs,
        "try_number": 1,
        "max_tries": 3,
        "retries": 3,
        "run_started": time.time() - 1,
        "looking_since": time.time(),
        "marked": True,
        "settle": 0.2,
    }
    return Attempt(**{**usual, **changes})


def insist(submission: Submission, attempt: Attempt, **more: Any) -> Standing:
    """Proceed until it stands."""
    deadline = time.time() + PATIENCE
    while isinstance(went := submission.proceed(attempt, **more), Later):
        assert went.until < deadline
        time.sleep(max(0.0, went.until - time.time()))
    return went


def runs(wiro: LocalWiro) -> list[dict[str, Any]]:
    """What Wiro accepted of ours."""
    return [run for run in wiro.ledger()["runs"] if not run["foreign"]]


def calls(wiro: LocalWiro, endpoint: str) -> int:
    return int(wiro.ledger()["calls"].get(endpoint, 0))


def until_accepted(wiro: LocalWiro, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE
    while len(found := runs(wiro)) < count:
        assert time.monotonic() < deadline, f"{len(found)} runs"
        time.sleep(0.02)
    return found
