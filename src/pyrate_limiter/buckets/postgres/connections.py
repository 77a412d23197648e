"""The connections: one for each event loop, kept, and given up on when the time is over.

psycopg cannot be cancelled quickly while the server hangs: it waits until the server has agreed to stop. So a piece of
work runs in a task of its own; when its time is over the connection is closed under it, and the task is left to notice.

A kept connection that died while nobody used it is found dead before anything is sent, and renewed. One that dies in
the middle of a piece of work leaves open what became of it: that is an error, unless the work says that it cannot have
been done.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ...clocks import SECOND
from ...errors import StoreError
from ..outage import StoreDown

if TYPE_CHECKING:
    import psycopg
    from psycopg import AsyncConnection

T = TypeVar("T")
Work: TypeAlias = "Callable[[Session, float], Awaitable[T]]"
"""A piece of work: on this session, within so many seconds."""
_UNDONE = {"40001", "40P01", "57P01", "25P03"}
"""Errors that leave nothing behind, so that the work may be done again: a failed serialisation, a deadlock, a
connection that was ended from outside or because its client was frozen."""
_DOWN = {"08", "53", "57", "58"}
_DOWN_TOO = {"25006", "55P03"}
"""Errors by which a server says that it cannot serve now, by class and by code: no connection, no resources, shut down,
broken; read only, or a lock that is not to be had in time."""
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "5000",  # a frozen client must not keep its rows locked
}


class Pool(Protocol):
    """What is used of psycopg_pool's `AsyncConnectionPool`."""

    def getconn(self) -> Awaitable[AsyncConnection[Any]]:
        """Borrow a connection."""

    def putconn(self, conn: AsyncConnection[Any]) -> Awaitable[None]:
        """Give it back."""


class Source(Protocol):
    """Where connections come from."""

    async def get(self) -> AsyncConnection[Any]:
        """Return a connection in autocommit."""

    async def put(self, connection: AsyncConnection[Any]) -> None:
        """Take it back, or what is left of it."""


class Dialled:
    """Makes connections, and closes them."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def get(self) -> AsyncConnection[Any]:
        import psycopg

        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)

    async def put(self, connection: AsyncConnection[Any]) -> None:
        await connection.close()


class Borrowed:
    """Borrows connections from a pool, and gives them back as they came; the pool replaces broken ones."""

    def __init__(self, pool: Pool, settings: Iterable[str]) -> None:
        self._pool = pool
        self._settings = list(settings)
        self._before: dict[AsyncConnection[Any], tuple[bool, dict[str, str]]] = {}

    async def get(self) -> AsyncConnection[Any]:
        connection = await self._pool.getconn()
        try:
            autocommit = connection.autocommit
            await connection.set_autocommit(True)
            sql = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
            cursor = await connection.execute(sql, (self._settings,))
            self._before[connection] = autocommit, dict(await cursor.fetchall())
        except BaseException:
            await self._pool.putconn(connection)
            raise
        return connection

    async def put(self, connection: AsyncConnection[Any]) -> None:
        autocommit, settings = self._before.pop(connection)
        try:
            if not connection.closed:
                await _set(connection, settings)
                await connection.set_autocommit(autocommit)
        finally:
            await self._pool.putconn(connection)


class Session:
    """What one event loop has of the server: a connection that is opened when it is needed.

    Attributes:
        lock: held by whoever uses the connection or replaces it.
        connection: in autocommit, with settings of our own.
        perhaps_done: whether the piece of work that is under way may have taken effect already.
    """

    connection: AsyncConnection[Any]

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.perhaps_done = False
        self.keeper = _until_the_end(self)
        self._open = False
        self._ahead = 0  # the server's clock less our monotonic one, in microseconds; rather too small

    def opened(self, connection: AsyncConnection[Any], clock: int) -> None:
        """Take a connection, on which the server's clock showed so many microseconds a moment ago."""
        self.connection, self._open = connection, True
        self.set_clock(clock)

    def set_clock(self, server: int) -> None:
        """Take in what the server's clock showed a moment ago, in microseconds."""
        self._ahead = server - time.monotonic_ns() // 1000

    def deadline(self, seconds: float) -> int:
        """Return what the server's clock will show in so many seconds, or a little less."""
        return self._ahead + time.monotonic_ns() // 1000 + int(seconds * SECOND)

    @property
    def open(self) -> bool:
        """Whether there is a connection, as far as one knows without looking."""
        return self._open and not self.connection.closed

    def alive(self) -> bool:
        """Look whether the server has closed the connection while it was idle."""
        from psycopg import OperationalError

        if self.open:
            with suppress(OperationalError):
                self.connection.pgconn.consume_input()  # takes in the server's last words, if any
                self.connection.pgconn.consume_input()  # and sees the end behind them
        return self.open

    def hang_up(self) -> None:
        """Let whoever waits for the server see the end of the connection.

        The descriptor stays open until they have: another socket could get its number while the loop still watches it.
        """
        line = socket.socket(fileno=self.connection.fileno())
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        line.detach()

    async def part(self, source: Source) -> None:
        """Let the source have the connection, if there is one."""
        if self._open:
            self._open = False
            await source.put(self.connection)

    def finish(self) -> None:
        """Close the connection at once, which nobody uses."""
        if self._open:
            self.connection.pgconn.finish()


