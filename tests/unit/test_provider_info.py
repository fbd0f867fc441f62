"""What Airflow reads of this package: provider info and entry points, and what its command line makes of them."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, task
from airflow.sdk.log import redact  # type: ignore[attr-defined]
from airflow.triggers.base import BaseTrigger

import airflow_provider_wiro

ROOT = Path(airflow_provider_wiro.__file__).parent
INFO = airflow_provider_wiro.get_provider_info()
[CONNECTION] = INFO["connection-types"]
NAME = "airflow-provider-wiro"

# One process for all: nearly all of its time goes into importing Airflow.
COMMANDS = {
    "list": ["list"],
    "get": ["get", NAME, "--full"],
    "hooks": ["hooks"],
    "links": ["links"],
    "widgets": ["widgets"],
    "behaviours": ["behaviours"],
}
COMMAND_LINE = """
import contextlib, io, json, sys
from airflow.__main__ import main
answers = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv = ["airflow", "providers", *arguments, "--output", "json"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main()
    answers[name] = json.loads(output.getvalue())
print("\\n" + json.dumps(answers))
"""


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return what ``airflow providers …`` prints, by sub-command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("airflow"))
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE, json.dumps(COMMANDS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers: dict[str, list[dict[str, Any]]] = json.loads(ended.stdout.splitlines()[-1])
    return answers


def found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def schema_of_airflow(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((Path(airflow.__file__).parent / name).read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return schema


def test_it_fits_the_schema_of_the_installed_airflow() -> None:
    schema = schema_of_airflow("provider_info.schema.json")
    jsonschema.Draft7Validator(schema).validate(INFO)
    # The schema lets unknown keys pass, and Airflow passes over them: a misspelt one would be lost silently.
    # Airflow itself writes the address of the documentation into what it is given.
    assert set(INFO) - {"documentation-url"} <= set(schema["properties"])


def test_the_connection_form_fits_the_schema_that_describes_it() -> None:
    form = schema_of_airflow("provider.yaml.schema.json")["properties"]["connection-types"]
    jsonschema.Draft7Validator(form).validate(INFO["connection-types"])
    assert set(CONNECTION) <= set(form["items"]["properties"])


def test_the_installed_distribution_leads_to_it() -> None:
    points = {(point.group, point.name): point for point in distribution(NAME).entry_points}
    assert points["apache_airflow_provider", "provider_info"].load() is airflow_provider_wiro.get_provider_info
    assert callable(points["console_scripts", "wiro-local"].load())
    assert distribution(NAME).metadata["Name"] == INFO["package-name"] == NAME
    assert "Framework :: Apache Airflow :: Provider" in distribution(NAME).metadata.get_all("Classifier", [])


@pytest.mark.parametrize(
    ("kind", "base"),
    [("hooks", BaseHook), ("operators", BaseOperator), ("sensors", BaseSensorOperator), ("triggers", BaseTrigger)],
)
def test_it_names_every_module_of_a_kind_and_no_other(kind: str, base: type) -> None:
    [entry] = INFO[kind]
    of_the_kind = []
    for path in sorted((ROOT / kind).glob("[!_]*.py")):
        module = importlib.import_module(f"airflow_provider_wiro.{kind}.{path.stem}")
        if any(issubclass(getattr(module, name), base) for name in public_classes(path)):
            of_the_kind.append(module.__name__)
    assert sorted(entry["python-modules"]) == of_the_kind
    assert entry["integration-name"] in {integration["integration-name"] for integration in INFO["integrations"]}


def public_classes(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def test_the_connection_type_is_the_hook_s_own() -> None:
    hook = found(CONNECTION["hook-class-name"])
    assert issubclass(hook, BaseHook)
    assert (hook.conn_type, hook.hook_name) == (CONNECTION["connection-type"], CONNECTION["hook-name"])
    assert hook.conn_type == "wiro"
    # Airflow takes the id from this attribute, so the argument must bear its name.
    assert hook.conn_name_attr == "wiro_conn_id"
    assert getattr(hook(), hook.conn_name_attr) == hook.default_conn_name == "wiro_default"
    assert callable(hook.test_connection)


def test_the_links_are_the_operators_own() -> None:
    links = [found(path) for path in INFO["extra-links"]]
    assert all(issubclass(link, BaseOperatorLink) and isinstance(link().name, str) for link in links)
    assert [link().name for link in links] == ["Wiro task", "Watch"]
    for kind in ("operators", "sensors"):
        for module in INFO[kind][0]["python-modules"]:
            for name in public_classes(ROOT / f"{'/'.join(module.split('.')[1:])}.py"):
                used = found(f"{module}.{name}").operator_extra_links
                assert used or name == "WiroBudgetApprovalOperator", f"{name} has no link"
                assert {type(link) for link in used} <= set(links), f"{name} has a link that Airflow does not know"


def test_the_decorator_is_where_it_says() -> None:
    [decorator] = INFO["task-decorators"]
    made = found(decorator["class-name"])(lambda: "A lighthouse")
    assert decorator["name"] == "seedance"
    assert made.operator_class.custom_operator_name == "@task.seedance"
    assert task.seedance is found(decorator["class-name"])


def test_what_a_form_field_shows_in_clear_is_no_secret() -> None:
    """Airflow masks the fields of a connection by their names; ``format: password`` only hides the typing."""
    assert "api_secret" in CONNECTION["conn-fields"]
    for name, field in CONNECTION["conn-fields"].items():
        is_password = field["schema"].get("format") == "password"
        assert is_password == (redact({name: "of no other use"}) == {name: "***"}), name
        assert "null" in field["schema"]["type"], "the form would demand a value"


def test_the_form_hides_and_relabels_fields_that_exist() -> None:
    behaviour = CONNECTION["ui-field-behaviour"]
    standard = {"description", "host", "schema", "login", "password", "port", "extra"}
    hidden = set(behaviour["hidden-fields"])
    assert hidden <= standard
    assert set(behaviour["relabeling"]) <= standard - hidden
    assert set(behaviour["placeholders"]) <= (standard | set(CONNECTION["conn-fields"])) - hidden
    # Without a port, the Test button of Airflow 3.3.2 always answers "Bad Request".
    assert "port" not in hidden


def test_airflow_lists_the_provider(command_line: dict[str, list[dict[str, Any]]]) -> None:
    [row] = [row for row in command_line["list"] if row["package_name"] == NAME]
    assert row["version"] == distribution(NAME).version
    assert "Wiro" in row["description"]


def test_airflow_shows_the_whole_info(command_line: dict[str, list[dict[str, Any]]]) -> None:
    [shown] = command_line["get"]
    # The description is shown without its markup.
    assert {**shown, "description": ""} == {**INFO, "description": "", "documentation-url": shown["documentation-url"]}
    assert shown["documentation-url"].startswith("https://")


def test_airflow_knows_the_connection_type_and_its_form(command_line: dict[str, list[dict[str, Any]]]) -> None:
    [hook] = [row for row in command_line["hooks"] if row["connection_type"] == "wiro"]
    assert hook == {
        "connection_type": "wiro",
        "class": "airflow_provider_wiro.hooks.wiro.WiroHook",
        "conn_id_attribute_name": "wiro_conn_id",
        "package_name": NAME,
        "hook_name": "Wiro AI",
    }
    widgets = {row["connection_parameter_name"] for row in command_line["widgets"] if row["package_name"] == NAME}
    assert widgets == {f"extra__wiro__{name}" for name in CONNECTION["conn-fields"]}
    assert {"field_behaviours": "wiro"} in command_line["behaviours"]


def test_airflow_knows_the_links(command_line: dict[str, list[dict[str, Any]]]) -> None:
    assert {row["extra_link_class_name"] for row in command_line["links"]} >= set(INFO["extra-links"])


def test_the_command_line_lists_the_options(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    more = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__WIRO__UI_MEDIA_ROOTS": "/data/videos"}
    arguments = ["config", "list", "--section", "wiro", "--include-descriptions", "--show-values"]
    ended = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "ui_media_roots = /data/videos" in ended.stdout
    assert "from which the page plays videos" in ended.stdout


def test_the_plugin_is_found() -> None:
    [point] = [point for point in distribution(NAME).entry_points if point.group == "airflow.plugins"]
    assert (point.name, point.load().name) == ("wiro", "wiro")
