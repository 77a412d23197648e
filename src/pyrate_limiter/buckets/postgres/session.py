"""What one event loop has of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress

import psycopg

from ...clocks import SECOND
from ..alarm import Alarm
from .sources import Connection, Source


class Session:
    """A connection that is opened when it is needed.

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


async def _until_the_end(connection: Connection) -> AsyncGenerator[None, None]:
    """Close the connection when the loop shuts its generators down: `asyncio.run` does so at its end."""
    try:
        yield
    except GeneratorExit:
        connection.pgconn.finish()
        raise
