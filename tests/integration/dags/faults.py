"""Ends a task's process at a chosen step of the protocol, or freezes it there: what a crash would do, to the line."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import urllib3.connection

from airflow_provider_wiro.operators import _elsewhere
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor
from airflow_provider_wiro.submission import driver

POINTS = (
    "before the fence",
    "after the fence",
    "after the send",
    "after the answer",
    "after the receipt",
    "before the deferral",
    "in the resume",
    "after the publication",
    "after the last write",
)
IN_RESUME = POINTS[6:]


def die() -> None:
    os._exit(70)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def around(owner: Any, name: str, *, before: Callable[..., None] | None = None, after: Any = None) -> None:
    """Let something happen before or after each call of a function."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        result = original(*args, **kwargs)
        if after is not None:
            after(*args, **kwargs)
        return result

    setattr(owner, name, wrapped)


def arm(point: str, act: Callable[[], None] = die) -> None:
    """Let `act` happen once this process comes to a step."""
    from airflow.sdk import BaseOperator
    from airflow.sdk.execution_time.context import TaskStateStoreAccessor

    from airflow_provider_wiro import outputs
    from airflow_provider_wiro.api.client import WiroClient

    def on_write(phase: str) -> Callable[..., None]:
        return lambda store, key, value, **_: act() if value["phase"] == phase else None

    def on_run(connection: Any, *_: Any, **__: Any) -> None:
        if "/Run/" in getattr(connection, "asked", ""):
            act()

    def ask(connection: Any, method: str, url: str, *_: Any, **__: Any) -> None:
        connection.asked = url

    urllib = urllib3.connection.HTTPConnection
    around(urllib, "request", before=ask)
    {
        "before the fence": lambda: around(TaskStateStoreAccessor, "set", before=on_write("intent")),
        "after the fence": lambda: around(TaskStateStoreAccessor, "set", after=on_write("intent")),
        "before the send": lambda: around(urllib, "connect", before=on_run),
        "after the send": lambda: around(urllib, "getresponse", before=on_run),
        "after the answer": lambda: around(WiroClient, "run", after=lambda *_, **__: act()),
        "after the receipt": lambda: around(TaskStateStoreAccessor, "set", after=on_write("receipt")),
        "before the deferral": lambda: around(BaseOperator, "defer", before=lambda *_, **__: act()),
        "in the resume": lambda: around(WiroClient, "get_task", after=lambda *_, **__: act()),
        "after the publication": lambda: around(outputs, "fetch", after=lambda *_, **__: act()),
        "after the last write": lambda: around(TaskStateStoreAccessor, "set", after=on_write("done")),
    }[point]()


def shorten() -> None:
    """Make the longest time that a Run can be on its way short, as a quick server would."""
    driver.FENCE, driver.POST = 3.0, 1.0


class CrashesOnce(SeedanceRunOperator):
    """Crashes in its first try.

    :param point: one of :data:`POINTS`.
    """

    def __init__(self, *, point: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point

    def execute(self, context: Any) -> Any:
        shorten()
        if context["ti"].try_number == 1 and self.point not in IN_RESUME:
            arm(self.point)
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        shorten()
        if context["ti"].try_number == 1 and self.point in IN_RESUME:
            arm(self.point)
        return super().resume_execution(next_method, next_kwargs, context)


class Impatient(SeedanceRunOperator):
    """Is ended by Airflow's own limit of the deferral, as if no triggerer had told the end."""

    def execute(self, context: Any) -> Any:
        _elsewhere.BACKSTOP = 6 - self.timeout
        return super().execute(context)


class BatchThatDiesTwice(SeedanceBatchOperator):
    """Crashes in its first try, when a few videos are ordered, and in the second, when a few are fetched."""

    def execute(self, context: Any) -> Any:
        self.arm(context["ti"].try_number)
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        self.arm(context["ti"].try_number)
        return super().resume_execution(next_method, next_kwargs, context)

    @staticmethod
    def arm(try_number: int) -> None:
        from airflow_provider_wiro import outputs
        from airflow_provider_wiro.api.client import WiroClient

        shorten()
        if try_number == 1:
            around(WiroClient, "run", after=nth(3, die))
        if try_number == 2:
            around(outputs, "fetch", after=nth(2, die))


def nth(number: int, act: Callable[[], None]) -> Callable[..., None]:
    """Let something happen at the n-th call."""
    calls = itertools.count(1)

    def count(*_: Any, **__: Any) -> None:
        if next(calls) == number:
            act()

    return count


class SensorThatDiesOnce(WiroTaskSensor):
    """Crashes in its first try."""

    def execute(self, context: Any) -> Any:
        if context["ti"].try_number == 1:
            die()
        return super().execute(context)


class FetchThatDiesOnce(WiroFetchOutputsOperator):
    """Crashes in its first try, when it has published."""

    def execute(self, context: Any) -> Any:
        if context["ti"].try_number == 1:
            arm("after the publication")
        return super().execute(context)
