"""One task instance with its tries, and the operator of the one-task form, against the local Wiro."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from tests.unit.instances import Instance


@pytest.fixture(autouse=True)
def connection(wiro: LocalWiro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", wiro.connection_json())


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., SeedanceRunOperator]:
    """Make the operator of the one-task form."""

    def make(**arguments: Any) -> SeedanceRunOperator:
        defaults = {
            "task_id": "video",
            "prompt": "Once only",
            "poll_interval": 0.05,
            "settle": 0.5,
            "retries": 3,
            "wait_for_completion": True,
            "destination": str(tmp_path / "videos"),
        }
        return SeedanceRunOperator(**{**defaults, **arguments})

    return make
