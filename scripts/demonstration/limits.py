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

import pyrate_limiter
from pyrate_limiter import GCRA, AbstractBucket, Duration, Limiter, Rate

ROOT = Path(__file__).resolve().parents[2]
MARGIN = 100
"""Milliseconds by which the limiter's interval is longer than the server's second.

A permit is stamped here and counted there, a little later, and how much later varies: with the network, and with what
else both machines do. Calls that are stamped a second apart arrive a second apart only if their ways take equally long.
So the interval is longer, by more than the ways differ; the price is that part of the rate. And calls go evenly, one by
one, since the last of twenty that go at once waits for the other nineteen.
"""
NAME = "pyrate_limiter_demo"
"""What the demo's limit is called on a server."""
Place = str


class Backend(NamedTuple):
    """Where a limit is kept.

    Attributes:
        bucket: makes the bucket, in any process, from a rate and the place; only then is its driver imported.
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
    "memory": Backend(
        lambda rate, _: pyrate_limiter.InMemoryBucket(rate, algorithm=GCRA), lambda: nullcontext(""), shared=False
    ),
    "sqlite": Backend(
        lambda rate, path: pyrate_limiter.SQLiteBucket(rate, path, algorithm=GCRA, use_file_lock=True), _file
    ),
    "multiprocess": Backend(
        lambda rate, name: pyrate_limiter.MultiprocessBucket(rate, name, algorithm=GCRA),
        lambda: nullcontext(f"demo of {os.getpid()}"),
    ),
    "redis": Backend(
        lambda rate, url: pyrate_limiter.RedisBucket(rate, url, algorithm=GCRA, prefix=NAME),
        partial(_server, "RedisServer"),
        served=True,
    ),
    "postgres": Backend(
        lambda rate, dsn: pyrate_limiter.PostgresBucket(rate, dsn, algorithm=GCRA, table=NAME),
        partial(_server, "PostgresServer"),
        served=True,
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
        rate = Rate(self.rate, Duration.SECOND + MARGIN, burst=1)
        bucket = BACKENDS[self.backend].bucket(rate, self.place)
        return Limiter(bucket, buffer_ms=0)
