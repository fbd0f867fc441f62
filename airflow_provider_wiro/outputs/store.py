"""Where files end up: a folder on this machine or in an object store, in which a file appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath

from airflow_provider_wiro.exceptions import WiroConfigurationError, WiroOutputError

_LEFT_BEHIND = 6 * 3600.0  # seconds after which no process can still be at work on it
# Folders are a part of the names there, and the only thing that "making" one could make is a misspelt bucket.
_FLAT = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss"})


def open_folder(destination: Any, argument: str = "destination") -> ObjectStoragePath:
    """Return the folder of a destination, having found its store; nothing is written.

    :param destination: a local path, or an address that Airflow's object storage understands, with its connection
        (``s3://aws_default@bucket/videos``).
    :param argument: what it is called where it was given, for the error.
    :raises WiroConfigurationError: nobody knows such a store.
    :raises WiroOutputError: the store cannot be had now.
    """
    address = str(destination)  # a path object does as well
    try:
        if "\0" in address:
            raise ValueError("no name has a NUL in it")
        if "://" not in address:
            address = str(Path(address).expanduser().absolute())
        folder = ObjectStoragePath(address)
        folder.fs  # noqa: B018  (names the store, or says that nobody knows it)
    except Exception as error:  # every store has errors of its own; an unknown protocol is a ValueError
        kind = WiroConfigurationError if isinstance(error, (ValueError, ImportError)) else WiroOutputError
        raise kind(
            f"{argument} is {address!r}, which cannot be used: {type(error).__name__}: {error}.",
            advice="Is the store's provider installed (for s3: apache-airflow-providers-amazon), its connection made?",
        ) from error
    return folder


def is_local(path: ObjectStoragePath) -> bool:
    """Tell whether a path is on a disk of this machine."""
    return path.protocol in ("file", "local", "")


@contextmanager
def staging(folder: ObjectStoragePath, wiro_task_id: str | None) -> Iterator[Path]:
    """Provide an empty local folder for what is not published yet, on the disk of a local destination.

    :param folder: the destination.
    :param wiro_task_id: whose files they are, for the error.
    :raises WiroOutputError: it cannot be made.
    """
    prefix = ".wiro-"
    try:
        if is_local(folder):
            target = Path(folder.path)
            target.mkdir(parents=True, exist_ok=True)
            _sweep(target, prefix)
            place = Path(tempfile.mkdtemp(prefix=prefix, dir=target))
        else:
            _sweep(Path(tempfile.gettempdir()), prefix)
            place = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise WiroOutputError(
            f"{folder} cannot be written: {type(error).__name__}: {error}.", wiro_task_id=wiro_task_id
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(target: Path, prefix: str) -> None:
    """Remove what processes that were killed have left in a folder."""
    for old in target.glob(f"{prefix}*"):
        try:
            if time.time() - old.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue  # another process was faster


def publish(staged: Path, path: ObjectStoragePath, wiro_task_id: str | None) -> None:
    """Make a finished local file appear under its final name, whole or not at all.

    :param staged: the file, from :func:`staging`; it is gone afterwards, or is to be.
    :param path: its final name.
    :param wiro_task_id: whose file it is, for the error.
    :raises WiroOutputError: it cannot be written, or the store has something else afterwards.
    """
    size = staged.stat().st_size
    try:
        if path.protocol not in _FLAT:
            path.parent.mkdir(parents=True, exist_ok=True)
        if is_local(path):
            os.replace(staged, path.path)
            _keep(Path(path.path).parent)
        else:
            path.fs.put_file(str(staged), path.path)
        stored = path.stat().st_size
    except Exception as error:  # every store has errors of its own
        raise WiroOutputError(
            f"{path} cannot be written: {type(error).__name__}: {error}.", wiro_task_id=wiro_task_id
        ) from error
    if stored != size:
        raise WiroOutputError(
            f"{path} has {stored} bytes after writing, in place of {size}.", wiro_task_id=wiro_task_id
        )


def _keep(folder: Path) -> None:
    """Let the new name outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_staged(staged: Path, content: bytes) -> None:
    """Write a small file to the disk, for certain."""
    with staged.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_lines(destination: str, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
    """Write a file of JSON lines, whole or not at all.

    :param destination: the folder, as for :func:`open_folder`.
    :param name: the file's name; what no file name should have in it is replaced.
    :param lines: what each line says.
    :return: its address.
    :raises WiroOutputError: the folder cannot be written.
    """
    folder = open_folder(destination)
    path = folder / f"{safe(name, 200)}.jsonl"
    with staging(folder, None) as place:
        write_staged(place / "lines", b"".join(to_json(line, indent=None) for line in lines))
        publish(place / "lines", path, None)
    return str(path)


def read_json(path: ObjectStoragePath) -> Any:
    """Read a JSON file.

    :raises OSError: it is not there, or cannot be read.
    :raises ValueError: it is not JSON.
    """
    # Not `read_text`, which passes by the store that Airflow has attached.
    with path.open("rb") as file:  # type: ignore[no-untyped-call]
        return json.load(file)


def to_json(content: Any, indent: int | None = 2) -> bytes:
    """Return content as a line, or lines, of JSON."""
    # Half of a surrogate pair has no UTF-8; escaped with a backslash, it is JSON all the same.
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def safe(name: str, length: int = 80) -> str:
    """Return a name without anything that a file name should not have in it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:length]
