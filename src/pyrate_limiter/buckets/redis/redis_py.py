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
        self._known_clock = ServerClock()

    def _clock(self) -> ServerClock:
        require_asyncio()
        return self._known_clock

    async def _send(
        self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], budget: float
    ) -> list[Reply]:
        try:
            async with asyncio.timeout(budget):
                return await self._talk_twice(script, calls, told)
        except TimeoutError:
            raise self.silent(budget) from None
        except _ACCESS as error:
            raise self.refused(error) from error
        except (exceptions.AskError, exceptions.ClusterCrossSlotError) as error:
            raise StoreError(f"{self.where} is a node of a cluster: hand in a RedisCluster client") from error
        except _UNAVAILABLE as error:
            self._forget_clock()
            raise StoreDown(f"{self.where} is down: {error}") from error
        except exceptions.RedisError as error:
            raise self.refused(error) from error

    async def _talk_twice(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        """Talk once more over a new connection if the old one was found broken: the server may just be new."""
        try:
            return await self._talk(script, calls, told)
        except _ACCESS:
            raise
        except exceptions.ConnectionError:
            return await self._talk(script, calls, told)

    @abstractmethod
    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        """Run the script for each call; raise the library's own errors."""

    def _forget_clock(self) -> None:
        self._known_clock = ServerClock()

    async def close(self) -> None:
        """Nothing: the client was handed in."""

    def forked(self) -> None:
        """Nothing: the client was handed in, and knows of forks what it knows."""


class OwnConnections(RedisPy):
    """A URL: one connection for each event loop, kept until the loop ends."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(f"Redis at {parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}")
        self._pool: Any = ConnectionPool.from_url(url, socket_timeout=None, retry=Retry(NoBackoff(), 0), **_SILENT)
        self._kept: dict[Any, _Kept] = {}

    def _clock(self) -> ServerClock:
        require_asyncio()
        return self._here().clock

    def _forget_clock(self) -> None:
        self._here().clock = ServerClock()

    def _here(self) -> _Kept:
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None:
            for ended in [other for other in list(self._kept) if other.is_closed()]:
                self._kept.pop(ended, None)
            kept = self._kept[loop] = _Kept(self._pool.make_connection())
        return kept

    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        kept = self._here()
        await kept.connect()
        return [await evaluate(kept.connection, script, call, told) for call in calls]

    async def close(self) -> None:
        kept = self._kept.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept.close()

    def forked(self) -> None:
        _inherited.append(self._kept)
        self._kept = {}


class _Kept:
    """A connection that closes with its event loop."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.clock = ServerClock()
        self._end: AsyncGenerator[None] | None = None

    async def connect(self) -> None:
        if self.connection.is_connected:
            return
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

    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        connection = await self._spare_connection()
        try:
            return [await evaluate(connection, script, call, told) for call in calls]
        finally:
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

    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
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


def require_asyncio() -> None:
    """Raise StoreError unless asyncio runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise StoreError("redis-py runs on asyncio only: on trio hand in a coredis client") from None
