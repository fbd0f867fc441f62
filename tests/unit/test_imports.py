"""What a process pays for having this package around: a Dag processor parses a Dag file again and again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "airflow_provider_wiro"
EXAMPLES = sorted((Path(__file__).parents[2] / "dags_examples").glob("*.py"))
HEAVY = {"requests", "urllib3", "fastapi", "uvicorn", "av", "PIL", "numpy", "pandas", "httpx", "aiohttp", "sqlalchemy"}

# What a Dag file imports of this package, and all that this may import of it in turn.
DAG_FILE = f"""
import {PACKAGE}.operators.seedance, {PACKAGE}.operators.wiro
import {PACKAGE}.sensors.wiro, {PACKAGE}.decorators.seedance, {PACKAGE}.links
"""
OURS = {
    f"{PACKAGE}.{name}"
    for name in (
        "api",
        "api.seedance",
        "api.tasks",
        "decorators",
        "decorators.seedance",
        "exceptions",
        "links",
        "operators",
        "operators.seedance",
        "operators.fetch",
        "operators._depot",
        "operators._elsewhere",
        "operators._many",
        "operators._ordering",
        "operators.wiro",
        "page",
        "parsing",
        "sensors",
        "sensors.wiro",
        "submission",
        "submission.decision",
        "submission.matching",
        "submission.record",
        "templating",
        "triggers",
        "triggers.wiro",
        "waiting",
    )
}
# Airflow reads these of every provider.
ALWAYS = {PACKAGE, f"{PACKAGE}.provider_info"}
# Airflow's own base classes, and one module of pydantic that they bring.
AIRFLOWS = ("airflow.providers.common.compat", "airflow.sdk", "airflow.triggers", "pydantic")

# Examples with a task that asks a person, with Airflow's operators for that; and what of ours such a Dag loads more.
ASKS = "import airflow.providers.standard.operators.hitl, airflow.providers.standard.operators.empty\n"
ASKING = {"approved_batch", "choose_takes"}
OURS_TO_ASK = {f"{PACKAGE}.{module}" for module in ("operators.approval", "operators._budget", "previews")}

# A Dag file without us: what Airflow itself loads for the parts that the examples are made of.
PLAIN_DAG = """
import airflow.sdk, pendulum
with airflow.sdk.DAG("plain", schedule="0 2 * * *", start_date=pendulum.datetime(2026, 1, 1), params={"a": 1}):
    @airflow.sdk.task(outlets=[airflow.sdk.Asset("plain")])
    def rows(): return [1]
    @airflow.sdk.task_group
    def group(row): rows.override(task_id="row")()
    group.expand(row=rows())
"""


def imported_by(home: Path, code: str, before: str = "") -> set[str]:
    """Return the modules that `code` adds, in a new interpreter, to those that `before` has loaded."""
    ours_to_set = ("AIRFLOW_", "WIRO_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours_to_set)}
    environment["AIRFLOW_HOME"] = str(home)
    script = f"import json, sys\n{before}\n_before = set(sys.modules)\n{code}\n"
    script += "print('\\n' + json.dumps(sorted(set(sys.modules) - _before)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


def top_levels(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def of_others(modules: set[str]) -> set[str]:
    """Return the modules that are neither ours nor Python's."""
    return {m for m in modules if m.partition(".")[0] not in {PACKAGE, *sys.stdlib_module_names}}


def of_ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.partition(".")[0] == PACKAGE}


def test_the_package_alone_imports_nothing(tmp_path: Path) -> None:
    modules = imported_by(tmp_path, f"import {PACKAGE}")
    assert of_ours(modules) == {PACKAGE}
    assert not of_others(modules)


def test_the_provider_info_imports_nothing(tmp_path: Path) -> None:
    modules = imported_by(tmp_path, f"import {PACKAGE}; assert {PACKAGE}.get_provider_info()['package-name']")
    assert of_ours(modules) == ALWAYS
    assert not of_others(modules)


def test_a_dag_file_brings_no_http_client_and_no_emulator(tmp_path: Path) -> None:
    modules = imported_by(tmp_path, DAG_FILE, before="import airflow.sdk")
    assert not top_levels(modules) & HEAVY
    assert of_ours(modules) - ALWAYS == OURS
    assert {m for m in of_others(modules) if not m.startswith(AIRFLOWS)} == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_parsed_with_what_a_plain_dag_file_loads(tmp_path: Path, path: Path) -> None:
    asks = path.stem in ASKING
    before = PLAIN_DAG + (ASKS if asks else "")
    modules = imported_by(tmp_path, f"import runpy; runpy.run_path({str(path)!r})", before=before)
    assert not top_levels(modules) & HEAVY
    # What comes after the videos needs nothing of ours.
    assert f"{PACKAGE}.operators.seedance" in modules or path.stem == "publish_on_asset"
    assert of_ours(modules) - ALWAYS <= OURS | (OURS_TO_ASK if asks else set())
    assert {m for m in of_others(modules) if not m.startswith(AIRFLOWS)} == set()


def test_the_plugin_costs_next_to_nothing_in_every_process(tmp_path: Path) -> None:
    before = "import time, airflow.sdk"
    code = f"began = time.perf_counter(); import {PACKAGE}.plugin; took = time.perf_counter() - began\n"
    modules = imported_by(tmp_path, code + "assert took < 0.02, took", before=before)
    assert len(modules) < 10, modules
    assert not top_levels(modules) & HEAVY


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


def test_a_heavy_module_would_be_seen(tmp_path: Path) -> None:
    assert {"requests", "urllib3"} <= top_levels(imported_by(tmp_path, "import requests")) & HEAVY
