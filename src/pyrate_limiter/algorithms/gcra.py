"""The generic cell rate algorithm, under its three names.

The rule is that of ITU-T I.371 in its virtual-scheduling form: a theoretical arrival time (tat) moves on by one
emission interval T = interval / limit for every unit. T is reduced to p / q microseconds and the state keeps
tat times q, so nothing is ever rounded and nothing drifts. One Python int holds it beside the stamp of the last
grant, which a refund needs: tat * q << 64 | last.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .rule import Algorithm

if TYPE_CHECKING:
    from ..rates import Rate

_STAMP = 64
_LAST = (1 << _STAMP) - 1


class GCRA(Algorithm):
    """Units leave at an even pace, after a burst: a key of 16 bytes or so, whatever the limit.

    `Rate.burst` (the limit if not given) is the most at once; then one unit fits every interval / limit.
    """

    bursts = True

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        shared = math.gcd(self.interval, rate.limit)
        self._p = self.interval // shared
        self._q = rate.limit // shared
        self.capacity = rate.limit if rate.burst is None else rate.burst
        self._full = self.capacity * self._p

    def fresh(self) -> int:
        return 0

    def at_most(self, span: int) -> int:
        return self.capacity + (span - 1) * self.limit // self.interval if span > 0 else 0

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        return (ahead + own - head) * self._p // self._q

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        # What is so heavy that it waits for an empty bucket starts on a whole microsecond: the fraction is lost.
        behind, emptying = ahead + own - head, max(1, (self._full - self._q) // self._p + 1)
        return -(-behind * self._p // self._q) + behind // emptying + 1

    def admit(self, state: int, now: int, cost: int) -> tuple[int, int]:
        start, tat = now * self._q, state >> _STAMP
        if tat < start:  # noqa: PLR1730 - max() would take a third of the time of all this
            tat = start
        tat += cost * self._p
        ahead = tat - start
        if ahead > self._full:
            return -((self._full - ahead) // self._q), state
        return 0, tat << _STAMP | now

    def probe(self, state: int, now: int, cost: int) -> int:
        return self.admit(state, now, cost)[0]

    def commit(self, state: int, now: int, cost: int) -> int:
        return self.admit(state, now, cost)[1]

    def give_back(self, state: int, now: int, cost: int, at: int) -> int:
        # What was granted after `at` may rest on the room that these units left: only the rest may go back.
        tat, last = state >> _STAMP, state & _LAST
        back = min(cost, self.capacity) * self._p - (last - at) * self._q
        return max(tat - back, 0) << _STAMP | last if back > 0 and at <= last else state

    def view(self, state: int, now: int, refused: int = 0) -> tuple[int, int, int]:
        ahead = (state >> _STAMP) - now * self._q
        return (self.capacity, 0, 0) if ahead <= 0 else ((self._full - ahead) // self._p, -(-ahead // self._q), 0)

    def last(self, state: int) -> int:
        return state & _LAST

    def rebase(self, state: int, now: int) -> int:
        tat = min(state >> _STAMP, now * self._q + self._full)
        return tat << _STAMP | min(state & _LAST, now)

    def idle_at(self, state: int) -> int:
        return -(-(state >> _STAMP) // self._q)

    def pack(self, state: int) -> bytes:
        return state.to_bytes((state.bit_length() + 7) // 8, "little")

    def unpack(self, data: bytes) -> int:
        return int.from_bytes(data, "little")


class TokenBucket(GCRA):
    """`GCRA` by another name: a bucket of `burst` tokens that refills at limit / interval."""


class LeakyBucket(GCRA):
    """Paced: whatever was granted drains at limit / interval before anything else is granted.

    This is the leaky bucket used as a queue. One request of up to `burst` units (the limit if not given) leaves at
    once when the bucket is empty; the next one after the time that those units take, on the first whole microsecond.
    So units never come in bursts of several requests.
    """

    def admit(self, state: int, now: int, cost: int) -> tuple[int, int]:
        over = (state >> _STAMP) - now * self._q
        return (-(-over // self._q), state) if over > 0 else super().admit(state, now, cost)

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        return -(-ahead * self._p // self._q)

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        return self.soonest(ahead, own, head) + ahead  # each grant starts on a whole microsecond

    def view(self, state: int, now: int, refused: int = 0) -> tuple[int, int, int]:
        over = self.probe(state, now, 1)
        return (0, over, 0) if over else (self.capacity, 0, 0)
