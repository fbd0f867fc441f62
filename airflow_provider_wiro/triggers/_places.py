"""Who may try next where an account runs as many tasks as it may (code 96). Pure but for the dice.

The account's limit counts the tasks of all its projects, and a list shows one project's: what is seen here says when a
place has probably come free, never that it has. Whoever is let go and refused again comes back to its old turn.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from airflow_provider_wiro.triggers._watched import Mailbox

# Seconds in which one that was let go is expected to have ordered: Airflow must find a worker for it.
_ON_THE_WAY = 30.0
# Seconds between two that are let go on suspicion, and the longest pause after some who came back.
_SUSPICION, _LONGEST = 30.0, 60.0


@dataclass(eq=False)
class Turn:
    """One trigger that waits for places."""

    since: float
    """Unix time at which it was first refused: first come, first served."""
    wanted: int
    mailbox: Mailbox
    """Gets how many places came free, or what keeps anybody from knowing."""


class Places:
    """The queue of one account, as far as one project shows it."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._limit: int | None = None
        self._on_the_way: deque[float] = deque()
        self._seen: frozenset[str] | None = None
        self._futile = 0
        self._full_at = 0
        self._not_before = 0.0

    @property
    def turns(self) -> list[Turn]:
        """Who waits, first come first."""
        return self._turns

    def join(self, turn: Turn, limit: int | None, came_back: bool, now: float) -> None:
        """Add one that was refused.

        :param turn: the one.
        :param limit: how many tasks the account may run, as its refusal said.
        :param came_back: whether it had been let go.
        :param now: monotonic time.
        """
        self._forget_late(now)
        if not self._turns and not self._on_the_way:
            # Nobody has looked at the list since the last one left.
            self._seen, self._futile, self._not_before = None, 0, now + self._pause(_SUSPICION)
        self._limit = limit if limit is not None else self._limit
        if came_back:
            self._futile += 1
            # Others hold the rest of the places: who finds one of these few says nothing about more.
            self._full_at = len(self._seen or ())
            self._not_before = now + self._pause(min(_LONGEST, 2.0 ** min(self._futile, 10)))
            if self._on_the_way:
                self._on_the_way.popleft()
        self._turns.append(turn)
        self._turns.sort(key=lambda other: other.since)

    def leave(self, mailbox: Mailbox) -> None:
        """Remove one that waits no more."""
        self._turns = [turn for turn in self._turns if turn.mailbox is not mailbox]

    def let_go(self, running: frozenset[str] | None, now: float) -> int:
        """Tell the first in the queue that places seem free.

        :param running: the tasks that run now, as far as they are seen; ``None`` where the list cannot be read.
        :param now: monotonic time.
        :return: how many may try.
        """
        free = granted = self._free(running, now)
        while free > 0 and self._turns:
            turn = self._turns[0]
            share = min(free, turn.wanted)
            turn.mailbox.put(share)
            turn.wanted -= share
            free -= share
            self._on_the_way.extend([now] * share)
            if turn.wanted == 0:
                self._turns.pop(0)
        return granted - free

    def _free(self, running: frozenset[str] | None, now: float) -> int:
        self._forget_late(now)
        if running is None:
            return self._on_suspicion(now)
        ended = 0
        if self._seen is None:
            self._full_at = len(running)
        else:
            for _ in running - self._seen:
                self._futile = min(self._futile, 1)
                if self._on_the_way:
                    self._on_the_way.popleft()
            if len(running) > self._full_at:
                self._futile = 0
            ended = len(self._seen - running)
        self._seen = running
        if self._limit is not None and not self._futile:
            return max(0, self._limit - len(running) - len(self._on_the_way))
        # Others hold places that are not seen here, or the limit is not known: one for each that is seen to end.
        free = ended or self._on_suspicion(now)
        return free if self._limit is None else max(0, min(free, self._limit - len(running) - len(self._on_the_way)))

    def _forget_late(self, now: float) -> None:
        while self._on_the_way and self._on_the_way[0] < now - _ON_THE_WAY:
            self._on_the_way.popleft()

    def _on_suspicion(self, now: float) -> int:
        if now < self._not_before:
            return 0
        self._not_before = now + self._pause(_SUSPICION)
        return 1

    @staticmethod
    def _pause(seconds: float) -> float:
        return seconds * random.uniform(0.8, 1.2)
