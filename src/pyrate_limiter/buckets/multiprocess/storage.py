"""The file behind a bucket: which one it is, when it is opened, and when it is let go of.

Nothing is opened before the first use, and then where no event loop waits for it. A process lets go of a file that
somebody removed, and opens its successor; a forked child lets go of its parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock
from time import monotonic_ns
from typing import Any
from weakref import finalize

from ...algorithms import Algorithm, Rule
from ...clocks import Clock
from ...rates import Rate
from . import lifetime
from .banks import memory_of
from .file import open_file
from .header import DEAD
from .rings import banks_for
from .slots import Slots, size_of

_LAYOUT = 1
_LOOK = 100_000
_UNTIL_THE_END = 1 << 62


class Storage:
    """What one bucket of one process has of the memory that the processes share.

    Args:
        rule: what is counted by.
        spec: what must be equal where a storage is shared.
        max_keys: how many keys there is room for.
        name: which storage, or None.
        clock: in microseconds, or None for the host's.

    Attributes:
        mutex: keeps the threads of this process apart: `enter` within it.
        slots: the keys, or None as long as nothing is open.
        descriptor: what is to be unlocked after `enter`, or -1.
        now: the moment of the last `enter` that let somebody in.
    """

    def __init__(self, rule: Rule, spec: bytes, max_keys: int, name: str | None, clock: Clock | None) -> None:
        self.mutex = Lock()
        self.slots: Slots | None = None
        self.descriptor = -1
        self.now = 0
        self._looked = 0
        # The moment is `tick() // ticks`: so the host's clock, which never steps back, is read without a call of ours.
        self._tick, self._ticks = (clock, 1) if clock else (monotonic_ns, 1000)
        self._memory = _UNTIL_THE_END if clock else memory_of(rule)
        self._rule = rule
        self._spec = spec
        self._max_keys = max_keys
        self._name = name
        self._opening = Lock()
        self._in_child = lifetime.is_child()
        self._where: str | None = None
        self._unshared: finalize[..., Any] | None = None

    def enter(self) -> Slots | None:
        """Take the lock that keeps processes apart, and return the keys; None if it is taken, or no file is open.

        Raises:
            StoreError: another process has had the lock for seconds.
        """
        slots = self.slots
        if slots is None:
            return None
        file = slots.file
        self.descriptor = file.descriptor
        if not file.lock():
            return None
        now = self.now = self._tick() // self._ticks
        if not file.words[DEAD] and not (abs(now - self._looked) > _LOOK and self._deleted(slots)):
            return slots
        self.drop()
        return None

    def open(self) -> None:
        """Open the file, unless somebody was faster. No event loop waits for that: the lock for it is another one.

        Raises:
            StoreError: that cannot be done.
        """
        with self._opening:
            if self.slots is not None:
                return
            lifetime.tidy()
            with self.mutex:
                where = self._place()
            banks = banks_for(self._rule)
            file = open_file(where, self._spec, size_of(banks, self._max_keys), self._memory)
            slots = Slots(self._rule, banks, self._max_keys, file)
            with self.mutex:
                self.slots = slots

    def drop(self) -> None:
        """Let go of the file, within `mutex`. Closing it gives back its lock."""
        self.descriptor, self.slots = -1, None

    def share(self) -> str:
        """Return the name of the file for another process: from now on it does not go with this bucket."""
        with self.mutex:
            return self._share()

    def join(self, where: str) -> None:
        """Use the file that another process's storage has."""
        self._where = where

    def hold(self) -> None:
        """Let nobody in, before a fork; and let the child know the file, or each would make one of its own."""
        self._opening.acquire()
        self.mutex.acquire()
        if not self._in_child:
            self._share()

    def go_on(self) -> None:
        """Let others in again."""
        self.mutex.release()
        self._opening.release()

    def forget(self) -> None:
        """Let go, in a forked child, of what the parent holds."""
        self._opening, self.mutex = Lock(), Lock()
        self.drop()

    def _place(self) -> str:
        """Return the name of the file, settled on the first use: a tree's secret may not be known before."""
        if self._where is None:
            if self._name is not None:
                self._where = lifetime.named(self._name)
            elif self._in_child:
                self._where = lifetime.of_tree(self._spec)
            else:
                self._where = lifetime.own()
                self._unshared = finalize(self, lifetime.discard, self._where)
        return self._where

    def _share(self) -> str:
        where = self._place()
        if self._unshared is not None:
            self._unshared.detach()
        return where

    def _deleted(self, slots: Slots) -> bool:
        self._looked = self.now
        return slots.file.gone


def spec_of(algorithm: type[Algorithm], rates: Sequence[Rate], max_keys: int) -> bytes:
    """Return what must be equal where a storage is shared, as 16 bytes."""
    name = f"{algorithm.__module__}.{algorithm.__qualname__}"
    several = [(rate.limit, rate.interval, rate.burst) for rate in rates]
    return blake2b(repr((_LAYOUT, name, several, max_keys)).encode(), digest_size=16).digest()
