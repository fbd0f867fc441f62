"""What the tests of fetching files share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.api.tasks import WiroOutput, WiroTask
from airflow_provider_wiro.exceptions import WiroOutputError

if TYPE_CHECKING:
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Lines

VIDEO = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(range(256)) * 40
PAGE = b"<!DOCTYPE html><html><head><title>502</title></head><body>Bad gateway</body></html>"
MP4 = {"Content-Type": "video/mp4"}


def cdn(wiro: LocalWiro) -> dict[str, Any]:
    return dict(wiro.ledger()["cdn"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def task_of(*outputs: WiroOutput, wiro_task_id: str = "4711", **fields: Any) -> WiroTask:
    return WiroTask(wiro_task_id, "task_postprocess_end", "0", outputs=outputs, **fields)


def file_at(
    url: str, size: int | None = len(VIDEO), name: str = "0.mp4", content_type: str = "video/mp4"
) -> WiroOutput:
    return WiroOutput(name, content_type, size, url)


class Fetching:
    """Fetches like the operator does."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.hosts: tuple[str, ...] = ()
        self.own: str | None = None
        """Where the connection leads; default: to where the first file is."""
        self.verify = "none"
        self.read_again = 0

    def verifying(self) -> Fetching:
        """Return one that looks into the videos."""
        other = copy.copy(self)
        other.verify = "container"
        return other

    def __call__(
        self,
        task: WiroTask,
        destination: str | Path,
        again: Callable[[], WiroTask] | None = None,
        verify: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        from airflow_provider_wiro.outputs import Delivery, fetch
        from airflow_provider_wiro.outputs.sources import Sources

        def read_again() -> WiroTask:
            self.read_again += 1
            return again() if again else task

        first = next((output.url for output in task.outputs if output.url), None) or ""
        facts = {"wiro_task_id": task.wiro_task_id}
        delivery = Delivery(task, facts, task.inputs if inputs is None else inputs, verify or self.verify)
        sources = Sources(first if self.own is None else self.own, self.hosts)
        return fetch(delivery, str(destination), sources, self.lines, read_again)


def manifest_of(destination: str | Path, wiro_task_id: str = "4711") -> dict[str, Any] | None:
    from airflow_provider_wiro.outputs import read_manifest

    return read_manifest(str(destination), wiro_task_id)


def assert_output_error(fetch: Fetching, task: WiroTask, destination: str | Path) -> WiroOutputError:
    with pytest.raises(WiroOutputError) as caught:
        fetch(task, destination)
    assert caught.value.wiro_task_id == task.wiro_task_id
    return caught.value
