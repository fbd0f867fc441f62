"""From the CDN to storage: the files of a task, whole and verified, and the manifest that says so.

A file is first written to this machine while it is hashed, then published in one step: an atomic rename on a local
disk, one upload to an object store. The manifest beside the files is written last, so whoever finds it finds whole
files, and a second fetch of the same task asks nobody for anything. Names are made here, never taken from the server.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
from airflow.sdk import ObjectStoragePath
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask, whole_number
from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroError, WiroOutputError
from airflow_provider_wiro.waiting import Log

_BLOCK = 1 << 20
_TIMEOUTS = (10.0, 60.0)  # seconds to connect, seconds without a byte
_ATTEMPTS = 5
_EXPIRED = frozenset({401, 403, 404, 410})


def read_manifest(destination: str, wiro_task_id: str) -> dict[str, Any] | None:
    """Return the manifest of a task that has been fetched to a folder before, if its files are still whole.

    :param destination: the folder, as given to :func:`fetch`.
    :param wiro_task_id: the task.
    :return: what :func:`fetch` returned then, or ``None``.
    """
    path = open_folder(destination) / f"{_safe(wiro_task_id)}.json"
    try:
        # Not `read_text`, which passes by the store that Airflow has attached.
        with path.open("rb") as file:  # type: ignore[no-untyped-call]
            manifest = json.load(file)
        whole = all(ObjectStoragePath(file["uri"]).stat().st_size == file["size"] for file in manifest["files"])
        ours = manifest["wiro_task_id"] == wiro_task_id
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {**manifest, "manifest": _uri(path)} if whole and ours else None


def fetch(
    task: WiroTask,
    destination: str,
    facts: Mapping[str, Any],
    log: Log,
    read_again: Callable[[], WiroTask],
) -> dict[str, Any]:
    """Store the outputs of a task that has succeeded.

    :param task: the task.
    :param destination: folder: a local path, or an address that Airflow's object storage understands, with its
        connection (``s3://aws_default@bucket/videos``).
    :param facts: what the task is known by; goes into the manifest and into what is returned.
    :param log: gets a line for each file.
    :param read_again: reads the task once more: the address of an output expires.
    :return: `facts`, ``files`` (a list of ``uri``, ``name``, ``size`` in bytes, ``sha256``, ``content_type``) and
        ``manifest`` (its address).
    :raises WiroOutputError: the task has no outputs, a file cannot be had whole, or the folder cannot be written.
    :raises WiroConfigurationError: nobody knows such a store.
    """
    if not task.outputs:
        raise WiroOutputError(
            "The task succeeded and lists no outputs.", wiro_task_id=task.wiro_task_id, retryable=False
        )
    folder = open_folder(destination)
    names = [_name(task.wiro_task_id, index, output, len(task.outputs)) for index, output in enumerate(task.outputs)]
    files = []
    with tempfile.TemporaryDirectory(prefix="wiro-") as staging:
        for index, name in enumerate(names):
            staged = Path(staging) / name
            facts_of_file = _obtain(task, index, staged, read_again)
            path = folder / name
            _publish(staged, path, task.wiro_task_id)
            files.append({"uri": _uri(path), "name": name, **facts_of_file})
            log.info("Stored %s (%d bytes) at %s", name, facts_of_file["size"], _uri(path))
        manifest = {**facts, "inputs": dict(task.inputs), "files": files}
        staged = Path(staging) / f"{_safe(task.wiro_task_id)}.json"
        staged.write_bytes(_json(manifest))
        path = folder / staged.name
        _publish(staged, path, task.wiro_task_id)
    return {**facts, "files": files, "manifest": _uri(path)}


def write_lines(destination: str, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
    """Write a file of JSON lines, whole or not at all.

    :param destination: the folder, as given to :func:`fetch`.
    :param name: the file's name; what no file name should have in it is replaced.
    :param lines: what each line says.
    :return: its address.
    :raises WiroOutputError: the folder cannot be written.
    """
    path = open_folder(destination) / f"{_safe(name, 200)}.jsonl"
    with tempfile.TemporaryDirectory(prefix="wiro-") as staging:
        staged = Path(staging) / "lines"
        with staged.open("wb") as file:
            for line in lines:
                file.write(_json(line, indent=None))
        _publish(staged, path, None)
    return _uri(path)


def _obtain(task: WiroTask, index: int, staged: Path, read_again: Callable[[], WiroTask]) -> dict[str, Any]:
    """Write one output to a local file; return its size, hash and type."""
    output = task.outputs[index]
    if output.url is None:
        if output.content is None:
            raise WiroOutputError(
                "An output has neither address nor content.", wiro_task_id=task.wiro_task_id, retryable=False
            )
        content = _json(output.content)
        staged.write_bytes(content)
        return _facts(len(content), hashlib.sha256(content).hexdigest(), "application/json")

    def attempt() -> dict[str, Any]:
        nonlocal output
        try:
            return _download(output, staged, task.wiro_task_id)
        except WiroOutputError as error:
            if error.http_status in _EXPIRED:
                fresh = read_again().outputs
                output = fresh[index] if index < len(fresh) else output
            raise

    retrying = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        retry=retry_if_exception(lambda error: isinstance(error, WiroError) and error.retryable),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        reraise=True,
    )
    return retrying(attempt)


def _download(output: WiroOutput, staged: Path, wiro_task_id: str) -> dict[str, Any]:
    url = output.url or ""
    if not re.match(r"https?://[^/\s]", url):
        raise WiroOutputError("An output's address is not http or https.", wiro_task_id=wiro_task_id, retryable=False)
    digest, size = hashlib.sha256(), 0
    try:
        with requests.Session() as session:
            # Nothing of the API connection goes to the CDN, nor what a ~/.netrc may hold for its host.
            session.trust_env = False
            session.proxies = requests.utils.get_environ_proxies(url)
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
            with session.get(url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=_TIMEOUTS) as response:
                _check_answer(response, wiro_task_id)
                announced = output.size
                if announced is None:
                    announced = whole_number(response.headers.get("Content-Length"))
                with staged.open("wb") as file:
                    for block in response.iter_content(_BLOCK):
                        digest.update(block)
                        size += len(block)
                        file.write(block)
                        if announced is not None and size > announced:
                            break
    except (requests.exceptions.RequestException, ValueError) as error:
        raise WiroOutputError(f"The download broke: {type(error).__name__}.", wiro_task_id=wiro_task_id) from error
    except OSError as error:
        raise WiroOutputError(f"This machine cannot hold the file: {error}.", wiro_task_id=wiro_task_id) from error
    if announced is not None and announced != size:
        more = " or more" if size > announced else ""
        raise WiroOutputError(
            f"The file has {size} bytes{more}, and Wiro announces {announced}.", wiro_task_id=wiro_task_id
        )
    with staged.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if not start or start.startswith((b"<!doctype html", b"<html")):
        raise WiroOutputError("The file is empty or a page of HTML.", wiro_task_id=wiro_task_id)
    return _facts(size, digest.hexdigest(), output.content_type)


def _check_answer(response: requests.Response, wiro_task_id: str) -> None:
    if response.status_code != 200:
        raise WiroOutputError(
            "The CDN does not give the file; addresses expire after some time.",
            http_status=response.status_code,
            wiro_task_id=wiro_task_id,
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    media_type = response.headers.get("Content-Type", "")
    if encoding != "identity" or media_type.startswith("text/html"):
        raise WiroOutputError(
            f"The CDN answers with something else than the file ({media_type}, {encoding}).", wiro_task_id=wiro_task_id
        )


def _publish(staged: Path, path: ObjectStoragePath, wiro_task_id: str | None) -> None:
    """Make a finished local file appear under its final name, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.protocol in ("file", "local", ""):
            part = Path(f"{path.path}.{uuid.uuid4().hex}.part")  # another try may be at it, too
            try:
                path.fs.put_file(str(staged), str(part))
                os.replace(part, path.path)
            finally:
                part.unlink(missing_ok=True)
        else:
            path.fs.put_file(str(staged), path.path)
        stored = path.stat().st_size
    except Exception as error:  # every store has errors of its own
        raise WiroOutputError(
            f"{_uri(path)} cannot be written: {type(error).__name__}: {error}.", wiro_task_id=wiro_task_id
        ) from error
    if stored != staged.stat().st_size:
        raise WiroOutputError(f"{_uri(path)} has {stored} bytes after writing.", wiro_task_id=wiro_task_id)


def open_folder(destination: Any) -> ObjectStoragePath:
    """Return the folder of a destination, having found its store; nothing is written.

    :param destination: as given to :func:`fetch`.
    :raises WiroConfigurationError: nobody knows such a store.
    :raises WiroOutputError: the store cannot be had now.
    """
    address = str(destination)  # a path object does as well
    if "://" not in address:
        address = str(Path(address).expanduser().absolute())
    try:
        folder = ObjectStoragePath(address)
        folder.fs  # noqa: B018  (names the store, or says that nobody knows it)
    except Exception as error:  # every store has errors of its own; an unknown protocol is a ValueError
        kind = WiroConfigurationError if isinstance(error, (ValueError, ImportError)) else WiroOutputError
        raise kind(
            f"destination is {address!r}, which cannot be used: {type(error).__name__}: {error}.",
            advice="Is the store's provider installed (for s3: apache-airflow-providers-amazon), its connection made?",
        ) from error
    return folder


def _json(content: Any, indent: int | None = 2) -> bytes:
    # Half of a surrogate pair has no UTF-8; escaped with a backslash, it is JSON all the same.
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def _facts(size: int, sha256: str, content_type: str) -> dict[str, Any]:
    return {"size": size, "sha256": sha256, "content_type": content_type}


def _name(wiro_task_id: str, index: int, output: WiroOutput, count: int) -> str:
    safe = _safe(wiro_task_id)
    if output.url is None:  # numbered always: without a number it would be the manifest's name
        return f"{safe}-{index + 1}.json"
    suffix = mimetypes.guess_extension(output.content_type.split(";")[0].strip())
    if suffix is None:
        tail = Path(output.name.replace("\\", "/")).suffix.lower()
        suffix = tail if re.fullmatch(r"\.[a-z0-9]{1,5}", tail) and tail != ".json" else ".bin"
    number = "" if count == 1 and suffix != ".json" else f"-{index + 1}"
    return f"{safe}{number}{suffix}"


def _safe(name: str, length: int = 80) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:length]


def _uri(path: ObjectStoragePath) -> str:
    return str(path)
