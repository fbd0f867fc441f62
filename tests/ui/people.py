"""Who signs in where the tests look at rights."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

PEOPLE = ("ada", "bob", "eve")
PASSWORD = "only-for-tests"


class Doorkeeper(SimpleAuthManager):
    """Ada sees everything, Bob nothing of the Dag "foreign", Eve no XComs, though all Dags."""

    def is_authorized_dag(self, *, user: Any, access_entity: Any = None, details: Any = None, **more: Any) -> bool:
        dag_id = details.id if details is not None else None
        if user.username == "bob" and dag_id == "foreign":
            return False
        if user.username == "eve" and access_entity is DagAccessEntity.XCOM:
            return False
        return bool(super().is_authorized_dag(user=user, access_entity=access_entity, details=details, **more))
