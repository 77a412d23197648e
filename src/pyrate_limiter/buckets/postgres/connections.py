"""The connections: one for each event loop, kept, and given up on when the time is over.

psycopg cannot be cancelled quickly while the server hangs: it waits until the server has agreed to stop. So a piece of
work runs in a task of its own; when its time is over the connection is cut under it, and the task is left to notice.

A kept connection that died while nobody used it is found dead before anything is sent, and renewed. One that dies in
the middle of a piece of work leaves open what became of it: that is an error, unless it cannot have been done.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import psycopg

from ...clocks import SECOND
from ...errors import StoreError
from ..outage import StoreDown
from .sources import Borrowed, Connection, Dialled, Pool, Source, set_up

T = TypeVar("T")
Work: TypeAlias = "Callable[[Session, float], Awaitable[T]]"
"""A piece of work: on this session, within so many seconds."""
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "1s",  # a frozen client must not keep its rows locked
    # A plan that is made while the table is small must not read all of it when it has grown.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_UNDONE = {"40001", "40P01", "57P01", "25P03"}
"""Errors that leave nothing behind, so that the work may be done again: a failed serialisation, a deadlock, a
connection that was ended from outside, or because its client was frozen."""
_DOWN = {"08", "40", "53", "57", "58"}
_DOWN_TOO = {"25006", "55P03"}
"""Errors by which a server says that it cannot serve now, by class and by code: no connection, nothing but attempts in
vain, no resources, shut down, broken; read only, or a lock that is not to be had in time."""


class Session:
    """What one event loop has of the server: a connection that is opened when it is needed.

    Attributes:
        lock: held by whoever uses the connection or replaces it.
        user: the task that holds it.
        connection: in autocommit, with settings of our own.
        ended: whether no connection is to be opened any more.
        perhaps_done: whether the piece of work that is under way may have taken effect already.
    """

    connection: Connection

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.user: asyncio.Task[Any] | None = None
        self.perhaps_done = False
        self.ended = False
        self._keeper: AsyncGenerator[None, None] | None = None
        self._ahead = 0  # the server's clock less our monotonic one, in microseconds; rather too small

    async def opened(self, connection: Connection) -> None:
        """Take a new connection, and see to it that it is closed with the loop."""
        self.connection = connection
        self._keeper = _until_the_end(connection)
        await anext(self._keeper)

    def set_clock(self, server: int) -> None:
        """Take in what the server's clock showed a moment ago, in microseconds."""
        self._ahead = server - time.monotonic_ns() // 1000

    def deadline(self, seconds: float) -> int:
        """Return what the server's clock will show in so many seconds, or a little less."""
        return self._ahead + time.monotonic_ns() // 1000 + int(seconds * SECOND)

    @property
    def open(self) -> bool:
        """Whether there is a connection, as far as one knows without looking."""
        return self._keeper is not None and not self.connection.closed

    def alive(self) -> bool:
        """Look whether the server has closed the connection while it was idle."""
        if self.open:
            with suppress(psycopg.OperationalError):
                self.connection.pgconn.consume_input()  # takes in the server's last words, if any
                self.connection.pgconn.consume_input()  # and sees the end behind them
        return self.open

    def hang_up(self) -> None:
        """Let the user see the end of the connection.

        The descriptor stays open until it has: another socket could get its number while the loop still watches it.
        """
        line = socket.socket(fileno=self.connection.fileno())
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        line.detach()

    async def part(self, source: Source) -> None:
        """Let the source have the connection, if there is one."""
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            with suppress(StopAsyncIteration):
                await anext(keeper)
            await source.put(self.connection)

    def finish(self) -> None:
        """Close the connection, which nobody uses any more."""
        if self._keeper is not None:
            self.connection.pgconn.finish()

    def __del__(self) -> None:
        self.finish()


