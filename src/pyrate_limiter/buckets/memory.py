"""The bucket in memory: for one process, all of its threads and event loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic_ns

from ..algorithms import Algorithm, SlidingWindowLog, State, decide
from ..algorithms.decide import in_order
from ..bucket import BucketStatistics, InstantBucket, valid_key
from ..clocks import Clock
from ..decisions import BUSY, UNNAMED, Answer, Ask, Decision
from ..rates import Rate, require_positive
from .keys import Keys
from .short_lock import ShortLock

_tuple = tuple.__new__


class InMemoryBucket(InstantBucket):
    """Budgets in this process's memory, shared by its threads and event loops.

    A key costs about 100 bytes with `GCRA`; with the log about 200, and 80 for each further run, of which there are
    at most twice the limit or 2004. Keys go when they are idle, as calls go by.

    Args:
        rates: one rate or several.
        algorithm: how they are counted.
        max_keys: the most keys; beyond, new names share 1024 states until there is room.
        clock: a function that returns microseconds, for tests.
    """

    def __init__(
        self,
        rates: Rate | Sequence[Rate],
        *,
        algorithm: type[Algorithm] = SlidingWindowLog,
        max_keys: int = 1_000_000,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(rates, algorithm=algorithm)
        require_positive("max_keys", max_keys)
        self._clock = clock
        self._keys = Keys(self.rule, max_keys)
        self._lock = ShortLock()
        self._latest = 0

    # Both calls below are one undivided piece each, because a function of our own more costs a twentieth of them. The
    # host's clock never steps back, so it is read as it stands; one that may is watched.

    def _take(self, name: str, weight: int, keyed: bool) -> int:
        if (
            type(weight) is not int
            or not 0 < weight <= self.capacity
            or self._rooms
            or (name is UNNAMED if keyed else not isinstance(name, str))
        ):
            return BUSY
        key = name if keyed else ""
        with self._lock:
            now = monotonic_ns() // 1000 if self._clock is None else self._watched(self._clock)
            keys = self._keys
            young = keys.young
            if now >= keys.sweep_at or key not in young:
                return self._admit(key, weight, now)[0]
            wait, young[key] = self.rule.admit(young[key], now, weight)
            return wait

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        if (
            type(weight) is not int
            or not 0 < weight <= self.capacity
            or self._rooms
            or (name is UNNAMED if keyed else not isinstance(name, str))
        ):
            return None
        key = name if keyed else ""
        with self._lock:
            now = monotonic_ns() // 1000 if self._clock is None else self._watched(self._clock)
            keys = self._keys
            young, rule = keys.young, self.rule
            if now >= keys.sweep_at or key not in young:
                wait, state, now = self._admit(key, weight, now)
            else:
                wait, state = rule.admit(young[key], now, weight)
                young[key] = state
            remaining, reset, index = rule.view(state, now, wait and weight)
        rate = self.rates[index]
        retry = wait / 1_000_000 if wait else 0.0
        return _tuple(
            Decision,
            (not wait, name, weight, now, retry, reset / 1_000_000, remaining, rate.limit, rate, 0.0, False),
        )

    _grant = _decide

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        with self._lock:
            return self._decide_all(asks, monotonic_ns() // 1000 if self._clock is None else self._watched(self._clock))

    def _admit(self, key: str, cost: int, now: int) -> tuple[int, State, int]:
        """Take where more is to be seen to: a new key, idle ones, a clock that went back, or a bucket that is closed.

        Returns:
            The wait, the state, and the moment by which it was decided.
        """
        self._require_open()
        keys, rule = self._keys, self.rule
        keys.now = now
        if now >= keys.sweep_at:
            keys.sweep()
        state = keys.get(valid_key(key))
        if state is None:
            state = rule.fresh()
        else:
            state, now = in_order(rule, keys, key, state, now)
        wait, state = rule.admit(state, now, cost)
        if not wait:
            keys[key] = state
        return wait, state, now

    def _decide_all(self, asks: Sequence[Ask], now: int) -> list[Answer]:
        if self.closed:
            return decide(self.rule, {}, asks, now)  # late give-backs
        self._keys.now = now
        if now >= self._keys.sweep_at:
            self._keys.sweep()
        return decide(self.rule, self._keys, asks, now)

    def _watched(self, clock: Clock) -> int:
        """Read a clock that may go back; while it is behind, every call goes the long way, where that is seen to."""
        now = clock()
        if type(now) is not int:
            raise TypeError(f"a clock must return microseconds as an int, not {now!r}")
        if now < self._latest:
            self._keys.sweep_at = now
        self._latest = max(self._latest, now)
        return now

    def _shut(self) -> None:
        with self._lock:
            super()._shut()
            self._keys = Keys(self.rule, 1)  # every call finds its key new, goes the long way, and finds it closed

    def statistics(self) -> BucketStatistics:
        return replace(super().statistics(), keys=len(self._keys))

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork(self) -> None:
        self._lock.release()

    def _forked(self) -> None:
        super()._forked()
        self._lock = ShortLock()

    def __reduce__(self) -> str:
        raise TypeError(
            "an InMemoryBucket belongs to one process and cannot be pickled: use MultiprocessBucket or SQLiteBucket,"
            " or make a bucket in each process (init_global_limiter)"
        )
