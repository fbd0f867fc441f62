"""What a Dag processor sees of this package: wrong literals, the trigger's row, and serialized Dags."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, task
from airflow.sdk.bases.operator import BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroInputError
from airflow_provider_wiro.operators.seedance import INPUTS, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator, WiroRunOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor
from airflow_provider_wiro.triggers.wiro import WiroTaskTrigger

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
TASKS = {
    "approved_batch": {"read_prompts", "approve", "videos"},
    "choose_takes": {"orders", "video", "preview", "by_prompt", "choose", "picked", "publish"},
    "publish_on_asset": {"read_manifests", "write_page"},
    "large_batch": {"read_prompts", "videos"},
    "nightly_batch": {"read_prompts", "submit", "wait", "fetch", "summary", "some_videos_failed"},
    "single_video": {"video"},
    "taskflow_prompt": {"postcard", "announce"},
}
SEEDANCE = "ByteDance/text-to-video-seedance-v1"
TEMPLATE = "{{ params.it }}"

WRONG_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"resolution": "1080p"}, "resolution is '1080p', allowed: '480p', '720p'"),
    ({"resolution": 480}, "resolution is 480"),
    ({"ratio": "2:1"}, "ratio is '2:1'"),
    ({"duration": 7}, "duration is 7, allowed: '5', '10'"),
    ({"duration": True}, "duration is True"),
    ({"fps": "30"}, "fps is '30', allowed: '24', '16'"),
    ({"watermark": "yes"}, "watermark is 'yes', allowed: True or False"),
    ({"seed": 2**32}, "seed is 4294967296"),
    ({"seed": 1.5}, "seed is 1.5"),
    ({"camera_fixed": 1}, "camera_fixed is 1"),
    ({"callback_url": "ftp://example.org"}, "callback_url is 'ftp://example.org', allowed: an http or https address"),
    ({"model": "ByteDance/seedance-v9"}, "model is 'ByteDance/seedance-v9'"),
    ({"generate_audio": True}, "generate_audio is not an input of this model"),
]
WRONG_WAYS: list[tuple[dict[str, Any], str]] = [
    ({"poll_interval": 0}, "poll_interval is 0, allowed: a number of seconds above 0"),
    ({"poll_interval": TEMPLATE}, "poll_interval is '{{ params.it }}'"),
    ({"timeout": -1.0}, "timeout is -1.0"),
    ({"timeout": float("inf")}, "timeout is inf"),
    ({"timeout": None}, "timeout is None"),
    ({"destination": "/videos"}, "destination is given without wait_for_completion=True"),
]
RIGHT: list[dict[str, Any]] = [
    {name: TEMPLATE for name in (*INPUTS, "model", "wiro_conn_id") if name != "prompt"},
    {
        "resolution": "{% if params.big %}720p{% else %}480p{% endif %}",
        "duration": "10",
        "fps": 16,
        "watermark": "true",
    },
    {"destination": f"/videos/{TEMPLATE}", "wait_for_completion": True, "poll_interval": 2, "timeout": 60},
    {"model": "ByteDance/seedance-pro-v1", "resolution": "1080p", "ratio": "adaptive", "last_image_url": None},
]

Maker = Callable[..., Any]


def plain(**arguments: Any) -> None:
    SeedanceRunOperator(**{"task_id": "video", "prompt": "A lighthouse", **arguments})


def mapped(**arguments: Any) -> None:
    SeedanceRunOperator.partial(task_id="video", **arguments).expand(prompt=["A lighthouse", "A fjord"])


def decorated(**arguments: Any) -> None:
    @task.seedance(**arguments)  # type: ignore[untyped-decorator]
    def video() -> str:
        return "A lighthouse"

    video()


def decorated_and_mapped(**arguments: Any) -> None:
    @task.seedance(**arguments)  # type: ignore[untyped-decorator]
    def video(place: str) -> str:
        return f"A lighthouse in {place}"

    video.expand(place=["Norway", "Chile"])


def overridden(**arguments: Any) -> None:
    @task.seedance
    def video() -> str:
        return "A lighthouse"

    video.override(**arguments)()


WRITINGS = [plain, mapped, decorated, decorated_and_mapped, overridden]


@pytest.fixture
def dag() -> DAG:
    return DAG("parsed", schedule=None)


@pytest.mark.parametrize("write", WRITINGS)
@pytest.mark.parametrize(("arguments", "fault"), WRONG_INPUTS + WRONG_WAYS, ids=lambda value: str(value)[:40])
def test_a_wrong_literal_fails_the_dag_file(dag: DAG, write: Maker, arguments: dict[str, Any], fault: str) -> None:
    error = WiroConfigurationError if (arguments, fault) in WRONG_WAYS else WiroInputError
    with dag, pytest.raises(error, match=re.escape(fault)):
        write(**arguments)


@pytest.mark.parametrize("write", WRITINGS)
@pytest.mark.parametrize("arguments", RIGHT, ids=lambda value: ",".join(value)[:40])
def test_what_is_right_or_not_known_yet_passes(dag: DAG, write: Maker, arguments: dict[str, Any]) -> None:
    with dag:
        write(**arguments)
    assert dag.task_ids == ["video"]


@pytest.mark.parametrize("prompt", ["", " \n", None, 5, ["A lighthouse"]])
def test_a_prompt_is_text(dag: DAG, prompt: Any) -> None:
    with dag, pytest.raises(WiroInputError, match="prompt is"):
        plain(prompt=prompt)


def test_every_fault_of_a_task_is_told_at_once(dag: DAG) -> None:
    with dag, pytest.raises(WiroInputError) as caught:
        plain(resolution="8k", duration=7, fps=TEMPLATE, seed="random")
    assert [fault.partition(" ")[0] for fault in caught.value.faults] == ["resolution", "duration", "seed"]


def test_the_result_of_another_task_passes_for_any_input(dag: DAG) -> None:
    with dag:
        given: Any = task(task_id="row")(lambda: {"seed": 1})()
        plain(**{name: given[name] for name in (*INPUTS, "model")})
        WiroRunOperator(task_id="any", model=SEEDANCE, inputs={"prompt": "A fjord", "seed": given["seed"]})
        WiroRunOperator(task_id="other", model=SEEDANCE, inputs=given)
    assert dag.get_task("video").upstream_task_ids == {"row"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": SEEDANCE, "inputs": {"prompt": "A fjord", "fps": 30}},
        {"model": SEEDANCE.upper(), "inputs": {"prompt": "A fjord", "camerafixed": "maybe"}},
        {"model": SEEDANCE, "inputs": {"fps": 24}},
        {"model": SEEDANCE, "inputs": {"prompt": "A fjord", "style": TEMPLATE, "length": 5}},
        {"model": "owner/model", "inputs": {}, "timeout": 0},
        {"model": "owner/model", "inputs": {}, "destination": "/videos"},
    ],
    ids=str,
)
def test_wrong_literals_of_the_operator_for_any_model(dag: DAG, arguments: dict[str, Any]) -> None:
    with dag:
        with pytest.raises(WiroConfigurationError):
            WiroRunOperator(task_id="run", **arguments)
        with pytest.raises(WiroConfigurationError):
            WiroRunOperator.partial(task_id="run", **arguments).expand(wiro_conn_id=["a", "b"])


def test_inputs_of_a_model_that_is_not_known_pass(dag: DAG) -> None:
    with dag:
        WiroRunOperator(task_id="run", model="owner/model", inputs={"fps": 30, "anything": [1]})
        WiroRunOperator(task_id="templated", model=TEMPLATE, inputs={"fps": 30})
    assert dag.task_ids == ["run", "templated"]


@pytest.mark.parametrize(
    ("default_args", "arguments"),
    [
        ({"wait_for_completion": True}, {"destination": "/videos"}),
        ({"model": "ByteDance/seedance-pro-v1"}, {"resolution": "1080p"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("write", WRITINGS)
def test_default_args_count_as_the_task_s_own(
    write: Maker, default_args: dict[str, Any], arguments: dict[str, Any]
) -> None:
    with DAG("parsed", schedule=None, default_args=default_args) as dag:
        write(**arguments)
    assert dag.task_ids == ["video"]


def test_what_expand_brings_is_not_taken_for_its_default(dag: DAG) -> None:
    models = ["ByteDance/seedance-pro-v1", "ByteDance/seedance-pro-v1.5"]
    with dag:
        SeedanceRunOperator.partial(task_id="video", prompt="A fjord", resolution="1080p").expand(model=models)
    assert dag.task_ids == ["video"]


OPERATORS: dict[type[BaseOperator], dict[str, Any]] = {
    WiroRunOperator: {"model": "owner/model", "inputs": {}},
    WiroFetchOutputsOperator: {"task": "1", "destination": "/videos"},
    SeedanceRunOperator: {"prompt": "A lighthouse"},
    WiroTaskSensor: {"task": "1"},
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_template_fields_are_attributes_and_documented(operator: type[BaseOperator]) -> None:
    made = operator(task_id="it", **OPERATORS[operator])
    assert [name for name in made.template_fields if not hasattr(made, name)] == []
    assert set(made.template_fields_renderers) <= set(made.template_fields)
    documented = dict(re.findall(r":param (\w+): (.*?)(?=\n *:|\Z)", docstrings(operator), re.DOTALL))
    own = {name for name in parameters(operator) if name not in ("self", "kwargs")}
    assert own <= set(documented)
    assert {name for name in own if "(templated)" in documented[name]} == own & set(made.template_fields)


def docstrings(operator: type[BaseOperator]) -> str:
    ours = [cls for cls in reversed(operator.__mro__) if cls.__module__.startswith("airflow_provider_wiro")]
    return "\n:".join(cls.__doc__ or "" for cls in ours)


def parameters(operator: type[BaseOperator]) -> list[str]:
    return list(inspect.signature(operator.__init__).parameters)


def test_the_decorated_operator_templates_what_its_operator_does(dag: DAG) -> None:
    with dag:
        decorated()
    made = dag.get_task("video")
    assert set(made.template_fields) == {*SeedanceRunOperator.template_fields, "op_args", "op_kwargs"}
    assert [name for name in made.template_fields if not hasattr(made, name)] == []


TRIGGER: dict[str, Any] = {
    "wiro_conn_id": "wiro_eu",
    "wiro_task_id": "534574",
    "poll_interval": 7.5,
    "end_time": 1_800_000_000.25,
    "grace": 3.0,
    "cancel_on_kill": False,
    "max_poll_interval": 22.5,
}


def test_the_trigger_s_row_makes_an_equal_trigger() -> None:
    own = dict(inspect.signature(WiroTaskTrigger).parameters)
    assert set(TRIGGER) == set(own)
    assert all(TRIGGER[name] != parameter.default for name, parameter in own.items()), "a default proves nothing"
    path, row = WiroTaskTrigger(**TRIGGER).serialize()
    assert row == TRIGGER
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(row)))
    assert type(again) is WiroTaskTrigger
    assert again.serialize() == (path, TRIGGER)


def test_the_trigger_holds_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    secrets = ("key-4f1c9a", "secret-77b2e0")
    # Port 9 of this machine: nobody listens, so that the one look fails and the time is up.
    connection = {"conn_type": "wiro", "host": "http://127.0.0.1:9", "password": secrets[0]}
    monkeypatch.setenv("AIRFLOW_CONN_WIRO_EU", json.dumps({**connection, "extra": {"api_secret": secrets[1]}}))
    trigger = WiroTaskTrigger(**{**TRIGGER, "end_time": time.time(), "grace": 0.0})

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    assert asyncio.run(events()) == [{"status": "timeout", "wiro_task_id": "534574"}]
    held = f"{trigger!r} {trigger.serialize()} {vars(trigger)} {caplog.text}"
    assert "wiro_eu" in held
    assert [secret for secret in secrets if secret in held] == []
    assert all(isinstance(value, (str, float, bool)) for value in trigger.serialize()[1].values())


@pytest.fixture(scope="module")
def examples() -> DagBag:
    return parse_examples()


def parse_examples() -> DagBag:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WIRO_PROMPTS_CSV", "WIRO_VIDEOS_DIR", "WIRO_POLL_INTERVAL"):
            patch.delenv(name, raising=False)
        return DagBag(EXAMPLES)


def test_the_examples_have_no_import_errors_and_the_expected_tasks(examples: DagBag) -> None:
    assert examples.import_errors == {}
    assert examples.captured_warnings == {}
    assert {name: set(dag.task_ids) for name, dag in examples.dags.items()} == TASKS
    assert {Path(dag.fileloc).stem for dag in examples.dags.values()} == {path.stem for path in EXAMPLES.glob("*.py")}


def round_trip(dag: DAG) -> Any:
    """Return the Dag as scheduler and web server see it."""
    stored = DagSerialization.to_dict(dag)
    DagSerialization.validate_schema(stored)
    return DagSerialization.from_dict(json.loads(json.dumps(stored)))


def assert_same_tasks(dag: DAG, read: Any) -> None:
    assert read.task_ids == dag.task_ids
    for written in dag.tasks:
        stored = read.get_task(written.task_id)
        assert stored.task_type == written.task_type
        assert stored.operator_name == written.operator_name
        assert list(stored.template_fields) == list(written.template_fields)
        assert (stored.upstream_task_ids, stored.downstream_task_ids) == (
            written.upstream_task_ids,
            written.downstream_task_ids,
        )
        assert stored.is_mapped == written.is_mapped
        assert stored.map_index_template == written.map_index_template
        assert stored.doc_md == written.doc_md
        assert [link.name for link in stored.operator_extra_links] == [
            link.name for link in written.operator_extra_links
        ]


@pytest.mark.parametrize("name", TASKS)
def test_an_example_survives_serialization(examples: DagBag, name: str) -> None:
    dag = examples.dags[name]
    assert_same_tasks(dag, round_trip(dag))


def test_mapped_tasks_survive_serialization(dag: DAG) -> None:
    with dag:
        submit = SeedanceRunOperator.partial(
            task_id="submit", seed=7, doc_md="Mine", map_index_template="{{ task.prompt }}"
        ).expand(prompt=["A lighthouse", "A fjord"])
        wait = WiroTaskSensor.partial(task_id="wait", poll_interval=5).expand(task=submit.output)
        WiroFetchOutputsOperator.partial(task_id="fetch", destination="/videos").expand(task=wait.output)
        run = WiroRunOperator.partial(task_id="run", model="owner/model")
        run.expand(inputs=[{"prompt": "A lighthouse"}, {"prompt": "A fjord"}])
        decorated_and_mapped(seed=7)
    read = round_trip(dag)
    assert_same_tasks(dag, read)
    assert all(stored.is_mapped for stored in read.tasks)
    assert read.get_task("submit").map_index_template == "{{ task.prompt }}"
    assert [link.name for link in read.get_task("wait").operator_extra_links] == ["Wiro task", "Watch"]


def test_parsing_again_stores_the_same(examples: DagBag) -> None:
    """A Dag that differs from parse to parse makes a new Dag version each time."""
    again = parse_examples()
    for name in TASKS:
        assert DagSerialization.to_dict(again.dags[name]) == DagSerialization.to_dict(examples.dags[name])


def test_a_mapped_task_of_the_nightly_example_is_named_by_its_prompt(examples: DagBag) -> None:
    submit = examples.dags["nightly_batch"].get_task("submit")
    template = round_trip(examples.dags["nightly_batch"]).get_task("submit").map_index_template
    run = SeedanceRunOperator(task_id="submit", prompt="A lighthouse in a storm, " * 9)
    assert submit.map_index_template == template
    rendered = examples.dags["nightly_batch"].get_template_env().from_string(template).render(task=run)
    assert rendered.startswith(run.prompt[:40])
    assert len(rendered) <= 60


def test_the_book_button_has_a_text_unless_the_author_wrote_one(dag: DAG) -> None:
    with dag:
        plain()
        plain(task_id="own", doc_md="Mine")
        WiroRunOperator(task_id="run", model="owner/model", inputs={})
    assert [bool(dag.get_task(name).doc_md) for name in ("video", "run")] == [True, True]
    assert "https://wiro.ai" in str(dag.get_task("video").doc_md)
    assert dag.get_task("own").doc_md == "Mine"


def test_a_reference_with_a_template_in_it_waits_for_its_value(dag: DAG) -> None:
    with dag:
        WiroTaskSensor(task_id="by_token", task={"task_token": TEMPLATE})
        for number, wrong in enumerate(("{'wiro_task_id': '1'}", "None", {"wiro_task_id": ""}, {}, None)):
            with pytest.raises(WiroConfigurationError, match="task is"):
                WiroTaskSensor(task_id=f"wrong_{number}", task=wrong)
    assert "by_token" in dag.task_ids
