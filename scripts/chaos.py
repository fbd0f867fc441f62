"""The chaos run: every video costs one Run, whatever dies.

An Airflow of nine processes orders videos from a local Wiro whose answers get lost, while workers, tasks,
triggerers, the scheduler, the api-server and PostgreSQL are killed and frozen under it. Then the ledger is read.
``make chaos`` runs three seeds, a negative control, in which the same faults must be seen to cost money, and the
variants; ``python -m scripts.chaos --case NAME`` runs one. What is left of each is in ``.chaos/``.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from airflow_provider_wiro.emulator import LocalWiro, local
from airflow_provider_wiro.emulator.studio import Drawing, Order, Studio
from scripts.chaos_judge import KEY, SECRET, collect, judge
from scripts.chaos_plan import LIST_OFF, Case, control, full, named, variants
from scripts.cluster import TRIGGERERS, WORKERS, Cluster, Part

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".chaos"
DAG = Path(__file__).with_name("chaos_dag.py")
DAG_ID = "chaos"
FENCE, POST = 8.0, 6.0
"""What stands for the product's 20 and 60 seconds: this Wiro is near."""
GIVE_UP = 600.0
"""Seconds after which a run that has not ended is judged as it is."""
DOWN = 3.0
"""Seconds that what was killed stays dead."""
LATEST = 8.0
"""Seconds after the end in which a Run may still arrive: more than any fault delays one."""
# What a worker takes with it into death comes back to the queue 30 s later, but Kombu looks only every 100 s.
QUICK_REDELIVERY = {
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "5",  # 10
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",  # 10: at every tenth interval
}
_IN_SUBMISSION = """
    select instance.pid from task_instance instance
    join task_state_store store on store.task_id = instance.task_id and store.map_index = instance.map_index
    where store.key = 'wiro' and store.value like '%"intent"%' and instance.state = 'running'
"""

Figures = Mapping[str, float]


def say(text: str = "") -> None:
    """Print a line at once, also where the output is a pipe."""
    print(text, flush=True)


class StockFootage(Studio):
    """One film for all, with the order written behind it: each file is its order's, and none is drawn anew."""

    def draw(self, order: Order) -> Drawing:
        """Return the film with this order."""
        film = super().draw(replace(order, prompt="Stock footage", seed=0))
        if film.data is None:
            return film
        mark = json.dumps(asdict(order)).encode()
        return Drawing(film.data + struct.pack(">I4s", 8 + len(mark), b"free") + mark, time.time())

    def prepare(self) -> None:
        """Draw the film, so that it is there for the first order."""
        order = Order("", 0, width=864, height=480, seconds=5, fps=16)
        while self.draw(order).data is None:
            time.sleep(0.05)


@contextmanager
def stock_footage() -> Iterator[None]:
    """Let local Wiros use stock footage."""
    before = local._studio
    local._studio = studio = StockFootage()
    try:
        studio.prepare()
        yield
    finally:
        studio.close()
        local._studio = before


