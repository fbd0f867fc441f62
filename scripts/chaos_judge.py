"""What a chaos run has come to: from the ledger, the database, the files and the logs, not from what tasks say."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_wiro.api.auth import WiroAuth
from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.emulator import LocalWiro
from scripts.chaos_plan import Case
from scripts.cluster import Cluster

KEY, SECRET = "canary-key-51c0de", "canary-secret-e77a19"
"""The credentials, to be looked for where they must not be."""

_AMBIGUOUS = "The outcome of the Run is not known, looking for it at Wiro"
_ADOPTED = "is this order's Run."
_UNPROVEN = "WiroRunUnknownError: The outcome of a Run is not known, and"
_SUPERSEDED = "WiroSupersededError"
_ORDERING = "Ordering a run of"
_LOOKS = ("The outcome of the Run is not known yet.", _ADOPTED, "No Run of this order is among", "does not tell its")
_ATTEMPT = re.compile(r"map_index=(\d+)/attempt=(\d+)\.log$")


@dataclass(frozen=True)
class Evidence:
    """All that is left of a run."""

    case: Case
    ledger: Mapping[str, Any]
    records: Mapping[int, Mapping[str, Any]]
    """What is in the task state store, by map index."""
    states: Mapping[int, str]
    returned: Mapping[int, Mapping[str, Any]]
    """What each task instance has returned."""
    claims: Mapping[int, str]
    """The Wiro task that each task instance calls its own in its XComs."""
    canaries: tuple[bytes, ...]
    dump: bytes
    home: Path

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        """The runs that Wiro accepted, without those of others."""
        return [run for run in self.ledger["runs"] if not run["foreign"]]

    @property
    def destination(self) -> Path:
        """Where the videos are."""
        return self.home / "videos"


def collect(case: Case, cluster: Cluster, wiro: LocalWiro) -> Evidence:
    """Gather the evidence while everything still runs.

    :param case: what was done.
    :param cluster: the Airflow.
    :param wiro: the local Wiro, without any faults by now.
    """
    xcoms: dict[str, dict[int, Any]] = defaultdict(dict)
    for index, key, value in cluster.sql("select map_index, key, value from xcom where task_id = 'video'"):
        xcoms[key][index] = _decoded(value)
    stored = cluster.sql("select map_index, value from task_state_store where task_id = 'video' and key = 'wiro'")
    instances = cluster.sql("select map_index, state from task_instance where task_id = 'video'")
    return Evidence(
        case=case,
        ledger=wiro.ledger(),
        records={index: _decoded(value) for index, value in stored},
        states={index: str(state) for index, state in instances},
        returned=xcoms["return_value"],
        claims=xcoms["wiro_task_id"],
        canaries=(KEY.encode(), SECRET.encode(), *_tokens(wiro)),
        dump=cluster.dump(),
        home=cluster.home,
    )


def _decoded(value: Any) -> Any:
    while isinstance(value, str) and value[:1] in ("{", '"'):
        value = json.loads(value)
    return value


def _tokens(wiro: LocalWiro) -> Iterator[bytes]:
    client = WiroClient(WiroAuth(KEY, SECRET), wiro.base_url)
    start = 0
    while page := client.list_tasks(start).tasks:
        for task in page:
            if not task.task_token:
                raise ValueError("a task without a token is no canary")
            yield task.task_token.encode()
        start += len(page)


def judge(found: Evidence) -> dict[str, float]:
    """Return the figures of a run, but for those of its course.

    :param found: the evidence.
    """
    failed = {index for index, state in found.states.items() if state != "success"}
    figures = {
        **_money(found),
        **_videos(found, failed),
        "leaked headers": len(found.ledger["cdn"]["leaked_headers"]),
        "canary hits": _canary_hits(found),
        "terminal failures": len(failed),
    }
    return {**figures, **_story(found, failed)}


def _money(found: Evidence) -> dict[str, float]:
    ordered: Counter[tuple[str, str]] = Counter()
    billed: Counter[tuple[str, str]] = Counter()
    for run in found.runs:
        video = run["parameters"]["prompt"], run["parameters"]["seed"]
        over = run["stopped_by_request"] or run["status"] == "task_error" or run["pexit"] == "1"
        ordered[video] += not over
        billed[video] += run["billed"]
    calls = found.ledger["calls"]
    owned = {record["wiro_task_id"] for record in found.records.values()}
    return {
        "accepted": len(found.runs),
        "run calls": calls["Run"],
        "duplicates": sum(max(0, count - 1) for count in ordered.values()),
        "billed twice": sum(max(0, count - 1) for count in billed.values()),
        "orphans": sum(run["taskid"] not in owned and not run["stopped_by_request"] for run in found.runs),
        "stop calls": calls.get("Task/Cancel", 0) + calls.get("Task/Kill", 0),
        "stopped": sum(run["stopped_by_request"] for run in found.runs),
    }


def _videos(found: Evidence, failed: set[int]) -> dict[str, float]:
    runs = {run["taskid"]: run for run in found.runs}
    lost: set[int] = set()
    wrong: set[int] = set()
    owners: dict[str, int] = {}
    for index, prompt in enumerate(found.case.prompts):
        taskid = str(found.records.get(index, {}).get("wiro_task_id"))
        run = runs.get(taskid)
        if run is None or run["parameters"]["prompt"] != prompt or owners.setdefault(taskid, index) != index:
            lost.add(index)
            continue
        told = found.returned.get(index, {}).get("wiro_task_id"), found.claims.get(index)
        if index not in failed and (told != (taskid, taskid) or not _is_whole(found.destination, run)):
            wrong.add(index)
    kept = {path.name for path in found.destination.iterdir()} if found.destination.exists() else set()
    strange = kept - {f"{taskid}{suffix}" for taskid in owners for suffix in (".mp4", ".json")}
    # hidden is what a killed process had not published, and the notes of which request was answered by what
    strange = {name for name in strange if not name.startswith(".")}
    return {"lost": len(lost - failed), "wrong files": len(wrong) + len(strange)}


def _is_whole(folder: Path, run: Mapping[str, Any]) -> bool:
    """Tell whether a video is on the disk, is the one that its manifest tells of, and the one that was ordered."""
    try:
        manifest = json.loads((folder / f"{run['taskid']}.json").read_bytes())
        (file,) = manifest["files"]
        film = (folder / file["name"]).read_bytes()
    except (OSError, ValueError, KeyError):
        return False
    parameters = run["parameters"]
    mark = f'"prompt": {json.dumps(parameters["prompt"])}, "seed": {parameters["seed"]},'
    facts = (manifest["wiro_task_id"], file["size"], file["sha256"])
    return facts == (run["taskid"], len(film), hashlib.sha256(film).hexdigest()) and mark.encode() in film[-500:]


def _logs(home: Path) -> Iterator[Path]:
    for folder in ("logs", "run"):
        yield from (path for path in (home / folder).rglob("*") if path.is_file() and ".log" in path.name)


def _canary_hits(found: Evidence) -> int:
    if json.dumps(found.case.prompts[0]).encode() not in found.dump:
        raise ValueError("what Airflow certainly keeps is not in the dump either")
    secrets = re.compile(b"|".join(map(re.escape, found.canaries)))
    files = [path.read_bytes() for path in (*_logs(found.home), *found.destination.glob("*.json"))]
    return sum(len(secrets.findall(text)) for text in (found.dump, *files))


def _story(found: Evidence, failed: set[int]) -> dict[str, float]:
    """Count what the tasks' logs tell: how often the protocol was needed."""
    counts: Counter[str] = Counter()
    doubtful: set[int] = set()
    unproven: set[int] = set()
    for path in _logs(found.home):
        place = _ATTEMPT.search(path.as_posix())
        if place is None:
            continue
        index, attempt = int(place[1]), int(place[2])
        lines = path.read_text(errors="replace").splitlines()
        ambiguous = sum(_AMBIGUOUS in line for line in lines)
        counts["ambiguous"] += ambiguous
        counts["adopted"] += sum(_ADOPTED in line for line in lines)
        counts["superseded"] += any(_SUPERSEDED in line for line in lines)
        first = next((line for line in lines if _ORDERING in line or any(look in line for look in _LOOKS)), _ORDERING)
        reconciled = attempt > 1 and _ORDERING not in first
        counts["reconciled"] += reconciled
        counts["later tries"] += attempt > 1
        if ambiguous or reconciled:
            doubtful.add(index)
        if any(_UNPROVEN in line for line in lines):
            unproven.add(index)
    named = ("ambiguous", "adopted", "reconciled", "superseded", "later tries")
    strange = failed - (unproven & doubtful)
    return {**{name: counts[name] for name in named}, "unproven": len(unproven), "unexpected failures": len(strange)}
