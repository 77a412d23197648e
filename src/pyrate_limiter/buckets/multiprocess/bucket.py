"""The bucket in shared memory: for all processes of one user on one host."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from anyio import CapacityLimiter, to_thread

from ...algorithms import Algorithm, SlidingWindowLog, State, decide
from ...bucket import BucketStatistics, InstantBucket, in_place, valid_key
from ...clocks import Clock
from ...decisions import BUSY, UNNAMED, Answer, Ask, Decision
from ...errors import StoreError
from ...rates import Rate, require_positive
from ...waiting import running
from ..shares import Share
from .banks import UNKNOWN
from .batch import Batch
from .header import TOUCHED
from .rings import banks_for
from .slots import Slots, fitting
from .storage import Storage, spec_of

if sys.platform != "win32":
    from fcntl import LOCK_UN, flock

_PAUSE, _PART = 1.0, 0.25
"""Milliseconds in which another process wakes up; shorter where taking all by shares would need more of an interval."""
_NAP = 0.0001
_tuple = tuple.__new__


class MultiprocessBucket(InstantBucket):
    """Budgets in shared memory: for the processes of one user on one host, with no server and no manager.

    A process that is killed leaves the others running and the counts right. Without a name a bucket that is made in a
    main process is a budget of its own, which child processes share if they inherit or unpickle it; one that is made
    in a child of `multiprocessing` shares with all processes of its tree that did so with equal arguments. With a
    name it shares with every process of the user that gives the same name and arguments.

    The memory is taken when the bucket is first used: for a key about 75 bytes, and with the log 32 for each
    unit of the limit, at most 32 KB, for each rate. What is awaited has that done in a thread, so no event loop waits
    for it; a sync call does it where it is.

    Args:
        rates: one rate or several.
        name: which budget to share, or None.
        algorithm: how they are counted.
        max_keys: the most keys; None stands for as many as fit into 4 MB, at least 16 and at most 10 000. Idle keys
            make room. If there is none, `TableFull` is raised.
        clock: a function that returns microseconds, for tests.

    Raises:
        NotImplementedError: the system has no `flock`, as Windows.
    """

    batch = 100

    def __init__(
        self,
        rates: Rate | Sequence[Rate],
        name: str | None = None,
        *,
        algorithm: type[Algorithm] = SlidingWindowLog,
        max_keys: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if sys.platform == "win32":
            raise NotImplementedError("MultiprocessBucket needs flock, which Windows has not: use SQLiteBucket")
        super().__init__(rates, algorithm=algorithm)
        self.share = Share(self.rates).least
        self.pause = min(_PAUSE, *(rate.interval * self.share / rate.limit * _PART for rate in self.rates)) / 1000
        self.name = name if name is None else valid_key(name)
        self.max_keys = fitting(banks_for(self.rule)) if max_keys is None else max_keys
        require_positive("max_keys", self.max_keys)
        self._clock = clock
        spec = spec_of(algorithm, self.rates, self.max_keys)
        self._storage = Storage(self.rule, spec, self.max_keys, self.name, clock)

    @classmethod
    def init(cls, rates: Rate | Sequence[Rate], name: str | None = None) -> MultiprocessBucket:
        """Return a bucket; the same as the class itself."""
        return cls(rates, name)

    def statistics(self) -> BucketStatistics:
        slots = self._storage.slots
        return replace(super().statistics(), keys=None if slots is None else len(slots))

    # What takes the locks stands in the `try`, and what gives them back are calls into C, so an exception that a signal
    # handler raises finds them free or frees them.

    def _take(self, name: str, weight: int, keyed: bool) -> int:
        if (
            type(weight) is not int
            or not 0 < weight <= self.capacity
            or (name is UNNAMED if keyed else not isinstance(name, str))
        ):
            return BUSY
        key = name if keyed else ""
        if self._rooms and self._in_line(key):
            return BUSY
        storage = self._storage
        while True:
            with storage.mutex:
                try:
                    slots = storage.enter()
                    if slots is not None:
                        return self._admit(slots, key, weight)[0]
                finally:
                    if storage.descriptor >= 0:
                        flock(storage.descriptor, LOCK_UN)
            if not self._nap():
                return BUSY

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        if (
            type(weight) is not int
            or not 0 < weight <= self.capacity
            or (name is UNNAMED if keyed else not isinstance(name, str))
        ):
            return None
        key = name if keyed else ""
        if self._rooms and self._in_line(key):
            return None
        storage = self._storage
        while True:
            with storage.mutex:
                try:
                    slots = storage.enter()
                    if slots is not None:
                        wait, state, now = self._admit(slots, key, weight)
                        remaining, reset, index = self.rule.view(state, now, wait and weight)
                        break
                finally:
                    if storage.descriptor >= 0:
                        flock(storage.descriptor, LOCK_UN)
            if not self._nap():
                return None
        rate = self.rates[index]
        return _tuple(
            Decision,
            (not wait, name, weight, now, wait / 1e6, reset / 1e6, remaining, rate.limit, rate, 0.0, False),
        )

    _grant = _decide

    def _step(self, asks: Sequence[Ask]) -> list[Answer] | None:
        storage = self._storage
        while True:
            with storage.mutex:
                try:
                    slots = storage.enter()
                    if slots is not None:
                        return self._decide_all(slots, asks)
                finally:
                    if storage.descriptor >= 0:
                        flock(storage.descriptor, LOCK_UN)
            if storage.slots is not None or not (running() is None or in_place.get()):
                return None
            storage.open()

    async def _pause(self, seconds: float) -> None:
        if self._storage.slots is None:
            await to_thread.run_sync(self._storage.open, limiter=CapacityLimiter(1), abandon_on_cancel=True)
        else:
            await super()._pause(seconds)

    def _admit(self, slots: Slots, key: str, cost: int) -> tuple[int, State, int]:
        """Decide one take, and return its wait, the state after it and its moment."""
        if self.closed:
            raise self._closed_error()
        rule, now = self.rule, self._storage.now
        entry = slots.find(key) or slots.insert(key, now, set())
        if self._clock and now < rule.last(entry.state):
            answer = self._decide_all(slots, (Ask(key, cost),))[0]
            return answer.wait, entry.state, answer.at
        sequence, entry.sequence = entry.sequence, UNKNOWN  # what changes in place may be interrupted
        wait, state = rule.admit(entry.state, now, cost)
        if wait:
            entry.sequence = sequence
        else:
            slots.words[TOUCHED] = now
            slots.save(entry, state)
        return wait, state, now

    def _decide_all(self, slots: Slots, asks: Sequence[Ask]) -> list[Answer]:
        now = self._storage.now
        batch = Batch(slots, asks, now)
        answers = decide(self.rule, batch, asks, now)
        batch.save(now)
        return answers

    def _in_line(self, key: str) -> bool:
        """Return whether others wait for a key where a caller would have to wait."""
        here = running()
        return here is None or (here in self._rooms and key in self._rooms[here])

    def _nap(self) -> bool:
        """Open the file or sleep for a moment, unless this thread runs an event loop, whose courier sees to that."""
        storage = self._storage
        if storage.slots is None:
            self._require_open()
        if running() is not None:
            return False
        if storage.slots is None:
            storage.open()
        else:
            time.sleep(_NAP)
        return True

    def _owe(self, ask: Ask) -> None:
        try:
            super()._owe(ask)
        except StoreError:  # a caller who leaves cannot be told: the next call of a courier carries it
            self._owed.append(ask)

    async def _disconnect(self) -> None:
        with self._storage.mutex:
            self._storage.drop()

    def _before_fork(self) -> None:
        self._storage.hold()

    def _after_fork(self) -> None:
        self._storage.go_on()

    def _forked(self) -> None:
        super()._forked()
        self._storage.forget()

    def __reduce__(self) -> tuple[Any, ...]:
        keywords = {"algorithm": self.algorithm, "max_keys": self.max_keys, "clock": self._clock}
        return _again, (type(self), self._storage.share(), (self.rates, self.name), keywords)


def _again(
    kind: type[MultiprocessBucket], where: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> MultiprocessBucket:
    """Return a bucket that came out of a pickle."""
    bucket = kind(*arguments, **keywords)
    bucket._storage.join(where)
    return bucket
