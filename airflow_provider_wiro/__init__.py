"""Apache Airflow provider for the Wiro API: order videos, wait for them without a worker, have them in your storage."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow's provider manager asks of a provider (entry point ``apache_airflow_provider``)."""
    from copy import deepcopy

    from airflow_provider_wiro.provider_info import PROVIDER_INFO

    return deepcopy(PROVIDER_INFO)  # Airflow writes into what it gets
