"""The sync face: decided in place where that can be, otherwise the same coroutines through a portal."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.from_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from .bucket import in_place
from .decisions import UNNAMED, Decision
from .errors import WeightTooLarge, WouldBlock
from .waiting import running

if TYPE_CHECKING:
    from .limiter.calls import Calls
    from .limiter.slot import Slot

T = TypeVar("T")


class SyncLimiter:
    """The calls of a limiter for code without an event loop; they do what those of the limiter do.

    On a thread that runs an event loop, a call that would have to wait raises `WouldBlock`.
    """

    def __init__(self, limiter: Calls[Any]) -> None:
        self._limiter = limiter

    def acquire(self, name: str = UNNAMED, weight: int = 1, timeout: float = -1) -> Decision:
        """Do as `Limiter.acquire` does; this thread sleeps while it waits."""
        limiter = self._limiter
        if timeout == -1:
            at_once = limiter._at_hand._grant(name, weight, limiter._keyed)
            if at_once:
                return at_once
        acquire = partial(limiter.acquire, name, weight, timeout=timeout)
        return run(acquire, instead="acquire", undo=limiter.refund)

    def take(self, name: str = UNNAMED, weight: int = 1) -> Decision:
        """Do as `Limiter.take` does."""
        limiter = self._limiter
        at_once = limiter._at_hand._decide(name, weight, limiter._keyed)
        if at_once is not None:
            return at_once
        return run(partial(limiter.take, name, weight), instead="take", undo=limiter.refund)

    def slot(self, name: str = UNNAMED, weight: int = 1, *, timeout: float = -1) -> Slot:
        """Return what `Limiter.slot` returns: it serves `with` as well."""
        return self._limiter.slot(name, weight, timeout=timeout)

    def peek(self, name: str = UNNAMED) -> Decision:
        """Do as `Limiter.peek` does."""
        return run(partial(self._limiter.peek, name), instead="peek")

    def refund(self, decision: Decision | str, weight: int = 0, *, at: int = -1) -> None:
        """Do as `Limiter.refund` does."""
        run(partial(self._limiter.refund, decision, weight, at=at), instead="refund")

    def reset(self, name: str = UNNAMED) -> None:
        """Do as `Limiter.reset` does."""
        run(partial(self._limiter.reset, name), instead="reset")

    def _try_acquire(self, name: str, weight: int, blocking: bool, timeout: float) -> bool:
        limiter = self._limiter
        patience = limiter._check(name, weight, blocking, timeout)
        if not blocking:
            at_once = limiter._at_hand._decide(name, weight, limiter._keyed)
            if at_once is not None:
                return limiter._as_bool(at_once, patience)
        request = partial(limiter._request, name, weight, patience)
        try:
            decision = run(request, instead="try_acquire_async", undo=limiter.refund)
        except WeightTooLarge:
            if limiter._raises:
                raise
            return False
        return limiter._as_bool(decision, patience)


class Portal:
    """The event loop that serves the threads without one: one for the process, in a thread of its own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ending = False
        self._portal: BlockingPortal | None = None

    def run(self, function: Callable[[], Coroutine[Any, Any, T]], undo: Callable[[Any], Any] | None) -> T:
        """Run a coroutine function, and cancel it when this thread is interrupted meanwhile."""
        portal = self._started()
        visit = Visit(function)
        try:
            portal.start_task_soon(visit.stay).result()
            return visit.results[0]
        except BaseException:
            if self._ending:
                # Only a daemon thread lives this long: its wait ends because the interpreter does, and nobody is
                # left to be told. It sleeps until it is no more.
                Event().wait()
            if not visit.failed:
                portal.start_task_soon(visit.leave, undo)
            raise

    def forget(self) -> None:
        """Begin anew in a forked child, which has the objects but not the thread."""
        if self._portal is not None:
            # Its context manager goes when the child exits, and would wait for the thread to stop it.
            with suppress(StopIteration):
                self._portal.stop().send(None)
        self.__init__()  # type: ignore[misc]

    def _started(self) -> BlockingPortal:
        if self._portal is not None:
            return self._portal
        # In a thread of its own: an interrupt in the midst of it would wait for a loop that nobody told to end.
        started: Future[BlockingPortal] = Future()
        Thread(target=self._start, args=(started,), name="pyrate_limiter start", daemon=True).start()
        return started.result()

    def _start(self, started: Future[BlockingPortal]) -> None:
        try:
            with self._lock:  # two threads that come first together must not make two
                if self._portal is None:
                    stack = ExitStack()
                    self._portal = stack.enter_context(start_blocking_portal(name="pyrate_limiter portal"))
                    atexit.register(self._end, self._portal, stack)
            started.set_result(self._portal)
        except BaseException as error:
            started.set_exception(error)

    def _end(self, portal: BlockingPortal, stack: ExitStack) -> None:
        if portal is self._portal:  # and not that of the process from which this one was forked
            self._ending = True
            portal.call(portal.stop, True)
            stack.close()


class Visit(Generic[T]):
    """A coroutine function that runs on the portal's loop for a thread, which may be interrupted at any moment.

    So it is not the future that is cancelled: an interrupt may come while the loop is told of the coroutine, before
    there is one.

    Attributes:
        results: what it returned, once it has.
        failed: whether it raised; then there is nothing to leave.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.results: list[T] = []
        self.failed = False
        self._function = function
        self._scope: anyio.CancelScope | None = None
        self._ended: anyio.Event | None = None

    async def stay(self) -> None:
        """Run the coroutine function."""
        self._ended = anyio.Event()
        try:
            with anyio.CancelScope() as self._scope:
                self.results.append(await self._function())
        except Exception:
            self.failed = True
            raise
        finally:
            self._ended.set()

    async def leave(self, undo: Callable[[Any], Any] | None) -> None:
        """End the stay, if the loop was ever told of it: then before it was told of this.

        What was granted nevertheless, since it came at the same time, nobody will ever use: it goes to `undo`.
        """
        if self._scope is None or self._ended is None:
            return
        self._scope.cancel()
        await self._ended.wait()
        if undo is not None:
            for result in filter(None, self.results):
                await undo(result)


def run(function: Callable[[], Coroutine[Any, Any, T]], *, instead: str, undo: Callable[[Any], Any] | None = None) -> T:
    """Run a coroutine function from sync code.

    Args:
        function: takes no arguments.
        instead: what to await where this would block an event loop.
        undo: called with the result if it comes too late to be used.

    Raises:
        WouldBlock: it has to await something, and this thread runs an event loop.
    """
    if running() is not None:
        return _first_step(function, instead)
    try:
        result: T = anyio.from_thread.run(function)
    except anyio.NoEventLoopError:
        return _portal.run(function, undo)
    return result


def _first_step(function: Callable[[], Coroutine[Any, Any, T]], instead: str) -> T:
    """Return what a coroutine returns that finds all it needs in place; close one that begins to wait."""
    mark = in_place.set(True)
    try:
        coroutine = function()
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    finally:
        in_place.reset(mark)
    coroutine.close()
    raise WouldBlock(
        f"this call has to wait, and its thread runs an event loop: write `await limiter.{instead}(...)`, or call it"
        " in a worker thread"
    )


_portal = Portal()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_portal.forget)
