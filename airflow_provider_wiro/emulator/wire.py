"""What Wiro sends: envelopes and tasks, ids and numbers as strings (tool sheet, Wiro's documentation)."""

from __future__ import annotations

from airflow_provider_wiro.emulator.account import Task
from airflow_provider_wiro.emulator.lifecycle import TERMINAL

_TIMES = {
    "createtime": "task_queue",
    "accepttime": "task_accept",
    "assigntime": "task_assign",
    "preprocessstarttime": "task_preprocess_start",
    "preprocessendtime": "task_preprocess_end",
    "starttime": "task_start",
    "endtime": "task_end",
    "postprocessstarttime": "task_postprocess_start",
    "postprocessendtime": "task_postprocess_end",
    "canceltime": "task_cancel",
}
HOSTILE_NAME = "../../evil\u202e.mp4"


def good(**fields: object) -> dict[str, object]:
    """Return an answer that grants what was asked."""
    return {"errors": [], **fields, "result": True}


def bad(code: int, message: str) -> dict[str, object]:
    """Return an answer that refuses it."""
    return {"errors": [{"code": code, "message": message}], "result": False}


def task_answer(tasks: list[dict[str, object]], total: int) -> dict[str, object]:
    """Return the answer of Detail and List.

    :param tasks: shown tasks.
    :param total: how many there are.
    """
    return good(total=str(total), tasklist=tasks)


def _outputs(task: Task, now: float, base: str, name: str) -> list[dict[str, object]]:
    if task.deleted or task.pexit(now) != "0":
        return []
    if task.video is None or task.video.data is None:
        said = f"You said: {task.prompt}"
        content = {"prompt": task.prompt, "raw": said, "thinking": [], "answer": [said]}
        return [{"contenttype": "raw", "content": content}]
    written = task.told(task.time_of("task_postprocess_start", now) or now)
    return [
        {
            "id": task.key.replace("-", "")[:32],
            "name": name,
            "contenttype": "video/mp4",
            "parentid": task.key.replace("-", "")[32:],
            "uuid": task.uuid,
            "size": str(len(task.video.data)),
            "addedtime": written,
            "modifiedtime": written,
            "accesskey": task.token[::-1],
            "url": f"{base}/cdn/{task.key}/0.mp4",
        }
    ]


def show(task: Task, now: float, base: str, *, name: str = "0.mp4") -> dict[str, object]:
    """Return a task as Detail and List show it.

    :param task: the task.
    :param now: unix seconds.
    :param base: where the files are: ``http://host:port``.
    :param name: what the output is called.
    """
    outputs = _outputs(task, now, base, name)
    status = task.status(now)
    return {
        "id": task.taskid,
        "uuid": task.uuid,
        "socketaccesstoken": task.token,
        "parameters": dict(task.parameters),
        "debugoutput": "",
        "debugerror": task.problem if status in TERMINAL else "",
        "status": status,
        "pexit": task.pexit(now),
        **{field: task.told(task.time_of(status, now)) for field, status in _TIMES.items()},
        "elapsedseconds": f"{task.elapsed(now):.4f}",
        "totalcost": f"{task.price:.12f}" if task.billed else "0",
        "modelslugowner": task.model.owner,
        "modelslugproject": task.model.project,
        "modeldescription": task.model.description,
        "outputs": outputs,
        "size": str(sum(int(str(output.get("size", 0))) for output in outputs)),
    }
