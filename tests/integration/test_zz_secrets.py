"""Runs last: after all that the other tests did, no secret is anywhere but in the connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_wiro.api.auth import WiroAuth
from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from scripts.local_airflow import LocalAirflow

from .conftest import CANARY_KEY, CANARY_SECRET

pytestmark = pytest.mark.integration


def rows_of(database: Path) -> Iterator[tuple[str, bytes]]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        connection.text_factory = bytes
        tables = [row[0].decode() for row in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                yield table, b"|".join(value if isinstance(value, bytes) else str(value).encode() for value in row)


@pytest.fixture(scope="module")
def canaries(wiro: LocalWiro) -> list[bytes]:
    ledger = wiro.ledger()
    assert len(ledger["runs"]) > 30, "runs after the other tests"
    client = WiroClient(WiroAuth(CANARY_KEY, CANARY_SECRET), wiro.base_url)
    tokens = [task.task_token or "" for task in client.list_tasks().tasks]
    assert len(tokens) > 30
    assert all(tokens)
    return [text.encode() for text in (CANARY_KEY, CANARY_SECRET, *tokens)]


def test_no_secret_in_the_database(airflow: LocalAirflow, home: Path, canaries: list[bytes]) -> None:
    found = {table for table, row in rows_of(home / "airflow.db") for canary in canaries if canary in row}
    assert found == set()


def test_no_secret_in_any_log(airflow: LocalAirflow, home: Path, canaries: list[bytes]) -> None:
    files = [path for folder in ("logs", "run") for path in (home / folder).rglob("*.log")]
    assert len(files) > 30
    leaks = [str(path) for path in files for canary in canaries if canary in path.read_bytes()]
    assert leaks == []


def test_no_credential_reached_the_cdn(wiro: LocalWiro) -> None:
    cdn = wiro.ledger()["cdn"]
    assert cdn["requests"] > 20
    assert cdn["leaked_headers"] == []
