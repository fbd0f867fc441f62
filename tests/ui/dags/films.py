"""Dags that never run: the tests write what they would have left in the database."""

from __future__ import annotations

from airflow.sdk import DAG, task

for dag_id in ("films", "other_films", "secret_films"):
    with DAG(dag_id, schedule=None, doc_md="Seeded by tests."):

        @task
        def make(prompt: str) -> None: ...

        @task
        def order(prompt: str) -> None: ...

        @task
        def wait() -> None: ...

        @task
        def fetch() -> None: ...

        @task
        def batch() -> None: ...

        @task
        def preview() -> None: ...

        make.expand(prompt=["A lighthouse", "A fox"])
        order.expand(prompt=["A lighthouse", "A fox"]) >> wait() >> fetch() >> preview()
        batch()
