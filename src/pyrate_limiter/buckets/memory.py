"""The bucket in memory: for one process, all of its threads and event loops."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from ..algorithms import Algorithm, SlidingWindowLog, decide
from ..bucket import BucketStatistics, InstantBucket, valid_key
from ..clocks import Clock, monotonic
from ..decisions import Answer, Ask, Decision
from ..rates import Rate, require_positive
from .keys import Keys

_tuple = tuple.__new__
_NEVER = 1 << 62


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
        self._clock = clock or monotonic
        self._keys = Keys(self.rule, max_keys)
        self._lock = Lock()
        self._latest = 0
        self._probe, self._commit, self._view = self.rule.probe, self.rule.commit, self.rule.view

    def _take(self, key: str, cost: int) -> int:
        with self._lock:
            now = self._clock()
            keys = self._keys
            state = keys.young.get(key)
            if state is None or not self._latest <= now < keys.sweep_at:
                return self._the_long_way(key, cost, now).wait
            self._latest = now
            wait = self._probe(state, now, cost)
            if not wait:
                keys.young[key] = self._commit(state, now, cost)
            return wait

    def _decide(self, key: str, cost: int, name: str) -> Decision:
        with self._lock:
            now = self._clock()
            keys = self._keys
            state = keys.young.get(key)
            if state is None or not self._latest <= now < keys.sweep_at:
                return self._decision(name, cost, self._the_long_way(key, cost, now))
            self._latest = now
            wait = self._probe(state, now, cost)
            if not wait:
                keys.young[key] = state = self._commit(state, now, cost)
                remaining, reset, index = self._view(state, now)
            else:
                remaining, reset, index = self._view(state, now, cost)
        rate = self.rates[index]
        return _tuple(
            Decision,
            (not wait, name, cost, now, wait / 1e6, reset / 1e6, remaining, rate.limit, rate, 0.0, False),
        )

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        with self._lock:
            return self._decide_all(asks, self._clock())

    def _the_long_way(self, key: str, cost: int, now: int) -> Answer:
        """Decide for a key that is new, after a clock went back, when idle keys are to be looked for, or not at all."""
        self._require_open()
        return self._decide_all((Ask(valid_key(key), cost),), now)[0]

    def _decide_all(self, asks: Sequence[Ask], now: int) -> list[Answer]:
        self._latest = max(self._latest, now)
        self._keys.now = now
        if now >= self._keys.sweep_at:
            self._keys.sweep()
        return decide(self.rule, self._keys, asks, now)

    def _shut(self) -> None:
        super()._shut()
        self._latest = _NEVER  # no moment is after it, so every call goes the long way and finds the bucket closed

    def statistics(self) -> BucketStatistics:
        _, waiting, owed = super().statistics()
        return BucketStatistics(len(self._keys), waiting, owed)

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork(self) -> None:
        self._lock.release()

    def _forked(self) -> None:
        super()._forked()
        self._lock = Lock()

    def __reduce__(self) -> str:
        raise TypeError(
            "an InMemoryBucket belongs to one process and cannot be pickled: use MultiprocessBucket or SQLiteBucket,"
            " or make a bucket in each process (init_global_limiter)"
        )
