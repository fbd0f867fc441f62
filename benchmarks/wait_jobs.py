"""The jobs that are waited for: which there are and when each ends, the same for the server and for those who wait."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass

FIRST_NUMBER = 700_001
"""The number of the oldest job; each later one has the next."""
_QUEUED = 0.1  # the share of a job's time in which it is in the queue


@dataclass(frozen=True)
class Conditions:
    """What is waited for, and what gets in the way. Seconds count from the start, at which all own jobs begin."""

    jobs: int
    interval: float
    """Seconds between two looks at a job."""
    seed: int = 1
    shortest: float = 8.0
    longest: float = 16.0
    others: int = 0
    """How many jobs of other people the project has at the start, among and before the own ones."""
    others_per_second: float = 0.0
    """How many of theirs come on top."""
    failing: float = 0.0
    """The share of requests that are answered with HTTP 500."""
    resetting: float = 0.0
    """The share of requests that are not answered: the connection is reset."""
    outage_begins: float = 0.0
    outage: float = 0.0
    """For how many seconds Task/List answers HTTP 500."""

    def dumps(self) -> str:
        """Return this as text for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Conditions:
        """Read what :meth:`dumps` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Job:
    """One job of an API. It is in the queue, then it runs, then it has succeeded."""

    number: int
    begins: float
    ends: float

    @property
    def runs_from(self) -> float:
        """When it leaves the queue."""
        return self.begins + _QUEUED * (self.ends - self.begins)

    def phase(self, at: float) -> int:
        """Return 0 for queued, 1 for running, 2 for ended."""
        return 2 if at >= self.ends else 1 if at >= self.runs_from else 0


def first_jobs(conditions: Conditions) -> tuple[list[Job], list[Job]]:
    """Return the own jobs, and those that the project has at the start, both oldest first.

    The second list contains the first. The jobs of others end at any time within two minutes.
    """
    dice = random.Random(conditions.seed)
    count = conditions.jobs + conditions.others
    own = set(dice.sample(range(count), conditions.jobs))
    everybodys = [
        Job(
            FIRST_NUMBER + place,
            0.0,
            dice.uniform(conditions.shortest, conditions.longest) if place in own else dice.uniform(1.0, 120.0),
        )
        for place in range(count)
    ]
    return [everybodys[place] for place in sorted(own)], everybodys
