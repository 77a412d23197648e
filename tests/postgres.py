"""What the tests of PostgresBucket share: a database of their own on the server of the session, and clients.

One of them is a process of its own, so this module is quick to import.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pyrate_limiter.algorithms import Algorithm
from pyrate_limiter.buckets.outage import Fail
from pyrate_limiter.buckets.postgres import PostgresBucket
from pyrate_limiter.decisions import Decision
from pyrate_limiter.rates import Rate

PATIENT = Fail(budget=20)
"""For tests in which the server is slow only because the machine is."""
patient = partial(PostgresBucket, when_down=PATIENT)
SHARED = Rate(100, 500)


@contextmanager
def database(dsn: str) -> Iterator[str]:
    """Make an empty database, and drop it at the end."""
    name = f"pyrate_{uuid.uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield make_conninfo(dsn, dbname=name)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def query(dsn: str, sql: str, *parameters: Any) -> list[Any]:
    """Return what a statement returns: its rows, or the values if it has one column."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql, parameters or None)  # type: ignore[call-overload]
        rows = cursor.fetchall() if cursor.description else []
    return [row[0] if len(row) == 1 else row for row in rows]


@asynccontextmanager
async def closing(bucket: PostgresBucket) -> AsyncIterator[PostgresBucket]:
    try:
        yield bucket
    finally:
        await bucket.aclose()


class OnePool:
    """A pool of one connection, which stands for those of psycopg_pool."""

    def __init__(self, dsn: str, **manners: Any) -> None:
        self.conninfo = dsn
        self._manners = manners
        self.lent = 0
        self._idle: psycopg.AsyncConnection[Any] | None = None

    async def getconn(self) -> psycopg.AsyncConnection[Any]:
        self.lent += 1
        connection, self._idle = self._idle or await self._dialled(), None
        return connection

    async def _dialled(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self.conninfo, **self._manners)

    async def putconn(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self.lent -= 1
        if not conn.closed:
            self._idle = conn

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[OnePool]:
        yield self
        if self._idle is not None:
            await self._idle.close()


def work(dsn: str, algorithm: type[Algorithm], seconds: float, start: Any, results: Any) -> None:
    """Let 25 tasks acquire for so long, and report what they got and how often each did."""
    decisions: list[Decision] = []
    served = [0] * 25

    async def one(bucket: PostgresBucket, place: int, end: float) -> None:
        while time.monotonic() < end:
            decisions.append(await bucket.acquire())
            served[place] += 1

    async def main() -> None:
        async with closing(patient(SHARED, dsn, algorithm=algorithm)) as bucket:
            await bucket.peek()
            start.wait(20)
            end = time.monotonic() + seconds
            await asyncio.gather(*(one(bucket, place, end) for place in range(25)))

    asyncio.run(main())
    results.put((decisions, served))
