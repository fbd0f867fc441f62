"""Local Wiros over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("av")
pytest.importorskip("PIL")

from airflow_provider_wiro.emulator import LocalWiro  # noqa: E402
from tests.unit.emulator.support import FAST, KEY, SECRET, Caller  # noqa: E402


@pytest.fixture(scope="package")
def running() -> Iterator[LocalWiro]:
    with LocalWiro(api_key=KEY, api_secret=SECRET, speed=FAST, balance=500) as wiro:
        yield wiro


@pytest.fixture
def wiro(running: LocalWiro) -> Iterator[LocalWiro]:
    """A server where tasks take no time but that for drawing."""
    yield running
    running.set_balance(500)
    running.reset()


@pytest.fixture
def caller(wiro: LocalWiro) -> Caller:
    return Caller(wiro)


@pytest.fixture
def slow_wiro() -> Iterator[LocalWiro]:
    """A server where time all but stands still: what is queued stays queued."""
    with LocalWiro(api_key=KEY, api_secret=SECRET, speed=0.001, balance=500) as wiro:
        yield wiro
