"""The limit: a bucket of each kind, and the place where processes find it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pyrate_limiter import (
    AbstractBucket,
    Duration,
    InMemoryBucket,
    Limiter,
    MultiprocessBucket,
    PostgresBucket,
    Rate,
    RedisBucket,
    SQLiteBucket,
)

ROOT = Path(__file__).resolve().parents[2]
MARGIN = 100
"""Milliseconds by which the limiter's window is longer than the server's second.

A permit is stamped here and counted there, a little later, and how much later varies: with the network, and with what
else both machines do. Two calls whose stamps are a window apart arrive a window apart only if their ways take equally
long. So the window is longer, by more than the ways differ; the price is that part of the rate.
"""
Place = str


class Backend(NamedTuple):
    """Where a limit is kept.

    Attributes:
        bucket: makes the bucket, in any process, from a rate and the place.
        place: makes the place where all processes find it, for as long as it is needed.
        shared: whether processes can share it.
        served: whether it has a URL.
    """

    bucket: Callable[[Rate, Place], AbstractBucket]
    place: Callable[[], AbstractContextManager[Place]]
    shared: bool = True
    served: bool = False


@contextmanager
def _file() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "limits.db")


@contextmanager
def _server(kind: str) -> Iterator[Place]:
    """Start a server on this machine."""
    sys.path.insert(0, str(ROOT))
    from tests import servers  # noqa: PLC0415 - only they need it

    with getattr(servers, kind)() as server:
        yield server.url


BACKENDS = {
    "memory": Backend(lambda rate, _: InMemoryBucket(rate), lambda: nullcontext(""), shared=False),
    "sqlite": Backend(partial(SQLiteBucket, use_file_lock=True), _file),
    "multiprocess": Backend(MultiprocessBucket, lambda: nullcontext(f"demo of process {os.getpid()}")),
    "redis": Backend(partial(RedisBucket, prefix="pyrate_limiter_demo"), partial(_server, "RedisServer"), served=True),
    "postgres": Backend(
        partial(PostgresBucket, table="pyrate_limiter_demo"), partial(_server, "PostgresServer"), served=True
    ),
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