class Connections:
    """The connections of one bucket in this process.

    Args:
        dsn_or_pool: a connection string, or a pool from which each event loop borrows one connection.
        settings: of the connection, beyond those that are always made.
        store: the server's name for people.
    """

    def __init__(self, dsn_or_pool: str | Pool, settings: dict[str, str], store: str) -> None:
        self.settings = _SETTINGS | settings
        self.store = store
        self.source: Source = (
            Dialled(dsn_or_pool) if isinstance(dsn_or_pool, str) else Borrowed(dsn_or_pool, self.settings)
        )
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Work[T], seconds: float) -> T:
        """Do a piece of work on the running loop's connection; again if it came to nothing and there is time.

        Raises:
            StoreDown: the server cannot be reached, or the time was over; then the connection is closed, and what
                became of the work is unknown.
            StoreError: the server refused.
        """
        return await self._run(self._session(), work, seconds)

    async def _run(self, session: Session, work: Work[T], seconds: float) -> T:
        attempts = _Attempts(self, session, time.monotonic() + seconds)
        task = self._spawn(attempts.make(work))
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except BaseException:
            attempts.abandon(task)
            raise
        if not done:
            attempts.abandon(task)
            raise StoreDown(f"{self.store} did not answer within {seconds * 1000:.0f} ms")
        return task.result()

    def in_background(self, work: Work[None], seconds: float) -> None:
        """Do a piece of work once the connection is free, while nobody waits for it; should it fail, never mind."""
        self._spawn(self._run(self._session(), work, seconds)).add_done_callback(_forget)

    async def close(self) -> None:
        """Close the running loop's connection; one that was borrowed goes back as it came."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            session.ended = True
            async with session.lock:
                await session.part(self.source)

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

    def explained(self, error: psycopg.Error) -> StoreError:
        """Return an error of the driver as one of ours."""
        state = error.sqlstate
        down = state is None or state[:2] in _DOWN or state in _DOWN_TOO
        said = str(error).partition("\n")[0] or type(error).__name__
        return (StoreDown if down else StoreError)(f"{self.store}: {said}")

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for ended in [other for other in list(self._sessions) if other.is_closed()]:
                self._sessions.pop(ended).finish()
            session = self._sessions[loop] = Session()
        return session

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task


class _Attempts:
    """Attempts at one piece of work, until a moment of the monotonic clock."""

    def __init__(self, connections: Connections, session: Session, end: float) -> None:
        self._connections = connections
        self._session = session
        self._end = end

    async def make(self, work: Work[T]) -> T:
        session = self._session
        while True:
            at_work = session.perhaps_done = False
            try:
                async with session.lock:
                    session.user = asyncio.current_task()
                    if session.ended:
                        raise StoreDown(f"the connection to {self._connections.store} was closed")
                    if not session.alive():
                        await self._renew()
                    left = self._end - time.monotonic()
                    if left < 0:
                        raise StoreDown(f"{self._connections.store} was reached too late")
                    at_work = True
                    return await work(session, left)
            except psycopg.Error as error:
                in_vain = at_work and not session.open and not session.perhaps_done
                if time.monotonic() > self._end or not (in_vain or error.sqlstate in _UNDONE):
                    raise self._connections.explained(error) from error

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """Leave the task to itself: it makes no further attempt, and ends soon."""
        self._end = 0.0
        task.add_done_callback(_forget)
        if self._session.open and self._session.user is task:
            self._session.hang_up()
        else:
            task.cancel()  # it waits for its turn, or for a connection

    async def _renew(self) -> None:
        session, source = self._session, self._connections.source
        await session.part(source)
        await session.opened(await source.get())
        try:
            session.set_clock(await set_up(session.connection, self._connections.settings))
        except BaseException:
            await session.part(source)
            raise


async def _until_the_end(connection: Connection) -> AsyncGenerator[None, None]:
    """Close the connection when the loop shuts its generators down: `asyncio.run` does so at its end."""
    try:
        yield
    except GeneratorExit:
        connection.pgconn.finish()
        raise


def _forget(ended: asyncio.Task[Any]) -> None:
    """Take notice of the outcome of a task that nobody waits for, or asyncio would complain."""
    if not ended.cancelled():
        ended.exception()
