"""The connections: one for each event loop, kept, and given up on when the time is over.

When the time of a piece of work is over, or whoever waits for it is cancelled, the connection is cut (see leaving.py).
But opening one goes on, in a task, for whoever comes next: it may take several times as long as a piece of work.

A kept connection that died while nobody used it is found dead before anything is sent, and renewed. One that dies in
the middle of a piece of work leaves open what became of it: that is an error, unless it cannot have been done.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import psycopg

from ...clocks import SECOND
from ...errors import StoreError
from ..alarm import Alarm
from ..outage import StoreDown
from .leaving import free_to_leave
from .sources import Borrowed, Connection, Dialled, Pool, Source, set_up

T = TypeVar("T")
Work: TypeAlias = "Callable[[Session, float], Coroutine[Any, Any, T]]"
"""A piece of work: on this session, within so many seconds."""
_SETTINGS = {
    "client_encoding": "UTF8",  # that of our statements
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "1s",  # a frozen client must not keep its rows locked
    # A plan that is made while the table is small must not read all of it when it has grown.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # Otherwise statements with arrays are planned anew at each call, which takes a third of its time.
    "plan_cache_mode": "force_generic_plan",
}
_OPENING = 5.0
"""Seconds after which opening a connection begins anew."""
_UNDONE = {"40001", "40P01", "57P01", "57P05", "25P03", "25P04"}
"""Errors that leave nothing behind, so that the work may be done again: a failed serialisation, a deadlock, a
connection that was ended from outside, because it was idle, because its client was frozen, or in a transaction that
took too long."""
_DOWN = {"08", "40", "53", "57", "58"}
_DOWN_TOO = {"25006", "25P03", "25P04", "55P03"}
"""Errors by which a server says that it cannot serve now, by class and by code: no connection, nothing but attempts in
vain, no resources, shut down, broken; read only, a transaction that took too long, or a lock that is not to be had in
time."""
_TURNED_AWAY = re.compile(
    r"no password supplied|FATAL: .*("
    r"authentication failed|does not exist|permission denied|not permitted to log in|pg_hba\.conf)"
)
"""How a server that is there turns a client away. libpq has only words for it, which may be in another language."""


class Session:
    """What one event loop has of the server: a connection that is opened when it is needed.

    Attributes:
        lock: held by whoever uses the connection or waits for a new one.
        alarm: limits the time of a piece of work.
        connection: in autocommit, with settings of our own.
        opening: opens a new one, unless None.
        takes: seconds that a piece of work may take, by the server's distance.
        ended: whether no connection is to be opened any more.
        perhaps_done: whether the piece of work that is under way may have taken effect already.
    """

    connection: Connection

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lock = asyncio.Lock()
        self.alarm = Alarm(loop)
        self.perhaps_done = False
        self.ended = False
        self.takes = 0.0
        self.opening: asyncio.Task[None] | None = None
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
        prepare: is done on each new connection before it is used.
    """

    def __init__(
        self,
        dsn_or_pool: str | Pool,
        settings: dict[str, str],
        store: str,
        prepare: Callable[[Connection], Coroutine[Any, Any, None]],
    ) -> None:
        self.settings = _SETTINGS | settings
        self.store = store
        self._prepare = prepare
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
        session = self._session()
        try:
            return await session.alarm.within(seconds, self._attempt(session, work, time.monotonic() + seconds))
        except TimeoutError:
            raise StoreDown(f"{self.store} did not answer within {seconds * 1000:.0f} ms") from None

    def in_background(self, work: Work[None], seconds: float) -> None:
        """Do a piece of work once the connection is free, while nobody waits for it; should it fail, never mind."""
        task = asyncio.get_running_loop().create_task(self._aside(work, seconds))
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_forget)

    async def close(self) -> None:
        """Close the running loop's connection; one that was borrowed goes back as it came."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            session.ended = True
            async with session.lock:
                if session.opening is not None:
                    session.opening.cancel()
                    await asyncio.wait([session.opening])
                await session.part(self.source)

    async def renew(self) -> None:
        """See to it that the next piece of work gets a new connection."""
        session = self._session()
        async with session.lock:
            if session.opening is None:
                session.finish()

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
        said = str(error).partition("\n")[0] or type(error).__name__
        return (StoreDown if _means_down(error) else StoreError)(f"{self.store}: {said}")

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for other in list(self._sessions):
                if other.is_closed() and (ended := self._sessions.pop(other, None)):  # other threads do this too
                    ended.finish()
            session = self._sessions[loop] = Session(loop)
        return session

    async def _aside(self, work: Work[None], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self._attempt(self._session(), work, time.monotonic() + seconds)

    async def _attempt(self, session: Session, work: Work[T], end: float) -> T:
        """Attempt a piece of work, again and again if it came to nothing, until a moment of the monotonic clock."""
        while True:
            at_work = session.perhaps_done = False
            try:
                async with session.lock:
                    if session.ended:
                        raise StoreDown(f"the connection to {self.store} was closed")
                    needed = 0.0
                    if session.opening is not None or not session.alive():
                        await self._opened(session)
                        needed = session.takes  # with less than that, the connection would be cut and opened in vain
                    left = end - time.monotonic()
                    if left <= needed:
                        raise StoreDown(f"{self.store} was reached too late")
                    at_work = True
                    return await free_to_leave(session.connection, work(session, left))
            except psycopg.Error as error:
                in_vain = at_work and not session.open and not session.perhaps_done
                if time.monotonic() > end or not (in_vain or error.sqlstate in _UNDONE):
                    raise self.explained(error) from error

    async def _opened(self, session: Session) -> None:
        """Wait for a new connection, which others will wait for if this one is cancelled."""
        if session.opening is None:
            session.opening = asyncio.get_running_loop().create_task(self._open(session))
            session.opening.add_done_callback(_forget)
        await asyncio.shield(session.opening)

    async def _open(self, session: Session) -> None:
        try:
            async with asyncio.timeout(_OPENING):
                await session.part(self.source)
                await session.opened(await self.source.get())
                left = time.monotonic()
                session.set_clock(await set_up(session.connection, self.settings))
                session.takes = 2 * (time.monotonic() - left)  # two trips, if Python decides
                await free_to_leave(session.connection, self._prepare(session.connection))
        except BaseException:
            session.finish()  # it is of no use, and a pool must not lend it again
            await session.part(self.source)
            raise
        finally:
            session.opening = None


def _means_down(error: psycopg.Error) -> bool:
    state = error.sqlstate
    if state is None:  # the driver's own: about the connection, or about what it was asked
        return isinstance(error, psycopg.OperationalError) and not _TURNED_AWAY.search(str(error))
    return state[:2] in _DOWN or state in _DOWN_TOO


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
