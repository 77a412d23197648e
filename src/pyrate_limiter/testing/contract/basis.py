"""What the tests of all promises share: the bucket to be tested, and how they wait and compare."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import anyio
import pytest

from ...algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from ...bucket import AbstractBucket
from ...rates import Duration, Rate

ALGORITHMS: tuple[type[Algorithm], ...] = (
    SlidingWindowLog,
    GCRA,
    TokenBucket,
    LeakyBucket,
    FixedWindow,
    SlidingWindowCounter,
)
WINDOW = Duration.SECOND // 20
"""Milliseconds of a window that is waited for."""
NOW = 1_800_000_000_000_000
"""Where manual clocks start, in microseconds since the epoch: sixteen digits, as a store will see them."""
LONGEST = 15
"""Seconds after which a test that hangs fails: far more than any of them takes on a slow machine."""


class Contract:
    """Tests of any bucket.

    Attributes:
        algorithms: those that the bucket knows. Its default, for the tests without `algorithm=`, must be one that
            admits a whole limit at once.
    """

    pytestmark = pytest.mark.anyio
    algorithms: ClassVar[Sequence[type[Algorithm]]] = ALGORITHMS

    def make_bucket(self, rates: Sequence[Rate], **options: Any) -> AbstractBucket:
        """Return a bucket with an empty store of its own; `options` are `algorithm=` and `clock=`."""
        raise NotImplementedError("a contract is for a bucket: override make_bucket")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that has an `algorithm` once with each of `algorithms`."""
        if "algorithm" in metafunc.fixturenames:
            metafunc.parametrize("algorithm", self.algorithms, ids=lambda algorithm: algorithm.__name__)


def same(actual: object, wanted: object, what: str) -> None:
    """Fail unless both are equal, and say what they are."""
    if actual != wanted:
        raise AssertionError(f"{what}: {actual!r} instead of {wanted!r}")


@contextmanager
def in_time(what: str) -> Iterator[None]:
    """Fail if what is inside hangs, and say what it was."""
    with anyio.move_on_after(LONGEST) as scope:
        yield
    same(scope.cancelled_caught, False, f"given up after {LONGEST} s: {what}")


class SlowClock:
    """A clock that takes its time at first, and knows how often it was read, and by how many at once."""

    def __init__(self) -> None:
        self.reads = 0
        self.at_once = 0
        self._readers: list[None] = []

    def __call__(self) -> int:
        self.reads += 1
        self._readers.append(None)
        until = time.monotonic() + (0.04 if self.reads <= 2 else 0)
        self.at_once = max(self.at_once, len(self._readers))
        while time.monotonic() < until and self.at_once < 2:
            pass  # whoever comes meanwhile finds the store busy, if it is
        self._readers.pop()
        return NOW + self.reads


def in_threads(count: int, work: Callable[[], Coroutine[Any, Any, object]], what: str) -> None:
    """Do the same in several threads, in each on an event loop of its own, and wait until all have done it."""
    ready: list[None] = []
    done: list[None] = []

    async def worker() -> None:
        ready.append(None)
        while len(ready) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await work()
        done.append(None)

    threads = [threading.Thread(target=lambda: asyncio.run(worker()), daemon=True) for _ in range(count)]
    with _hasty_threads():
        for thread in threads:
            thread.start()
        until = time.monotonic() + LONGEST
        for thread in threads:
            thread.join(max(0, until - time.monotonic()))
    same(len(done), count, f"threads that are done within {LONGEST} s: {what}")


@contextmanager
def _hasty_threads() -> Iterator[None]:
    """Let threads take turns all the time, so that they get into each other's way."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def at_once(functions: Iterable[Callable[[], Coroutine[Any, Any, object]]], what: str) -> None:
    """Call all these at the same time, and wait until all are done."""
    with in_time(what):
        async with anyio.create_task_group() as tasks:
            for function in functions:
                tasks.start_soon(function)
