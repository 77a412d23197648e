"""The sliding-window log: exact, in at most about a thousand runs for any limit.

A state is one flat list: a header, then runs (time, cumulative count), oldest first. Counts are cumulative so that
"how many are left" is one subtraction and "when do so many leave" one bisection, whatever the weights.

Runs that have left the window stay in the list until their room is needed: they count no more once a later run is
an interval younger than they are, and that alone decides, so a refusal may leave them where they are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from struct import error, pack, unpack
from typing import TYPE_CHECKING, TypeAlias

from .rule import Algorithm

if TYPE_CHECKING:
    from ..rates import Rate

Log: TypeAlias = list[int]
"""[base, head, earlier, joined, time, cumulative count, time, cumulative count, ...]"""
Outline: TypeAlias = tuple[int, ...]
"""How many runs are live, the cumulative count before them, the two numbers that take a join back, and the last run."""
_BASE, _HEAD, _EARLIER, _JOINED, _RUNS = 0, 1, 2, 3, 4
"""Header: the cumulative count before the first live run; where that run stands in the list; and, to take the last
join back: which time the last run had before it, and how many units joined it (0: it cannot be taken back)."""
_NEVER = -(1 << 62)
_FAR = 1 << 61
_FINEST = 1000
"""Up to this limit each moment keeps a run of its own; above, so many cells share an interval."""


_NEAR = 4
"""So many runs are looked at one by one before the rest is searched: most often only a few have left."""


class SlidingWindowLog(Algorithm):
    """Remembers every admitted unit for one interval: exact, with nothing between the units and the limit.

    Above a limit of 1000 units whose moments lie in one cell of a thousandth of the interval share a run, which then
    counts as late as the latest of them: never too generous, and late by a thousandth at most.
    """

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self._cell = -(-self.interval // _FINEST) if self.limit > _FINEST else 1
        self._longest = _RUNS + 4 * (_FINEST + 2)
        self.most_runs = min(self.limit, _FINEST) + 2

    def fresh(self) -> Log:
        return [0, _RUNS, 0, 0, _NEVER, 0]

    def at_most(self, span: int) -> int:
        return -(-span // self.interval) * self.limit if span > 0 else 0

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        return (-(-(ahead + own) // self.limit) - 1) * self.interval

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        # A request is granted once all but `limit` less its own units have left, an interval after their grant,
        # and the requests that those units belong to end at most `heaviest` - 1 units later.
        return -(-(ahead + own - head) // (self.limit - heaviest + 1)) * self._late_interval()

    def probe(self, state: Log, now: int, cost: int) -> int:
        over = state[-1] - state[_BASE] + cost - self.limit
        return self._until_gone(state, now, over) if over > 0 else 0

    def admit(self, state: Log, now: int, cost: int) -> tuple[int, Log]:
        count = state[-1]
        over = count - state[_BASE] + cost - self.limit
        if over > 0:
            if wait := self._until_gone(state, now, over):
                return wait, state
            self._expire(state, now - self.interval)
        last = state[-2]
        if count == state[_BASE]:  # nothing is live
            state[_HEAD] = _RUNS
            state[_RUNS:] = (now, count + cost)
        elif now // self._cell == last // self._cell:
            # The time before the count: an interrupt in between leaves units that count too long, never too short.
            state[_EARLIER] = last
            state[_JOINED] = cost
            state[-2] = now
            state[-1] = count + cost
        else:
            state += (now, count + cost)
            if len(state) > self._longest:
                self._expire(state, now - self.interval)
        return 0, state

    def commit(self, state: Log, now: int, cost: int) -> Log:
        return self.admit(state, now, cost)[1]

    def give_back(self, state: Log, now: int, cost: int, at: int) -> Log:
        self._expire(state, state[-2] - self.interval)  # not by `now`: no stamp says yet that it was reached
        run = self._run_of(state, at)
        if run < 0:
            return state
        before = state[run - 1] if run > state[_HEAD] else state[_BASE]
        back = min(cost, state[run + 1] - before)
        if at == state[-2] and back == state[_JOINED] and state[_EARLIER] // self._cell == at // self._cell:
            state[-2] = state[_EARLIER]
        if run == len(state) - 2:
            state[_JOINED] = 0
        state[run + 1 :: 2] = [total - back for total in state[run + 1 :: 2]]
        if state[run + 1] == before and len(state) > state[_HEAD] + 2:
            del state[run : run + 2]
        return state

    def view(self, state: Log, now: int, refused: int = 0) -> tuple[int, int, int]:
        last, horizon = state[-2], now - self.interval
        if state[state[_HEAD]] > horizon:
            used = state[-1] - state[_BASE]
        elif last == now:  # the clock is held at the last stamp, so what has left has left for good
            self._expire(state, horizon)
            used = state[-1] - state[_BASE]
        else:
            used = state[-1] - self._count_at(state, horizon)
        return (self.limit - used, last - horizon, 0) if used else (self.limit, 0, 0)

    def last(self, state: Log) -> int:
        return state[-2]

    def rebase(self, state: Log, now: int) -> Log:
        self._expire(state, state[-2] - self.interval)
        first = state[_HEAD] + 2 * bisect_right(range(state[_HEAD], len(state), 2), now, key=state.__getitem__)
        if first < len(state):
            total, joins = state[-1], first > state[_HEAD] and state[first - 2] // self._cell == now // self._cell
            state[first - 2 * joins :] = (now, total)
            state[_JOINED] = 0
        return state

    def idle_at(self, state: Log) -> int:
        return state[-2] + self.interval if state[-1] > state[_BASE] else 0

    def pack(self, state: Log) -> bytes:
        # A store packs a log after every batch: counts stay as they are and their base goes with them, until they
        # would no longer fit.
        horizon = state[-2] - self.interval
        base, runs = self._count_at(state, horizon), state[self._live(state, horizon) :]
        if base > _FAR:
            runs[1::2] = [count - base for count in runs[1::2]]
            base = 0
        return pack(f"<{3 + len(runs)}q", base, state[_EARLIER], state[_JOINED], *runs)

    def unpack(self, data: bytes) -> Log:
        try:
            base, *values = unpack(f"<{len(data) // 8}q", data)
        except (error, ValueError):
            raise ValueError(f"{len(data)} bytes are no log: they are not whole numbers of 8 bytes") from None
        if len(values) < 4 or len(values) % 2:
            raise ValueError(f"a log has a header and runs of two numbers, not {len(values)} numbers")
        return [base, _RUNS, *values]

    def _until_gone(self, state: Log, now: int, units: int) -> int:
        """Return in how many microseconds the oldest `units` have left."""
        # They have left when the run that holds the last of them is an interval old.
        run, need = state[_HEAD], state[_BASE] + units
        if state[run + 1] < need:
            run += 2 * bisect_left(range(run + 1, len(state), 2), need, key=state.__getitem__)
        wait = state[run] + self.interval - now
        return wait if wait > 0 else 0  # noqa: FURB136 - max() is a call

    def outline(self, state: Log) -> Outline:
        """Return all that a state says beside its closed runs, ``state[-2 * live : -2]``.

        For a store that keeps the runs in a ring: a commit adds at most one run, after the ones that were there, and
        closes the one that was the last (``state[-4:-2]`` from then on); only `give_back` and `rebase` change others.
        There are never more than `most_runs` live ones here.
        """
        if len(state) - state[_HEAD] > 2 * self.most_runs:
            self._expire(state, state[-2] - self.interval)
        live = (len(state) - state[_HEAD]) // 2
        return (live, state[_BASE], state[_EARLIER], state[_JOINED], state[-2], state[-1])

    def restore(self, outline: Outline, closed: list[int]) -> Log:
        """Return the state that has this outline and these closed runs."""
        _, base, earlier, joined, time, count = outline
        return [base, _RUNS, earlier, joined, *closed, time, count]

    def follow(self, state: Log, outline: Outline, closed: list[int]) -> bool:
        """Bring a state in place to where an outline is; return False if it has let go of runs that are live there.

        Args:
            state: an earlier state of the same key.
            outline: of the later one.
            closed: the runs that were closed since `state`.
        """
        live, base, earlier, joined, time, count = outline
        head = len(state) + len(closed) - 2 * live
        if head < _RUNS:
            return False
        if closed:
            state[-2:] = (*closed, time, count)
        else:
            state[-2] = time
            state[-1] = count
        state[:_RUNS] = (base, head, earlier, joined)
        if head > len(state) // 2 + _RUNS:
            state[_HEAD] = _RUNS
            del state[_RUNS:head]
        return True

    def _late_interval(self) -> int:
        return self.interval + (self._cell if self._cell > 1 else 0)

    def _live(self, state: Log, horizon: int) -> int:
        """Return where the first run later than `horizon` stands, or the last run if there is none."""
        run, end = state[_HEAD], len(state) - 2
        for _ in range(_NEAR):
            if run >= end or state[run] > horizon:
                return run
            run += 2
        return run + 2 * bisect_right(range(run, end, 2), horizon, key=state.__getitem__)

    def _count_at(self, state: Log, horizon: int) -> int:
        """Return the cumulative count of the runs up to `horizon`."""
        head = state[_HEAD]
        if state[head] > horizon:
            return state[_BASE]
        return state[-1] if state[-2] <= horizon else state[self._live(state, horizon) - 1]

    def _expire(self, state: Log, horizon: int) -> None:
        """Let go of the runs up to `horizon`; the last one stays, for its time, and counts no more."""
        if state[state[_HEAD]] > horizon:
            return
        live = self._live(state, horizon)
        state[_BASE], state[_HEAD] = state[-1] if state[-2] <= horizon else state[live - 1], live
        if live > len(state) // 2 + _RUNS:
            state[_HEAD] = _RUNS
            del state[_RUNS:live]

    def _run_of(self, state: Log, at: int) -> int:
        """Return where the live run stands that holds what was stamped `at`, or -1."""
        head = state[_HEAD]
        run = head + 2 * bisect_left(range(head, len(state), 2), at, key=state.__getitem__)
        if run >= len(state) or at // self._cell != state[run] // self._cell or state[-1] == state[_BASE]:
            return -1
        return run
