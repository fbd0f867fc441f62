from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scripts.processes import ChildDied, FolderInUse, Processes

ROOT = Path(__file__).resolve().parents[3]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# a child that pays no heed to SIGTERM and has a child of its own
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)",
]


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.setattr("scripts.processes.PATIENCE", 1.0)
    group = Processes(tmp_path / "run")
    group.open()
    yield group
    group.stop()


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.05)
    return False


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_in_log(group: Processes, name: str) -> int:
    assert until(lambda: group.tail(name).strip())
    return int(group.tail(name).split()[0])


def test_a_clean_stop_ends_children_that_heed_it(processes: Processes) -> None:
    processes.start("sleeper", [*SLEEP[:2], "import os, time; print(os.getpid(), flush=True); time.sleep(600)"])
    pid = pid_in_log(processes, "sleeper")
    assert lives(pid)

    assert processes.stop() == []
    assert not lives(pid)
    assert not (processes.folder / "processes.json").exists()


def test_what_does_not_heed_sigterm_is_killed_with_its_children(processes: Processes) -> None:
    processes.start("stubborn", STUBBORN)
    grandchild = pid_in_log(processes, "stubborn")

    assert processes.stop() == ["stubborn"]
    assert not lives(grandchild)


def test_the_last_ones_end_after_the_others(processes: Processes, tmp_path: Path) -> None:
    note = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(float(sys.argv[2])); open(sys.argv[3], 'a').write(sys.argv[1]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
    )
    for name, delay in (("server", "0"), ("client", "0.4")):
        processes.start(name, [sys.executable, "-c", note, name, delay, str(tmp_path / "order")])
        assert until(lambda name=name: processes.tail(name) == "up")

    processes.stop(last=("server",))
    assert (tmp_path / "order").read_text() == "clientserver"


def test_a_killed_child_leaves_nothing_and_starts_again(processes: Processes) -> None:
    processes.start("stubborn", STUBBORN)
    grandchild = pid_in_log(processes, "stubborn")

    processes.kill("stubborn")
    assert not lives(grandchild)

    processes.start("stubborn", STUBBORN)
    assert processes.exit_code("stubborn") is None


def test_a_dead_child_is_reported_with_the_end_of_its_log(processes: Processes) -> None:
    processes.check()
    processes.start("broken", [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"])
    assert until(lambda: processes.exit_code("broken") is not None)

    with pytest.raises(ChildDied, match=r"broken ended with code 3(.|\n)*no such port"):
        processes.check()


def test_a_folder_has_one_owner(processes: Processes) -> None:
    with pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
        Processes(processes.folder).open()


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], int, int]:
    """Start another process that owns the folder; return it, its child and its watchdog."""
    script = textwrap.dedent(
        f"""
        import json, time
        from pathlib import Path
        from scripts.processes import Processes
        group = Processes(Path({str(folder)!r}))
        group.open()
        group.start("sleeper", {SLEEP!r})
        children = json.loads((group.folder / "processes.json").read_text())["children"]
        print(children["sleeper"]["pid"], children["watchdog"]["pid"], flush=True)
        time.sleep(600)
        """
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    child, watchdog = map(int, owner.stdout.readline().split())
    return owner, child, watchdog


def end(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


def test_the_children_of_a_killed_owner_end(tmp_path: Path) -> None:
    owner, child, watchdog = start_owner(tmp_path)
    assert lives(child)

    end(owner)

    assert until(lambda: not lives(child))
    assert until(lambda: not lives(watchdog))


def test_the_next_owner_ends_what_a_killed_one_and_its_watchdog_left(tmp_path: Path) -> None:
    owner, child, watchdog = start_owner(tmp_path)
    os.kill(watchdog, signal.SIGKILL)
    end(owner)
    assert lives(child)

    following = Processes(tmp_path)
    following.open()
    try:
        assert not lives(child)
        following.check()
    finally:
        following.stop()


def test_a_process_that_got_a_dead_childs_number_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        (tmp_path / "processes.json").write_text(
            f'{{"owner": {{"pid": 1, "created": 0}}, "children": {{"old": {{"pid": {stranger.pid},'
            f' "created": {time.time() - 60}}}}}}}'
        )
        group = Processes(tmp_path)
        group.open()
        group.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
