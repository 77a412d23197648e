"""redis-py: a connection of our own for a URL, or a client that was handed in."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ...errors import StoreError
from ..alarm import Alarm
from ..outage import StoreDown
from .clients import Call, Client, Reply, ServerClock, through_pipeline
from .families import Script

_ACCESS = (exceptions.AuthenticationError, exceptions.AuthorizationError)
"""These are a kind of ConnectionError to redis-py."""
_UNAVAILABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
    exceptions.RedisClusterException,
    OSError,
)
# Of late redis-py reads its own version from the disk for each new connection, to tell it to the server.
_SILENT: dict[str, Any] = {"driver_info": None} if hasattr(redis, "driver_info") else {}
_POLL = 0.002
"""Seconds between two looks at a pool that has no connection to spare."""
_inherited: list[Any] = []
"""Connections of a parent process: nothing may close them here."""


class RedisPy(Client):
    """What the kinds of redis-py clients have in common."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._places: dict[asyncio.AbstractEventLoop, Place] = {}

    def _clock(self) -> ServerClock:
        return self._here().clock

    def _here(self) -> Place:
        loop = running_loop()
        place = self._places.get(loop)
        if place is None:
            for ended in [other for other in list(self._places) if other.is_closed()]:
                self._places.pop(ended, None)
            place = self._places[loop] = Place(loop, self._make_connection())
        return place

    def _make_connection(self) -> Any:
        """Return a connection to keep for an event loop, or None."""

    async def _send(
        self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], budget: float
    ) -> list[Reply]:
        here = self._here()
        try:
            return await here.alarm.within(budget, self._talk_twice(here, script, calls, told))
        except TimeoutError:
            raise self.silent(budget) from None
        except _ACCESS as error:
            raise self.refused(error) from error
        except (exceptions.AskError, exceptions.ClusterCrossSlotError) as error:
            raise StoreError(f"{self.where} is a node of a cluster: hand in a RedisCluster client") from error
        except _UNAVAILABLE as error:
            here.clock = ServerClock()
            raise StoreDown(f"{self.where} is down: {error}") from error
        except exceptions.RedisError as error:
            raise self.refused(error) from error

    async def _talk_twice(
        self, here: Place, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]
    ) -> list[Reply]:
        """Talk once more over a new connection if the old one was found broken: the server may just be new."""
        try:
            return await self._talk(here, script, calls, told)
        except _ACCESS:
            raise
        except exceptions.ConnectionError:
            return await self._talk(here, script, calls, told)

    @abstractmethod
    async def _talk(self, here: Place, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        """Run the script for each call; raise the library's own errors."""

    async def close(self) -> None:
        place = self._places.pop(running_loop(), None)
        if place is not None:
            await place.close()

    def forked(self) -> None:
        _inherited.append(self._places)
        self._places = {}


class OwnConnections(RedisPy):
    """A URL: one connection for each event loop, kept until the loop ends."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(f"Redis at {parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}")
        self._pool: Any = ConnectionPool.from_url(url, socket_timeout=None, retry=Retry(NoBackoff(), 0), **_SILENT)

    def _make_connection(self) -> Any:
        return self._pool.make_connection()

    async def _talk(self, here: Place, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        if not here.connection.is_connected:
            await here.connect()
        return [await evaluate(here.connection, script, call, told) for call in calls]


class Place:
    """What belongs to one event loop.

    Attributes:
        alarm: limits the time of a call.
        clock: what is known of the server's clock.
        connection: closes with the loop; None where each call borrows one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any) -> None:
        self.alarm = Alarm(loop)
        self.clock = ServerClock()
        self.connection = connection
        self._end: AsyncGenerator[None] | None = None

    async def connect(self) -> None:
        if self._end is None:
            # asyncio.run closes the generators that are still open before it closes the loop.
            self._end = self._until_the_end()
            await anext(self._end)
        try:
            await self.connection.connect()
        except BaseException:
            await self.connection.disconnect(nowait=True)  # it may be open, but not yet be logged in
            raise

    async def close(self) -> None:
        if self._end is not None:
            await self._end.aclose()

    async def _until_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.connection.disconnect(nowait=True)
            await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop


class HandedIn(RedisPy):
    """A `redis.asyncio.Redis`, also one of Sentinel's: a connection of its pool for each call, without its retries."""

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        kwargs = self._pool.connection_kwargs
        place = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        super().__init__(f"Redis at {getattr(self._pool, 'service_name', place)}")

    async def _talk(self, here: Place, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        connection = await self._spare_connection()
        patience, connection.socket_timeout = connection.socket_timeout, None  # the alarm is enough, and cheaper
        try:
            return [await evaluate(connection, script, call, told) for call in calls]
        finally:
            connection.socket_timeout = patience
            await self._pool.release(connection)

    async def _spare_connection(self) -> Any:
        while True:
            try:
                return await self._pool.get_connection()
            except exceptions.MaxConnectionsError:
                await asyncio.sleep(_POLL)


class HandedInCluster(RedisPy):
    """A `redis.asyncio.RedisCluster`: one pipeline for each batch, since its keys live on several nodes."""

    together = False

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        super().__init__(f"Redis cluster at {', '.join(client.nodes_manager.startup_nodes)}")

    async def _talk(self, here: Place, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        async def pipeline(command: str, text: str, some: Sequence[Call]) -> list[Any]:
            pipe = self._client.pipeline()
            for call in some:
                pipe.execute_command(command, text, len(call.keys), *call.keys, *told, call.asks)
            return await pipe.execute(raise_on_error=False)

        return await through_pipeline(pipeline, script, calls, exceptions.NoScriptError)


async def evaluate(connection: Any, script: Script, call: Call, told: tuple[bytes, bytes]) -> Reply:
    """Run a script over one connection; send its source if the server does not know it (any more)."""
    arguments = (b"%d" % len(call.keys), *call.keys, *told, call.asks)
    await connection.send_packed_command(packed(b"EVALSHA", script.sha.encode(), *arguments))
    try:
        reply: Reply = await connection.read_response()
    except exceptions.NoScriptError:
        await connection.send_packed_command(packed(b"EVAL", script.source.encode(), *arguments))
        reply = await connection.read_response()
    return reply


def packed(*words: bytes) -> bytes:
    """Return a command as it goes over the wire: what redis-py does for words of all types takes five times as long."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def running_loop() -> asyncio.AbstractEventLoop:
    """Return asyncio's running loop.

    Raises:
        StoreError: asyncio does not run here.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise StoreError("redis-py runs on asyncio only: on trio hand in a coredis client") from None
