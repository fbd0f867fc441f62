"""The README's error table and parameter tables: each row is provoked, each default compared."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.seedance import DEFAULT_MODEL, MODELS, wire_inputs
from airflow_provider_wiro.api.tasks import ensure_succeeded
from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroError
from airflow_provider_wiro.hooks.wiro import WiroHook
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroRunOperator
from airflow_provider_wiro.outputs import Delivery, fetch
from airflow_provider_wiro.outputs.sources import Sources
from tests.readme import table
from tests.unit.instances import Instance, finish

INPUTS = wire_inputs(DEFAULT_MODEL, {"prompt": "A table"})


class World:
    """What it takes to provoke an error."""

    def __init__(self, wiro: LocalWiro, make_client: Callable[..., WiroClient], connect: Callable[..., WiroHook]):
        self.wiro = wiro
        self.make_client = make_client
        self.connect = connect
        self.client = make_client(wiro.base_url)

    def order(self, **arguments: Any) -> Any:
        return SeedanceRunOperator(**{"task_id": "video", "prompt": "A table", "retries": 3, **arguments})

    def ended(self, mark: str) -> Any:
        receipt = self.client.run(DEFAULT_MODEL, {**INPUTS, "prompt": mark})
        while not (task := self.client.get_task(receipt.wiro_task_id)).outcome.is_terminal:
            time.sleep(0.05)
        return task

    def with_fault(self, fault: str) -> Any:
        self.wiro.set_faults([fault])
        return self.client.run(DEFAULT_MODEL, INPUTS)

    def with_balance(self, balance: float, runs: int) -> None:
        self.wiro.set_balance(balance)
        for _ in range(runs):
            self.client.run(DEFAULT_MODEL, {**INPUTS, "prompt": "[wiro:hang]"})

    def instance(self, folder: Path) -> Instance:
        self.connect(**json.loads(self.wiro.connection_json()))
        return Instance(folder)

    def unproven(self, folder: Path) -> Any:
        self.wiro.set_faults(["echo:off", "run:reset_after"])
        self.order(settle=0.1).execute(self.instance(folder).start())

    def undecided(self, folder: Path) -> Any:
        self.wiro.set_faults(["list:off", "run:reset_after"])
        instance = self.instance(folder)
        self.order().look_again(instance.start(), None, looking_since=1.0)

    def changed(self, folder: Path) -> Any:
        instance = self.instance(folder)
        self.order().execute(instance.start())
        self.order(prompt="Another table").execute(instance.start())

    def failed_often(self, folder: Path) -> Any:
        instance = self.instance(folder)
        for _ in range(4):
            known = self.order(prompt="[wiro:fail]").execute(instance.start())
            while not self.client.get_task(known["wiro_task_id"]).outcome.is_terminal:
                time.sleep(0.05)

    def without_store(self, folder: Path) -> Any:
        context = self.instance(folder).start()
        context["task_state_store"].file = folder / "nowhere" / "state"
        self.order().execute(context)

    def superseded(self, folder: Path) -> Any:
        instance = self.instance(folder)
        old = instance.start()
        instance.start()
        self.order().execute(old)

    def half_a_batch(self, folder: Path) -> Any:
        videos = [{"prompt": "A table"}, {"prompt": "[wiro:fail]"}]
        batch = SeedanceBatchOperator(task_id="video", videos=videos, destination=str(folder), poll_interval=0.05)
        finish(lambda: batch, self.instance(folder).start())

    def late(self) -> Any:
        operator = self.order(timeout=0.2, poll_interval=0.05, deferrable=False, wait_for_completion=True)
        receipt = self.client.run(DEFAULT_MODEL, {**INPUTS, "prompt": "[wiro:hang]"})
        hook = self.connect(**json.loads(self.wiro.connection_json()))
        return operator._time_out(hook, hook.get_task(receipt.wiro_task_id))

    def unwritable(self, folder: Path) -> Any:
        task = self.ended("A table")
        (folder / "file").write_text("")
        return self.fetch(task, folder / "file" / "below")

    def fetch(self, task: Any, folder: Path, base_url: str | None = None, **ordered: str) -> Any:
        delivery = Delivery(task, {}, {**task.inputs, **ordered})
        return fetch(delivery, str(folder), Sources(base_url or self.wiro.base_url), WiroHook().log, lambda: task)


PROVOKED: dict[str, Callable[[World, Path], Any]] = {
    "resolution is '4k', allowed: '480p', '720p'": lambda world, _: world.order(resolution="4k"),
    "prompt is '', allowed: text that is not empty": lambda world, _: world.order(prompt=""),
    "duration is True, allowed: '5', '10'": lambda world, _: world.order(duration=True),
    "WiroRunOperator runs any other model": lambda world, _: world.order(model="openai/sora-2"),
    "There is no connection": lambda world, _: WiroHook("nowhere").get_conn(),
    "has no 'API key'": lambda world, _: world.connect(host=world.wiro.base_url).get_conn(),
    "signed requests are never redirected": lambda world, _: world.with_fault("run:redirect"),
    "is not valid": lambda world, _: world.make_client(world.wiro.base_url, api_secret="wrong").list_tasks(),
    "requires signature authentication": lambda world, _: world.make_client(
        world.wiro.base_url, api_secret=None
    ).list_tasks(),
    "estimated to cost": lambda world, path: world.order(max_cost=0.01).execute(world.instance(path).start()),
    "cannot be known before they run": lambda world, path: (
        world.wiro.set_faults(["tool:no_prices"]),
        world.order(max_cost=5).execute(world.instance(path).start()),
    ),
    "code 97": lambda world, _: (world.with_balance(0.01, 0), world.client.run(DEFAULT_MODEL, INPUTS)),
    "code 96": lambda world, _: (world.with_balance(20, 2), world.client.run(DEFAULT_MODEL, INPUTS)),
    "min_success_ratio": lambda world, path: world.half_a_batch(path),
    "slug-owner-project-not-exist": lambda world, _: world.client.run("nobody/nothing", {}),
    "Request parameter [prompt] required": lambda world, _: world.client.run(DEFAULT_MODEL, {}),
    "Nothing was sent": lambda world, _: world.make_client("http://127.0.0.1:9/v1").run(DEFAULT_MODEL, INPUTS),
    "is not Wiro's": lambda world, _: (world.wiro.set_faults(["list:html"]), world.client.list_tasks()),
    "It is not known whether the run was accepted": lambda world, _: world.with_fault("run:error_after"),
    "may be it": lambda world, path: world.unproven(path),
    "Wiro does not tell its tasks": lambda world, path: world.undecided(path),
    "The inputs are not those of try": lambda world, path: world.changed(path),
    "Runs of this order without success": lambda world, path: world.failed_often(path),
    "The record of this order cannot be written": lambda world, path: world.without_store(path),
    "Airflow has given this task to another try": lambda world, path: world.superseded(path),
    "The model failed": lambda world, _: ensure_succeeded(world.ended("[wiro:fail]")),
    "was cancelled at Wiro": lambda world, _: ensure_succeeded(world.ended("[wiro:cancel]")),
    "did not end within": lambda world, _: world.late(),
    "The task is paid and its files stay at Wiro for a limited time": lambda world, path: world.unwritable(path),
    "The video is not what was ordered": lambda world, path: world.fetch(world.ended("A table"), path, duration="10"),
    "which is not asked": lambda world, path: world.fetch(world.ended("A table"), path, base_url="https://api.wiro.ai"),
}
ROWS = [(row[0].strip("`"), row[1].strip("`")) for row in table("error")]


@pytest.fixture
def world(wiro: LocalWiro, make_client: Callable[..., WiroClient], monkeypatch: pytest.MonkeyPatch) -> World:
    def connect(**fields: Any) -> WiroHook:
        monkeypatch.setenv("AIRFLOW_CONN_WIRO_DEFAULT", json.dumps({"conn_type": "wiro", **fields}))
        return WiroHook()

    return World(wiro, make_client, connect)


def test_the_table_has_the_rows_that_are_provoked() -> None:
    assert {text for _, text in ROWS} == set(PROVOKED)


@pytest.mark.parametrize(("name", "text"), ROWS)
def test_each_error_has_the_class_and_text_of_the_table(world: World, tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises((WiroError, AirflowFailException)) as caught:
        PROVOKED[text](world, tmp_path)
    error = caught.value if isinstance(caught.value, WiroError) else caught.value.__cause__
    assert type(error).__name__ == name
    assert text in str(error)


@pytest.mark.parametrize("row", table("parameter"), ids=lambda row: row[0])
def test_each_default_is_the_one_of_the_table(row: list[str]) -> None:
    parameters = {
        **inspect.signature(WiroRunOperator.__init__).parameters,
        **inspect.signature(SeedanceRunOperator.__init__).parameters,
    }
    documented = row[1].split(" (")[0].strip("`")
    for name in row[0].split(" (")[0].replace("`", "").split(", "):
        default = parameters[name].default
        assert documented == ("–" if default is inspect.Parameter.empty else str(default).removesuffix(".0"))


def test_each_option_of_the_model_is_in_the_table() -> None:
    allowed = {row[0].split("`")[1]: row[2] for row in table("parameter") if len(row) > 2}
    spec = MODELS[DEFAULT_MODEL]
    for name, options in (
        ("resolution", spec.resolutions),
        ("ratio", spec.ratios),
        ("duration", spec.durations),
        ("fps", spec.frame_rates),
    ):
        assert allowed[name] == ", ".join(f"`{option}`" for option in options)
    assert [name for name in MODELS if name not in allowed["model"] and name != DEFAULT_MODEL] == []
