"""redis-py: clients that were handed in, and what they have in common with connections of our own."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from ...errors import StoreError
from ..alarm import Alarm
from ..outage import StoreDown
from .clients import Call, Client, Place, Reply, ServerClock, through_pipeline
from .families import Script
from .resp import command, words

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
_POLL = 0.002
"""Seconds between two looks at a pool that has no connection to spare."""
_inherited: list[Any] = []
"""Connections of a parent process: nothing may close them here."""


class LoopPlace(Place):
    """What belongs to one event loop.

    Attributes:
        loop: the event loop.
        alarm: limits the time of what is done through redis-py.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.alarm = Alarm(loop)

    async def close(self) -> None:
        """Close what was opened here."""


L = TypeVar("L", bound=LoopPlace)


class RedisPy(Client[L], Generic[L]):
    """What has redis-py below it: one place for each event loop."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._places: dict[asyncio.AbstractEventLoop, L] = {}

    @abstractmethod
    def _make_place(self, loop: asyncio.AbstractEventLoop) -> L:
        """Return a new place, without doing anything there."""

    def here(self) -> L:
        loop = running_loop()
        place = self._places.get(loop)
        if place is None:
            for ended in [other for other in list(self._places) if other.is_closed()]:
                self._places.pop(ended, None)
            place = self._places[loop] = self._make_place(loop)
        return place

    async def _send(
        self, here: L, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], budget: float
    ) -> list[Reply]:
        until = here.loop.time() + budget
        try:
            try:
                return await self._talk(here, script, calls, told, until)
            except _ACCESS:
                raise
            except exceptions.ConnectionError:
                # An old connection was found broken: the server may just be new.
                return await self._talk(here, script, calls, told, until)
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

    @abstractmethod
    async def _talk(
        self, here: L, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], until: float
    ) -> list[Reply]:
        """Run the script for each call.

        Raises:
            TimeoutError: it is `until`, by the loop's clock.
            RedisError: any error of the library.
        """

    async def close(self) -> None:
        place = self._places.pop(running_loop(), None)
        if place is not None:
            await place.close()

    def forked(self) -> None:
        _inherited.append(self._places)
        self._places = {}


class Lent(RedisPy[LoopPlace]):
    """A client that was handed in."""

    def _make_place(self, loop: asyncio.AbstractEventLoop) -> LoopPlace:
        return LoopPlace(loop)

    async def _talk(
        self, here: LoopPlace, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], until: float
    ) -> list[Reply]:
        return await here.alarm.within(until - here.loop.time(), self._converse(script, calls, told))

    @abstractmethod
    async def _converse(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        """Run the script for each call, however long it takes; raise the library's own errors."""


class HandedIn(Lent):
    """A `redis.asyncio.Redis`, also one of Sentinel's: a connection of its pool for each call, without its retries."""

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        kwargs = self._pool.connection_kwargs
        place = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        super().__init__(f"Redis at {getattr(self._pool, 'service_name', place)}")

    async def _converse(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        connection = await self._spare_connection()
        patience, connection.socket_timeout = connection.socket_timeout, None  # the alarm is enough, and cheaper
        try:
            return [await evaluate(partial(exchange, connection), script, calls[0], told)]
        finally:
            connection.socket_timeout = patience
            await self._pool.release(connection)

    async def _spare_connection(self) -> Any:
        while True:
            try:
                return await self._pool.get_connection()
            except exceptions.ConnectionError as error:
                if str(error) != "Too many connections":  # before redis-py 7 that has no class of its own
                    raise
                await asyncio.sleep(_POLL)


class HandedInCluster(Lent):
    """A `redis.asyncio.RedisCluster`: one pipeline for each batch, since its keys live on several nodes."""

    together = False

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        super().__init__(f"Redis cluster at {', '.join(client.nodes_manager.startup_nodes)}")

    async def _converse(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        async def pipeline(command: str, text: str, some: Sequence[Call]) -> list[Any]:
            pipe = self._client.pipeline()
            for call in some:
                pipe.execute_command(command, text, len(call.keys), *call.keys, *told, call.asks)
            return await pipe.execute(raise_on_error=False)

        return await through_pipeline(pipeline, script, calls, exceptions.NoScriptError)


async def exchange(connection: Any, command: bytes) -> Any:
    """Send a command over a connection of redis-py, and return its reply."""
    await connection.send_packed_command(command)
    return await connection.read_response()


async def evaluate(
    ask: Callable[[bytes], Awaitable[Reply]], script: Script, call: Call, told: tuple[bytes, bytes]
) -> Reply:
    """Run a script by a way to one server; send its source if that does not know it (any more)."""
    try:
        return await ask(evaluation(script.call, call, told))
    except exceptions.NoScriptError:
        return await ask(evaluation(words(b"EVAL", script.source.encode()), call, told))


def evaluation(script: bytes, call: Call, told: tuple[bytes, bytes]) -> bytes:
    """Return the command that makes a call of the script which these two words name."""
    keys = len(call.keys)
    return command(keys + 6, script, words(b"%d" % keys, *call.keys, *told, call.asks))


def running_loop() -> asyncio.AbstractEventLoop:
    """Return asyncio's running loop.

    Raises:
        StoreError: asyncio does not run here.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise StoreError("redis-py runs on asyncio only: on trio hand in a coredis client") from None
