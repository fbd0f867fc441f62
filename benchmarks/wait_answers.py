"""What the APIs answer about a job, each in its own words. An answer is put together once and kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from airflow_provider_wiro.emulator.account import Task
from airflow_provider_wiro.emulator.catalogue import MODELS
from airflow_provider_wiro.emulator.lifecycle import Plan
from airflow_provider_wiro.emulator.wire import show
from benchmarks.wait_jobs import Job

_STATUSES = ("task_queue", "task_start", "task_postprocess_end")
_PROMPT = (
    "A lighthouse keeper waters tomatoes on the gallery while the first ferry of the day passes below. Slow dolly in, "
    "morning haze, gulls; the camera comes to rest on the reddest of the tomatoes."
)
_PARAMETERS = {"prompt": _PROMPT, "resolution": "480p", "ratio": "16:9", "duration": "5", "fps": "24"}
_PARAMETERS |= {"seed": "-1", "watermark": "false", "camerafixed": "false"}


@dataclass
class _Drawn:
    data: bytes | None = bytes(1_500_000)
    drawn_at: float | None = 0.0
    problem: str = ""


_VIDEO = _Drawn()


@cache
def _wiro_task(job: Job, started: float) -> Task:
    stages = (_STATUSES[0], 0.0), (_STATUSES[1], job.runs_from - job.begins), (_STATUSES[2], job.ends - job.begins)
    plan, price = Plan(stages, "0"), Decimal("0.2")
    return Task(job.number, MODELS[0], _PARAMETERS, started + job.begins, 1.0, plan, price, video=_VIDEO)


@cache
def wiro(job: Job, phase: int, started: float) -> bytes:
    """Return a job as an entry of Wiro's ``tasklist``.

    :param job: the job.
    :param phase: see :meth:`Job.phase <wait_jobs.Job.phase>`.
    :param started: unix time of the start.
    """
    task = _wiro_task(job, started)
    task.billed = phase == 2
    # A little later than the phase's beginning: adding to unix times rounds.
    moment = task.created + task.plan.stages[phase][1] + 0.001
    return json.dumps(show(task, moment, "https://cdn.example.com")).encode()


def wiro_envelope(entries: list[bytes], total: int) -> bytes:
    """Return the answer of Task/Detail and Task/List."""
    return b'{"errors":[],"total":"%d","tasklist":[%s],"result":true}' % (total, b",".join(entries))


@cache
def openai_batch(job: Job, phase: int, started: float) -> bytes:
    """Return a job as OpenAI's batch."""
    created, ended = int(started + job.begins), int(started + job.ends)
    return json.dumps(
        {
            "id": f"batch_{job.number}",
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": None,
            "input_file_id": f"file-{job.number}",
            "completion_window": "24h",
            "status": ("validating", "in_progress", "completed")[phase],
            "output_file_id": f"file-out-{job.number}" if phase == 2 else None,
            "error_file_id": None,
            "created_at": created,
            "in_progress_at": int(started + job.runs_from) if phase else None,
            "expires_at": created + 86_400,
            "finalizing_at": ended if phase == 2 else None,
            "completed_at": ended if phase == 2 else None,
            "failed_at": None,
            "expired_at": None,
            "cancelling_at": None,
            "cancelled_at": None,
            "request_counts": {"total": 100, "completed": 100 if phase == 2 else 0, "failed": 0},
            "metadata": {"description": _PROMPT},
        }
    ).encode()


@cache
def anthropic_batch(job: Job, phase: int, started: float) -> bytes:
    """Return a job as Anthropic's message batch."""
    done = 100 if phase == 2 else 0
    return json.dumps(
        {
            "id": f"msgbatch_{job.number}",
            "type": "message_batch",
            "processing_status": "ended" if phase == 2 else "in_progress",
            "request_counts": {
                "processing": 100 - done,
                "succeeded": done,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "ended_at": "2026-01-01T00:00:16Z" if phase == 2 else None,
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z",
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"https://api.example.com/v1/messages/batches/{job.number}/results" if phase == 2 else None,
        }
    ).encode()


@cache
def dbt_run(job: Job, phase: int, started: float) -> bytes:
    """Return a job as dbt Cloud's run."""
    run = {
        "id": job.number,
        "trigger_id": job.number,
        "account_id": 1,
        "environment_id": 2,
        "project_id": 3,
        "job_definition_id": 4,
        "status": (1, 3, 10)[phase],
        "dbt_version": "latest",
        "git_branch": "main",
        "git_sha": "0123456789abcdef0123456789abcdef01234567",
        "status_message": None,
        "owner_thread_id": None,
        "executed_by_thread_id": f"scheduler-run-{job.number}",
        "artifacts_saved": phase == 2,
        "has_docs_generated": False,
        "has_sources_generated": False,
        "notifications_sent": phase == 2,
        "created_at": "2026-01-01 00:00:00.000000+00:00",
        "updated_at": "2026-01-01 00:00:01.000000+00:00",
        "started_at": "2026-01-01 00:00:01.000000+00:00" if phase else None,
        "finished_at": "2026-01-01 00:00:16.000000+00:00" if phase == 2 else None,
        "is_complete": phase == 2,
        "is_success": phase == 2,
        "is_error": False,
        "is_cancelled": False,
        "in_progress": phase == 1,
        "status_humanized": ("Queued", "Running", "Success")[phase],
        "href": f"https://cloud.example.com/deploy/1/projects/3/runs/{job.number}/",
    }
    status = {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""}
    return json.dumps({"status": status, "data": run, "extra": {}}).encode()
