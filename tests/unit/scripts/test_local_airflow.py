from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.local_airflow import HOST, LocalAirflow, child_environment, free_ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield int(server.getsockname()[1])


def test_a_free_port_is_taken_as_wished() -> None:
    (wished,) = free_ports(1)
    assert free_ports(2, wished)[0] == wished


def test_a_taken_port_is_replaced(taken: int) -> None:
    ports = free_ports(3, taken)
    assert taken not in ports
    assert len(set(ports)) == 3


def test_another_airflows_variables_stay_out_and_the_users_win() -> None:
    inherited = {
        "AIRFLOW_HOME": "/else",
        "AIRFLOW__CORE__EXECUTOR": "x",
        "PYTHONDONTWRITEBYTECODE": "1",
        "A": "b",
    }
    settings = {"AIRFLOW_HOME": "/home", "AIRFLOW__CORE__PARALLELISM": "8"}
    env = child_environment(inherited, settings, {"AIRFLOW__CORE__PARALLELISM": "2"})

    assert env["AIRFLOW_HOME"] == "/home"
    assert env["AIRFLOW__CORE__PARALLELISM"] == "2"
    assert env["A"] == "b"
    assert "AIRFLOW__CORE__EXECUTOR" not in env
    assert "PYTHONDONTWRITEBYTECODE" not in env


def test_the_loopback_is_kept_from_proxies() -> None:
    env = child_environment({"no_proxy": "internal.example"}, {}, {})
    assert env["no_proxy"].split(",")[:2] == ["internal.example", HOST]
    assert HOST in env["NO_PROXY"].split(",")


def test_the_address_of_a_run_is_quoted(tmp_path: Path) -> None:
    airflow = LocalAirflow(tmp_path, tmp_path)
    airflow.url = "http://127.0.0.1:1"
    assert airflow.run_url("d", "manual__1+00:00") == "http://127.0.0.1:1/dags/d/runs/manual__1%2B00%3A00"


def test_without_a_start_there_is_no_api(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        _ = LocalAirflow(tmp_path, tmp_path).api
