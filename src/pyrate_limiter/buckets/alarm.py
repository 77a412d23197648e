"""A limit on the time of calls that are made one after the other, on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Alarm:
    """Ends a call that takes too long; there is one call at a time.

    Its timer is not set for each call, which would take a tenth as long as the call itself, but once for all calls
    until it rings; a call that is under way then gets one of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._end = 0.0
        self._call: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Do a piece of work.

        Raises:
            TimeoutError: it took longer.
        """
        self._end = self._loop.time() + seconds
        if self._timer is None or self._rings > self._end:
            self._set()
        async with asyncio.timeout(None) as call:
            self._call = call
            try:
                return await work
            finally:
                self._call = None

    def _ring(self) -> None:
        self._timer = None
        if self._call is not None:
            self._call.reschedule(self._end)

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._end
        self._timer = self._loop.call_at(self._rings, self._ring)
