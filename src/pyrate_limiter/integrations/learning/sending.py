"""The way of one request: the gate, the limiter, the wire, and perhaps once more.

The same for tasks and for threads, save for the words async and await.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

from ... import BucketFullException, Limiter, LimiterDelayException
from .conduct import Conduct, Library, Options, SyncLibrary
from .gates import Gate, SyncGate, TooLate
from .line import NOT_YET

Call: TypeAlias = Callable[[Any], Awaitable[Any]]
SyncCall: TypeAlias = Callable[[Any], Any]
TOO_BUSY = (TooLate, BucketFullException, LimiterDelayException)


@dataclass(slots=True)
class Errand:
    """A request on its way.

    Attributes:
        request: the library's.
        name: whose budget it is of.
        weight: its units in the limiter.
        deadline: when it is too late to send it, by the clock of the gate.
    """

    request: Any
    name: str
    weight: int
    deadline: float

    def timeout(self, time: Callable[[], float]) -> float:
        """Return the longest wait for the limiter, as its calls want it, by the clock of the gate."""
        return -1 if self.deadline == inf else max(self.deadline - time(), 0.0)


class Sender:
    """Sends the requests of one client, on asyncio and on trio. The arguments are those of `Conduct`."""

    def __init__(self, library: Library, limiter: Limiter[Any] | None, options: Options) -> None:
        self._library = library
        self._limiter = limiter
        self._conduct = Conduct(Gate, library, limiter, options)
        self._obeys = options.obey_server
        self._max_wait = inf if options.max_wait is None else options.max_wait

    async def send(self, request: Any, call: Call) -> Any:
        """Send a request when it may go, and again if it is refused and may be sent again.

        Args:
            request: the library's.
            call: puts it on the wire and returns the response.

        Returns:
            The response of the server, or one of our own.

        Raises:
            RateLimitError: it could not be sent.
            Exception: what `call` raised.
        """
        name, weight = self._conduct.wanted(request)
        gate = self._conduct.gate(name)
        errand = Errand(request, name, weight, gate.time() + self._max_wait)
        try:
            if self._obeys:
                return await self._obey(gate, errand, call)
            return await self._attempt(gate, errand, call)
        except TOO_BUSY as error:
            return self._conduct.refuse(request, name, weight, error)

    async def _obey(self, gate: Gate, errand: Errand, call: Call) -> Any:
        arrival = gate.line.arrive()
        refusals = 0
        while True:
            number = gate.pass_by()
            if number == NOT_YET:
                number = await gate.enter(arrival, refusals, errand.deadline)
            try:
                response = await self._attempt(gate, errand, call)
                news = self._conduct.judge(response)
            except BaseException:
                gate.lost()
                raise
            gate.answered(number, news)
            if not news.refused or not self._conduct.may_repeat(errand.request, response, refusals):
                return response
            if not gate.opens_by(errand.deadline):
                return response
            await self._library.discard(response)
            refusals += 1

    async def _attempt(self, gate: Gate, errand: Errand, call: Call) -> Any:
        if self._limiter is not None:
            await self._limiter.acquire(errand.name, errand.weight, timeout=errand.timeout(gate.time))
        return await call(errand.request)


class SyncSender:
    """Sends the requests of one client from any thread. The arguments are those of `Conduct`."""

    def __init__(self, library: SyncLibrary, limiter: Limiter[Any] | None, options: Options) -> None:
        self._library = library
        self._limiter = limiter
        self._conduct = Conduct(SyncGate, library, limiter, options)
        self._obeys = options.obey_server
        self._max_wait = inf if options.max_wait is None else options.max_wait

    def send(self, request: Any, call: SyncCall) -> Any:
        """Do as `Sender.send` does; the thread sleeps."""
        name, weight = self._conduct.wanted(request)
        gate = self._conduct.gate(name)
        errand = Errand(request, name, weight, gate.time() + self._max_wait)
        try:
            if self._obeys:
                return self._obey(gate, errand, call)
            return self._attempt(gate, errand, call)
        except TOO_BUSY as error:
            return self._conduct.refuse(request, name, weight, error)

    def _obey(self, gate: SyncGate, errand: Errand, call: SyncCall) -> Any:
        arrival = gate.line.arrive()
        refusals = 0
        while True:
            number = gate.pass_by()
            if number == NOT_YET:
                number = gate.enter(arrival, refusals, errand.deadline)
            try:
                response = self._attempt(gate, errand, call)
                news = self._conduct.judge(response)
            except BaseException:
                gate.lost()
                raise
            gate.answered(number, news)
            if not news.refused or not self._conduct.may_repeat(errand.request, response, refusals):
                return response
            if not gate.opens_by(errand.deadline):
                return response
            self._library.discard(response)
            refusals += 1

    def _attempt(self, gate: SyncGate, errand: Errand, call: SyncCall) -> Any:
        if self._limiter is not None:
            self._limiter.sync.acquire(errand.name, errand.weight, timeout=errand.timeout(gate.time))
        return call(errand.request)
