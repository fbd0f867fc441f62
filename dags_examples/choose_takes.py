"""Several takes of each prompt, and a person picks: only the picked ones go on.

Press *Trigger*, write a prompt on each line, and wait for the badge *Required Actions* in Airflow's UI. There, each
prompt is a question with its takes as small moving pictures; while it waits, it holds no worker and no triggerer. A
take that fails is not on offer, and stops nothing.

The previews need the extra ``previews`` (``pip install "airflow-provider-wiro[previews]"``), and the api-server shows
them from where it may: ``AIRFLOW__WIRO__UI_MEDIA_ROOTS`` has to name the folder of the videos, ``WIRO_VIDEOS_DIR``.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, ObjectStoragePath, Param, task, task_group

from airflow_provider_wiro.operators.seedance import SeedanceRunOperator
from airflow_provider_wiro.previews import show_preview

VIDEOS = os.environ.get("WIRO_VIDEOS_DIR", str(Path.home() / "wiro-videos"))
POLL_INTERVAL = float(os.environ.get("WIRO_POLL_INTERVAL", "15"))
NONE = "None of them"
PROMPT = "{{ ti.xcom_pull(task_ids='by_prompt')[ti.map_index][0]['prompt'].split() | join(' ') | truncate(80) }}"


def question(takes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a person is asked about the takes of a prompt: the arguments of the operator that asks."""
    prompt = " ".join(takes[0]["prompt"].split())
    names = [f"Take {take['number']}" for take in takes]
    # The addresses are relative, so they are right wherever Airflow's UI is.
    pictures = [f"[![{name}]({take['image']})]({take['watch']})" for name, take in zip(names, takes, strict=True)]
    table = [names, ["---"] * len(names), pictures]
    # A prompt is neither Markdown nor a Jinja template: each mark in it is escaped.
    plain = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", prompt)
    lines = [f"> {plain}", "", *(f"| {' | '.join(row)} |" for row in table), "", "A click plays all of it."]
    return {"body": "\n".join(lines), "options": [*names, NONE]}


with DAG(
    dag_id="choose_takes",
    schedule=None,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["wiro", "example"],
    doc_md=__doc__,
    params={
        "prompts": Param(
            ["A fox crossing a frozen river at dawn", "Rain on a tram window at night"],
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Prompts",
            description="One on each line.",
        ),
        "takes": Param(3, type="integer", minimum=1, maximum=6, title="Takes of each prompt"),
        "ratio": Param(
            "16:9", type="string", enum=["16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "9:21"], title="Aspect ratio"
        ),
    },
) as dag:

    @task
    def orders(*, params: dict[str, Any]) -> list[dict[str, Any]]:
        """List every take of every prompt."""
        prompts = dict.fromkeys(prompt for prompt in params["prompts"] if prompt.strip())
        return [{"prompt": prompt, "number": number + 1} for prompt in prompts for number in range(params["takes"])]

    @task_group(prefix_group_id=False)
    def take(prompt: str, number: int) -> Any:
        """Make one take; another one may fail meanwhile."""
        # Without a seed, each task instance has one of its own: equal prompts, different takes.
        video = SeedanceRunOperator(
            task_id="video",
            prompt=prompt,
            ratio="{{ params.ratio }}",
            resolution="480p",
            duration=5,
            wait_for_completion=True,
            poll_interval=POLL_INTERVAL,
            destination=VIDEOS + "/takes/{{ dag_run.run_after | ds }}",
            map_index_template="{{ task.prompt | truncate(60) }}",
        )

        @task(map_index_template="{{ task.op_kwargs['prompt'] | truncate(60) }}")
        def preview(prompt: str, number: int, video: dict[str, Any]) -> dict[str, Any]:
            """Make a small moving picture that Airflow's UI can show."""
            return {"prompt": prompt, "number": number, "uri": video["files"][0]["uri"], **show_preview(video)}

        return preview(prompt=prompt, number=number, video=video.output)

    @task(trigger_rule="all_done")
    def by_prompt(takes: Any) -> list[list[dict[str, Any]]]:
        """Put together the takes of each prompt, as many as were made."""
        # Airflow gives the value itself where only one take came, and nothing where none did.
        made: list[dict[str, Any]] = [takes] if isinstance(takes, dict) else list(takes or ())
        return [list(group) for _, group in groupby(made, key=lambda take: take["prompt"])]

    @task
    def picked(prompts: list[list[dict[str, Any]]], answers: Any) -> list[dict[str, Any]]:
        """Return the takes that were picked, in the order of the questions."""
        given: list[dict[str, Any]] = [answers] if isinstance(answers, dict) else list(answers)
        return [
            take
            for takes, answer in zip(prompts, given, strict=True)
            for take in takes
            if f"Take {take['number']}" in answer["chosen_options"]
        ]

    @task(map_index_template="{{ task.op_kwargs['take']['prompt'] | truncate(60) }}")
    def publish(take: dict[str, Any]) -> str:
        """Copy a picked take to a folder of the good ones; put your own next step in its place."""
        video = ObjectStoragePath(take["uri"])
        folder = video.parent / "picked"
        folder.mkdir(parents=True, exist_ok=True)
        video.copy(folder / video.name)
        return str(folder / video.name)

    takes = by_prompt(take.expand_kwargs(orders()))
    choose = HITLOperator.partial(
        task_id="choose", subject=f"Which take is the best? {PROMPT}", map_index_template=PROMPT
    ).expand_kwargs(takes.map(question))
    publish.expand(take=picked(takes, choose.output))
