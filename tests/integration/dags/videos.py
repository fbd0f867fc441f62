"""The Dags of the live tests. What varies comes with the run's configuration, through XCom."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task, task_group
from faults import IN_RESUME, POINTS, CrashesOnce, FetchThatDiesOnce, Impatient, SensorThatDiesOnce

from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator, WiroRunOperator
from airflow_provider_wiro.sensors.wiro import WiroTaskSensor

VIDEOS = os.environ["WIRO_VIDEOS_DIR"]
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=1)}
POLL = {"poll_interval": 1.0}


@task
def configured(name: str, *, dag_run: Any) -> Any:
    return dag_run.conf[name]


with DAG("three_tasks", schedule=None, default_args=RETRIES, max_active_tasks=64):

    @task_group(prefix_group_id=False)
    def chain(prompt: str, ratio: str = "16:9") -> None:
        submit = SeedanceRunOperator(
            task_id="submit", prompt=prompt, ratio=ratio, map_index_template="{{ task.prompt[:60] }}"
        )
        wait = WiroTaskSensor(task_id="wait", task=submit.output, timeout=120, **POLL)
        WiroFetchOutputsOperator(task_id="fetch", task=wait.output, destination=VIDEOS + "/{{ run_id }}")

    chain.expand_kwargs(configured("rows"))

with DAG("one_task", schedule=None, default_args=RETRIES, max_active_tasks=64):
    SeedanceRunOperator.partial(
        task_id="video", wait_for_completion=True, destination=VIDEOS + "/one_task", **POLL
    ).expand(prompt=configured("prompts"))

with DAG("elsewhere", schedule=None, default_args=RETRIES):
    waited = WiroTaskSensor.partial(task_id="wait", timeout=60, **POLL).expand(task=configured("tasks"))
    WiroFetchOutputsOperator.partial(task_id="fetch", destination=VIDEOS + "/elsewhere").expand(task=waited.output)
    WiroTaskSensor(task_id="by_token", task={"task_token": "{{ var.value.video_token }}"}, timeout=60, **POLL)

with DAG("sensor_modes", schedule=None, default_args=RETRIES):
    for mode in ("poke", "reschedule"):
        WiroTaskSensor.partial(
            task_id=mode, mode=mode, deferrable=False, timeout=60, map_index_template="{{ task.task }}", **POLL
        ).expand(task=configured.override(task_id=f"tasks_of_{mode}")("tasks"))
    WiroTaskSensor.partial(task_id="soft", soft_fail=True, timeout=60, **POLL).expand(
        task=configured.override(task_id="tasks_of_soft")("tasks")
    )

with DAG("sync_operator", schedule=None, default_args=RETRIES):
    SeedanceRunOperator.partial(
        task_id="video", deferrable=False, wait_for_completion=True, destination=VIDEOS + "/sync", **POLL
    ).expand(prompt=configured("prompts"))

with DAG("awkward_prompts", schedule=None, default_args=RETRIES):
    prompts = configured("prompts")
    SeedanceRunOperator.partial(task_id="by_expand").expand(prompt=prompts)
    SeedanceRunOperator.partial(task_id="by_expand_kwargs").expand_kwargs(
        prompts.map(lambda prompt: {"prompt": prompt})
    )
    first = configured.override(task_id="first")("first")
    SeedanceRunOperator(task_id="by_xcom", prompt=first)
    WiroRunOperator(
        task_id="any_model", model="local/echo-text", inputs={"prompt": first}, wait_for_completion=True, **POLL
    )

    @task.seedance
    def by_decorator(prompt: str) -> dict[str, Any]:
        return {"prompt": prompt, "resolution": "720p"}

    by_decorator.expand(prompt=prompts)
    by_decorator.override(task_id="by_decorator_kwargs", resolution="480p").expand_kwargs(
        prompts.map(lambda prompt: {"prompt": f"{prompt}!"})
    )
    # Only what another task brings is data: this is a template all the same.
    SeedanceRunOperator.partial(task_id="template", prompt="by {{ task.task_id }}").expand_kwargs(
        prompts.map(lambda prompt: {"duration": 10})
    )

with DAG("hanging", schedule=None, default_args={"retries": 0}):
    SeedanceRunOperator(task_id="operator", prompt="one [wiro:hang]", wait_for_completion=True, timeout=600, **POLL)
    SeedanceRunOperator(
        task_id="left_alone", prompt="two [wiro:hang]", wait_for_completion=True, cancel_on_kill=False, **POLL
    )
    SeedanceRunOperator.partial(task_id="mapped", wait_for_completion=True, **POLL).expand(
        prompt=["three [wiro:hang]", "four [wiro:hang]"]
    )
    WiroTaskSensor(
        task_id="sensor",
        task=SeedanceRunOperator(task_id="submit", prompt="five [wiro:hang]").output,
        timeout=600,
        **POLL,
    )
    SeedanceRunOperator(
        task_id="on_worker", prompt="six [wiro:hang]", wait_for_completion=True, deferrable=False, **POLL
    )

with DAG("late", schedule=None, default_args=RETRIES):
    SeedanceRunOperator(task_id="stopped", prompt="late [wiro:hang]", wait_for_completion=True, timeout=3, **POLL)
    SeedanceRunOperator(
        task_id="left", prompt="left [wiro:hang]", wait_for_completion=True, timeout=3, cancel_on_timeout=False, **POLL
    )
    WiroTaskSensor(
        task_id="sensor",
        task=SeedanceRunOperator(task_id="submit", prompt="sensed [wiro:hang]").output,
        timeout=3,
        **POLL,
    )

with DAG("refused", schedule=None, default_args=RETRIES):
    SeedanceRunOperator.partial(task_id="wrong_option").expand(
        prompt=configured.override(task_id="prompts")("prompts"),
        resolution=configured.override(task_id="resolutions")("resolutions"),
    )
    SeedanceRunOperator(task_id="template", prompt="x", resolution="{{ 'HD' }}")
    SeedanceRunOperator(task_id="wrong_secret", prompt="x", wiro_conn_id="wiro_wrong_secret")
    SeedanceRunOperator(task_id="no_connection", prompt="x", wiro_conn_id="wiro_nowhere")
    SeedanceRunOperator(task_id="half_connection", prompt="x", wiro_conn_id="wiro_half")
    SeedanceRunOperator(
        task_id="unreachable", prompt="x", wiro_conn_id="wiro_unreachable", retries=1, retry_delay=timedelta(seconds=1)
    )
    WiroRunOperator(task_id="unknown_model", model="nobody/nothing", inputs={"prompt": "x"})
    WiroTaskSensor(task_id="not_a_task", task="{{ dag_run.conf.get('nothing') }}")

with DAG(
    "form",
    schedule=None,
    params={"prompt": Param("A kettle", type="string"), "seed": Param(None, type=["integer", "null"])},
):
    SeedanceRunOperator(task_id="video", prompt="{{ params.prompt }}", seed="{{ params.seed }}")

with DAG("crash_points", schedule=None, default_args={**RETRIES, "settle": 1.0}, max_active_tasks=64):
    CrashesOnce.partial(
        task_id="whole",
        prompt="Twins that crash",
        wait_for_completion=True,
        destination=VIDEOS + "/crash_points",
        **POLL,
    ).expand(point=POINTS)
    CrashesOnce.partial(task_id="submit", prompt="Submits that crash").expand(
        point=[point for point in POINTS if point not in (*IN_RESUME, "before the deferral")]
    )

with DAG("what_happens", schedule=None, default_args={**RETRIES, "settle": 1.0}, max_active_tasks=64):
    WAIT: dict[str, Any] = {"wait_for_completion": True, "timeout": 120, **POLL}
    SeedanceRunOperator(task_id="lost", prompt="Row lost", **WAIT)
    SeedanceRunOperator(task_id="fails", prompt="Row fails [wiro:fail]", **{**WAIT, "retries": 5})
    SeedanceRunOperator(task_id="cancelled", prompt="Row cancelled [wiro:cancel]", **WAIT)
    SeedanceRunOperator(task_id="ended", prompt="Row ended [wiro:hang]", **WAIT)
    SeedanceRunOperator(task_id="cleared_before", prompt="Row cleared before [wiro:slow=1500]", **WAIT)
    SeedanceRunOperator(task_id="cleared_after", prompt="Row cleared after", **WAIT)
    SeedanceRunOperator(task_id="resubmitted", prompt="Row resubmitted", on_clear="{{ 'resubmit' }}", **WAIT)
    SeedanceRunOperator(
        task_id="execution_timeout",
        prompt="Row execution timeout [wiro:hang]",
        deferrable=False,
        execution_timeout=timedelta(seconds=4),
        **{**WAIT, "retries": 1},
    )
    Impatient(task_id="no_triggerer", prompt="Row no triggerer [wiro:slow=180]", **{**WAIT, "poll_interval": 1000.0})
    ordered = SeedanceRunOperator(task_id="submit", prompt="Row attempts").output
    seen = SensorThatDiesOnce(task_id="wait", task=ordered, timeout=120, **POLL)
    FetchThatDiesOnce(task_id="fetch", task=seen.output, destination=VIDEOS + "/what_happens")
    WiroTaskSensor(
        task_id="sleeper",
        task=SeedanceRunOperator(task_id="hang", prompt="Row sleeper [wiro:hang]").output,
        mode="reschedule",
        deferrable=False,
        poll_interval=600,
        timeout=6000,
    )