@dataclass
class Chaos:
    """What happens around one Dag run: faults on time, and a service manager that starts again what died."""

    case: Case
    cluster: Cluster
    wiro: LocalWiro
    done: list[str] = field(default_factory=list)
    """The process faults that have happened."""

    def __post_init__(self) -> None:
        self._dice = random.Random(self.case.seed)
        self._plan = [fault for fault, times in self.case.kills.items() for _ in range(times)]
        self._dice.shuffle(self._plan)
        self._began = time.monotonic()
        self._next_fault = self._pause()
        self._next_heal = 0.0
        self._next_foreign = self.case.foreign_every
        self._thaw: list[tuple[float, str]] = []
        self._list_is_off = False

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def rage(self) -> float:
        """Go on until the Dag run has ended, and return how many seconds it took."""
        told = 0.0
        while (state := self._run_state()) not in ("success", "failed") and self.seconds < GIVE_UP:
            self._tick()
            if self.seconds > told:
                say(f"    {self.seconds:4.0f} s  {state or 'no database':<12} {self._progress()}")
                told += 15
            time.sleep(0.2)
        return self.seconds

    def calm(self) -> None:
        """End all faults, and wait until nothing that was sent can still arrive."""
        self.wiro.set_faults([])
        for _, component in self._thaw:
            self.cluster.thaw(component)
        give_up = time.monotonic() + 60
        while self.cluster.orphans and time.monotonic() < give_up:
            time.sleep(0.5)
        time.sleep(LATEST)
        while time.monotonic() < give_up and self._run_state() is None:
            self.cluster.heal()
            time.sleep(0.5)

    def _pause(self) -> float:
        return self._dice.uniform(*self.case.every)

    def _tick(self) -> None:
        now = self.seconds
        for due in [entry for entry in self._thaw if entry[0] <= now]:
            self._thaw.remove(due)
            self.cluster.thaw(due[1])
        if now >= self._next_heal:
            for name in self.cluster.heal():
                say(f"    {now:4.0f} s  {name} is started again")
            self._next_heal = self.seconds + 1
        if self._plan and now >= self._next_fault and self._thawed():
            self._strike(self._plan.pop())
            self._next_fault = self.seconds + self._pause()
        if self.case.foreign_every and now >= self._next_foreign:
            self.wiro.run_foreign()
            self._next_foreign += self.case.foreign_every
        start, end = self.case.list_off
        if (start <= now < end) != self._list_is_off:
            self._list_is_off = not self._list_is_off
            self.wiro.set_faults([*([LIST_OFF] if self._list_is_off else []), *self.case.network])
            say(f"    {now:4.0f} s  the list is {'off' if self._list_is_off else 'there again'}")

    def _strike(self, fault: str) -> None:
        verb, _, what = fault.rpartition(" ")
        if what in ("worker", "supervisors", "tasks", "orphans"):
            component = self._busiest()
        else:
            component = self._dice.choice(TRIGGERERS) if what == "triggerer" else what
        parts: dict[str, Part] = {"supervisors": "supervisors", "tasks": "tasks", "orphans": "tasks"}
        part = parts.get(what, "tree")
        if verb:
            pids = self.cluster.freeze(component, part)
            if what == "orphans":
                # Celery reports their loss at once: the next try is long under way when they wake up
                self.cluster.kill(component, "supervisors")
            self._thaw.append((self.seconds + self.case.freeze, component))
        else:
            pids = self.cluster.kill(component, part)
            self._next_heal = self.seconds + DOWN
        self.done.append(fault)
        say(f"    {self.seconds:4.0f} s  {verb or 'kill'} {what} of {component}: {len(pids)} processes")

    def _busiest(self) -> str:
        """Return the worker with the most tasks that are between intent and receipt, having waited for one."""
        give_up = self.seconds + 5
        workers = self._thawed()
        while True:
            ordering = {pid for (pid,) in self._ask(_IN_SUBMISSION)}
            hits = {worker: len(ordering & {task.pid for task in self.cluster.tasks(worker)}) for worker in workers}
            if any(hits.values()) or self.seconds > give_up:
                break
            time.sleep(0.03)
        return max(workers, key=lambda worker: (hits[worker], len(self.cluster.tasks(worker)), self._dice.random()))

    def _thawed(self) -> list[str]:
        frozen = {component for _, component in self._thaw}
        return [worker for worker in WORKERS if worker not in frozen]

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with suppress(OperationalError):
            return self.cluster.sql(query)
        return []

    def _run_state(self) -> str | None:
        rows = self._ask(f"select state from dag_run where dag_id = '{DAG_ID}'")
        return str(rows[0][0]) if rows else None

    def _progress(self) -> str:
        rows = self._ask("select coalesce(state, 'none'), count(*) from task_instance group by 1 order by 1")
        return ", ".join(f"{number} {state}" for state, number in rows)


