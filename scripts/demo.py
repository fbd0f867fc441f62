"""The demo: a night's batch of videos on this machine, from an order list to MP4s that are as ordered.

Starts a local Wiro and an Airflow, runs the Dag ``nightly_batch``, tells how it goes, probes every video,
and then stays up to be looked at until Ctrl-C. With ``DEMO_ONCE=1`` it stops when the run has ended; its
exit code is 0 only if every video is as ordered. ``WIRO_VIDEOS_DIR`` says where the videos go
(``./videos``).
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from scripts.airflow_api import ENDED, AirflowApi, AirflowApiError
from scripts.demo_report import local_path, read_videos, table
from scripts.local_airflow import AirflowNotReady, LocalAirflow
from scripts.processes import ChildDied, FolderInUse, Processes

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
DAG_ID = "nightly_batch"
EMULATOR = "airflow_provider_wiro.emulator"
CONNECTION = "AIRFLOW_CONN_WIRO_DEFAULT"
LOGS_TOLD = 3
LOG_LINES = 25
UI_PORT = 8080
RUN_LIMIT = 1800.0
"""Seconds after which a run that has not ended counts as stuck."""
WIRO_SPEED = "10"
"""Wiro seconds per second: a video takes some seconds, so that there is something to see."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(RuntimeError):
    """The demo cannot go on; the message tells why."""


@dataclass(frozen=True)
class LocalWiro:
    """A running local Wiro: its address, Airflow's connection to it, and its processes."""

    url: str
    connection: str
    processes: Processes


@dataclass(frozen=True)
class Progress:
    """How many of a run's videos have come how far."""

    videos: int
    submitted: int
    waiting: int
    done: int
    failed: int

    def __str__(self) -> str:
        counts = ("submitted", "waiting", "done", "failed")
        return f"{self.videos} videos: " + ", ".join(f"{getattr(self, name)} {name}" for name in counts)


def say(text: str = "") -> None:
    """Print a line at once, also where the output is a pipe."""
    print(text, flush=True)


