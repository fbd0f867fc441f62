"""A process that fetches two files, as a worker does, and is killed at a chosen step on its way."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import stat
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import urllib3.connection
import urllib3.response

from airflow_provider_wiro.outputs import Delivery, fetch, read_manifest
from airflow_provider_wiro.outputs.sources import Sources
from tests.unit.fetching import file_at, task_of

FIRST, SECOND = "/first", "/second"
KILLED = -signal.SIGKILL

# A fork of a process that has imported everything and done nothing is as fresh as a new one, and there at once.
_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload([__name__])


def start(folder: Path, url: str, size: int, step: str | None = None) -> BaseProcess:
    """Begin a try in a process of its own.

    :param step: one of :data:`STEPS`, at which it is killed.
    """
    process = _FRESH.Process(target=_one_try, args=(str(folder), url, size, step), daemon=True)
    process.start()
    return process


def end_of(process: BaseProcess) -> int | None:
    """Wait until a process has ended; return its exit code, or what killed it."""
    process.join(20)
    return process.exitcode


def _one_try(folder: str, url: str, size: int, step: str | None) -> None:
    if step is not None:
        STEPS[step]()
    task = task_of(*(file_at(f"{url}{path}", size) for path in (FIRST, SECOND)))
    delivery = Delivery(task, {"wiro_task_id": task.wiro_task_id}, {})
    if read_manifest(folder, task.wiro_task_id) is None:
        fetch(delivery, folder, Sources(url), logging.getLogger(__name__), lambda: task)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at(
    owner: Any, name: str, *, after: bool = False, nth: int = 1, when: Callable[..., bool] = lambda *_, **__: True
) -> Callable[[], None]:
    """Return what lets this process die before or after the n-th of those calls of a function that are meant."""

    def arm() -> None:
        original, calls = getattr(owner, name), itertools.count(1)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            last = when(*args, **kwargs) and next(calls) == nth
            if last and not after:
                _die()
            result = original(*args, **kwargs)
            if last:
                _die()
            return result

        setattr(owner, name, wrapped)

    return arm


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def _is_file(descriptor: int) -> bool:
    return not _is_folder(descriptor)


def _of(path: str) -> Callable[..., bool]:
    return lambda response, *_, **__: path in (response.geturl() or "")


def _to(end: str) -> Callable[..., bool]:
    return lambda source, target: str(target).endswith(end)


def _opens(name: str) -> Callable[..., bool]:
    return lambda path, mode="r", *_, **__: path.name == name and "w" in mode


_CONNECTION, _RESPONSE = urllib3.connection.HTTPConnection, urllib3.response.HTTPResponse

STEPS: dict[str, Callable[[], None]] = {
    "before the first request": _at(_CONNECTION, "request"),
    "before the first byte": _at(_RESPONSE, "read1"),
    "in the middle of the first file": _at(_RESPONSE, "read1", nth=2, when=_of(FIRST)),
    "after the first file's last byte": _at(os, "fsync", when=_is_file),
    "before the first file's publication": _at(os, "replace"),
    "in the middle of the first file's publication": _at(os, "replace", after=True),
    "after the first file, before the second": _at(os, "fsync", after=True, when=_is_folder),
    "in the middle of the second file": _at(_RESPONSE, "read1", nth=2, when=_of(SECOND)),
    "before the second file's publication": _at(os, "replace", when=_to("-2.mp4")),
    "in the middle of the second file's publication": _at(os, "replace", after=True, when=_to("-2.mp4")),
    "before the manifest": _at(Path, "open", when=_opens("manifest")),
    "while the manifest is staged": _at(Path, "open", after=True, when=_opens("manifest")),
    "before the manifest's publication": _at(os, "replace", when=_to(".json")),
    "in the middle of the manifest's publication": _at(os, "replace", after=True, when=_to(".json")),
    "after the manifest": _at(shutil, "rmtree"),
}
"""Where a process can be killed; the second file does not begin before the first is published."""
