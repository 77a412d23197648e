"""The way of one request: the gate, the limiter, the wire, and perhaps once more.

The same for tasks and for threads, save for the words async and await.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeAlias

import anyio

from ... import BucketFullException, Limiter, LimiterDelayException
from .conduct import Conduct, Library, Options
from .gates import Gate, SyncGate, TooLate

Call: TypeAlias = Callable[[Any], Awaitable[Any]]
SyncCall: TypeAlias = Callable[[Any], Any]
TOO_BUSY = (TooLate, BucketFullException, LimiterDelayException)


class Sender:
    """Sends the requests of one client, on asyncio and on trio. The arguments are those of `Conduct`."""

    def __init__(self, library: Library, limiter: Limiter[Any] | None, options: Options) -> None:
        self._conduct = Conduct(Gate, library, limiter, options)
        self._max_wait = inf if options.max_wait is None else options.max_wait

    async def send(self, request: Any, call: Call, discard: Call) -> Any:
        """Send a request when it may go, and again if it is refused and may be sent again.

        Args:
            request: the library's.
            call: puts it on the wire and returns the response.
            discard: releases the connection of a response that nobody will read.

        Returns:
            The response of the server, or one of our own.

        Raises:
            RateLimitError: it could not be sent.
            Exception: what `call` raised.
        """
        name, weight = self._conduct.wanted(request)
        deadline = inf if self._max_wait == inf else anyio.current_time() + self._max_wait
        try:
            if self._conduct.options.obey_server:
                return await self._obey(request, call, discard, name, weight, deadline)
            return await self._attempt(request, call, name, weight, deadline)
        except TOO_BUSY as error:
            return self._conduct.refuse(request, name, weight, error)

    async def _obey(self, request: Any, call: Call, discard: Call, name: str, weight: int, deadline: float) -> Any:
        gate = self._conduct.gate(name)
        arrival = gate.line.arrive()
        refusals = 0
        while True:
            number = await gate.enter(arrival, refusals, deadline)
            try:
                response = await self._attempt(request, call, name, weight, deadline)
                news = self._conduct.judge(response)
            except BaseException:
                gate.lost()
                raise
            gate.answered(number, news)
            if not news.refused or not self._conduct.may_repeat(request, response, refusals):
                return response
            if not gate.opens_by(deadline):
                return response
            await discard(response)
            refusals += 1

    async def _attempt(self, request: Any, call: Call, name: str, weight: int, deadline: float) -> Any:
        limiter = self._conduct.limiter
        if limiter is not None:
            timeout = -1 if deadline == inf else max(deadline - anyio.current_time(), 0.0)
            await limiter.acquire(name, weight, timeout=timeout)
        return await call(request)


class SyncSender:
    """Sends the requests of one client from any thread. The arguments are those of `Conduct`."""

    def __init__(self, library: Library, limiter: Limiter[Any] | None, options: Options) -> None:
        self._conduct = Conduct(SyncGate, library, limiter, options)
        self._max_wait = inf if options.max_wait is None else options.max_wait

    def send(self, request: Any, call: SyncCall, discard: SyncCall) -> Any:
        """Do as `Sender.send` does; the thread sleeps."""
        name, weight = self._conduct.wanted(request)
        deadline = time.monotonic() + self._max_wait
        try:
            if self._conduct.options.obey_server:
                return self._obey(request, call, discard, name, weight, deadline)
            return self._attempt(request, call, name, weight, deadline)
        except TOO_BUSY as error:
            return self._conduct.refuse(request, name, weight, error)

    def _obey(self, request: Any, call: SyncCall, discard: SyncCall, name: str, weight: int, deadline: float) -> Any:
        gate = self._conduct.gate(name)
        arrival = gate.line.arrive()
        refusals = 0
        while True:
            number = gate.enter(arrival, refusals, deadline)
            try:
                response = self._attempt(request, call, name, weight, deadline)
                news = self._conduct.judge(response)
            except BaseException:
                gate.lost()
                raise
            gate.answered(number, news)
            if not news.refused or not self._conduct.may_repeat(request, response, refusals):
                return response
            if not gate.opens_by(deadline):
                return response
            discard(response)
            refusals += 1

    def _attempt(self, request: Any, call: SyncCall, name: str, weight: int, deadline: float) -> Any:
        limiter = self._conduct.limiter
        if limiter is not None:
            timeout = -1 if deadline == inf else max(deadline - time.monotonic(), 0.0)
            limiter.sync.acquire(name, weight, timeout=timeout)
        return call(request)