def main() -> int:
    """Run the demo and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a prompt may hold what the terminal cannot show
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return _demo(once=os.environ.get("DEMO_ONCE", "") not in ("", "0"))
    except KeyboardInterrupt:
        return 130
    except (DemoError, FolderInUse, ChildDied, AirflowNotReady, AirflowApiError) as error:
        say(f"\nThe demo has failed: {error}")
        return 1


def _interrupt(_number: int, _frame: object) -> NoReturn:
    _ignore_signals()
    with suppress(OSError):
        os.write(1, b"\nStopping everything ...\n")  # print() may have been what was interrupted
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    # Stopping takes some seconds, and an impatient second Ctrl-C must not cut it short.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _demo(once: bool) -> int:
    with ExitStack() as stack:
        stack.callback(say, "Everything is stopped.")
        wiro = stack.enter_context(local_wiro())
        say(f"The local Wiro is at {wiro.url}")
        say("Starting Airflow (the first start takes a minute on a slow machine) …")
        started = time.monotonic()
        airflow = stack.enter_context(local_airflow(wiro))
        stack.callback(_ignore_signals)
        say(f"Airflow is ready after {time.monotonic() - started:.0f} s: {airflow.url}")
        right = night(airflow, wiro)
        if not once:
            say("\nAll stays up to be looked at. Ctrl-C stops it.")
            with suppress(KeyboardInterrupt):
                _stay(airflow, wiro)
        return 0 if right else 1


@contextmanager
def local_wiro(home: Path = HOME, speed: str = WIRO_SPEED) -> Iterator[LocalWiro]:
    """Run the demo's local Wiro.

    :param home: where its log goes, in a folder of its own; default ``.demo``.
    :param speed: Wiro seconds per second; default 10.
    :raises DemoError: it does not answer.
    """
    processes = Processes(home / "wiro")
    processes.open()
    try:
        options = ["--port", "0", "--speed", speed]
        processes.start("wiro", [sys.executable, "-m", EMULATOR, *options], cwd=ROOT)
        give_up = time.monotonic() + 60
        while not (connection := printed_connection(processes.log_file("wiro").read_text())):
            processes.check()
            if time.monotonic() > give_up:
                raise DemoError(f"the local Wiro does not answer; see {processes.log_file('wiro')}")
            time.sleep(0.1)
        url = str(json.loads(connection)["host"]).removesuffix("/v1")
        yield LocalWiro(url, connection, processes)
    finally:
        processes.stop()


def printed_connection(output: str) -> str:
    """Return the connection that the local Wiro prints for Airflow (JSON), or "" while it has not.

    :param output: what it has printed so far.
    """
    line = re.search(rf"^\s*export {CONNECTION}=.*$", output, re.MULTILINE)
    return shlex.split(line[0])[1].removeprefix(f"{CONNECTION}=") if line else ""


def local_airflow(wiro: LocalWiro, home: Path = HOME, videos: str | None = None) -> LocalAirflow:
    """Return the demo's Airflow; it starts on entering it.

    :param wiro: what its connection leads to.
    :param home: its home; default ``.demo``.
    :param videos: where the videos go; default: as the environment says.
    """
    videos = videos or videos_folder(os.environ.get("WIRO_VIDEOS_DIR", ""))
    env = {
        CONNECTION: wiro.connection,
        "WIRO_VIDEOS_DIR": videos,
        "AIRFLOW__WIRO__UI_MEDIA_ROOTS": videos,
        "WIRO_POLL_INTERVAL": os.environ.get("WIRO_POLL_INTERVAL", "2"),
        # else letting the Dag run would start last night's batch as well
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    return LocalAirflow(home, ROOT / "dags_examples", env=env, port=UI_PORT)


def videos_folder(wanted: str) -> str:
    """Return where the videos go, so that it means the same in every process.

    :param wanted: a folder or an address; ``./videos`` if empty.
    """
    return wanted if "://" in wanted else str(Path(wanted or "videos").expanduser().absolute())


def _stay(airflow: LocalAirflow, wiro: LocalWiro) -> NoReturn:
    while True:
        airflow.processes.check()
        wiro.processes.check()
        time.sleep(1)


def night(airflow: LocalAirflow, wiro: LocalWiro) -> bool:
    """Run the night's Dag, tell how it goes, and return whether every video is as ordered.

    :param airflow: is running.
    :param wiro: is running.
    """
    airflow.api.wait_for_dag(DAG_ID)
    for interrupted in airflow.api.unfinished_runs(DAG_ID):
        say(f"The run {interrupted} was interrupted; its local Wiro is gone, so it is marked as failed")
        airflow.api.set_run_state(DAG_ID, interrupted, "failed")
    run_id = airflow.api.trigger(DAG_ID)
    airflow.api.pause(DAG_ID, paused=False)
    say(f"Running {DAG_ID}: {airflow.run_url(DAG_ID, run_id)}")
    state = _follow(airflow, wiro, run_id)
    instances = airflow.api.task_instances(DAG_ID, run_id)
    _tell_failures(airflow.api, run_id, instances)
    right = _tell_videos(airflow.api, run_id, instances)
    say(f"Airflow     {airflow.run_url(DAG_ID, run_id)}")
    say(f"Watch them  {airflow.run_url(DAG_ID, run_id)}/plugin/videos-run")
    say(f"Local Wiro  {wiro.url}")
    return right and state == "success"


def _follow(airflow: LocalAirflow, wiro: LocalWiro, run_id: str) -> str:
    """Tell every change of the run until it has ended, and return its state."""
    started = time.monotonic()
    told: Progress | None = None
    while True:
        airflow.processes.check()
        wiro.processes.check()
        state = airflow.api.run_state(DAG_ID, run_id)
        progress = count(airflow.api.task_instances(DAG_ID, run_id))
        elapsed = time.monotonic() - started
        if progress != told and progress.videos:
            say(f"{elapsed:5.0f} s  {progress}")
            told = progress
        if state in ENDED:
            say(f"{elapsed:5.0f} s  the run has ended: {state}\n")
            return state
        if elapsed > RUN_LIMIT:
            raise DemoError(f"the run has not ended after {elapsed:.0f} s")
        time.sleep(1)


def count(instances: Iterable[Mapping[str, Any]]) -> Progress:
    """Return how far a run's videos have come.

    :param instances: its task instances; those of ``submit``, ``wait`` and ``fetch`` are mapped, one per
        video.
    """
    states: dict[str, dict[int, str | None]] = {"submit": {}, "wait": {}, "fetch": {}}
    for instance in instances:
        if instance["task_id"] in states and instance["map_index"] >= 0:
            states[instance["task_id"]][instance["map_index"]] = instance["state"]
    submitted = {index for index, state in states["submit"].items() if state == "success"}
    done = {index for index, state in states["fetch"].items() if state == "success"}
    bad = ("failed", "upstream_failed")
    failed = {index for task in states.values() for index, state in task.items() if state in bad}
    waited = {index for index, state in states["wait"].items() if state == "success"}
    waiting = submitted - waited - failed
    return Progress(len(states["submit"]), len(submitted), len(waiting), len(done), len(failed))


def _tell_failures(api: AirflowApi, run_id: str, instances: Sequence[Mapping[str, Any]]) -> None:
    failed = [instance for instance in instances if instance["state"] == "failed"]
    for instance in failed[:LOGS_TOLD]:
        index, tries = instance["map_index"], instance["try_number"]
        name = instance["task_id"] + (f"[{index}]" if index >= 0 else "")
        log = api.log(DAG_ID, run_id, instance["task_id"], index, tries)
        say(f"{name} has failed (try {tries}). The end of its log:")
        say("\n".join(f"    {line}" for line in log.splitlines()[-LOG_LINES:]) + "\n")
    if len(failed) > LOGS_TOLD:
        say(f"{len(failed) - LOGS_TOLD} more task instances have failed.\n")


def _tell_videos(api: AirflowApi, run_id: str, instances: Sequence[Mapping[str, Any]]) -> bool:
    """Show the videos, and return whether there are as many as were ordered and all as ordered."""
    wanted = count(instances).videos
    fetched = [ti for ti in instances if ti["task_id"] == "fetch" and ti["state"] == "success"]
    manifests = [api.xcom(DAG_ID, run_id, "fetch", ti["map_index"])["manifest"] for ti in fetched]
    videos = read_videos(manifests)
    right = sum(not video.faults for video in videos)
    if videos:
        say(table(videos))
    say(f"\n{right} of {wanted} videos are as ordered.\n")
    if videos and any(ti["task_id"] == "summary" and ti["state"] == "success" for ti in instances):
        summary = api.xcom(DAG_ID, run_id, "summary")
        say(f"Videos      {local_path(summary['folder'])}")
        say(f"Manifest    {local_path(summary['manifest'])}")
    return wanted > 0 and right == wanted == len(videos)


if __name__ == "__main__":
    sys.exit(main())
