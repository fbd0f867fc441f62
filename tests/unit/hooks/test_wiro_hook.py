from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import redact

from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, wire_inputs
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroAuthenticationError, WiroConfigurationError, WiroNotFoundError
from airflow_provider_wiro.hooks.wiro import WiroHook

INPUTS = wire_inputs(DEFAULT_MODEL, {"prompt": "A hook"})


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def connect(**fields: Any) -> WiroHook:
        monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", json.dumps({"conn_type": "wiro", **fields}))
        return WiroHook()

    return connect


@pytest.fixture
def hook(wiro: LocalWiro, connect: Any) -> WiroHook:
    return connect(**json.loads(wiro.connection_json()))


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({}, "https://api.wiro.ai/v1"),
        ({"port": 443}, "https://api.wiro.ai/v1"),
        ({"host": "https://api.wiro.ai/v1/"}, "https://api.wiro.ai/v1"),
        ({"host": "api.wiro.ai"}, "https://api.wiro.ai/v1"),
        ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765/v1"),
        ({"host": "http://127.0.0.1", "port": 8765}, "http://127.0.0.1:8765/v1"),
        ({"host": "http://[::1]:8765/v2"}, "http://[::1]:8765/v2"),
        ({"host": "https://proxy.example/wiro/v1", "port": 443}, "https://proxy.example/wiro/v1"),
    ],
)
def test_the_base_url_is_what_the_fields_say(connect: Any, fields: dict[str, Any], address: str) -> None:
    assert connect(password="a-key", **fields).get_conn().base_url == address


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Connection 'wiro_default' has no 'API key'."),
        ({"password": "  "}, "has no 'API key'."),
        ({"extra": {"api_secret": "x"}}, "has no 'API key', although it has an 'API secret'."),
        ({"password": "line\nbreak"}, "'API key' of connection 'wiro_default' has a character"),
        ({"password": "a-key", "extra": {"api_secret": "schlüssel"}}, "'API secret' of connection"),
        ({"password": "a-key", "host": "ftp://api.wiro.ai"}, "'Base URL' of connection 'wiro_default' cannot be used"),
        ({"password": "a-key", "host": "https://user@host"}, "'Base URL'"),
        ({"password": "a-key", "host": "https://host:99999"}, "'Base URL'"),
        ({"password": "a-key", "extra": {"output_hosts": "https://cdn.example.com"}}, "'Output hosts' of connection"),
        ({"password": "a-key", "extra": {"output_hosts": "cdn.example.com; x"}}, "has 'cdn.example.com; x', allowed"),
        ({"password": "a-key", "extra": {"output_hosts": "*.com"}}, "has '*.com', allowed: names of hosts"),
        ({"password": "a-key", "extra": {"output_hosts": "*"}}, "'Output hosts'"),
        ({"password": "a-key", "extra": {"output_hosts": {"cdn": 1}}}, "'Output hosts'"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_as_the_form_labels_it(
    connect: Any, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(WiroConfigurationError) as caught:
        connect(**fields).get_conn()
    assert words in str(caught.value)
    assert "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        (None, ()),
        ("", ()),
        ("CDN.example.com, *.example.org,", ("cdn.example.com", "*.example.org")),
        (["cdn.example.com"], ("cdn.example.com",)),
    ],
)
def test_the_hosts_that_files_may_come_from(connect: Any, given: Any, hosts: tuple[str, ...]) -> None:
    assert connect(password="a-key", extra={"output_hosts": given}).output_hosts == hosts


def test_a_connection_that_does_not_exist_is_named() -> None:
    with pytest.raises(WiroConfigurationError, match="There is no connection 'nowhere'"):
        WiroHook("nowhere").get_conn()
    with pytest.raises(WiroConfigurationError, match="There is no connection 'nowhere'"):
        asyncio.run(WiroHook("nowhere").aget_client())


def test_key_and_secret_are_masked_and_not_shown(connect: Any) -> None:
    hook = connect(password="mask-this-key", extra={"api_secret": "mask-this-secret"})
    client = hook.get_conn()
    assert redact("with mask-this-key and mask-this-secret") == "with *** and ***"
    for shown in (repr(hook), repr(client), repr(vars(client)["_auth"]), str(vars(hook))):
        assert "mask-this" not in shown


def test_a_test_of_the_connection_spends_nothing(hook: WiroHook, wiro: LocalWiro) -> None:
    passed, message = hook.test_connection()
    assert passed, message
    assert "accepts the credentials" in message
    assert wiro.ledger()["calls"] == {"Task/List": 1}


def test_a_test_of_a_wrong_connection_says_what_to_check(wiro: LocalWiro, connect: Any) -> None:
    passed, message = connect(password="another-key", host=wiro.base_url).test_connection()
    assert not passed
    assert "Check the fields 'API key' and 'API secret'" in message
    passed, message = WiroHook("nowhere").test_connection()
    assert (passed, "There is no connection" in message) == (False, True)


def test_a_key_only_project_needs_no_secret(connect: Any) -> None:
    with LocalWiro(api_key="only-the-key", api_secret="") as server:
        assert connect(password="only-the-key", host=server.base_url).list_tasks().tasks == ()


def test_a_key_alone_is_refused_by_a_signature_project(wiro: LocalWiro, connect: Any) -> None:
    key = json.loads(wiro.connection_json())["password"]
    with pytest.raises(WiroAuthenticationError, match="requires signature authentication"):
        connect(password=key, host=wiro.base_url).run(DEFAULT_MODEL, INPUTS)


def test_every_method_reaches_wiro(hook: WiroHook, wiro: LocalWiro, tmp_path: Path) -> None:
    picture = tmp_path / "first.png"
    picture.write_bytes(b"\x89PNG not really")
    receipt = hook.run(DEFAULT_MODEL, INPUTS)
    assert hook.get_task(receipt.wiro_task_id).model == DEFAULT_MODEL
    assert [task.wiro_task_id for task in hook.list_tasks(limit=5).tasks] == [receipt.wiro_task_id]
    assert hook.get_model(DEFAULT_MODEL)["slugproject"] == "text-to-video-seedance-v1"
    assert hook.upload(picture).startswith("http")
    assert hook.stop_task(receipt.wiro_task_id).outcome.is_terminal
    hook.delete_files(receipt.wiro_task_id)
    assert hook.task_url("7") == f"{wiro.url}/tasks/7"
    calls = wiro.ledger()["calls"]
    assert {"Run", "Task/Detail", "Task/List", "Tool/Detail", "File/Upload", "Task/InputOutputDelete"} <= set(calls)


def test_the_panel_is_where_wiros_own_tasks_are_seen(connect: Any) -> None:
    assert connect(password="a-key").task_url("7") == "https://wiro.ai/panel/project#task-7"


def test_an_estimate_reads_each_model_once(wiro: LocalWiro, hook: WiroHook) -> None:
    assert hook.estimate_cost(DEFAULT_MODEL, INPUTS) == Decimal("0.1")
    assert hook.estimate_cost(DEFAULT_MODEL.upper(), {**INPUTS, "duration": "10", "resolution": "720p"}) == Decimal(
        "0.44"
    )
    assert wiro.ledger()["calls"] == {"Tool/Detail": 1}
    assert hook.estimate_cost("local/echo-text", {}) == Decimal("0.01")
    with pytest.raises(WiroNotFoundError):
        hook.estimate_cost("nobody/nothing", {})
