"""Limits of a server: which requests each is for, whom it counts, and what it takes."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from .. import (
    AbstractBucket,
    BucketFactory,
    BucketFullException,
    Decision,
    Limiter,
    LimiterDelayException,
    Rate,
    StoreError,
    WeightTooLarge,
)
from .fields import Policies
from .keys import Key, bounded, client_address

T = TypeVar("T")
Budget: TypeAlias = str | Rate | Sequence[Rate] | AbstractBucket | BucketFactory | Limiter[Any]
"""What a limiter is made of: a text such as ``100/minute``, rates, a bucket, a factory; or one that is made already."""
Cost: TypeAlias = int | Callable[[Any], int | Awaitable[int]]
Exempt: TypeAlias = Callable[[Any], bool | Awaitable[bool]]
Hold: TypeAlias = Callable[[Callable[[], Awaitable[Decision]]], Awaitable[Decision]]

_log = logging.getLogger("pyrate_limiter")


class Limit:
    """One limit of a server.

    Args:
        path: the paths it is for; ``*`` stands for anything, slashes too.
        limiter: a limiter, or what one is made of. Each key has a budget of its own in it.
        methods: the methods it is for; None: all. A WebSocket's handshake is a GET.
        key: whom a request is counted for, see `keys`. None: all requests share one budget.
        cost: the units of a request, or a function of it that returns them.
        exempt: a function of the request that says whether it is let through uncounted.
        shadow: decide, tell and log, but never refuse.
        wait: the most seconds for which a request is held until it fits. None: it is refused at once.
        policy_name: what clients read; one name for each rate if there are several. None: what each rate says of
            itself, such as ``100/1m``.

    Raises:
        ValueError: the limiter shares one budget among all names, so that the key would say nothing.
    """

    def __init__(
        self,
        path: str,
        limiter: Budget,
        *,
        methods: Collection[str] | None = None,
        key: Key | None = client_address,
        cost: Cost = 1,
        exempt: Exempt | None = None,
        shadow: bool = False,
        wait: float | None = None,
        policy_name: str | Sequence[str] | None = None,
    ) -> None:
        self.limiter = as_limiter(limiter, keyed=key is not None)
        self.policies = Policies(policy_name, self.limiter.rates)
        self.shadow = shadow
        self._path = None if path == "*" else re.compile(".*".join(map(re.escape, path.split("*"))), re.DOTALL)
        self._methods = None if methods is None else {method.upper() for method in methods}
        self._key = key
        self._cost = cost
        self._exempt = exempt
        self._wait = wait or 0
        self.holds = bool(self._wait) and not shadow
        self.covers_all = self._path is None and self._methods is None

    def covers(self, method: str, path: str) -> bool:
        """Return whether it is for such requests."""
        return (self._methods is None or method in self._methods) and (
            self._path is None or self._path.fullmatch(path) is not None
        )

    async def ask(self, connection: Any, hold: Hold | None = None) -> Decision | None:
        """Take what a request costs.

        Args:
            connection: what the key and the other functions are called with.
            hold: awaits a call for as long as the client is there. None: do not wait.

        Returns:
            The decision; None if the request is exempt, or if the store failed under a limit that never refuses.

        Raises:
            ClientGone: by `hold`.
            StoreError: the store could not decide.
        """
        wanted = await self._wanted(connection)
        if wanted is None:
            return None
        try:
            decision = await self._take(*wanted)
            if decision.allowed:
                return decision
            if self.shadow:
                _log.warning("%s would be refused %d of %s", decision.name, decision.weight, decision.rate)
            elif hold is not None and decision.retry_after <= self._wait:
                return await self._wait_for(decision, hold, *wanted)
        except StoreError as error:
            if not self.shadow:
                raise
            _log.warning("a limit in shadow could not be decided: %s", error)
            return None
        return decision

    async def look(self, connection: Any) -> Decision | None:
        """Return what `ask` would say, and keep nothing of it; None also if the store fails."""
        wanted = None if self.shadow else await self._wanted(connection)
        if wanted is None:
            return None
        try:
            if wanted[1] == 1:
                return await self.limiter.peek(wanted[0])
            return await self.give_back(await self._take(*wanted))
        except StoreError:
            return None

    async def give_back(self, decision: Decision) -> Decision:
        """Give back what a decision took, and return it with that in its count."""
        if not decision.allowed:
            return decision
        try:
            await self.limiter.refund(decision)
        except StoreError as error:
            _log.warning("what a refused request took from another limit could not be given back: %s", error)
            return decision
        return decision._replace(remaining=min(decision.limit, decision.remaining + decision.weight))

    async def _wanted(self, connection: Any) -> tuple[str, int] | None:
        """Return the name and the units of a request; None if it is exempt."""
        if self._exempt is not None and await _settled(self._exempt(connection)):
            return None
        name = ""
        if self._key is not None:
            key = self._key(connection)
            name = bounded(key if isinstance(key, str) else await _settled(key))
        if not callable(self._cost):
            return name, self._cost
        return name, await _settled(self._cost(connection))

    async def _take(self, name: str, weight: int) -> Decision:
        try:
            return await self.limiter.take(name, weight)
        except WeightTooLarge:
            seen = await self.limiter.peek(name)
            return seen._replace(allowed=False, weight=weight, retry_after=math.inf)

    async def _wait_for(self, refusal: Decision, hold: Hold, name: str, weight: int) -> Decision:
        try:
            return await hold(partial(self.limiter.acquire, name, weight, timeout=self._wait))
        except (LimiterDelayException, BucketFullException) as error:
            return refusal if error.decision is None else error.decision


def as_limiter(budget: Budget, *, keyed: bool) -> Limiter[Any]:
    """Return a limiter, or make one.

    Raises:
        ValueError: a limiter was given that does not tell its callers apart, where they are to be told apart.
    """
    if isinstance(budget, str):
        budget = Rate.parse(budget)
    if not isinstance(budget, Limiter):
        return Limiter(budget, keyed=keyed)
    if keyed and budget.rates and not budget.keyed:
        raise ValueError(
            "this limiter has one budget for all names, so one client could use it up for all: make it with"
            " keyed=True, or say key=None if that is what you want"
        )
    return budget


def as_limits(limiter: Budget | Sequence[Limit], **options: Any) -> list[Limit]:
    """Return the limits that were given, or the one that is made of a limiter and options.

    Raises:
        ValueError: options were given beside limits, or limits of different limiters have the same name.
    """
    if isinstance(limiter, str) or not isinstance(limiter, Sequence) or not any(isinstance(x, Limit) for x in limiter):
        return [Limit("*", cast("Budget", limiter), **options)]
    given = [name for name, value in options.items() if value != DEFAULTS[name]]
    if given:
        raise ValueError(f"each Limit has options of its own: give {', '.join(given)} to them")
    limits = list(cast("Sequence[Limit]", limiter))
    _require_distinct_names(limits)
    return limits


DEFAULTS: dict[str, Any] = {
    "key": client_address,
    "cost": 1,
    "exempt": None,
    "shadow": False,
    "wait": None,
    "policy_name": "default",
}
"""Of the options of a middleware with a single limit."""


def covering(limits: Sequence[Limit], method: str, path: str) -> Sequence[Limit]:
    """Return those that are for such a request."""
    return [limit for limit in limits if limit.covers(method, path)]


def _require_distinct_names(limits: Sequence[Limit]) -> None:
    """Raise ValueError if policies of different limiters have the same name: a client could not tell them apart."""
    owners: dict[str, Limiter[Any]] = {}
    for limit in limits:
        for name in limit.policies.names:
            if owners.setdefault(name, limit.limiter) is not limit.limiter:
                raise ValueError(f"two limits are called {name!r}: give each a policy_name= of its own")


async def _settled(value: T | Awaitable[T]) -> T:
    """Return a value, or what an awaitable of it gives."""
    found: Any = value  # T may be an awaitable of its own kind, for all that a type checker knows
    settled: T = await found if isinstance(found, Awaitable) else found
    return settled
