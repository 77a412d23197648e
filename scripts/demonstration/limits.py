"""The limit: a bucket of each kind, and the place where processes find it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from pyrate_limiter import AbstractBucket, Duration, InMemoryBucket, Limiter, Rate, SQLiteBucket

MARGIN = 100
"""Milliseconds by which the limiter's window is longer than the server's second.

A permit is stamped here and counted there, a little later, and how much later varies: with the network, and with what
else both machines do. Two calls whose stamps are a window apart arrive a window apart only if their ways take equally
long. So the window is longer, by more than the ways differ; the price is that part of the rate.
"""
ALONE = ("memory",)
"""Where processes cannot share a limit."""
Place = str


def _in_memory(rate: Rate, place: Place) -> AbstractBucket:
    return InMemoryBucket(rate)


def _in_sqlite(rate: Rate, place: Place) -> AbstractBucket:
    return SQLiteBucket(rate, place, use_file_lock=True)


@contextmanager
def _folder() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "limits.db")


class Backend(NamedTuple):
    """Where a limit is kept.

    Attributes:
        bucket: makes the bucket, in any process.
        place: makes the place where all processes find it, for as long as it is needed.
    """

    bucket: Callable[[Rate, Place], AbstractBucket]
    place: Callable[[], AbstractContextManager[Place]]


BACKENDS = {
    "memory": Backend(_in_memory, lambda: nullcontext("")),
    "sqlite": Backend(_in_sqlite, _folder),
}


class Limit(NamedTuple):
    """How to make the limiter, in any process.

    Attributes:
        backend: the name of the backend.
        rate: calls a second.
        place: where processes find the limit.
    """

    backend: str
    rate: int
    place: Place

    def limiter(self) -> Limiter[bool]:
        """Return a limiter of this process on the limit that all share."""
        bucket = BACKENDS[self.backend].bucket(Rate(self.rate, Duration.SECOND + MARGIN), self.place)
        return Limiter(bucket, buffer_ms=0)
