"""Windows aligned to multiples of the interval on the store's clock: the fixed one and the sliding counter."""

from __future__ import annotations

import struct
from typing import TypeAlias

from .rule import Algorithm

_FIXED = struct.Struct("<qq")
_COUNTER = struct.Struct("<qqq")
Fixed: TypeAlias = tuple[int, int]
"""The window's number, and what it counts."""
Counter: TypeAlias = tuple[int, int, int]
"""The window's number, what the one before it counted, and what it counts."""


class FixedWindow(Algorithm):
    """Counts in windows that start at multiples of the interval.

    The cheapest, and the least even: up to twice the limit may pass within an interval around a boundary.
    """

    def fresh(self) -> Fixed:
        return (-1, 0)

    def at_most(self, span: int) -> int:
        return ((span - 2) // self.interval + 2) * self.limit if span > 0 else 0

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        return (-(-(ahead + own) // self.limit) - 1) * self.interval  # the head is due at a boundary

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        return -(-(ahead + own - head) // (self.limit - heaviest + 1)) * self.interval

    def probe(self, state: Fixed, now: int, cost: int) -> int:
        window, count = state
        over = window == now // self.interval and count + cost > self.limit
        return self.interval - now % self.interval if over else 0

    def commit(self, state: Fixed, now: int, cost: int) -> Fixed:
        window = now // self.interval
        return (window, state[1] + cost if state[0] == window else cost)

    def give_back(self, state: Fixed, now: int, cost: int, at: int) -> Fixed:
        window, count = state
        return (window, count - min(cost, count)) if at // self.interval == window else state

    def view(self, state: Fixed, now: int, refused: int = 0) -> tuple[int, int, int]:
        window, count = state
        if window != now // self.interval or not count:
            return (self.limit, 0, 0)
        return (self.limit - count, self.interval - now % self.interval, 0)

    def last(self, state: Fixed) -> int:
        return state[0] * self.interval

    def rebase(self, state: Fixed, now: int) -> Fixed:
        return (min(state[0], now // self.interval), state[1])

    def idle_at(self, state: Fixed) -> int:
        return (state[0] + 1) * self.interval if state[1] else 0

    def pack(self, state: Fixed) -> bytes:
        return _FIXED.pack(*state)

    def unpack(self, data: bytes) -> Fixed:
        window, count = _unpack(_FIXED, data)
        return (window, count)


class SlidingWindowCounter(Algorithm):
    """Counts two windows and weighs the older one by the part of it that still lies within the interval.

    The weighed count is compared exactly, never floored. It is an estimate: it supposes that the older window's
    units came evenly (the approximation that Cloudflare described in 2017 in "How we built rate limiting").
    """

    def fresh(self) -> Counter:
        return (-1, 0, 0)

    def at_most(self, span: int) -> int:
        # A span touches so many windows. One window after another that counted anything holds one unit less
        # than the limit, since the older one still weighs something in its last microsecond.
        if span <= 0:
            return 0
        windows = (span - 2) // self.interval + 2
        return max(self.limit + (windows - 1) * (self.limit - 1), (windows + 1) // 2 * self.limit)

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        # In any two windows at least so many units of a line are granted, or the second one would stand empty.
        return -(-(ahead + own - head) // max(self.limit - heaviest, 1)) * 2 * self.interval

    def probe(self, state: Counter, now: int, cost: int) -> int:
        window, older, count = self._rolled(state, now)
        start, room = window * self.interval, self.limit - count - cost
        if room >= 0:
            within = self._fits_after(older, room)
            if within < self.interval:
                return max(0, start + within - now)
        return start + self.interval + self._fits_after(count, self.limit - cost) - now

    def commit(self, state: Counter, now: int, cost: int) -> Counter:
        window, older, count = self._rolled(state, now)
        return (window, older, count + cost)

    def give_back(self, state: Counter, now: int, cost: int, at: int) -> Counter:
        window, older, count = state
        if at // self.interval == window:
            return (window, older, count - min(cost, count))
        return (window, older - min(cost, older), count) if at // self.interval == window - 1 else state

    def view(self, state: Counter, now: int, refused: int = 0) -> tuple[int, int, int]:
        window, older, count = self._rolled(state, now)
        weighed = older * ((window + 1) * self.interval - now) + count * self.interval
        left = max(0, self.limit * self.interval - weighed) // self.interval
        return (left, max(0, self.idle_at(state) - now), 0)

    def last(self, state: Counter) -> int:
        return state[0] * self.interval

    def rebase(self, state: Counter, now: int) -> Counter:
        window, older, count = state
        current = now // self.interval
        if window <= current:
            return state
        return (current, older if window - 1 == current else 0, count) if count else (current, 0, older)

    def idle_at(self, state: Counter) -> int:
        window, older, count = state
        return (window + 2) * self.interval if count else (window + 1) * self.interval if older else 0

    def pack(self, state: Counter) -> bytes:
        return _COUNTER.pack(*state)

    def unpack(self, data: bytes) -> Counter:
        window, older, count = _unpack(_COUNTER, data)
        return (window, older, count)

    def _fits_after(self, older: int, room: int) -> int:
        """Return how far into a window the weight of an older one has sunk to `room` units."""
        return max(0, self.interval - room * self.interval // older) if older else 0

    def _rolled(self, state: Counter, now: int) -> Counter:
        window, current = state[0], now // self.interval
        if window == current:
            return state
        return (current, state[2] if window == current - 1 else 0, 0)


def _unpack(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) != form.size:
        raise ValueError(f"a window's state has {form.size} bytes, not {len(data)}")
    return form.unpack(data)
