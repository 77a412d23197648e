"""What the tests of PostgresBucket share: a database of their own on the server of the session, and a client."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pyrate_limiter.buckets.outage import Fail
from pyrate_limiter.buckets.postgres import PostgresBucket

PATIENT = Fail(budget=20)
"""For tests in which the server is slow only because the machine is."""
patient = partial(PostgresBucket, when_down=PATIENT)


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
