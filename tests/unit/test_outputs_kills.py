"""A fetch that is killed at any step: nothing under a final name that is not whole, and nothing whole fetched twice."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from airflow_provider_wiro.outputs import store
from tests.unit import dying
from tests.unit import hostile_cdn as cdn
from tests.unit.fetching import manifest_of
from tests.unit.films import film

FILMS = {
    dying.FIRST: film(media=b"first " * 10_000),
    dying.SECOND: film(media=b"other " * 10_000),
}
(SIZE,) = {len(data) for data in FILMS.values()}
NAMES = {"4711-1.mp4": FILMS[dying.FIRST], "4711-2.mp4": FILMS[dying.SECOND]}
NOTHING: list[str] = []
ONE = ["4711-1.mp4"]
BOTH = [*ONE, "4711-2.mp4"]
ALL = [*BOTH, "4711.json"]

AFTERWARDS = {
    "before the first request": NOTHING,
    "before the first byte": NOTHING,
    "in the middle of the first file": NOTHING,
    "after the first file's last byte": NOTHING,
    "before the first file's publication": NOTHING,
    "in the middle of the first file's publication": ONE,
    "after the first file, before the second": ONE,
    "in the middle of the second file": ONE,
    "before the second file's publication": ONE,
    "in the middle of the second file's publication": BOTH,
    "before the manifest": BOTH,
    "while the manifest is staged": BOTH,
    "before the manifest's publication": BOTH,
    "in the middle of the manifest's publication": ALL,
    "after the manifest": ALL,
}
"""What a kill leaves under final names."""
HALF = {"in the middle of the first file": "4711-1.mp4", "in the middle of the second file": "4711-2.mp4"}


@dataclass
class Stage:
    """A CDN that sends each file in two halves, and the second file only when the first is published."""

    server: cdn.HostileCdn
    folder: Path
    second_may_come: bool = True
    for_two: bool = False
    """Whether nobody gets anything before two processes have asked for everything."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set: nobody waits any more."""

    def __post_init__(self) -> None:
        for path, data in FILMS.items():
            self.server.routes[path] = self._halves(data)

    def _halves(self, data: bytes) -> cdn.Route:
        def answer(exchange: cdn.Exchange) -> None:
            self._wait(lambda: not self.for_two or self.asked() == (2, 2))
            if exchange.path == dying.SECOND:
                self._wait(lambda: self.second_may_come and (self.folder / "4711-1.mp4").exists())
            exchange.head(Content_Type="video/mp4", Content_Length=len(data))
            exchange.body(data[: SIZE // 2])
            time.sleep(0.05)  # so that the halves are not read as one
            exchange.body(data[SIZE // 2 :])

        return answer

    def _wait(self, ready: Callable[[], bool]) -> None:
        while not ready() and not self.over.wait(0.005):
            pass

    def start(self, step: str | None = None) -> BaseProcess:
        return dying.start(self.folder, self.server.url, SIZE, step)

    def kill_at(self, step: str) -> None:
        self.second_may_come = "first" not in step
        assert dying.end_of(self.start(step)) == dying.KILLED
        self.second_may_come = True

    def asked(self) -> tuple[int, int]:
        return self.server.asked[dying.FIRST], self.server.asked[dying.SECOND]

    def seen(self) -> list[str]:
        """Return what a person sees in the folder; each file has to be whole."""
        names = sorted(path.name for path in self.folder.glob("*") if not path.name.startswith(".wiro-"))
        for name in names:
            if name in NAMES:
                assert (self.folder / name).read_bytes() == NAMES[name]
        return names

    def hidden(self) -> list[Path]:
        return list(self.folder.glob(".wiro-*"))

    def assert_whole(self) -> None:
        assert self.seen() == ALL
        manifest = manifest_of(self.folder)
        assert manifest is not None
        assert {file["name"]: (file["sha256"], file["size"]) for file in manifest["files"]} == {
            name: (hashlib.sha256(data).hexdigest(), SIZE) for name, data in NAMES.items()
        }
        assert all(file["video"]["codec"] == "avc1" for file in manifest["files"])


@pytest.fixture
def stage(folder: Path) -> Iterator[Stage]:
    with cdn.hostile_cdn() as server:
        made = Stage(server, folder)
        yield made
        made.over.set()


def test_every_step_is_known() -> None:
    assert list(AFTERWARDS) == list(dying.STEPS)


@pytest.mark.parametrize("step", AFTERWARDS)
def test_a_kill_leaves_only_whole_files_and_the_next_try_fetches_the_rest(stage: Stage, step: str) -> None:
    stage.kill_at(step)
    left = AFTERWARDS[step]
    assert stage.seen() == left
    assert (manifest_of(stage.folder) is None) == (left != ALL)
    (hidden,) = stage.hidden()
    if step in HALF:  # else this would be no test of the middle
        assert 0 < (hidden / HALF[step]).stat().st_size < SIZE

    before = stage.asked()
    assert dying.end_of(stage.start()) == 0
    stage.assert_whole()
    again = [after - earlier for after, earlier in zip(stage.asked(), before, strict=True)]
    assert again == [int(name not in left) for name in NAMES]
    assert stage.hidden() == [hidden]


def test_a_kill_at_one_step_after_the_other(stage: Stage) -> None:
    whole: list[str] = []
    for step, left in AFTERWARDS.items():
        # A file that is there already is neither asked for nor published: there is no such step to be killed at.
        if ("first" in step and whole != NOTHING) or ("second file" in step and whole == BOTH) or whole == ALL:
            continue
        before = stage.asked()
        stage.kill_at(step)
        assert all(
            name not in whole or count == earlier
            for name, count, earlier in zip(NAMES, stage.asked(), before, strict=True)
        )
        whole = left
        assert stage.seen() == whole
    assert whole == ALL
    assert dying.end_of(stage.start()) == 0
    stage.assert_whole()


@pytest.mark.parametrize("step", AFTERWARDS)
def test_a_kill_does_no_harm_to_another_process_that_fetches_the_same(stage: Stage, step: str) -> None:
    stage.for_two = step != "before the first request"
    killed, other = stage.start(step), stage.start()
    assert (dying.end_of(killed), dying.end_of(other)) == (dying.KILLED, 0)
    stage.assert_whole()
    asked = stage.asked()
    assert dying.end_of(stage.start()) == 0
    assert stage.asked() == asked


def test_what_the_killed_leave_is_swept_when_nobody_can_be_at_work_on_it(stage: Stage) -> None:
    stage.kill_at("in the middle of the first file")
    (old,) = stage.hidden()
    stage.kill_at("in the middle of the first file")
    (young,) = set(stage.hidden()) - {old}
    for left, age in ((old, store._LEFT_BEHIND + 60), (young, store._LEFT_BEHIND - 60)):
        assert list(left.iterdir())
        os.utime(left, (time.time() - age,) * 2)

    assert dying.end_of(stage.start()) == 0
    assert stage.hidden() == [young]
    stage.assert_whole()
