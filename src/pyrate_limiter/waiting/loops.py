"""The two kinds of event loop: what the room needs of them, natively.

A waiter costs a native future on asyncio and an Event on trio; a portable primitive would cost twice as much.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    import trio

logger = logging.getLogger("pyrate_limiter")
Serve: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Turn(Protocol):
    """A moment that a task waits for."""

    def wait(self, until: float) -> Awaitable[None]:
        """Wait until it comes, or until this time of the loop's clock."""
        ...

    def come(self) -> None:
        """Let it come; more than once is as good as once."""


class Loop(Protocol):
    """An event loop."""

    def time(self) -> float:
        """Return the loop's clock, in seconds."""
        ...

    def turn(self) -> Turn:
        """Return a new moment to wait for."""
        ...

    def breath(self) -> Awaitable[None]:
        """Let those go first who are ready to run."""
        ...

    def spawn(self, serve: Serve, ended: Callable[[], None]) -> None:
        """Run a task that belongs to nobody, and call `ended` when it is over, however it ends."""

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        """Call a function in the loop, from any thread; do nothing if the loop has ended."""


class AsyncioTurn:
    """A future of the loop's own."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def wait(self, until: float) -> Awaitable[None]:
        return self._future if until == float("inf") else self._wait_until(until)

    async def _wait_until(self, until: float) -> None:
        timer = self._loop.call_at(until, self.come)
        try:
            await self._future
        finally:
            timer.cancel()

    def come(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class AsyncioLoop:
    """asyncio, and what stands in for its loop, such as uvloop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.time = loop.time

    def turn(self) -> AsyncioTurn:
        return AsyncioTurn(self._loop)

    def breath(self) -> Awaitable[None]:
        return asyncio.sleep(0)

    def spawn(self, serve: Serve, ended: Callable[[], None]) -> None:
        # A context of its own: the courier serves many callers and must not speak in the name of the first.
        task = self._loop.create_task(serve(), name="pyrate_limiter courier", context=Context())
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: ended())

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)


class TrioTurn:
    """An event of trio's."""

    __slots__ = ("_event", "_trio")

    def __init__(self) -> None:
        self._trio = sys.modules["trio"]
        self._event: trio.Event = self._trio.Event()

    async def wait(self, until: float) -> None:
        with self._trio.CancelScope(deadline=until):
            await self._event.wait()

    def come(self) -> None:
        self._event.set()


class TrioLoop:
    """A run of trio."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._trio = sys.modules["trio"]
        self.time: Callable[[], float] = self._trio.current_time

    def turn(self) -> TrioTurn:
        return TrioTurn()

    def breath(self) -> Awaitable[None]:
        return cast("Awaitable[None]", self._trio.lowlevel.checkpoint())

    def spawn(self, serve: Serve, ended: Callable[[], None]) -> None:
        async def system_task() -> None:
            try:
                await serve()
            except Exception:
                # What leaves a system task ends the whole run.
                logger.exception("the courier failed; this is a bug in pyrate_limiter")
            finally:
                ended()

        self._trio.lowlevel.spawn_system_task(system_task, name="pyrate_limiter courier", context=Context())

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(function)
        except self._trio.RunFinishedError:
            return


def running() -> Any:
    """Return what tells the running event loop from others, or None where none runs."""
    if (trio_ := sys.modules.get("trio")) is not None:
        try:
            return trio_.lowlevel.current_trio_token()
        except RuntimeError:
            pass
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def loop_of(token: Any) -> Loop:
    """Return the loop that `running` told of."""
    return AsyncioLoop(token) if isinstance(token, asyncio.AbstractEventLoop) else TrioLoop(token)
