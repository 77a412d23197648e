"""A stream of requests under several limits at once: the one that was asked for, and others around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from ..algorithms import Algorithm, State, bind
from ..clocks import SECOND
from ..rates import Rate

FACTORS = (1, 0.5, 1.5, 2, 4, 8)
"""By which the limits are tried: first the one that was asked for."""
MOST_KEYS = 200_000
"""Keys whose states are kept; a key that is idle goes first."""
MOST_NAMED = 20_000
"""Refused keys that are counted by name; the least refused half of them goes when there are more."""
SLOTS = 120


class Ladder:
    """Rules that differ in their limits, each of which decides every request.

    Args:
        algorithm: how units are counted.
        rates: the rates that were asked for; all of them are multiplied alike.

    Attributes:
        rungs: the rates of each rule; the first ones are those that were asked for.
        refused: how many requests each has refused.
        forgotten: keys that were let go although they were not idle: each was then taken for a new one.
    """

    def __init__(self, algorithm: type[Algorithm], rates: Sequence[Rate]) -> None:
        scaled = [tuple(_scaled(rate, factor) for rate in rates) for factor in FACTORS]
        self.rungs = list(dict.fromkeys(scaled))
        self._rules = [bind(algorithm, rung) for rung in self.rungs]
        self._admits = [(index, rule.admit) for index, rule in enumerate(self._rules)]
        self._states: dict[Hashable, list[State]] = {}
        self._sweep_at = 1000
        self.refused = [0] * len(self.rungs)
        self.forgotten = 0

    def meet(self, key: Hashable, now: int) -> bool:
        """Decide a request under every rule; return whether the one that was asked for refuses it."""
        states = self._states.get(key)
        if states is None:
            states = self._new(key, now)
        refused = self.refused
        before = refused[0]
        for index, admit in self._admits:
            wait, states[index] = admit(states[index], now, 1)
            if wait:
                refused[index] += 1
        return refused[0] > before

    def _new(self, key: Hashable, now: int) -> list[State]:
        if len(self._states) >= self._sweep_at:
            self._sweep(now)
        states = self._states[key] = [rule.fresh() for rule in self._rules]
        return states

    def _sweep(self, now: int) -> None:
        """Let idle keys go; and the oldest ones, if there are still too many."""
        kept = {key: states for key, states in self._states.items() if not self._idle(states, now)}
        for key in list(kept)[: max(0, len(kept) - MOST_KEYS // 2)] if len(kept) >= MOST_KEYS else ():
            del kept[key]
            self.forgotten += 1
        self._states = kept
        self._sweep_at = min(MOST_KEYS, max(1000, 2 * len(kept)))

    def _idle(self, states: Sequence[State], now: int) -> bool:
        return all(rule.idle_at(state) <= now for rule, state in zip(self._rules, states, strict=True))


class Named(NamedTuple):
    """What was refused to one key: how often, and when first and last, in microseconds."""

    key: Hashable
    refused: int
    first: int
    last: int


class Refusals:
    """Who was refused, how often and when: counted by name for the most refused ones.

    Attributes:
        partial: whether there were so many keys that counts of some were dropped.
    """

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()
        self._spans: dict[Hashable, tuple[int, int]] = {}
        self.partial = False

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: Hashable, at: int) -> None:
        """Count a refusal."""
        self._counts[key] += 1
        self._spans[key] = (self._spans[key][0] if key in self._spans else at, at)
        if len(self._counts) > MOST_NAMED:
            self._counts = Counter(dict(self._counts.most_common(MOST_NAMED // 2)))
            self._spans = {key: self._spans[key] for key in self._counts}
            self.partial = True

    def most(self, count: int) -> list[Named]:
        """Return the keys that were refused most."""
        return [Named(key, refused, *self._spans[key]) for key, refused in self._counts.most_common(count)]


class Timeline:
    """What was admitted and refused over time, in slots that grow wider as the time grows longer.

    Attributes:
        start: of the first slot, in microseconds.
        width: of each slot, in microseconds.
        slots: for each, how many requests were admitted, and refused.
    """

    def __init__(self) -> None:
        self.start = -1
        self.width = SECOND
        self.slots = [[0, 0] for _ in range(SLOTS)]

    def add(self, at: int, refused: bool) -> None:
        """Count a request; `at` is not before the first one."""
        if self.start < 0:
            self.start = at
        slot = (at - self.start) // self.width
        while slot >= SLOTS:
            self._widen()
            slot //= 2
        self.slots[slot][refused] += 1

    @property
    def used(self) -> list[list[int]]:
        """The slots up to the last one that holds anything."""
        last = max((index for index, slot in enumerate(self.slots) if any(slot)), default=-1)
        return self.slots[: last + 1]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with times in seconds."""
        return {"start": self.start / SECOND, "width": self.width / SECOND, "slots": self.used}

    def _widen(self) -> None:
        pairs = zip(self.slots[::2], self.slots[1::2], strict=True)
        self.slots = [[a + c, b + d] for (a, b), (c, d) in pairs] + [[0, 0] for _ in range(SLOTS // 2)]
        self.width *= 2


def _scaled(rate: Rate, factor: float) -> Rate:
    return Rate(max(1, round(rate.limit * factor)), rate.interval, rate.burst)
