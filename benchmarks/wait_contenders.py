"""Who is compared: the triggers, how each is made for one job, and the connection it needs.

Nothing of theirs is imported before it is asked for: most of them are not installed everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

CONN_ID = "benchmark"


@dataclass(frozen=True)
class Wanted:
    """What a trigger is to wait for."""

    number: int
    interval: float
    end_time: float
    """Unix time at which it may give up."""


@dataclass(frozen=True)
class Contender:
    """A trigger of some package."""

    name: str
    package: str
    says: str
    """The trigger's class."""
    connection: Mapping[str, Any]
    """The Airflow connection; ``{authority}`` in its host becomes the server's address and port."""
    trigger: Callable[[Wanted], Any]
    imports: tuple[str, ...]
    """What is loaded before the clock starts, also what the trigger itself would load later."""

    def environment(self, authority: str) -> dict[str, str]:
        """Return the environment variable that has the connection.

        :param authority: the server's address and port.
        """
        connection = dict(self.connection, host=self.connection["host"].format(authority=authority))
        return {f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(connection)}


def _ours(wanted: Wanted) -> Any:
    return import_module("airflow_provider_wiro.triggers.wiro").WiroTaskTrigger(
        wiro_conn_id=CONN_ID,
        wiro_task_id=str(wanted.number),
        poll_interval=wanted.interval,
        end_time=wanted.end_time,
        grace=0,
    )


def _naive(wanted: Wanted) -> Any:
    return import_module("benchmarks.wait_naive").ThreadTrigger(CONN_ID, str(wanted.number), wanted.interval)


def _naive_aiohttp(wanted: Wanted) -> Any:
    return import_module("benchmarks.wait_naive").AiohttpTrigger(CONN_ID, str(wanted.number), wanted.interval)


def _http_event(wanted: Wanted) -> Any:
    return import_module("airflow.providers.http.triggers.http").HttpEventTrigger(
        response_check_path="benchmarks.wait_has_ended.has_ended",
        http_conn_id=CONN_ID,
        method="POST",
        endpoint="v1/Task/Detail",
        headers={"Content-Type": "application/json"},
        data=json.dumps({"taskid": str(wanted.number)}),
        poll_interval=wanted.interval,
    )


def _http_sensor(wanted: Wanted) -> Any:
    return import_module("airflow.providers.http.triggers.http").HttpSensorTrigger(
        http_conn_id=CONN_ID,
        method="POST",
        endpoint="v1/Task/Detail",
        headers={"Content-Type": "application/json"},
        data=json.dumps({"taskid": str(wanted.number)}),
        poke_interval=wanted.interval,
    )


def _openai(wanted: Wanted) -> Any:
    return import_module("airflow.providers.openai.triggers.openai").OpenAIBatchTrigger(
        conn_id=CONN_ID, batch_id=f"batch_{wanted.number}", poll_interval=wanted.interval, end_time=wanted.end_time
    )


def _anthropic(wanted: Wanted) -> Any:
    return import_module("airflow.providers.anthropic.triggers.batch").AnthropicBatchTrigger(
        conn_id=CONN_ID, batch_id=f"msgbatch_{wanted.number}", poll_interval=wanted.interval, end_time=wanted.end_time
    )


def _dbt(wanted: Wanted) -> Any:
    return import_module("airflow.providers.dbt.cloud.triggers.dbt").DbtCloudRunJobTrigger(
        conn_id=CONN_ID,
        run_id=wanted.number,
        end_time=wanted.end_time,
        poll_interval=wanted.interval,
        account_id=1,
    )


_WIRO = {
    "conn_type": "wiro",
    "host": "https://{authority}/v1",
    "password": "benchmark-key",
    "extra": {"api_secret": "benchmark-secret"},
}
_HTTP = {"conn_type": "http", "host": "https://{authority}"}
OURS, NAIVE = "wiro", "naive"
CONTENDERS = (
    Contender(
        OURS,
        "airflow-provider-wiro",
        "WiroTaskTrigger",
        _WIRO,
        _ours,
        (
            "airflow_provider_wiro.triggers.wiro",
            "airflow_provider_wiro.triggers.watcher",
            "airflow_provider_wiro.hooks.wiro",
        ),
    ),
    Contender(NAIVE, "requests", "by hand, requests in threads", _WIRO, _naive, ("benchmarks.wait_naive",)),
    Contender(
        "naive-aiohttp",
        "aiohttp",
        "by hand, with aiohttp",
        _WIRO,
        _naive_aiohttp,
        ("benchmarks.wait_naive", "aiohttp"),
    ),
    Contender(
        "http-event",
        "apache-airflow-providers-http",
        "HttpEventTrigger",
        _HTTP,
        _http_event,
        ("airflow.providers.http.triggers.http", "benchmarks.wait_has_ended"),
    ),
    Contender(
        "http-sensor",
        "apache-airflow-providers-http",
        "HttpSensorTrigger",
        _HTTP,
        _http_sensor,
        ("airflow.providers.http.triggers.http",),
    ),
    Contender(
        "openai",
        "apache-airflow-providers-openai",
        "OpenAIBatchTrigger",
        {"conn_type": "openai", "host": "https://{authority}/v1", "password": "benchmark-key"},
        _openai,
        ("airflow.providers.openai.triggers.openai", "openai.resources.batches"),
    ),
    Contender(
        "anthropic",
        "apache-airflow-providers-anthropic",
        "AnthropicBatchTrigger",
        {"conn_type": "anthropic", "host": "https://{authority}", "password": "benchmark-key"},
        _anthropic,
        ("airflow.providers.anthropic.triggers.batch", "anthropic.resources.messages"),
    ),
    Contender(
        "dbt-cloud",
        "apache-airflow-providers-dbt-cloud",
        "DbtCloudRunJobTrigger",
        {"conn_type": "dbt_cloud", "host": "{authority}", "login": "1", "password": "benchmark-key"},
        _dbt,
        ("airflow.providers.dbt.cloud.triggers.dbt",),
    ),
)


def find(name: str) -> Contender:
    """Return a contender by its name."""
    return next(contender for contender in CONTENDERS if contender.name == name)