def run(case: Case, home: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Do one case and return its figures, and the ledger with the process faults.

    :param case: the case.
    :param home: the folder of its Airflow, made anew.
    """
    shutil.rmtree(home, ignore_errors=True)
    dags = home / "dags"
    dags.mkdir(parents=True)
    shutil.copy(DAG, dags)
    settings = {
        "destination": str(home / "videos"),
        "fence": FENCE,
        "linger": case.linger,
        "post": POST,
        "prompts": case.prompts,
        "protected": case.protected,
        "settle": case.settle,
    }
    (home / "chaos.json").write_text(json.dumps(settings), encoding="utf-8")
    wiro = LocalWiro(
        api_key=KEY,
        api_secret=SECRET,
        speed=case.speed,
        balance=100_000,
        faults=case.network,
        seed=case.seed,
        limit=None if case.foreign_every else 60,
        clock_offset=case.clock_offset,
        cdn_host="127.0.0.2",
    )
    with stock_footage(), wiro:
        env = {
            "AIRFLOW_CONN_WIRO_DEFAULT": wiro.connection_json(),
            "WIRO_CHAOS": str(home / "chaos.json"),
            **QUICK_REDELIVERY,
        }
        with Cluster(home, dags, env) as cluster:
            cluster.api.wait_for_dag(DAG_ID)
            cluster.api.trigger(DAG_ID)
            cluster.api.pause(DAG_ID, paused=False)
            chaos = Chaos(case, cluster, wiro)
            seconds = chaos.rage()
            chaos.calm()
            found = collect(case, cluster, wiro)
    figures = {**judge(found), "process faults": float(len(chaos.done)), "seconds": round(seconds, 1)}
    return figures, {"process_faults": chaos.done, "ledger": {**found.ledger, "runs": found.runs}}


def verdict(case: Case, figures: Figures) -> dict[str, str]:
    """Return what is wrong, by figure.

    :param case: what was done.
    :param figures: what came out.
    """
    limits = case.all_limits
    wrong = {name for name, (least, most) in limits.items() if not least <= figures[name] <= most}
    return {name: f"{name} is {figures[name]:g}, allowed: {_words(*limits[name])}" for name in sorted(wrong)}


def _words(least: float, most: float) -> str:
    if least == most:
        return f"{least:g}"
    if most == float("inf"):
        return f"at least {least:g}" if least else "any"
    return f"at most {most:g}" if least <= 0 else f"{least:g} to {most:g}"


def table(case: Case, figures: Figures) -> str:
    """Return the figures with their limits, one a line.

    :param case: what was done.
    :param figures: what came out.
    """
    wrong = verdict(case, figures)
    limits = case.all_limits
    lines = []
    for name, figure in figures.items():
        allowed = _words(*limits[name]) if name in limits else "any"
        lines.append(f"    {name:<20} {figure:>7g}   {allowed:<14}{'  WRONG' if name in wrong else ''}".rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for and return the exit code.

    :param arguments: those of the command line by default.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.chaos", description=__doc__)
    parser.add_argument(
        "--case", action="append", default=[], metavar="NAME", help="small, control, seed-N or a variant"
    )
    parser.add_argument("--variant", action="append", default=[], dest="case", metavar="NAME", help="the same")
    names = parser.parse_args(arguments).case
    try:
        cases = named(names) if names else [*map(full, (1, 2, 3)), control(), *variants()]
    except (KeyError, ValueError) as unknown:
        parser.error(f"there is no such case: {unknown}")
    FOLDER.mkdir(exist_ok=True)
    failed = [case.name for case in cases if not _tell(case)]
    say(
        f"\n{len(cases) - len(failed)} of {len(cases)} runs are as they must be."
        + "".join(f" Not so: {n}" for n in failed)
    )
    return 1 if failed else 0


def _tell(case: Case) -> bool:
    say(f"\n{case.name}: {case.videos} videos, {sum(case.kills.values())} process faults")
    figures, more = run(case, FOLDER / case.name)
    wrong = verdict(case, figures)
    say(table(case, figures))
    report = {"case": case.name, "seed": case.seed, "figures": figures, "wrong": wrong, **more}
    (FOLDER / f"{case.name}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
