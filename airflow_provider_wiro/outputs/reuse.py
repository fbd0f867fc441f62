"""The same request, paid once: a note beside the files says which task answered a request.

A note is a small file below ``.requests`` in the destination, named by what was asked for. It is written after the
manifest that it leads to, so it never leads to less than whole files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from airflow.sdk import ObjectStoragePath

from airflow_provider_wiro.outputs import read_manifest
from airflow_provider_wiro.outputs.container import is_indexed
from airflow_provider_wiro.outputs.store import open_folder, publish, read_json, staging, to_json, write_staged

_FOLDER = ".requests"
# Where Wiro reports to does not change what it makes.
_CALLBACK = "callbackUrl"


def request_key(model: str, inputs: Mapping[str, Any]) -> str:
    """Return what makes two requests the same.

    :param model: ``owner/name``.
    :param inputs: as the user gives them, by name on the wire; without a seed that was only derived.
    """
    asked = {name: value for name, value in inputs.items() if name != _CALLBACK}
    return hashlib.sha256(json.dumps([model.lower(), asked], sort_keys=True, default=str).encode()).hexdigest()


def remember(destination: str, request: str, wiro_task_id: str) -> None:
    """Note which task has answered a request; its manifest is in the same folder.

    :raises WiroOutputError: the note cannot be written.
    """
    folder = open_folder(destination)
    _write(folder, folder / _FOLDER / f"{request}.json", {"wiro_task_id": wiro_task_id}, wiro_task_id)


def find_published(destination: str, request: str, verify: str) -> dict[str, Any] | None:
    """Return the manifest of a request that was answered before, if its files are whole, else ``None``.

    :param destination: the folder.
    :param request: see :func:`request_key`.
    :param verify: with ``container``, a video that was stored without a look into it is no answer.
    """
    try:
        wiro_task_id = read_json(open_folder(destination) / _FOLDER / f"{request}.json")["wiro_task_id"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    found = read_manifest(destination, str(wiro_task_id))
    if found is None or verify == "none":
        return found
    looked_into = all("video" in file or not is_indexed(str(file["content_type"])) for file in found["files"])
    return found if looked_into else None


def deliver_again(destination: str, name: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """Write a manifest that says that an order was answered by files that were there.

    :param destination: the folder.
    :param name: of the new manifest, without suffix.
    :param published: see :func:`find_published`.
    :return: what a fetch returns, with ``reused_from`` (the Wiro task that made the files) and a ``total_cost`` of 0.
    :raises WiroOutputError: it cannot be written.
    """
    folder = open_folder(destination)
    path = folder / f"{name}.json"
    facts = {key: value for key, value in published.items() if key != "manifest"}
    facts |= {"total_cost": "0", "reused_from": published["wiro_task_id"]}
    _write(folder, path, facts, str(published["wiro_task_id"]))
    return {**facts, "manifest": str(path)}


def _write(folder: ObjectStoragePath, path: ObjectStoragePath, content: Mapping[str, Any], wiro_task_id: str) -> None:
    with staging(folder, wiro_task_id) as place:
        staged = place / "note"
        write_staged(staged, to_json(content))
        publish(staged, path, wiro_task_id)
