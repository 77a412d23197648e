"""The stores that can be looked into: which names they hold for a bucket, without changing anything."""

from __future__ import annotations

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..algorithms import Algorithm
from ..bucket import AbstractBucket
from ..errors import StoreError
from ..rates import Rate

if TYPE_CHECKING:
    import psycopg

    from ..buckets.sqlite.rows import Rows

BATCH = 100
"""Names that are looked at together."""


class Store(ABC):
    """A store of one kind, and the bucket in it for some rates.

    Args:
        url: where it is.
        rates: the bucket's.
        algorithm: the bucket's.
        table: in which its rows are; in Redis, with what its keys begin.

    Raises:
        ValueError: the URL or the table cannot be.
        ImportError: the store's driver is not installed.
    """

    schemes: ClassVar[tuple[str, ...]]
    bucket: AbstractBucket

    @abstractmethod
    def __init__(self, url: str, rates: Sequence[Rate], algorithm: type[Algorithm], table: str) -> None: ...

    @abstractmethod
    async def require(self) -> None:
        """Raise StoreError unless the store has what the bucket needs, so that the bucket makes nothing."""

    @abstractmethod
    def names(self) -> AsyncIterator[list[str]]:
        """Yield the names that the bucket knows, some at a time, each at least once.

        Raises:
            StoreError: the store cannot be read.
        """


class SQLite(Store):
    """A database file."""

    schemes = ("sqlite",)

    def __init__(self, url: str, rates: Sequence[Rate], algorithm: type[Algorithm], table: str) -> None:
        from ..buckets.sqlite.bucket import SQLiteBucket, signature  # noqa: PLC0415 - a driver is loaded if it is used
        from ..buckets.sqlite.rows import Rows  # noqa: PLC0415 - likewise

        self._path = Path(url.partition(":///")[2])
        self._table = table
        self.bucket = SQLiteBucket(rates, self._path, table, algorithm=algorithm)
        self._rows: Rows = Rows(table, self.bucket.rule, signature(algorithm, self.bucket.rates))

    async def require(self) -> None:
        if not self._path.is_file():
            raise StoreError(f"there is no file {str(self._path)!r}: write sqlite:///PATH")
        with self._opened() as db:
            found = db.execute("SELECT name FROM sqlite_master WHERE name = ?", (self._table,)).fetchone()
        if not found:
            raise StoreError(f"{self._path} has no table {self._table!r}: give --table as the program has it")

    async def names(self) -> AsyncIterator[list[str]]:
        with self._opened() as db:
            cursor = self._rows.names(db)
            while found := cursor.fetchmany(BATCH):
                yield [name for (name,) in found]

    def _opened(self) -> closing[sqlite3.Connection]:
        """Open the file: not as read-only, or SQLite would leave files of its own beside it; it is not written."""
        try:
            db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True)
            db.execute("PRAGMA query_only = ON")
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from error
        return closing(db)


class Redis(Store):
    """A Redis or Valkey server."""

    schemes = ("redis", "rediss", "unix")

    def __init__(self, url: str, rates: Sequence[Rate], algorithm: type[Algorithm], table: str) -> None:
        from ..buckets.redis import RedisBucket  # noqa: PLC0415 - a driver is loaded if it is used
        from ..buckets.redis.families import script_for  # noqa: PLC0415 - likewise

        self._url = url
        self.bucket = RedisBucket(rates, url, prefix=table, algorithm=algorithm)
        self._start = f"{table}:{script_for(algorithm, self.bucket.rates).digest}:".encode()

    async def require(self) -> None:
        """Ask for nothing: a bucket makes no key of Redis before it admits something."""

    async def names(self) -> AsyncIterator[list[str]]:
        import redis.asyncio  # noqa: PLC0415 - a driver is loaded if it is used

        pattern = re.sub(rb"[*?\[\]^\\]", rb"\\\g<0>", self._start) + b"*"
        client = redis.asyncio.Redis.from_url(self._url)
        try:
            page: Any = await client.scan(0, match=pattern, count=BATCH)
            while True:
                cursor, keys = page
                yield [key[len(self._start) :].decode() for key in keys]
                if not cursor:
                    return
                page = await client.scan(cursor, match=pattern, count=BATCH)
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"the server cannot be read: {error}") from error
        finally:
            await client.aclose()


class Postgres(Store):
    """A PostgreSQL server. Names of more than 400 bytes stand there as hashes: they are not listed."""

    schemes = ("postgresql", "postgres")

    def __init__(self, url: str, rates: Sequence[Rate], algorithm: type[Algorithm], table: str) -> None:
        from ..buckets.postgres import PostgresBucket  # noqa: PLC0415 - a driver is loaded if it is used
        from ..buckets.postgres.keys import Keys  # noqa: PLC0415 - likewise
        from ..buckets.postgres.schema import Schema  # noqa: PLC0415 - likewise

        self._url, self._schema = url, Schema(table)
        # Without functions: what is missing of them would be made.
        self.bucket = PostgresBucket(rates, url, table, algorithm=algorithm, functions=False)
        self._start = Keys(algorithm, self.bucket.rates)("")

    async def require(self) -> None:
        import psycopg  # noqa: PLC0415 - a driver is loaded if it is used

        try:
            async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                there = await self._schema.is_there(connection, None)
        except psycopg.Error as error:
            raise StoreError(f"the server cannot be read: {error}") from error
        if not there:
            raise StoreError(f"there is no table {self._schema.name!r}: give --table as the program has it")

    async def names(self) -> AsyncIterator[list[str]]:
        import psycopg  # noqa: PLC0415 - a driver is loaded if it is used

        some = f"SELECT key FROM {self._schema.table} WHERE key {{}} %s AND key < %s ORDER BY key LIMIT {BATCH}"  # noqa: S608
        first, next_, end = some.format(">="), some.format(">"), self._start[:-1] + b">"
        try:
            async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                keys = await self._keys(connection, first, self._start, end)
                while keys:
                    yield [key[len(self._start) :].decode() for key in keys]
                    keys = await self._keys(connection, next_, keys[-1], end)
        except psycopg.Error as error:
            raise StoreError(f"the server cannot be read: {error}") from error

    async def _keys(self, connection: psycopg.AsyncConnection, sql: str, start: bytes, end: bytes) -> list[bytes]:
        cursor = await connection.execute(sql.encode(), (start, end))
        return [bytes(key) for (key,) in await cursor.fetchall()]


STORES = (SQLite, Redis, Postgres)


def open_store(url: str, rates: Sequence[Rate], algorithm: type[Algorithm], table: str) -> Store:
    """Return the store of a URL.

    Raises:
        ValueError: there is none of that kind.
    """
    scheme = url.partition(":")[0]
    for store in STORES:
        if scheme in store.schemes:
            return store(url, rates, algorithm, table)
    raise ValueError(f"there is no store {scheme!r}: write sqlite:///PATH, redis://HOST or postgresql://HOST/DATABASE")
