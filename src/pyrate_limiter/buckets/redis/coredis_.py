"""coredis: a client that was handed in, on asyncio and on trio."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ...errors import StoreError
from ..outage import StoreDown
from .clients import Call, Client, Place, Reply, ServerClock, through_pipeline
from .families import Script

if TYPE_CHECKING:
    from coredis import Redis, RedisCluster


class Coredis(Client[Place]):
    """What both kinds of coredis clients have in common."""

    def __init__(self, where: str) -> None:
        from coredis import exceptions, typing  # noqa: PLC0415 - it takes half a second, and whoever comes here has it

        self.where = where
        self._place = Place()
        self._no_script = exceptions.NoScriptError
        self._any = typing.RedisError
        self._unavailable = (
            exceptions.ConnectionError,
            exceptions.ReadOnlyError,
            exceptions.ClusterDownError,
            exceptions.ClusterRoutingError,
            exceptions.TryAgainError,
            exceptions.SentinelError,
            OSError,
        )

    def here(self) -> Place:
        return self._place

    async def _send(
        self, here: Place, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], budget: float
    ) -> list[Reply]:
        try:
            with anyio.fail_after(budget):
                return await self._talk(script, calls, told)
        except TimeoutError:
            raise self.silent(budget) from None
        except self._unavailable as error:
            here.clock = ServerClock()
            raise StoreDown(f"{self.where} is down: {error}") from error
        except self._any as error:
            raise self.refused(error) from error
        except RuntimeError as error:
            if "pool" not in str(error):
                raise
            raise StoreError(f"{self.where}: {error}; use the bucket inside `async with client:`") from error

    @abstractmethod
    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        """Run the script for each call; raise the library's own errors."""

    async def close(self) -> None:
        """Nothing: the client was handed in."""

    def forked(self) -> None:
        """Nothing: the client was handed in, and knows of forks what it knows."""


class HandedIn(Coredis):
    """A `coredis.Redis`."""

    def __init__(self, client: Redis[Any]) -> None:
        self._client = client
        super().__init__(f"Redis at {client.connection_pool.location}")

    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        return [await self._evaluate(script, call, told) for call in calls]

    async def _evaluate(self, script: Script, call: Call, told: tuple[bytes, bytes]) -> Any:
        arguments = [*told, call.asks]
        try:
            return await self._client.evalsha(script.sha, call.keys, arguments)
        except self._no_script:
            return await self._client.eval(script.source, call.keys, arguments)


class HandedInCluster(Coredis):
    """A `coredis.RedisCluster`: one pipeline for each batch, since its keys live on several nodes."""

    together = False

    def __init__(self, client: RedisCluster[Any]) -> None:
        self._client = client
        super().__init__(f"Redis cluster at {client.connection_pool}")

    async def _talk(self, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes]) -> list[Reply]:
        async def pipeline(command: str, text: str, some: Sequence[Call]) -> list[Any]:
            async with self._client.pipeline(raise_on_error=False) as pipe:
                run = getattr(pipe, command.lower())
                for call in some:
                    run(text, call.keys, [*told, call.asks])
            return list(pipe.results or ())

        return await through_pipeline(pipeline, script, calls, self._no_script)
