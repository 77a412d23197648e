"""Where connections come from: our own, or a pool that was handed in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

from psycopg import AsyncConnection, AsyncCursor, Error
from psycopg.rows import tuple_row

from .leaving import free_to_leave

Connection: TypeAlias = AsyncConnection[Any]
PARTING = 1.0
"""Seconds for what is asked of a server before a connection goes back to its pool."""


class Pool(Protocol):
    """What is used of psycopg_pool's `AsyncConnectionPool`."""

    def getconn(self) -> Awaitable[Connection]:
        """Borrow a connection."""
        ...

    def putconn(self, conn: Connection) -> Awaitable[None]:
        """Give it back."""
        ...


class Source(Protocol):
    """Where connections come from."""

    async def get(self) -> Connection:
        """Return a connection in autocommit."""
        ...

    async def put(self, connection: Connection) -> None:
        """Take it back, or what is left of it."""


class Dialled:
    """Makes connections, and closes them."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def get(self) -> Connection:
        return await AsyncConnection.connect(self._dsn, autocommit=True)

    async def put(self, connection: Connection) -> None:
        await connection.close()


class _Before(NamedTuple):
    """How a connection was when it was borrowed."""

    autocommit: bool
    row_factory: Any
    cursor_factory: type[AsyncCursor[Any]]
    settings: dict[str, str]


class Borrowed:
    """Borrows connections from a pool, and gives them back as they came; the pool replaces broken ones."""

    def __init__(self, pool: Pool, settings: Iterable[str]) -> None:
        self._pool = pool
        self._settings = list(settings)
        self._before: dict[Connection, _Before] = {}

    async def get(self) -> Connection:
        connection = await self._pool.getconn()
        try:
            self._before[connection] = await free_to_leave(connection, self._taken_over(connection))
        except BaseException:
            connection.pgconn.finish()  # it may not be as it came
            await self._pool.putconn(connection)
            raise
        return connection

    async def _taken_over(self, connection: Connection) -> _Before:
        manners = connection.autocommit, connection.row_factory, connection.cursor_factory
        connection.row_factory, connection.cursor_factory = tuple_row, AsyncCursor
        await connection.set_autocommit(True)
        cursor = await connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (self._settings,)
        )
        return _Before(*manners, dict(await cursor.fetchall()))

    async def put(self, connection: Connection) -> None:
        before = self._before.pop(connection)
        try:
            if not connection.closed:
                async with asyncio.timeout(PARTING):
                    await set_up(connection, before.settings)
                    await connection.set_autocommit(before.autocommit)
                    connection.row_factory, connection.cursor_factory = before.row_factory, before.cursor_factory
        except (Error, TimeoutError):
            connection.pgconn.finish()  # it cannot go back as it came
        finally:
            await self._pool.putconn(connection)


async def set_up(connection: Connection, settings: dict[str, str]) -> int:
    """Make these settings, and return the server's clock in microseconds."""
    return await free_to_leave(connection, _set_up(connection, settings))


async def _set_up(connection: Connection, settings: dict[str, str]) -> int:
    cursor = await connection.execute(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,"
        " (SELECT count(set_config(name, value, false)) FROM unnest(%s::text[], %s::text[]) AS settings (name, value))",
        (list(settings), list(settings.values())),
    )
    (clock, _) = await cursor.fetchone() or (0, 0)
    return int(clock)
