"""The two kinds of event loop: what the room needs of them, natively.

A waiter costs a native future on asyncio and an Event on trio; a portable primitive would cost twice as much.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from types import coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    import trio

logger = logging.getLogger("pyrate_limiter")
NEVER = float("inf")
Serve: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Turn: TypeAlias = Any
"""A moment that a task waits for: a future on asyncio, an Event on trio."""


class Loop(Protocol):
    """An event loop."""

    def time(self) -> float:
        """Return the loop's clock, in seconds."""
        ...

    def turn(self) -> Turn:
        """Return a new moment to wait for."""
        ...

    def wait(self, turn: Turn, until: float) -> Awaitable[None]:
        """Wait until a moment comes, or until this time of the loop's clock; for each of them once."""
        ...

    def come(self, turn: Turn) -> None:
        """Let a moment come; more than once is as good as once."""

    def breath(self) -> Awaitable[None]:
        """Let those go first who are ready to run."""
        ...

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function after those who are ready to run."""

    def spawn(self, serve: Serve, ended: Callable[[], None]) -> None:
        """Run a task that belongs to nobody, and call `ended` when it is over, however it ends."""

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        """Call a function in the loop, from any thread; do nothing if the loop has ended."""


class AsyncioLoop:
    """asyncio, and what stands in for its loop, such as uvloop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self.time = loop.time
        self.turn = loop.create_future

    def wait(self, turn: asyncio.Future[None], until: float) -> Awaitable[None]:
        return turn if until == NEVER else self._wait_until(turn, until)

    def come(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            try:
                turn.set_result(None)
            except RuntimeError:
                return  # the loop was closed under it, and nobody wakes any more

    async def _wait_until(self, turn: asyncio.Future[None], until: float) -> None:
        timer = self._loop.call_at(until, self.come, turn)
        try:
            await turn
        finally:
            timer.cancel()

    def breath(self) -> Awaitable[None]:
        return _next_turn()

    def soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon(function)

    def spawn(self, serve: Serve, ended: Callable[[], None]) -> None:
        # A context of its own: the courier serves many callers and must not speak in the name of the first.
        task = self._loop.create_task(serve(), name="pyrate_limiter courier", context=Context())
        task.add_done_callback(lambda _: ended())
        self._task = task  # the loop itself holds tasks only weakly

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # what a closed loop raises, and it may be closed at any moment
            self._loop.call_soon_threadsafe(function)


@coroutine
def _next_turn() -> Generator[None, None, None]:
    """Do as `asyncio.sleep(0)` does, which is no more than this, but asks first how long it is to sleep."""
    yield


class TrioLoop:
    """A run of trio."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._trio = sys.modules["trio"]
        self.time: Callable[[], float] = self._trio.current_time
        self.turn: Callable[[], trio.Event] = self._trio.Event

    def wait(self, turn: trio.Event, until: float) -> Awaitable[None]:
        return turn.wait() if until == NEVER else self._wait_until(turn, until)

    def come(self, turn: trio.Event) -> None:
        turn.set()

    async def _wait_until(self, turn: trio.Event, until: float) -> None:
        with self._trio.CancelScope(deadline=until):
            await turn.wait()

    def breath(self) -> Awaitable[None]:
        return cast("Awaitable[None]", self._trio.lowlevel.checkpoint())

    def soon(self, function: Callable[[], None]) -> None:
        self._token.run_sync_soon(function)

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
    if (trio_ := sys.modules.get("trio")) is not None and trio_.lowlevel.in_trio_run():
        return trio_.lowlevel.current_trio_token()
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def loop_of(token: Any) -> Loop:
    """Return the loop that `running` told of."""
    return AsyncioLoop(token) if isinstance(token, asyncio.AbstractEventLoop) else TrioLoop(token)
