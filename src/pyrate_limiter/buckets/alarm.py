"""A limit on the time of calls that are made one after the other, on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Alarm:
    """Ends a call that takes too long; there is one call at a time.

    It does what `asyncio.timeout` does, for less: its timer is not set for each call, which would take a tenth as long
    as the call itself, but rings at the time limit of some call of the past, and then for the one under way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._end = 0.0
        self._caller: asyncio.Task[Any] | None = None
        self._late = False
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Do a piece of work.

        Raises:
            TimeoutError: it took longer.
        """
        self._end = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._end:
            self._set()
        self._caller = caller = current_task()
        others = caller.cancelling()
        self._late = False
        try:
            return await work
        except asyncio.CancelledError:
            if self._late and caller.cancelling() <= others + 1:
                raise TimeoutError from None
            raise
        finally:
            self._caller = None
            if self._late:
                caller.uncancel()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._end, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._caller is None:
            return
        if self._loop.time() < self._end:
            self._set()
        else:
            self._late = True
            self._caller.cancel()


def current_task() -> asyncio.Task[Any]:
    """Return the task that runs."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task of asyncio runs here")
    return task
