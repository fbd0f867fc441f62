"""Child processes that never outlive the process that started them.

A :class:`Processes` writes down what it starts, in a folder that only one owner may use at a time. A clean
stop ends every child; if the owner itself is killed, a small watchdog process does it instead; and should
that be gone as well, the next owner of the folder does. Only processes that were written down are ever
ended, by their id and the session they lead, never by a name.

Run as a program (``python processes.py FOLDER``) this file is that watchdog.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypedDict

import psutil

PATIENCE = 6.0
"""Seconds that children get to end after SIGTERM; Airflow's scheduler would wait for its tasks for ever."""


class Child(TypedDict):
    """What is written down about a child: enough to know it again, and never to take another for it."""

    pid: int
    created: float


class State(TypedDict):
    """The contents of ``processes.json``."""

    owner: Child
    children: dict[str, Child]


class FolderInUse(RuntimeError):
    """Another live process owns the folder."""


class ChildDied(RuntimeError):
    """A child that should be running has ended; the message carries the end of its log."""


class Processes:
    """A group of child processes with a log file each, bound to the life of this process.

    :param folder: where the logs (``NAME.log``) and the list of children (``processes.json``) are kept;
        made if it does not exist. One owner at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state_file = folder / "processes.json"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._children: dict[str, Child] = {}
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Take the folder, end what an unclean stop left there, begin new logs, and start the watchdog.

        :raises FolderInUse: if another live process owns the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _take(self.folder)
        _end_all(_read(self._state_file))
        for log in self.folder.glob("*.log"):
            log.unlink()
        self._children = {}
        self._write()
        self.start("watchdog", [sys.executable, __file__, str(self.folder)])

    def start(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: pwd.struct_passwd | None = None,
    ) -> None:
        """Start a child in a session of its own, its output going to ``NAME.log``.

        :param name: what to call it here.
        :param command: the program and its arguments.
        :param env: its whole environment; this process's by default.
        :param cwd: the folder to run it in; this process's by default.
        :param account: the user that it runs as, which only root may choose; this process's by default.
        :raises OSError: if the program cannot be started.
        """
        with _signals_held_back(), self.log_file(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
            self._running[name] = process
            self._children[name] = _describe(process.pid)
            self._write()

    def run(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: pwd.struct_passwd | None = None,
    ) -> None:
        """Start a child as :meth:`start` does, and wait until it has ended.

        :raises ChildDied: if it fails, with the end of its log.
        """
        self.start(name, command, env, cwd, account)
        while (code := self.exit_code(name)) is None:
            time.sleep(0.1)
        if code:
            raise ChildDied(f"{' '.join(command)} failed with code {code}:\n{self.tail(name)}")
        self.forget(name)

    def log_file(self, name: str) -> Path:
        """Return the log file of the child called ``name``."""
        return self.folder / f"{name}.log"

    def tail(self, name: str, lines: int = 25) -> str:
        """Return the end of a child's log.

        :param name: the child.
        :param lines: how many lines at most; 25 by default.
        """
        try:
            text = self.log_file(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def exit_code(self, name: str) -> int | None:
        """Return how the child called ``name`` ended (negative: the signal), or None while it runs."""
        return self._running[name].poll()

    def runs(self, name: str) -> bool:
        """Return whether a child called ``name`` was started and has not ended.

        :param name: the child.
        """
        return name in self._running and self.exit_code(name) is None

    def leader(self, name: str) -> psutil.Process | None:
        """Return the process that was started as ``name``, or None if it is gone.

        :param name: the child.
        """
        return _find(self._children[name]) if name in self._children else None

    def family(self, name: str) -> list[psutil.Process]:
        """Return the live processes of a child: itself, its descendants, and what else is in its session.

        :param name: the child; what it left behind is found after its death, too.
        """
        return _family(self._children[name]) if name in self._children else []

    def adopt(self, name: str, process: psutil.Process) -> None:
        """Write down a process that somebody else has started, so that it ends with the children.

        :param name: what to call it here.
        :param process: the process, which outlived the child that started it.
        """
        self._children[name] = _describe(process.pid)
        self._write()

    def check(self) -> None:
        """See that every child still runs.

        :raises ChildDied: if one has ended, with the end of its log.
        """
        for name in self._running:
            code = self.exit_code(name)
            if code is not None:
                raise ChildDied(f"{name} ended with code {code}. The end of {self.log_file(name)}:\n{self.tail(name)}")

    def kill(self, name: str, spare: Collection[psutil.Process] = ()) -> list[int]:
        """Kill a child and everything in its session at once, as a crash of the machine under it would.

        :param name: the child; it may be started again under the same name.
        :param spare: processes of the session that stay alive; none by default.
        :return: the ids of what was killed.
        """
        killed: list[int] = []
        # again, for what was born while the others died
        while family := [process for process in self.family(name) if process not in spare]:
            kill_all(family)
            killed += [process.pid for process in family]
        self.forget(name)
        return killed

    def forget(self, name: str) -> None:
        """Take a child that has ended off the list.

        :param name: the child; harmless if it is not on the list.
        """
        if process := self._running.pop(name, None):
            process.wait()
        self._children.pop(name, None)
        self._write()

    def stop(self, last: Collection[str] = ()) -> list[str]:
        """End every child, wait until all are gone, and give the folder back; harmless when already stopped.

        :param last: the children that the others need to end cleanly; they are ended after these.
        :return: the names of the children that left processes behind which had to be killed.
        """
        if self._lock is None:
            return []
        killed = _end_all({name: child for name, child in self._children.items() if name not in last})
        killed += _end_all({name: child for name, child in self._children.items() if name in last})
        for process in self._running.values():
            process.wait()
        self._running, self._children = {}, {}
        self._state_file.unlink(missing_ok=True)
        self._lock.close()
        self._lock = None
        return killed

    def _write(self) -> None:
        state: State = {"owner": _describe(os.getpid()), "children": self._children}
        draft = self._state_file.with_suffix(".new")
        draft.write_text(json.dumps(state, indent=1))
        draft.replace(self._state_file)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    # A Ctrl-C between the birth of a child and its entry in the list would leave a child that nobody knows
    # of.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _frame: caught.append(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for received in caught:
            signal.raise_signal(received)


def _take(folder: Path) -> IO[bytes]:
    # The kernel drops the lock when its owner dies, however it dies. Python opens files non-inheritable, so
    # no child keeps the lock alive.
    lock = (folder / "lock").open("ab")
    give_up = time.monotonic() + PATIENCE + 10
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            owner = _read_owner(folder / "processes.json")
            # a dead owner's watchdog is still at work: it frees the folder in a moment
            if (owner and _find(owner)) or time.monotonic() > give_up:
                lock.close()
                pid = owner["pid"] if owner else "unknown"
                raise FolderInUse(f"{folder} is in use by process {pid}: stop that one first") from None
            time.sleep(0.2)


def _load(state_file: Path) -> State | None:
    try:
        state: State = json.loads(state_file.read_text())
        return state
    except (FileNotFoundError, ValueError):
        return None


def _read(state_file: Path) -> dict[str, Child]:
    state = _load(state_file)
    return state["children"] if state else {}


def _read_owner(state_file: Path) -> Child | None:
    state = _load(state_file)
    return state["owner"] if state else None


def _describe(pid: int) -> Child:
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "created": time.time()}


def _find(child: Child) -> psutil.Process | None:
    """Return the live process that was written down, or None if it is gone (its number may be reused)."""
    try:
        process = psutil.Process(child["pid"])
        # the clock that creation times are told by may be adjusted a little meanwhile
        same = abs(process.create_time() - child["created"]) < 2
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _family(child: Child) -> list[psutil.Process]:
    """Return the child, its descendants, and whoever else lives in the session that it leads (or led)."""
    if child["created"] < psutil.boot_time():
        return []
    leader = _find(child)
    family = {leader.pid: leader} if leader else {}
    if leader:
        with suppress(psutil.NoSuchProcess):
            family |= {process.pid: process for process in leader.children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            member = os.getsid(process.pid) == child["pid"]
            # a stranger that got the number of a dead leader leads a session of its own
            if member and process.pid != child["pid"] and process.create_time() > child["created"] - 2:
                family[process.pid] = process
    return [process for process in family.values() if lives(process)]


def lives(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that only waits to be asked for its exit code has.

    :param process: the process.
    """
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def kill_all(family: Iterable[psutil.Process]) -> None:
    """Kill processes and wait until they are gone.

    :param family: the processes; some may have ended already.
    """
    family = list(family)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    while any(lives(process) for process in family):
        time.sleep(0.02)


