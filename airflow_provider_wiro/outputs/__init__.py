"""From the CDN to storage: the files of a task, whole and verified, and the manifest that says so.

A file is first written to a place of its own while it is hashed, then looked at, then published in one step: an atomic
rename on a local disk, one upload to an object store. The manifest beside the files is written last, so whoever finds
it finds whole files, and a second fetch of the same task asks nobody for anything. Names are made here, never taken
from the server.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask
from airflow_provider_wiro.exceptions import WiroOutputError
from airflow_provider_wiro.outputs.container import UnreadableVideoError, is_indexed, read_video
from airflow_provider_wiro.outputs.download import Download, facts
from airflow_provider_wiro.outputs.inspection import differences
from airflow_provider_wiro.outputs.sources import Cord, Sources
from airflow_provider_wiro.outputs.store import open_folder, publish, read_json, safe, staging, to_json, write_staged
from airflow_provider_wiro.waiting import Log

if TYPE_CHECKING:
    from concurrent.futures import Future

_AT_ONCE = 12


def read_manifest(destination: str, wiro_task_id: str) -> dict[str, Any] | None:
    """Return the manifest of a task that has been fetched to a folder before, if its files are still whole.

    :param destination: the folder, as given to :func:`fetch`.
    :param wiro_task_id: the task.
    :return: what :func:`fetch` returned then, or ``None``.
    :raises WiroOutputError: the store cannot be asked now.
    """
    path = open_folder(destination) / f"{safe(wiro_task_id)}.json"
    try:
        manifest = read_json(path)
        whole = all(ObjectStoragePath(file["uri"]).stat().st_size == file["size"] for file in manifest["files"])
        ours = manifest["wiro_task_id"] == wiro_task_id
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    except Exception as error:  # every store has errors of its own
        raise WiroOutputError(
            f"{path} cannot be read: {type(error).__name__}: {error}.", wiro_task_id=wiro_task_id
        ) from error
    return {**manifest, "manifest": str(path)} if whole and ours else None


@dataclass(frozen=True)
class Delivery:
    """What is to be stored, and how sure one has to be of it."""

    task: WiroTask
    """A task that has succeeded."""
    facts: Mapping[str, Any]
    """What the task is known by; goes into the manifest and into what is returned."""
    inputs: Mapping[str, Any]
    """The order's, by name on the wire: as they were sent or, where that is not known, as Wiro echoes them."""
    verify: str = "container"
    """``container``: a video has to be whole and as ordered, by what the file says of itself; ``none``: only the size
    has to be right."""


def fetch(
    delivery: Delivery, destination: str, sources: Sources, log: Log, read_again: Callable[[], WiroTask]
) -> dict[str, Any]:
    """Store the outputs of a task that has succeeded.

    :param delivery: what is to be stored.
    :param destination: folder: a local path, or an address that Airflow's object storage understands, with its
        connection (``s3://aws_default@bucket/videos``).
    :param sources: which addresses may be asked for files.
    :param log: gets a line for each file.
    :param read_again: reads the task once more: the address of an output expires.
    :return: the facts, ``files`` (a list of ``uri``, ``name``, ``size`` in bytes, ``sha256``, ``content_type`` and, for
        a video that was looked at, ``video``: ``width``, ``height``, ``duration`` in seconds, ``frame_rate``,
        ``codec``) and ``manifest`` (its address).
    :raises WiroOutputError: the task has no outputs, a file cannot be had whole or is not what was ordered, or the
        folder cannot be written.
    :raises WiroConfigurationError: nobody knows such a store.
    """
    task = delivery.task
    if not task.outputs:
        raise WiroOutputError(
            "The task succeeded and lists no outputs.", wiro_task_id=task.wiro_task_id, retryable=False
        )
    folder = open_folder(destination)
    with staging(folder, task.wiro_task_id) as place:
        cords = tuple(Cord() for _ in task.outputs)
        courier = _Courier(delivery, folder, place, sources, log, read_again, cords)
        files = courier.bring_all()
        manifest = {**delivery.facts, "inputs": dict(delivery.inputs), "files": files}
        staged, path = place / "manifest", folder / f"{safe(task.wiro_task_id)}.json"
        write_staged(staged, to_json(manifest))
        publish(staged, path, task.wiro_task_id)
    return {**delivery.facts, "files": files, "manifest": str(path)}


