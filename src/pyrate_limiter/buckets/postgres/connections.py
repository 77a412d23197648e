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


class Session:
    """A connection of one event loop.

    Attributes:
        connection: in autocommit, with settings of our own.
        before: the settings that a borrowed connection came with.
        ahead: the server's clock less the monotonic one of this process, in microseconds; rather too small.
        perhaps_done: whether the piece of work that is under way may have taken effect already.
        lock: held during a piece of work.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection
        self.before: dict[str, str] = {}
        self.ahead = 0
        self.perhaps_done = False
        self.lock = asyncio.Lock()
        self.keeper: AsyncGenerator[None, None] | None = None

    def set_clock(self, server: int) -> None:
        """Take in what the server's clock showed a moment ago, in microseconds."""
        self.ahead = server - time.monotonic_ns() // 1000

    def deadline(self, seconds: float) -> int:
        """Return what the server's clock will show in so many seconds, or a little less."""
        return self.ahead + time.monotonic_ns() // 1000 + int(seconds * SECOND)

    @property
    def alive(self) -> bool:
        """Whether the server has not closed the connection while it was idle."""
        from psycopg import OperationalError

        connection = self.connection.pgconn
        with suppress(OperationalError):
            connection.consume_input()  # takes in the server's last words, if any
            connection.consume_input()  # and sees the end behind them
        return not self.connection.closed

    def hang_up(self) -> None:
        """Let whoever waits for the server see the end of the connection.

        The descriptor stays open until they have: another socket could get its number while the loop still watches it.
        """
        if not self.connection.closed:
            line = socket.socket(fileno=self.connection.fileno())
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.detach()

    def finish(self) -> None:
        """Close the connection, which nobody uses."""
        self.connection.pgconn.finish()


class Connections:
    """The connections of one bucket in this process.

    Args:
        source: a connection string, or a pool from which each event loop borrows one connection.
        settings: of the connection, beyond those that are always made.
        store: the server's name for people.
    """

    def __init__(self, source: str | Pool, settings: dict[str, str], store: str) -> None:
        self.store = store
        self._source = source
        self._settings = _SETTINGS | settings
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Work[T], seconds: float) -> T:
        """Do a piece of work on the running loop's session; again if it came to nothing and there is time.

        Raises:
            StoreDown: the server cannot be reached, or the time was over; then the connection is closed, and what
                became of the work is unknown.
            StoreError: the server refused.
        """
        task = self._spawn(self._attempts(work, time.monotonic() + seconds))
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except BaseException:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise StoreDown(f"{self.store} did not answer within {seconds * 1000:.0f} ms")
        return task.result()

    async def _attempts(self, work: Work[T], end: float) -> T:
        import psycopg

        while True:
            session = None
            try:
                session = await self.session()
                async with session.lock:
                    session.perhaps_done = False
                    return await work(session, end - time.monotonic())
            except psycopg.Error as error:
                undone = error.sqlstate in _UNDONE or (session and session.connection.closed and not session.perhaps_done)
                if not undone or time.monotonic() > end:
                    raise self._explained(error) from error

    async def session(self) -> Session:
        """Return the running loop's session; a new one if there is none that lives."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or not session.alive:
            await self.drop()
            session = await self._open(loop)
        return session

    async def drop(self) -> None:
        """Close the running loop's connection; one that was borrowed goes back, for its pool to replace."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            session.finish()
            if not isinstance(self._source, str):
                await self._source.putconn(session.connection)

    async def close(self) -> None:
        """Close the running loop's connection in good order; one that was borrowed goes back as it came."""
        session = self._sessions.get(asyncio.get_running_loop())
        if session is not None and not isinstance(self._source, str) and session.alive:
            await _set(session.connection, session.before)
            await session.connection.set_autocommit(False)
            self._sessions.pop(asyncio.get_running_loop())
            await self._source.putconn(session.connection)
        await self.drop()

    def in_background(self, work: Work[None], seconds: float) -> None:
        """Do a piece of work once the connection is free, while nobody waits for it; should it fail, never mind."""
        self._spawn(self.run(work, seconds)).add_done_callback(_forget)

    def forked(self) -> None:
        """Forget the parent's connections, in a forked child: without a word to the server, which serves the parent."""
        for session in self._sessions.values():
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, session.connection.fileno())
                os.close(nowhere)
            session.finish()
        self._sessions = {}
        self._tasks = set()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        task.add_done_callback(_forget)
        session = self._sessions.get(asyncio.get_running_loop())
        if session is None:
            task.cancel()  # it is still connecting
        else:
            session.hang_up()

    def _explained(self, error: psycopg.Error) -> StoreError:
        state = error.sqlstate
        down = state is None or state[:2] in _DOWN or state in _DOWN_TOO
        said = str(error).partition("\n")[0] or type(error).__name__
        return (StoreDown if down else StoreError)(f"{self.store}: {said}")

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Session:
        for stale in [other for other in list(self._sessions) if other.is_closed()]:
            self._sessions.pop(stale).finish()
        session = Session(await self._connect())
        try:
            await self._set_up(session)
        except BaseException:
            session.finish()
            raise
        session.keeper = _until_the_end(session)
        await anext(session.keeper)
        self._sessions[loop] = session
        return session

    async def _connect(self) -> AsyncConnection[Any]:
        import psycopg

        if isinstance(self._source, str):
            return await psycopg.AsyncConnection.connect(self._source, autocommit=True)
        connection = await self._source.getconn()
        await connection.set_autocommit(True)
        return connection

    async def _set_up(self, session: Session) -> None:
        if not isinstance(self._source, str):
            session.before = await _current(session.connection, self._settings)
        session.set_clock(await _set(session.connection, self._settings))


async def _current(connection: AsyncConnection[Any], names: Iterable[str]) -> dict[str, str]:
    """Return the settings of these names."""
    cursor = await connection.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(names),))
    return dict(await cursor.fetchall())


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
