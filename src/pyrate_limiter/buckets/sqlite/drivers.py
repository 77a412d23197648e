"""Drivers: the threads in which a connection may block, and how they end.

On asyncio that is aiosqlite's thread, one for each connection: `commit` is handed to it as it stands, and that is the
only way in. It is no daemon: one that nobody stops keeps the interpreter from exiting, and ``atexit`` comes too late.
On trio, which aiosqlite does not know, the same work goes to anyio's threads, under a limit of its own: behind forty
threads of somebody else's it would wait for its turn.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Protocol

import aiosqlite
from anyio import CancelScope, CapacityLimiter, to_thread

from .connection import Database, Plan, open_database

_LOOK = 0.02
"""Seconds between two looks whether the interpreter waits for nobody but us."""


class Driver(Protocol):
    """A connection and its thread."""

    database: Database

    async def commit(self) -> None:
        """Let the database's `commit` run in the thread."""

    async def aclose(self) -> None:
        """Close the connection in the thread, and end it."""


class AsyncioDriver:
    """aiosqlite.

    Attributes:
        loop: whose futures the thread sets.
        thread: aiosqlite's, once it runs.
    """

    database: Database

    def __init__(self, plan: Plan) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread: threading.Thread | None = None
        self._plan = plan
        self._left = threads.left_behind()
        self._connection = aiosqlite.Connection(self._connect, 1)

    @classmethod
    async def open(cls, plan: Plan) -> AsyncioDriver:
        """Open a connection in a thread of its own."""
        driver = cls(plan)
        threads.add(driver)
        try:
            await driver._connection
        except BaseException:
            threads.remove(driver)
            raise
        return driver

    async def commit(self) -> None:
        await self._connection.commit()

    async def aclose(self) -> None:
        if threads.remove(self):
            await self._connection.close()

    def stop(self) -> None:
        """End the thread after what it has to do, without anybody waiting for it."""
        self._connection.stop()

    def _connect(self) -> Database:
        self.thread = threading.current_thread()
        for database in self._left:
            database.close()
        self.database = open_database(self._plan)
        return self.database


class TrioDriver:
    """anyio's threads, one at a time."""

    database: Database

    def __init__(self) -> None:
        self._one = CapacityLimiter(1)

    @classmethod
    async def open(cls, plan: Plan) -> TrioDriver:
        """Open a connection."""
        driver = cls()
        driver.database = await to_thread.run_sync(open_database, plan, limiter=driver._one, abandon_on_cancel=True)
        return driver

    async def commit(self) -> None:
        await to_thread.run_sync(self.database.commit, limiter=self._one, abandon_on_cancel=True)

    async def aclose(self) -> None:
        with CancelScope(shield=True):
            await to_thread.run_sync(self.database.close, limiter=self._one)


class _Threads:
    """aiosqlite's threads of this process, and a watch that stops them when the interpreter waits for nobody else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drivers: set[AsyncioDriver] = set()
        self._watched = False
        self._inherited: list[object] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def add(self, driver: AsyncioDriver) -> None:
        """Count one in."""
        with self._lock:
            self._drivers.add(driver)
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="pyrate_limiter exit watch", daemon=True).start()

    def remove(self, driver: AsyncioDriver) -> bool:
        """Count one out, and return whether it was in."""
        with self._lock:
            found = driver in self._drivers
            self._drivers.discard(driver)
            return found

    def left_behind(self) -> list[Database]:
        """Stop the threads whose loop was closed without a word, and return the connections that may still be open."""
        with self._lock:
            left = [driver for driver in self._drivers if driver.loop.is_closed()]
            self._drivers.difference_update(left)
        for driver in left:
            driver.stop()
        return [driver.database for driver in left if hasattr(driver, "database")]

    def keep(self, inherited: object) -> None:
        """Keep, in a forked child, what would complain or wake its parent's loop if it went."""
        self._inherited.append(inherited)

    def _watch(self) -> None:
        threading.main_thread().join()
        while True:
            with self._lock:
                ours = {driver.thread for driver in self._drivers}
                if not any(t.is_alive() and not t.daemon and t not in ours for t in threading.enumerate()):
                    for driver in self._drivers:
                        driver.database.closing = True
                        driver.stop()
                    self._drivers.clear()
            time.sleep(_LOOK)

    def _forked(self) -> None:
        self._inherited.append(self._drivers)
        self._lock, self._drivers, self._watched = threading.Lock(), set(), False


threads = _Threads()