@dataclass(frozen=True)
class _Courier:
    """Brings the outputs of one task to their folder, several at once."""

    delivery: Delivery
    folder: ObjectStoragePath
    place: Path
    sources: Sources
    log: Log
    read_again: Callable[[], WiroTask]
    cords: tuple[Cord, ...]

    def bring_all(self) -> list[dict[str, Any]]:
        count = len(self.delivery.task.outputs)
        with ThreadPoolExecutor(min(_AT_ONCE, count)) as threads:
            under_way: list[Future[dict[str, Any]]] = [threads.submit(self._bring, index) for index in range(count)]
            try:
                return [each.result() for each in under_way]
            except BaseException as error:
                for each in under_way:
                    each.cancel()
                if not isinstance(error, Exception):  # Airflow ends the task: not in an hour, but now
                    for cord in self.cords:
                        cord.cut()
                raise

    def _bring(self, index: int) -> dict[str, Any]:
        task = self.delivery.task
        output = task.outputs[index]
        name = _name(task.wiro_task_id, index, output, len(task.outputs))
        path = self.folder / name
        found = self._published(path, output)
        if found is not None:
            self.log.info("%s is there already: %s", name, path)
            return {"uri": str(path), "name": name, **found}
        staged = self.place / name
        facts_of_file = self._obtain(index, output, staged)
        facts_of_file |= self._look(output, staged)
        publish(staged, path, task.wiro_task_id)
        self.log.info("Stored %s (%d bytes) at %s", name, facts_of_file["size"], path)
        return {"uri": str(path), "name": name, **facts_of_file}

    def _published(self, path: ObjectStoragePath, output: WiroOutput) -> dict[str, Any] | None:
        """Return the facts of a file that an earlier try has published, and whose manifest it did not live to write.

        Names are of one output only, and a file under its final name is whole; so its size is enough to know it by.
        """
        staged = self.place / f"{path.name}.before"
        try:
            if output.url is None or not output.size or path.stat().st_size != output.size:
                return None
            path.fs.get_file(path.path, str(staged))
            with staged.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            looked = self._look(output, staged)
        except Exception:  # every store has errors of its own; publishing tells them if they last
            return None
        finally:
            staged.unlink(missing_ok=True)
        return facts(output.size, digest.hexdigest(), output.content_type) | looked

    def _obtain(self, index: int, output: WiroOutput, staged: Path) -> dict[str, Any]:
        """Write one output to a local file; return its size, hash and type."""
        task = self.delivery.task
        if output.url is not None:
            return Download(task, index, staged, self.sources, self.log, self.read_again, self.cords[index])()
        if output.content is None:
            raise WiroOutputError(
                "An output has neither address nor content.", wiro_task_id=task.wiro_task_id, retryable=False
            )
        content = to_json(output.content)
        write_staged(staged, content)
        return facts(len(content), hashlib.sha256(content).hexdigest(), "application/json")

    def _look(self, output: WiroOutput, staged: Path) -> dict[str, Any]:
        """Hold a video against its order; return what it says of itself."""
        if self.delivery.verify == "none" or output.url is None or not is_indexed(output.content_type):
            return {}
        task = self.delivery.task
        try:
            video = read_video(staged)
        except UnreadableVideoError as error:
            raise WiroOutputError(
                f"{output.name!r} is no whole video: {error}.", wiro_task_id=task.wiro_task_id
            ) from error
        wrong, near = differences(task.model or str(self.delivery.facts.get("model")), self.delivery.inputs, video)
        for line in near:
            self.log.warning("Wiro task %s, not quite as ordered: %s", task.wiro_task_id, line)
        if wrong:
            raise WiroOutputError(
                f"The video is not what was ordered. {'; '.join(wrong)}.",
                wiro_task_id=task.wiro_task_id,
                retryable=False,
                advice="The task is paid, and nothing was stored. To take the video as it is, fetch it with "
                "verify='none'; to order another, clear the task that submitted it with on_clear='resubmit'.",
            )
        return {"video": video.to_json()}


def _name(wiro_task_id: str, index: int, output: WiroOutput, count: int) -> str:
    prefix = safe(wiro_task_id)
    if output.url is None:  # numbered always: without a number it would be the manifest's name
        return f"{prefix}-{index + 1}.json"
    suffix = mimetypes.guess_extension(output.content_type.split(";")[0].strip())
    if suffix is None:
        tail = Path(output.name.replace("\\", "/")).suffix.lower()
        suffix = tail if re.fullmatch(r"\.[a-z0-9]{1,5}", tail) and tail != ".json" else ".bin"
    number = "" if count == 1 and suffix != ".json" else f"-{index + 1}"
    return f"{prefix}{number}{suffix}"
