"""What happened to the requests, for any number of readers at their own pace."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio

Kind: TypeAlias = Literal["arrived", "admitted", "waited", "refused", "left"]
KEPT = 1000
"""Happenings that are remembered: two for each request."""


class Happening(NamedTuple):
    """One thing that happened to a request.

    Attributes:
        request: its number, in order of arrival.
        kind: it arrived, was admitted at once, was admitted after it waited, was refused, or its client left.
        at: when, in microseconds by the limiter's clock.
    """

    request: int
    kind: Kind
    at: int


class Peak:
    """The most that was granted within any interval: what an algorithm's bound is about.

    Args:
        interval: in microseconds.

    Attributes:
        most: so far.
    """

    def __init__(self, interval: int) -> None:
        self.most = 0
        self._interval = interval
        self._granted: deque[int] = deque()

    def add(self, at: int) -> None:
        """Count a unit that was granted, in order of the stamps."""
        self._granted.append(at)
        while self._granted[0] <= at - self._interval:
            self._granted.popleft()
        self.most = max(self.most, len(self._granted))


class Journal:
    """The last things that happened, and how often each kind did.

    A reader remembers how far it has read. Nothing is queued for it and nobody waits for it: one that is too slow
    misses the oldest, and is told how many.

    Args:
        kept: how many happenings are remembered.

    Attributes:
        end: how many there ever were.
        counts: of each kind.
        changes: how often its readers were woken.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.end = self.changes = 0
        self.counts: Counter[Kind] = Counter()
        self._kept: deque[Happening] = deque(maxlen=kept)
        self._news = anyio.Event()

    def arrive(self, at: int) -> int:
        """Note that a request arrived, and return its number."""
        number = self.counts["arrived"] + 1
        self.write(Happening(number, "arrived", at))
        return number

    def write(self, happening: Happening) -> None:
        """Note what happened."""
        self._kept.append(happening)
        self.end += 1
        self.counts[happening.kind] += 1
        self.wake()

    def wake(self) -> None:
        """Let all readers look: something happened, or there is something else to be seen."""
        self.changes += 1
        self._news.set()
        self._news = anyio.Event()

    async def news(self, known: int) -> None:
        """Wait for a change, beyond those that are known."""
        if self.changes == known:
            await self._news.wait()

    def since(self, read: int) -> tuple[int, list[Happening]]:
        """Return what is new to a reader, and how much of it is forgotten already."""
        new = self.end - read
        lost = max(0, new - len(self._kept))
        return lost, list(islice(self._kept, len(self._kept) - (new - lost), None))

    @property
    def inside(self) -> int:
        """How many requests have arrived and are not answered."""
        return 2 * self.counts["arrived"] - self.counts.total()

    def as_json(self) -> dict[str, Any]:
        """Return the counts."""
        kinds: tuple[Kind, ...] = ("arrived", "admitted", "waited", "refused", "left")
        return {kind: self.counts[kind] for kind in kinds} | {"waiting": self.inside}
