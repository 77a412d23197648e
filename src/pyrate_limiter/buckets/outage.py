"""What happens while a store is down or slow: the breaker that carries out a policy.

A bucket that decides in a store keeps one `Outage` and makes every call of it through that::

    self._outage = Outage(when_down, self.rates, algorithm, f"Redis at {host}:{port}")

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await self._outage.call(self._ask_store, asks)

    async def _ask_store(self, asks: Sequence[Ask], budget: float) -> list[Answer]: ...

`_ask_store` returns or raises within `budget` seconds: how a driver is made to give up is its bucket's business. It
raises `StoreDown` when the store cannot be reached, does not answer in time or says that it cannot serve now; a plain
`StoreError` when the store is there and is not what it should be (wrong type, missing rights, a bad password): that
one is passed on under every policy and opens no breaker. A call may be cancelled at any moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from .. import clocks
from ..algorithms import Algorithm
from ..bucket import BucketStatistics
from ..clocks import SECOND, Clock
from ..decisions import Answer, Ask
from ..errors import StoreError
from ..rates import Rate
from .policies import Admit, Fail, LocalShare, Refuse, WhenDown

logger = logging.getLogger("pyrate_limiter")

StoreCall: TypeAlias = Callable[[Sequence[Ask], float], Awaitable[list[Answer]]]
"""Decide these asks in the store within so many seconds, or raise `StoreDown` or `StoreError`."""


class StoreDown(StoreError):
    """The store cannot be reached, does not answer in time or cannot serve now: it may be back soon."""


class Outage:
    """The breaker between a bucket and its store: one per bucket and process, for all threads and loops.

    Closed, every call goes to the store. The first `StoreDown` opens it: from then on the stand-in answers at once, or
    the error is raised at once. Every `probe` seconds one call is let through, and the first that succeeds closes it.

    Args:
        when_down: the policy.
        rates: the bucket's.
        algorithm: the bucket's.
        store: the store's name for people, as in ``Redis at localhost:6379``; without a password.
        clock: stamps the degraded answers, in microseconds.

    Attributes:
        store: the store's name.
        budget: the seconds that a decision may wait for the store.
        outages: how often the store was found down.
        degraded: how many decisions were not the store's.
    """

    def __init__(
        self,
        when_down: WhenDown,
        rates: Sequence[Rate],
        algorithm: type[Algorithm],
        store: str,
        clock: Clock = clocks.wall,
    ) -> None:
        self.store = store
        self.budget = when_down.budget
        self.outages = 0
        self.degraded = 0
        self._policy = when_down
        self._stand_in = when_down.stand_in(rates, algorithm)
        self._clock = clock
        self._error: StoreDown | None = None  # the error that opened it; None: closed
        self._since = 0.0
        self._degraded_before = 0
        self._retry_at = 0.0
        self._probe: Sequence[Ask] | None = None  # what the call asks that is to find out whether it is back
        self._lock = threading.Lock()

    @property
    def down(self) -> bool:
        """Whether the store was down at the last call."""
        return self._error is not None

    def told_by(self, statistics: BucketStatistics) -> BucketStatistics:
        """Return the statistics of the bucket, with what is known here."""
        return replace(statistics, down=self.down, outages=self.outages, degraded=self.degraded)

    def forked(self) -> None:
        """Make the lock anew in a forked child, where another thread's grip on it would never end."""
        self._lock = threading.Lock()
        self._probe = None

    async def call(self, ask_store: StoreCall, asks: Sequence[Ask]) -> list[Answer]:
        """Return the answers of the store, or those of the stand-in.

        Raises:
            StoreDown: the store is down and the policy is `Fail`.
            StoreError: the store is not what it should be.
        """
        for ask in asks:
            if ask.degraded:
                return await self._call_apart(ask_store, asks)
        if self._error is not None and not self._let_through(asks):
            return self._degrade(asks)
        try:
            answers = await ask_store(asks, self.budget)
        except StoreDown as error:
            self._open(error, asks)
            return self._degrade(asks)
        except BaseException:
            if self._probe is asks:
                self._probe, self._retry_at = None, 0.0  # neither a cancellation nor an answer says that it is down
            raise
        if self._error is not None:
            self._close()
        return answers

    async def _call_apart(self, ask_store: StoreCall, asks: Sequence[Ask]) -> list[Answer]:
        """Give back to the stand-in what it granted, and ask the store for the rest."""
        given_back = iter(self._degrade([ask for ask in asks if ask.degraded]) if self._stand_in else ())
        rest = [ask for ask in asks if not ask.degraded]
        answers = iter(await self.call(ask_store, rest) if rest else ())  # which may fail
        return [next(given_back, Answer(0, ask.at, degraded=True)) if ask.degraded else next(answers) for ask in asks]

    def _let_through(self, asks: Sequence[Ask]) -> bool:
        with self._lock:
            if self._probe is not None or time.monotonic() < self._retry_at:
                return False
            self._probe = asks
            self._retry_at = time.monotonic() + self._policy.budget  # when it will be known, for those who wait
            return True

    def _open(self, error: StoreDown, asks: Sequence[Ask]) -> None:
        with self._lock:
            first = self._error is None
            self._error = error
            if self._probe is asks:  # and not a call that began before the store was found down
                self._probe = None
            self._retry_at = time.monotonic() + self._policy.probe
            if first:
                self._since, self._degraded_before = time.monotonic(), self.degraded
                self.outages += 1
        if first:
            then = type(self._policy).__name__
            logger.error("%s; policy %s until it is back, asked every %g s", error, then, self._policy.probe)

    def _close(self) -> None:
        with self._lock:
            was_open, self._error, self._probe = self._error is not None, None, None
        if was_open:
            lasted, decisions = time.monotonic() - self._since, self.degraded - self._degraded_before
            logger.warning("%s is back after %.1f s; %d decisions were not its own", self.store, lasted, decisions)

    def _degrade(self, asks: Sequence[Ask]) -> list[Answer]:
        error, wait = self._error, max(1, int((self._retry_at - time.monotonic()) * SECOND))
        if self._stand_in is None:
            raise StoreDown(f"{error or self.store}; it is asked again in {wait / SECOND:.2g} s") from error
        with self._lock:
            self.degraded += sum(ask.cost >= 0 for ask in asks)
            return self._stand_in.answer(asks, self._clock(), wait)


__all__ = ["Admit", "Fail", "LocalShare", "Outage", "Refuse", "StoreCall", "StoreDown", "WhenDown"]