class Connections:
    """The connections of one bucket in this process.

    Args:
        dsn_or_pool: a connection string, or a pool from which each event loop borrows one connection.
        settings: of the connection, beyond those that are always made.
        store: the server's name for people.
    """

    def __init__(self, dsn_or_pool: str | Pool, settings: dict[str, str], store: str) -> None:
        self._settings = _SETTINGS | settings
        self._source: Source = (
            Dialled(dsn_or_pool) if isinstance(dsn_or_pool, str) else Borrowed(dsn_or_pool, self._settings)
        )
        self._store = store
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Work[T], seconds: float) -> T:
        """Do a piece of work on the running loop's connection; again if it came to nothing and there is time.

        Raises:
            StoreDown: the server cannot be reached, or the time was over; then the connection is closed, and what
                became of the work is unknown.
            StoreError: the server refused.
        """
        session = await self._session()
        task = self._spawn(self._attempts(session, work, time.monotonic() + seconds))
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except BaseException:
            _abandon(session, task)
            raise
        if not done:
            _abandon(session, task)
            raise StoreDown(f"{self._store} did not answer within {seconds * 1000:.0f} ms")
        return task.result()

    def in_background(self, work: Work[None], seconds: float) -> None:
        """Do a piece of work once the connection is free, while nobody waits for it; should it fail, never mind."""
        self._spawn(self.run(work, seconds)).add_done_callback(_forget)

    async def close(self) -> None:
        """Close the running loop's connection; one that was borrowed goes back as it came."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            async with session.lock:
                await session.part(self._source)
            await session.keeper.aclose()

    def forked(self) -> None:
        """Forget the parent's connections, in a forked child: without a word to the server, which serves the parent."""
        for session in self._sessions.values():
            if session.open:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, session.connection.fileno())
                os.close(nowhere)
            session.finish()
        self._sessions = {}
        self._tasks = set()

    async def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for ended in [other for other in list(self._sessions) if other.is_closed()]:
                self._sessions.pop(ended).finish()
            session = self._sessions[loop] = Session()
            await anext(session.keeper)
        return session

    async def _attempts(self, session: Session, work: Work[T], end: float) -> T:
        import psycopg

        while True:
            at_work = session.perhaps_done = False
            try:
                async with session.lock:
                    if not session.alive():
                        await self._renew(session)
                    if (left := end - time.monotonic()) < 0:
                        raise StoreDown(f"{self._store} was busy with something else until the time was over")
                    at_work = True
                    return await work(session, left)
            except psycopg.Error as error:
                in_vain = at_work and not session.open and not session.perhaps_done
                if time.monotonic() > end or not (in_vain or error.sqlstate in _UNDONE):
                    raise self._explained(error) from error

    async def _renew(self, session: Session) -> None:
        await session.part(self._source)
        connection = await self._source.get()
        try:
            session.opened(connection, await _set(connection, self._settings))
        except BaseException:
            await self._source.put(connection)
            raise

    def _explained(self, error: psycopg.Error) -> StoreError:
        state = error.sqlstate
        down = state is None or state[:2] in _DOWN or state in _DOWN_TOO
        said = str(error).partition("\n")[0] or type(error).__name__
        return (StoreDown if down else StoreError)(f"{self._store}: {said}")

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task


def _abandon(session: Session, task: asyncio.Task[Any]) -> None:
    """Leave a task to itself: it ends soon."""
    task.add_done_callback(_forget)
    if session.open:
        session.hang_up()
    else:
        task.cancel()  # it is still connecting


async def _set(connection: AsyncConnection[Any], settings: dict[str, str]) -> int:
    """Make these settings, and return the server's clock in microseconds."""
    cursor = await connection.execute(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,"
        " (SELECT count(set_config(name, value, false)) FROM unnest(%s::text[], %s::text[]) AS settings (name, value))",
        (list(settings), list(settings.values())),
    )
    return int((await cursor.fetchone() or (0,))[0])


async def _until_the_end(session: Session) -> AsyncGenerator[None, None]:
    """Close the connection when the loop shuts its generators down: `asyncio.run` does so at its end."""
    try:
        yield
    finally:
        session.finish()


def _forget(ended: asyncio.Task[Any]) -> None:
    """Take notice of the outcome of a task that nobody waits for, or asyncio would complain."""
    if not ended.cancelled():
        ended.exception()
