"""The bucket in shared memory: for all processes of one user on one host."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from threading import Lock
from time import monotonic_ns
from typing import Any
from weakref import finalize

from anyio import CapacityLimiter, to_thread

from ...algorithms import Algorithm, SlidingWindowLog, State, decide
from ...bucket import BucketStatistics, InstantBucket, in_place, valid_key
from ...clocks import Clock
from ...decisions import BUSY, UNNAMED, Answer, Ask, Decision
from ...errors import StoreError
from ...rates import Rate, require_positive
from ...waiting import running
from . import lifetime
from .banks import UNKNOWN, memory_of
from .batch import Batch
from .file import File, open_file
from .folder import DEAD, TOUCHED
from .rings import banks_for
from .slots import Slots, size_of

if sys.platform != "win32":
    from fcntl import LOCK_UN, flock

ROOM = 1 << 22
"""Bytes of memory that a bucket takes if it is not said how many keys it is for."""
_FEWEST, _MOST = 16, 10_000
_LAYOUT = 1
_SHARE = 64
_PAUSE, _PART = 1.0, 0.25
"""Milliseconds in which another process wakes up; shorter where taking all by shares would need more of an interval."""
_LOOK = 100_000
_NAP = 0.0001
_UNTIL_THE_END = 1 << 62
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
        self.share = max(1, min(rate.limit for rate in self.rates) // _SHARE)
        self.pause = min(_PAUSE, *(rate.interval * self.share / rate.limit * _PART for rate in self.rates)) / 1000
        self.name = name if name is None else valid_key(name)
        self.max_keys = self._fitting() if max_keys is None else max_keys
        require_positive("max_keys", self.max_keys)
        self._in_child = lifetime.is_child()
        self._where: str | None = None
        self._unshared: finalize[..., Any] | None = None
        # The moment is `tick() // ticks`: so the host's clock, which never steps back, is read without a call of ours.
        self._clock = clock
        self._tick, self._ticks = (clock, 1) if clock else (monotonic_ns, 1000)
        self._mutex = Lock()
        self._file: File | None = None
        self._descriptor = -1
        self._slots: Slots
        self._looked = 0
        self._opening = Lock()  # last: see `_before_fork`

    @classmethod
    def init(cls, rates: Rate | Sequence[Rate], name: str | None = None) -> MultiprocessBucket:
        """Return a bucket; the same as the class itself."""
        return cls(rates, name)

    def statistics(self) -> BucketStatistics:
        return replace(super().statistics(), keys=None if self._file is None else len(self._slots))

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
        while True:
            with self._mutex:
                try:
                    now = self._enter()
                    if now >= 0:
                        return self._admit(key, weight, now)[0]
                finally:
                    if self._descriptor >= 0:
                        flock(self._descriptor, LOCK_UN)
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
        while True:
            with self._mutex:
                try:
                    now = self._enter()
                    if now >= 0:
                        wait, state, now = self._admit(key, weight, now)
                        remaining, reset, index = self.rule.view(state, now, wait and weight)
                        break
                finally:
                    if self._descriptor >= 0:
                        flock(self._descriptor, LOCK_UN)
            if not self._nap():
                return None
        rate = self.rates[index]
        return _tuple(
            Decision,
            (not wait, name, weight, now, wait / 1e6, reset / 1e6, remaining, rate.limit, rate, 0.0, False),
        )

    _grant = _decide

    def _step(self, asks: Sequence[Ask]) -> list[Answer] | None:
        while True:
            with self._mutex:
                try:
                    now = self._enter()
                    if now >= 0:
                        return self._decide_all(asks, now)
                finally:
                    if self._descriptor >= 0:
                        flock(self._descriptor, LOCK_UN)
            if self._file is not None or not (running() is None or in_place.get()):
                return None
            self._open()

    async def _pause(self, seconds: float) -> None:
        if self._file is None:
            await to_thread.run_sync(self._open, limiter=CapacityLimiter(1), abandon_on_cancel=True)
        else:
            await super()._pause(seconds)

    def _admit(self, key: str, cost: int, now: int) -> tuple[int, State, int]:
        """Decide one take, and return its wait, the state after it and its moment."""
        if self.closed:
            raise self._closed_error()
        slots, rule = self._slots, self.rule
        entry = slots.find(key) or slots.insert(key, now, set())
        if self._clock and now < rule.last(entry.state):
            answer = self._decide_all((Ask(key, cost),), now)[0]
            return answer.wait, entry.state, answer.at
        sequence, entry.sequence = entry.sequence, UNKNOWN  # what changes in place may be interrupted
        wait, state = rule.admit(entry.state, now, cost)
        if wait:
            entry.sequence = sequence
        else:
            slots.words[TOUCHED] = now
            slots.save(entry, state)
        return wait, state, now

    def _decide_all(self, asks: Sequence[Ask], now: int) -> list[Answer]:
        batch = Batch(self._slots, asks, now)
        answers = decide(self.rule, batch, asks, now)
        batch.save(now)
        return answers

    def _enter(self) -> int:
        """Take the lock that keeps processes apart, and return the moment, or `BUSY`, also if there is no file."""
        file = self._file
        if file is None:
            return BUSY
        self._descriptor = file.descriptor
        if not file.lock():
            return BUSY
        now = self._tick() // self._ticks
        if not file.words[DEAD] and not (abs(now - self._looked) > _LOOK and self._deleted(file, now)):
            return now
        self._descriptor, self._file = -1, None
        return BUSY

    def _in_line(self, key: str) -> bool:
        """Return whether others wait for a key where a caller would have to wait."""
        here = running()
        return here is None or (here in self._rooms and key in self._rooms[here])

    def _nap(self) -> bool:
        """Open the file or sleep for a moment, unless this thread runs an event loop, whose courier sees to that."""
        if self._file is None:
            self._require_open()
        if running() is not None:
            return False
        if self._file is None:
            self._open()
        else:
            time.sleep(_NAP)
        return True

    def _deleted(self, file: File, now: int) -> bool:
        self._looked = now
        return file.gone

    def _open(self) -> None:
        """Open the file, unless somebody was faster. No event loop waits for that: the lock for it is another one."""
        with self._opening:
            if self._file is not None:
                return
            lifetime.tidy()
            with self._mutex:
                where = self._place()
            memory = _UNTIL_THE_END if self._clock else memory_of(self.rule)
            banks = banks_for(self.rule)
            file = open_file(where, self._spec(), size_of(banks, self.max_keys), memory)
            with self._mutex:
                self._slots = Slots(self.rule, banks, self.max_keys, file)
                self._file = file

    def _place(self) -> str:
        """Return the name of the file, settled on the first use: a tree's secret may not be known before."""
        if self._where is None:
            if self.name is not None:
                self._where = lifetime.named(self.name)
            elif self._in_child:
                self._where = lifetime.of_tree(self._spec())
            else:
                self._where = lifetime.own()
                self._unshared = finalize(self, lifetime.discard, self._where)
        return self._where

    def _share(self) -> str:
        """Return the name of the file for another process: from now on it does not go with this bucket."""
        where = self._place()
        if self._unshared is not None:
            self._unshared.detach()
        return where

    def _spec(self) -> bytes:
        """Return what must be equal where a storage is shared."""
        algorithm = f"{self.algorithm.__module__}.{self.algorithm.__qualname__}"
        rates = [(rate.limit, rate.interval, rate.burst) for rate in self.rates]
        return blake2b(repr((_LAYOUT, algorithm, rates, self.max_keys)).encode(), digest_size=16).digest()

    def _fitting(self) -> int:
        return max(_FEWEST, min(_MOST, ROOM // (8 * banks_for(self.rule).words)))

    def _owe(self, ask: Ask) -> None:
        try:
            super()._owe(ask)
        except StoreError:  # a caller who leaves cannot be told: the next call of a courier carries it
            self._owed.append(ask)

    async def _disconnect(self) -> None:
        with self._mutex:
            self._descriptor, self._file = -1, None

    def _before_fork(self) -> None:
        self._opening.acquire()
        self._mutex.acquire()
        if not self._in_child:
            self._share()  # or each child would make one of its own

    def _after_fork(self) -> None:
        self._mutex.release()
        self._opening.release()

    def _forked(self) -> None:
        super()._forked()
        self._opening, self._mutex = Lock(), Lock()
        self._descriptor, self._file = -1, None

    def __reduce__(self) -> tuple[Any, ...]:
        keywords = {"algorithm": self.algorithm, "max_keys": self.max_keys, "clock": self._clock}
        with self._mutex:
            where = self._share()
        return _again, (type(self), where, (self.rates, self.name), keywords)


def _again(
    kind: type[MultiprocessBucket], where: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> MultiprocessBucket:
    """Return a bucket that came out of a pickle."""
    bucket = kind(*arguments, **keywords)
    bucket._where = where
    return bucket
