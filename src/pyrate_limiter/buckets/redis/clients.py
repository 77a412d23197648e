"""What a bucket wants of a client library, whichever it is: run this script with these keys and arguments."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from struct import pack
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

from ...clocks import SECOND
from ...errors import StoreError
from ..outage import StoreDown
from .families import Script

TOO_LATE = -1
"""In place of the second number of a reply: the call came after its deadline and did nothing."""
_CANNOT_SERVE_NOW = re.compile(
    r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN|UNKILLABLE)\b"
)
Reply: TypeAlias = list[int]
Heard: TypeAlias = Callable[[Reply | None], None]
"""Takes a reply, or None if there is none and the call is to be made by `run`."""


class Call(NamedTuple):
    """One run of a script.

    Attributes:
        keys: the keys, as the server knows them.
        asks: the asks for them, packed.
    """

    keys: Sequence[bytes]
    asks: bytes


class Work(NamedTuple):
    """What stays the same from call to call: the script, and how it is told the time.

    Attributes:
        script: the script.
        moment: microseconds to decide at, or -1 for the server's own clock.
        grace: milliseconds that a key outlives its state.
    """

    script: Script
    moment: int
    grace: int


class ServerClock:
    """What is known of a server's clock, which says when a call comes too late to be of use.

    A reply's stamp was made between its request and its arrival, so each reply bounds the difference of the clocks
    from both sides; what was known is kept if it lies between, else moved to the nearer bound.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None

    def moment(self, local: float) -> float:
        """Return the server's time, in microseconds, at a moment of `time.monotonic`; the distant past if unknown."""
        return 1.0 if self._ahead is None else local * SECOND + self._ahead

    def learn(self, stamp: int, sent: float, received: float) -> None:
        """Take note of the stamp of a reply (microseconds), which was asked for and came at these local moments."""
        earliest, latest = stamp - received * SECOND, stamp - sent * SECOND
        self._ahead = earliest if self._ahead is None else min(max(self._ahead, earliest), latest)


class Place:
    """Where calls are made from: an event loop of its own, if the client library wants that.

    Attributes:
        clock: what is known of the server's clock.
    """

    def __init__(self) -> None:
        self.clock = ServerClock()

    def left_of(self, budget: float) -> float:
        """Return how many seconds of its budget a call has that is made from here now."""
        return budget


P = TypeVar("P", bound=Place)


class Client(ABC, Generic[P]):
    """A client library at work for one bucket.

    Attributes:
        together: whether one call holds all keys, so that there is one at a time; in a cluster it cannot.
        calls_back: whether `begin` may be asked.
        where: the server's name for people.
        trip: the seconds that the last call took.
    """

    together: ClassVar[bool] = True
    calls_back: ClassVar[bool] = False
    where: str
    trip = 0.0

    async def run(self, work: Work, calls: Sequence[Call], budget: float) -> list[Reply]:
        """Run the script for each call, and return its replies within `budget` seconds.

        A call that reaches the server after that does nothing. What the clock of a server says is learned from its
        replies, so the first of all calls comes too late on purpose, and is made once more.

        Raises:
            StoreDown: no server answered in time, or it cannot serve now.
            StoreError: it is not what it should be.
        """
        here = self.here()
        until = time.monotonic() + here.left_of(budget)
        replies = await self._run_once(here, work, calls, until)
        late = [i for i, reply in enumerate(replies) if reply[1] == TOO_LATE]
        if late:
            again = await self._run_once(here, work, [calls[i] for i in late], until)
            for i, reply in zip(late, again, strict=True):
                replies[i] = reply
                if reply[1] == TOO_LATE:
                    raise self.silent(budget)
        return replies

    async def _run_once(self, here: P, work: Work, calls: Sequence[Call], until: float) -> list[Reply]:
        clock = here.clock
        told = pack("<ddd", clock.moment(until), work.moment, work.grace)
        sent = time.monotonic()
        replies = await self._send(here, work.script, calls, (told, work.script.rates), until - sent)
        received = time.monotonic()
        self.trip = received - sent
        for reply in replies:
            clock.learn(reply[0], sent, received)
        return replies

    def begin(self, work: Work, call: Call, budget: float, heard: Heard) -> bool:
        """Begin one call, if the server can be asked at once; `heard` is called with its reply, later.

        Returns:
            Whether it has begun.
        """
        return False

    @abstractmethod
    def here(self) -> P:
        """Return the place that a call is made from now."""

    @abstractmethod
    async def _send(
        self, here: P, script: Script, calls: Sequence[Call], told: tuple[bytes, bytes], budget: float
    ) -> list[Reply]:
        """Run the script once for each call, with `told` and the call's asks as arguments; as `run` otherwise."""

    @abstractmethod
    async def close(self) -> None:
        """Close what this object opened on the running loop: never a client that was handed in."""

    @abstractmethod
    def forked(self) -> None:
        """Forget, in a forked child, the connections of the parent."""

    def silent(self, budget: float) -> StoreDown:
        """Return the error for a server that did not answer in time."""
        return StoreDown(f"{self.where} did not answer within {budget:.3g} s")

    def refused(self, error: Exception) -> StoreError:
        """Return the error for what a server said in place of a reply."""
        if _CANNOT_SERVE_NOW.search(str(error)):
            return StoreDown(f"{self.where} cannot serve now: {error}")
        return StoreError(
            f"{self.where} refused the script: {error}; see to its rights, its version (6.2 or later), and that nobody"
            " else uses keys with this prefix"
        )


async def through_pipeline(
    pipeline: Callable[[str, str, Sequence[Call]], Awaitable[list[Any]]],
    script: Script,
    calls: Sequence[Call],
    unknown: type[Exception],
) -> list[Reply]:
    """Run a script once for each call, on whichever nodes, and send its source to those that do not know it.

    Args:
        pipeline: runs EVALSHA or EVAL of a text for some calls, and returns replies and errors.
        script: the script.
        calls: the calls.
        unknown: the error of a node that does not know it.

    Raises:
        Exception: the first error of all other kinds.
    """
    replies = await pipeline("EVALSHA", script.sha, calls)
    again = [i for i, reply in enumerate(replies) if isinstance(reply, unknown)]
    if again:
        for i, reply in zip(again, await pipeline("EVAL", script.source, [calls[i] for i in again]), strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
