"""Policy on top of a bucket: which one decides, how long a call may wait, and what becomes of a refusal."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from inspect import isawaitable
from typing import Any
from weakref import WeakValueDictionary

from ..bucket import NOT_AT_ALL, NOWHERE, AbstractBucket, InPlace, InstantBucket, as_patience, valid_name, valid_weight
from ..decisions import UNNAMED, Answer, Decision
from ..errors import BucketFullException, LimiterClosed, LimiterDelayException, RateLimitError, WeightTooLarge
from ..listening import Audible, Audience, Heard
from ..routing import BucketFactory
from ..waiting import Patience

UNCOUNTED = -1
"""The stamp of what was admitted while a limiter was disabled."""


class Policy(Audible):
    """What stands behind the calls of a limiter: `Calls` are a few lines each on it."""

    # What a limiter is that was not initialised yet: see `factories.LIMITER`.
    _bucket: AbstractBucket | None = None
    _factory: BucketFactory | None = None
    _at_hand: InPlace = NOWHERE
    _patience = Patience()
    _keyed = _owned = _raises = _awaited = _closed = False
    _disabled = 0
    _global_name: str | None = None
    _used: WeakValueDictionary[int, AbstractBucket] = WeakValueDictionary()  # noqa: RUF012 - nothing comes into it

    async def _try(self, name: str, weight: int, patience: Patience) -> bool:
        """Do as `try_acquire` does, with arguments that were checked, where nothing can be decided in place."""
        bucket = self._bucket
        try:
            if bucket is None or self._raises or self._closed or self._disabled:
                return self._as_bool(await self._request(name, weight, patience), patience)
            return await bucket._ask(name if self._keyed else "", name, weight, patience, _admitted)
        except WeightTooLarge:
            if self._raises:
                raise
            return False

    def _request(self, name: str, weight: int, patience: Patience) -> Coroutine[Any, Any, Decision]:
        bucket = self._bucket
        if bucket is None or self._closed or self._disabled:
            return self._request_routed(name, weight, patience)
        return bucket._request(self._key(name), name, weight, patience)

    async def _request_routed(self, name: str, weight: int, patience: Patience) -> Decision:
        bucket = await self._route(name, weight)
        if self._disabled:
            rate = bucket.rates[0]
            return Decision(True, name, valid_weight(weight), UNCOUNTED, 0.0, 0.0, rate.limit, rate.limit, rate)
        return await bucket._request(self._key(name), name, weight, patience)

    async def _request_aloud(self, audience: Audience, name: str, weight: int, patience: Patience) -> Decision:
        if self._disabled:
            return await type(self)._request(self, name, weight, patience)
        return await audience.follow(name, weight, patience, partial(type(self)._request, self, name, weight))

    async def _try_aloud(self, name: str, weight: int, patience: Patience) -> bool:
        try:
            return self._as_bool(await self._request(name, weight, patience), patience)
        except WeightTooLarge:
            if self._raises:
                raise
            return False

    def _heard_by(self, audience: Audience | None) -> None:
        self._audience = audience
        if audience is None:
            del self._request, self._try
        else:
            self._request = partial(self._request_aloud, audience)  # type: ignore[method-assign]
            self._try = self._try_aloud  # type: ignore[method-assign]
        self._choose_at_hand()

    def _choose_at_hand(self) -> None:
        """Choose what decides in place."""
        bucket = self._bucket
        if self._disabled or self._closed or not isinstance(bucket, InstantBucket):
            self._at_hand = NOWHERE
        else:
            place = bucket._in_place()
            self._at_hand = place if self._audience is None else Heard(place, self._audience)

    async def _route(self, name: str, weight: int) -> AbstractBucket:
        self._require_open()
        if self._bucket is not None:
            return self._bucket
        if self._factory is None:
            raise self._empty_error()
        found = self._factory.get(name, weight)
        bucket = await found if isawaitable(found) else found
        if not isinstance(bucket, AbstractBucket):
            factory = type(self._factory).__name__
            raise TypeError(f"{factory}.get({name!r}, {weight}) must return a bucket, not {bucket!r}")
        self._used[id(bucket)] = bucket
        return bucket

    def _key(self, name: str) -> str:
        valid_name(name)
        if not self._keyed:
            return ""
        if name is UNNAMED:
            raise ValueError('this limiter is keyed, so each call needs a name: acquire("whose")')
        return name

    def _check(self, name: str, weight: int, blocking: bool, timeout: float) -> Patience:
        """Refuse what makes no sense, and return how the call waits."""
        self._key(name)
        valid_weight(weight)
        if timeout == -1:
            return self._patience if blocking else NOT_AT_ALL
        if not blocking:
            raise ValueError(
                f"blocking=False does not wait, so timeout={timeout!r} says nothing: leave one of them out"
            )
        return self._patience._replace(limit=min(as_patience(timeout), self._patience.limit))

    def _as_bool(self, decision: Decision, patience: Patience) -> bool:
        if self._raises and not decision.allowed:
            raise self._refusal(decision, patience)
        return decision.allowed

    def _refusal(self, decision: Decision, patience: Patience) -> RateLimitError:
        if patience is NOT_AT_ALL:
            return BucketFullException.of(decision)
        too_long = round((decision.waited + decision.retry_after) * 1e6) > patience.limit
        if too_long or (decision.waited and not patience.once):
            return LimiterDelayException.of(decision, patience.limit / 1e6)
        if decision.waited:
            return BucketFullException.of(decision, "it waited once, and somebody else was faster; come back then")
        return BucketFullException.of(decision, f"max_waiters={patience.most} wait already; come back then")

    def _buckets(self) -> list[AbstractBucket]:
        """Return its bucket, or all that the factory gave and somebody still has."""
        if self._bucket is not None:
            return [self._bucket]
        known = [ref() for ref in self._used.valuerefs()]  # copied in one piece, whatever other threads do
        return [bucket for bucket in known if bucket is not None]

    def _shut(self) -> list[AbstractBucket]:
        """Refuse what comes and dismiss who waits; return the buckets that are to be closed too."""
        if self._bucket is None and self._factory is None:
            raise self._empty_error()
        self._closed = True
        self._choose_at_hand()
        for bucket in self._buckets():
            bucket._dismiss(self._closed_error(), self)
        return [self._bucket] if self._bucket and self._owned else []

    def _closed_error(self) -> LimiterClosed:
        return LimiterClosed("this limiter is closed; make a new one")

    def _empty_error(self) -> RuntimeError:
        return RuntimeError("the global LIMITER has no bucket yet: call init_global_limiter(bucket) first")

    def _require_open(self) -> None:
        if self._closed:
            raise self._closed_error()


def _admitted(name: str, weight: int, answer: Answer, waited: float) -> bool:
    return not answer.wait
