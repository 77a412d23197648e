"""A URL: connections of our own, which redis-py opens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from struct import pack
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ...waiting import running
from .clients import TOO_LATE, Call, Heard, Reply, Work
from .families import Script
from .redis_py import LoopPlace, RedisPy, evaluate, evaluation
from .wire import Wire

# Of late redis-py reads its own version from the disk for each new connection, to tell it to the server.
_SILENT: dict[str, Any] = {"driver_info": None} if hasattr(redis, "driver_info") else {}


class Home(LoopPlace):
    """The place of a connection of our own.

    Attributes:
        wire: the connection, once there was one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any) -> None:
        super().__init__(loop)
        self.wire: Wire | None = None
        self._begun: float | None = None  # when the call was begun that came to nothing just now
        self._failure: Exception | None = None  # and its error, if there was one
        self._connection = connection
        self._end: AsyncGenerator[None] | None = None

    async def connect(self, until: float) -> Wire:
        """Return a new connection.

        Raises:
            TimeoutError: it is `until`, by the loop's clock.
        """
        if self._end is None:
            # asyncio.run closes the generators that are still open before it closes the loop.
            self._end = self._until_the_end()
            await anext(self._end)
        await self._disconnect()
        await self.alarm.within(until - self.loop.time(), self._connection.connect())
        self.wire = Wire(self._connection._writer.transport)
        return self.wire

    def left_of(self, budget: float) -> float:
        return budget if self._begun is None else budget - (time.monotonic() - self._begun)

    def came_to_nothing(self, begun: float, failure: Exception | None) -> None:
        """Take note that a call which was begun at a moment of `time.monotonic` has no reply, perhaps by an error.

        Made again in this turn of the loop it is the second attempt of two, and has the time that the first one left.
        """
        self._begun, self._failure = begun, failure
        self.loop.call_soon(self._forget)

    def raise_failure(self) -> None:
        """Raise the error of the first attempt."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _forget(self) -> None:
        self._begun = self._failure = None

    async def close(self) -> None:
        if self._end is not None:
            await self._end.aclose()

    async def _until_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._disconnect()

    async def _disconnect(self) -> None:
        if self.wire is not None:
            self.wire.end()  # what is encrypted would take its time to say good-bye, which a loop that ends has not
        await self._connection.disconnect(nowait=True)


class OwnConnections(RedisPy[Home]):
    """A URL: one connection for each event loop, kept until the loop ends."""

    calls_back = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(f"Redis at {parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}")
        self._pool: Any = ConnectionPool.from_url(url, socket_timeout=None, retry=Retry(NoBackoff(), 0), **_SILENT)
        # In version 3 of the protocol a server may say what is no reply.
        self._pool.connection_kwargs["protocol"] = 2

    def _make_place(self, loop: asyncio.AbstractEventLoop) -> Home:
        return Home(loop, self._pool.make_connection())

    def begin(self, work: Work, call: Call, budget: float, heard: Heard) -> bool:
        here = self._places.get(running())
        if here is None or here.wire is None or not here.wire.usable:
            return False
        sent = time.monotonic()
        told = pack("<ddd", here.clock.moment(sent + budget), work.moment, work.grace)
        command = evaluation(work.script.call, call, (told, work.script.rates))
        here.wire.until = here.loop.time() + budget
        here.wire.send(command, partial(self._heard, here, sent, budget, heard))
        return True

    def _heard(self, here: Home, sent: float, budget: float, heard: Heard, reply: Any) -> None:
        if isinstance(reply, list):
            received = time.monotonic()
            self.trip = received - sent
            here.clock.learn(reply[0], sent, received)
            if reply[1] != TOO_LATE:
                heard(reply)
                return
        failure = reply if isinstance(reply, Exception) and not isinstance(reply, exceptions.NoScriptError) else None
        if isinstance(reply, TimeoutError):
            failure = self.silent(budget)
        heard(None)
        here.came_to_nothing(sent, failure)

    async def _talk(
        self, here: Home, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], until: float
    ) -> list[Reply]:
        here.raise_failure()
        wire = here.wire
        if wire is None or not wire.usable:
            wire = await here.connect(until)
        wire.until = until
        return [await evaluate(wire.ask, script, calls[0], told)]
