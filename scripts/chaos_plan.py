"""What is done to an Airflow in a chaos run, and what must come out: the cases and their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SCENES = (
    "A kite over dunes",
    "A night train on a bridge",
    "Rain on a tin roof",
    "A lighthouse in fog",
    "Two boats of paper",
)
INFINITY = float("inf")
NOTHING = (0.0, 0.0)
ANY = (0.0, INFINITY)

RUN_FAULTS = (
    "run:error_before:rate=0.04",
    "run:error_after:rate=0.02",
    "run:reset_before:rate=0.02",
    "run:reset_after:rate=0.03",
    "run:rate_limit:rate=0.03",
    "run:late:rate=0.02:seconds=4.8",
    "run:slow:rate=0.08",
)
READ_FAULTS = (
    "detail:error:rate=0.05",
    "detail:reset:rate=0.02",
    "detail:slow:rate=0.03:seconds=3",
    "list:error:rate=0.10",
)
LIST_OFF = "list:off"
ECHO_OFF = "echo:off"

FULL = {
    "worker": 6,
    "supervisors": 6,
    "triggerer": 5,
    "pause triggerer": 2,
    "scheduler": 3,
    "api-server": 2,
    "postgres": 1,
}
SMALL = {"worker": 2, "supervisors": 2, "triggerer": 1, "pause triggerer": 1, "scheduler": 1, "api-server": 1}
OFTEN = (4.0, 11.0)
"""Seconds between two process faults: more often does not test more on two cores, it only starves."""
FROZEN = {"freeze worker": 2, "freeze orphans": 2, "freeze tasks": 1}

# What holds whatever happens. Each is (least, most).
ALWAYS: Mapping[str, tuple[float, float]] = {
    "duplicates": NOTHING,
    "billed twice": NOTHING,
    "lost": NOTHING,
    "orphans": NOTHING,
    "wrong files": NOTHING,
    "leaked headers": NOTHING,
    "canary hits": NOTHING,
    "stop calls": NOTHING,
    "terminal failures": NOTHING,
    "unexpected failures": NOTHING,
    "stopped": NOTHING,
    "seconds": (0.0, 480.0),
}


@dataclass(frozen=True)
class Case:
    """One chaos run."""

    name: str
    videos: int = 40
    seed: int = 1
    network: tuple[str, ...] = (*RUN_FAULTS, *READ_FAULTS)
    kills: Mapping[str, int] = field(default_factory=dict)
    """How often each process fault happens."""
    every: tuple[float, float] = (6.0, 18.0)
    """Seconds between two process faults, at least and at most."""
    freeze: float = 18.0
    """Seconds that what is frozen stays so; a triggerer counts as dead after 15."""
    settle: float = 6.0
    linger: float = 0.3
    """Seconds between the connection and the sending of a Run."""
    speed: float = 7.0
    """Wiro seconds in a second: a video takes 60 of these."""
    protected: bool = True
    clock_offset: float = 0.0
    foreign_every: float = 0.0
    """Seconds between two videos that somebody else orders in the project; 0 for none."""
    list_off: tuple[float, float] = NOTHING
    """Seconds after the start between which Wiro's list is not to be had."""
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What differs from :data:`ALWAYS`, or comes in addition."""

    @property
    def prompts(self) -> list[str]:
        """The prompts, in identical pairs."""
        takes = range(self.videos // 2)
        return [f"{SCENES[take % len(SCENES)]}, take {take}" for take in takes for _ in range(2)]

    @property
    def all_limits(self) -> dict[str, tuple[float, float]]:
        """Every figure that is judged, with the least and the most that it may be."""
        counts = {"accepted": (self.videos, self.videos), "run calls": (self.videos, 1.25 * self.videos)}
        return {**counts, **ALWAYS, **self.limits}


def faults(factor: float, *more: str) -> tuple[str, ...]:
    """Return the usual network faults, those of a Run more often.

    :param factor: how much more often.
    :param more: further faults.
    """
    often = []
    for spec in RUN_FAULTS:
        head, _, tail = spec.partition("rate=")
        rate, _, rest = tail.partition(":")
        often.append(f"{head}rate={float(rate) * factor:g}{':' + rest if rest else ''}")
    return (*often, *READ_FAULTS, *more)


def full(seed: int) -> Case:
    """Return the whole chaos run.

    :param seed: of the network faults, and of the order of the process faults.
    """
    proof = {"ambiguous": (10.0, INFINITY), "adopted": (5.0, INFINITY), "reconciled": (5.0, INFINITY)}
    done = {"process faults": (20.0, INFINITY)}
    return Case(f"seed-{seed}", videos=200, seed=seed, kills=FULL, every=OFTEN, limits={**proof, **done})


def small() -> Case:
    """Return the chaos run that is short enough for the test suite."""
    limits = {
        "ambiguous": (3.0, INFINITY),
        "adopted": (1.0, INFINITY),
        "reconciled": (1.0, INFINITY),
        "process faults": (6.0, INFINITY),
    }
    more_calls = {"run calls": (40.0, 60.0)}
    return Case("small", seed=5, network=faults(1.5), kills=SMALL, every=(5.0, 8.0), limits={**limits, **more_calls})


def control(videos: int = 200) -> Case:
    """Return the negative control: without the protocol, the same faults must be seen to cost money.

    :param videos: how many.
    """
    free = dict.fromkeys((*ALWAYS, "run calls"), ANY)
    limits = {**free, "accepted": (videos + 3.0, INFINITY), "duplicates": (3.0, INFINITY)}
    return Case("control", videos=videos, kills=FULL, every=OFTEN, protected=False, limits=limits)


def variants() -> list[Case]:
    """Return the runs in which one thing is otherwise."""
    calls = {"run calls": (40.0, INFINITY)}
    ambiguous = {**calls, "ambiguous": (3.0, INFINITY)}
    not_accepted = ("run:error_before:rate=0.12", "run:reset_before:rate=0.08")
    light = {"worker": 2, "supervisors": 2, "triggerer": 1}
    fast = (5.0, 9.0)
    return [
        Case(
            "echo-off-foreign",
            network=faults(1.5, ECHO_OFF),
            foreign_every=1.5,
            limits={
                **ambiguous,
                "accepted": ANY,
                "run calls": ANY,
                "orphans": ANY,
                "lost": ANY,
                "terminal failures": (3.0, INFINITY),
            },
        ),
        Case("echo-off", network=(*not_accepted, *READ_FAULTS, ECHO_OFF), limits=ambiguous),
        Case("list-down", network=faults(3), kills=light, every=fast, list_off=(8.0, 68.0), limits=ambiguous),
        Case("late", network=("run:late:rate=0.25:seconds=4.8", *READ_FAULTS), limits=ambiguous),
        Case(
            "late-beyond-settle",
            network=("run:late:rate=0.2:seconds=3", *READ_FAULTS),
            settle=2.0,
            speed=3.0,
            limits={**ambiguous, "accepted": (41.0, INFINITY), "stop calls": ANY, "stopped": (1.0, INFINITY)},
        ),
        Case("clock-ahead", network=faults(1.5), kills=light, every=fast, clock_offset=90.0, limits=ambiguous),
        Case("clock-behind", network=faults(1.5), kills=light, every=fast, clock_offset=-90.0, limits=ambiguous),
        Case(
            "frozen",
            seed=3,
            kills=FROZEN,
            every=fast,
            freeze=30.0,
            linger=3.0,
            limits={**calls, "superseded": (1.0, INFINITY)},
        ),
    ]


def named(names: Sequence[str]) -> list[Case]:
    """Return the cases of some names.

    :param names: ``small``, ``control``, ``seed-N`` or a variant's.
    :raises KeyError: there is none of that name.
    """
    known = {case.name: case for case in (small(), control(), *variants())}
    return [full(int(name.removeprefix("seed-"))) if name.startswith("seed-") else known[name] for name in names]
