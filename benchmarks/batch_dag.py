"""The Dag of :mod:`benchmarks.batch`, copied into its Airflow: the same videos, in one of two forms.

What varies comes from a JSON file, whose path is in ``WIRO_BENCHMARK``.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

SETTINGS: dict[str, Any] = json.loads(Path(os.environ["WIRO_BENCHMARK"]).read_text(encoding="utf-8"))
PROMPTS: list[str] = SETTINGS["prompts"]
COMMON: dict[str, Any] = {
    "task_id": "videos",
    "destination": SETTINGS["destination"],
    "poll_interval": SETTINGS["poll_interval"],
    "timeout": SETTINGS["timeout"],
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
}

with DAG("benchmark", schedule=None, max_active_tasks=64):
    if SETTINGS["form"] == "mapped":
        from airflow_provider_wiro.operators.seedance import SeedanceRunOperator

        SeedanceRunOperator.partial(**COMMON, wait_for_completion=True, fps=SETTINGS["fps"]).expand(prompt=PROMPTS)
    else:
        from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator

        SeedanceBatchOperator(**COMMON, videos=[{"prompt": prompt, "fps": SETTINGS["fps"]} for prompt in PROMPTS])