def _wait_while(condition: Callable[[], bool], seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while condition() and time.monotonic() < give_up:
        time.sleep(0.1)


def _end_all(children: Mapping[str, Child]) -> list[str]:
    """Ask every child to end, wait, then kill what is left of their families.

    :param children: what to end, by name.
    :return: the names whose processes did not all end by themselves.
    """
    families = {name: _family(child) for name, child in children.items()}
    for child in children.values():
        leader = _find(child)
        if leader:
            with suppress(psutil.NoSuchProcess):
                leader.terminate()
    _wait_while(lambda: any(lives(process) for family in families.values() for process in family), PATIENCE)
    # what was born meanwhile counts, too
    families = {name: list({*family, *_family(children[name])}) for name, family in families.items()}
    left = {name: [process for process in family if lives(process)] for name, family in families.items()}
    for family in left.values():
        kill_all(family)
    return [name for name, family in left.items() if family]


def _watch(folder: Path) -> None:
    """Wait until the owner of the folder is gone, then end what it left behind."""
    state_file = folder / "processes.json"
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        children = _read(state_file)
        if os.getpid() not in {child["pid"] for child in children.values()}:
            return  # a later owner has already cleaned up, and the children are its own
        _end_all({name: child for name, child in children.items() if child["pid"] != os.getpid()})
        state_file.unlink(missing_ok=True)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
