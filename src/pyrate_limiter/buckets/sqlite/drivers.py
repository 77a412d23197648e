"""Drivers: how work gets into a thread that may block for it, one way there and back for a whole batch.

On asyncio that is aiosqlite's thread, one for each connection: the connection's `commit` is handed to it as it stands.
On trio, which aiosqlite does not know, it is one of anyio's threads, under a limit of its own: behind forty threads of
somebody else's it would wait for its turn.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiosqlite
from anyio import CancelScope, CapacityLimiter, to_thread

from ...decisions import Answer, Ask
from ...waiting import running
from .connection import Database, Plan
from .lifetimes import keeper

T = TypeVar("T")


class Driver(ABC):
    """A connection of the running event loop. `open_driver` makes one.

    Attributes:
        token: what tells its event loop from others.
        thread: the one that is there for this connection alone, once it runs.
    """

    def __init__(self, plan: Plan) -> None:
        self.token: Any = running()
        self.thread: threading.Thread | None = None
        self._database = Database(plan)

    @property
    def usable(self) -> bool:
        """Whether the next batch may come this way."""
        return self._database.sound and not self.closed

    @property
    def closed(self) -> bool:
        """Whether it is closed, or somebody sees to that."""
        return self._database.closing

    async def apply(self, asks: Sequence[Ask]) -> list[Answer]:
        """Decide a batch. If the caller leaves in the middle, it is decided as a whole or not at all.

        Raises:
            StoreError: it could not be decided.
        """
        call = self._database.submit(asks)
        try:
            await self._commit()
        except BaseException:
            call.left = True
            raise
        return call.outcome()

    async def aclose(self) -> None:
        """Close the connection, in its loop."""
        self._database.closing = True
        if keeper.release(self):
            await self._disconnect()

    def stop(self) -> None:
        """Close the connection without its loop."""
        self._database.close()

    @abstractmethod
    async def connect(self) -> None:
        """Open the connection, in the thread."""

    @abstractmethod
    async def _commit(self) -> None:
        """Let the database's `commit` run in the thread."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close the connection, in the thread."""

    def _open(self) -> Database:
        keeper.tidy()
        self._database.open()
        return self._database


class AsyncioDriver(Driver):
    """Through aiosqlite."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._connection = Connection(self._open, 1)

    async def connect(self) -> None:
        try:
            await self._connection
        finally:
            if self._connection.stopped is not None:  # it failed, or this task was cancelled
                await self._connection.stopped

    async def _commit(self) -> None:
        await self._connection.commit()

    async def _disconnect(self) -> None:
        await self._connection.close()

    def stop(self) -> None:
        # aiosqlite says when it is done, unless it is stopped where no loop runs: the loop of its own is gone.
        self._connection.stop()
        super().stop()

    def _open(self) -> Database:
        self.thread = threading.current_thread()
        keeper.watch()
        return super()._open()


class Connection(aiosqlite.Connection):
    """aiosqlite's connection; it can tell when its thread has spoken to the loop for the last time.

    A loop that closes before that kills the thread, and loudly.
    """

    stopped: asyncio.Future[None] | None = None

    def stop(self) -> asyncio.Future[None] | None:
        self.stopped = super().stop()
        return self.stopped


class TrioDriver(Driver):
    """Through anyio's threads, one at a time."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._one = CapacityLimiter(1)

    async def connect(self) -> None:
        await self._run(self._open)

    async def _commit(self) -> None:
        await self._run(self._database.commit)

    async def _disconnect(self) -> None:
        with CancelScope(shield=True):
            await self._run(self._database.close)

    async def _run(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._one, abandon_on_cancel=True)


async def open_driver(plan: Plan) -> Driver:
    """Open a connection for the running event loop; it closes when that ends.

    Raises:
        StoreError: the database cannot be opened.
    """
    driver = AsyncioDriver(plan) if isinstance(running(), asyncio.AbstractEventLoop) else TrioDriver(plan)
    await keeper.keep(driver)
    try:
        await driver.connect()
    except BaseException:
        keeper.release(driver)
        raise
    return driver
