"""The connections: one for each event loop, kept, and given up on when the time is over.

When the time of a piece of work is over, or whoever waits for it is cancelled, the connection is cut (see leaving.py).
But opening one goes on, in a task, for whoever comes next: it may take several times as long as a piece of work.

A kept connection that died while nobody used it is found dead before anything is sent, and renewed. One that dies in
the middle of a piece of work leaves open what became of it: that is an error, unless it cannot have been done.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import psycopg

from ...errors import StoreError
from ..outage import StoreDown
from .leaving import free_to_leave
from .refusals import UNDONE, means_down
from .session import Session
from .sources import PARTING, Borrowed, Connection, Dialled, Pool, Source, set_up

T = TypeVar("T")
Work: TypeAlias = Callable[[Session, float], Coroutine[Any, Any, T]]
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
"""Seconds after which opening a connection begins anew, unless a piece of work has more."""


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
            await self._leave_aside()
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
        return (StoreDown if means_down(error) else StoreError)(f"{self.store}: {said}")

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for other in list(self._sessions):
                if other.is_closed() and (ended := self._sessions.pop(other, None)):  # other threads do this too
                    ended.finish()
            session = self._sessions[loop] = Session(loop)
        return session

    async def _leave_aside(self) -> None:
        """Let what is done in the background on the running loop come to its end, or end it: a server may hang."""
        here = asyncio.get_running_loop()
        tasks = [task for task in list(self._tasks) if task.get_loop() is here]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=PARTING)
            for task in late:
                task.cancel()

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
                        await self._opened(session, end - time.monotonic())
                        needed = session.takes  # with less than that, the connection would be cut and opened in vain
                    left = end - time.monotonic()
                    if left <= needed:
                        raise StoreDown(f"{self.store} was reached too late")
                    at_work = True
                    return await free_to_leave(session.connection, work(session, left))
            except psycopg.Error as error:
                in_vain = at_work and not session.open and not session.perhaps_done
                if time.monotonic() > end or not (in_vain or error.sqlstate in UNDONE):
                    raise self.explained(error) from error

    async def _opened(self, session: Session, seconds: float) -> None:
        """Wait for a new connection, which others will wait for if this one is cancelled."""
        if session.opening is None:
            session.opening = asyncio.get_running_loop().create_task(self._open(session, max(seconds, _OPENING)))
            session.opening.add_done_callback(_forget)
        await asyncio.shield(session.opening)

    async def _open(self, session: Session, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
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


def _forget(ended: asyncio.Task[Any]) -> None:
    """Take notice of the outcome of a task that nobody waits for, or asyncio would complain."""
    if not ended.cancelled():
        ended.exception()
