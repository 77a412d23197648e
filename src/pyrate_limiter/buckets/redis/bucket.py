"""The bucket in Redis or Valkey: for many processes on many hosts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from struct import Struct, pack
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from ...algorithms import Algorithm, SlidingWindowLog
from ...bucket import AbstractBucket, BucketStatistics
from ...clocks import Clock, warn_set_back
from ...decisions import FOREVER, RESET, Answer, Ask
from ...rates import Rate
from ...waiting import Heard
from ..outage import Fail, Outage, WhenDown
from ..shares import Share
from . import coredis_
from .clients import Call, Client, Reply, Work
from .families import MOST, script_for

# Now, not with the first bucket: that may be made on a running event loop.
redis_py: ModuleType | None
own: ModuleType | None
try:
    from . import redis_py
except ModuleNotFoundError:
    redis_py = None
try:
    from . import own
except ModuleNotFoundError:  # redis-py is here perhaps, for clients that are handed in, but without hiredis
    own = None

if TYPE_CHECKING:
    import coredis
    import redis.asyncio

    AnyClient: TypeAlias = (
        redis.asyncio.Redis | redis.asyncio.RedisCluster | coredis.Redis[Any] | coredis.RedisCluster[Any]
    )

_tuple = tuple.__new__
_TAKE = Struct("<5d").pack
_GRACE = 1000
"""Milliseconds that a key outlives what it says: a clock that is set back by less than a second finds it there."""
_TEST_GRACE = 600_000
"""The same under a clock of a test's own: the server's goes on whatever that one does."""
_KINDS = {
    "redis.asyncio.client.Redis": (redis_py, "HandedIn"),
    "redis.asyncio.cluster.RedisCluster": (redis_py, "HandedInCluster"),
    "coredis.client.basic.Redis": (coredis_, "HandedIn"),
    "coredis.client.cluster.RedisCluster": (coredis_, "HandedInCluster"),
}


class RedisBucket(AbstractBucket):
    """Budgets in Redis (6.2 or later) or Valkey, shared by all who use the same prefix, rates and algorithm.

    A key costs about 90 bytes; with the log 150 at first, then about 25 for each unit of the limit and 25 kB at most
    for each rate (on Valkey; on Redis up to a third more). It expires a second after it says nothing any more. Time
    is the server's.

    Args:
        rates: one rate or several.
        url_or_client: where the server is, such as ``redis://localhost:6379/0``: then one connection is kept for each
            event loop (asyncio only); or a client of `redis.asyncio` or of coredis (asyncio and trio), also for a
            cluster or behind Sentinel, which is never closed here.
        prefix: what the keys in Redis begin with.
        algorithm: how the rates are counted.
        when_down: what happens while Redis is down or slow.
        clock: a function that returns microseconds, for tests.

    Attributes:
        outage: whether Redis is down, how often it was, and how many decisions were not its own.

    Raises:
        TypeError: there is no script for this algorithm, or no way to use such a client.
        ValueError: a rate is beyond what the scripts count exactly.
        ImportError: a URL needs redis-py and hiredis.
    """

    def __init__(
        self,
        rates: Rate | Sequence[Rate],
        url_or_client: str | AnyClient,
        *,
        prefix: str = "pyrate_limiter",
        algorithm: type[Algorithm] = SlidingWindowLog,
        when_down: WhenDown = Fail(),  # noqa: B008 - it is frozen
        clock: Clock | None = None,
    ) -> None:
        super().__init__(rates, algorithm=algorithm)
        self._share = Share(self.rates)
        self.share = self._share.least
        script = script_for(algorithm, self.rates)
        self._client: Client[Any] = adapted(url_or_client)
        self.calls_back = self._client.calls_back
        self._key_start = f"{prefix}:{script.digest}:".encode()
        self._growth = script.growth
        self._work = Work(script, -1, _GRACE if clock is None else _TEST_GRACE)
        self._test_clock = clock
        self._arguments = (rates, url_or_client, prefix, algorithm, when_down, clock)
        self.outage = Outage(when_down, self.rates, algorithm, self._client.where)

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await self.outage.call(self._ask_store, asks)

    def _begin(self, ask: Ask, heard: Heard) -> bool:
        if self.outage.down or self._test_clock is not None:
            return False
        key, cost, patience, _, _ = ask
        call = Call([self._key_start + key.encode()], _TAKE(1, cost, patience, -1, 1))
        return self._client.begin(self._work, call, self.outage.budget, partial(self._heard, ask, heard))

    def _heard(self, ask: Ask, heard: Heard, reply: Reply | None) -> None:
        if reply is None:
            heard(None)
        else:
            self.share = self._share.after(self._client.trip)
            heard(self._answers((ask,), reply)[0])

    async def _ask_store(self, asks: Sequence[Ask], budget: float) -> list[Answer]:
        client = self._client
        work = self._work if self._test_clock is None else self._work._replace(moment=self._test_clock())
        if client.together:
            (reply,) = await client.run(work, [self._call(asks)], budget)
            answers = self._answers(asks, reply)
        else:
            answers = await self._key_by_key(work, asks, budget)
        self.share = self._share.after(client.trip)
        return answers

    async def _key_by_key(self, work: Work, asks: Sequence[Ask], budget: float) -> list[Answer]:
        apart: dict[str, list[int]] = {}
        for i, ask in enumerate(asks):
            apart.setdefault(ask.key, []).append(i)
        parts = [[asks[i] for i in places] for places in apart.values()]
        replies = await self._client.run(work, [self._call(part) for part in parts], budget)
        answers: dict[int, Answer] = {}
        for places, part, reply in zip(apart.values(), parts, replies, strict=True):
            answers |= zip(places, self._answers(part, reply), strict=True)
        return [answers[i] for i in range(len(asks))]

    def _call(self, asks: Iterable[Ask]) -> Call:
        places: dict[str, int] = {}
        numbers: list[int] = []
        before = None
        for ask in asks:
            if ask == before:
                numbers[-1] += 1
                continue
            key, cost, patience, at, _ = ask
            place = places.setdefault(key, len(places) + 1)
            if cost > 0:
                numbers += (place, cost, patience, -1, 1)
                before = ask if self._growth is not None else None
            else:
                # More than can ever fit was never granted, and a moment that no double holds never was.
                numbers += (place, cost if cost == RESET else max(cost, -MOST), 0, max(-1, min(at, FOREVER)), 1)
                before = None
        start = self._key_start
        return Call([start + key.encode() for key in places], pack(f"<{len(numbers)}d", *numbers))

    def _answers(self, asks: Sequence[Ask], reply: Reply) -> list[Answer]:
        if reply[1]:
            warn_set_back(reply[1])
        answers: list[Answer] = []
        for row in range(2, len(reply), 6):
            alike, wait, at, left, reset, rate = reply[row : row + 6]
            if alike == 1:
                answers.append(_tuple(Answer, (wait, at, left, reset, rate, False)))
            elif wait:
                answers += [_tuple(Answer, (wait, at, left, reset, rate, False))] * alike
            else:
                cost = asks[len(answers)].cost
                taken = range(0, alike * cost, cost)
                growth = self._growth or 0
                answers += [_tuple(Answer, (0, at, left - n, reset + n * growth, rate, False)) for n in taken]
        return answers

    def statistics(self) -> BucketStatistics:
        return self.outage.told_by(super().statistics())

    async def _disconnect(self) -> None:
        await self._client.close()

    def _forked(self) -> None:
        super()._forked()
        self._client.forked()
        self.outage.forked()

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._arguments[1], str):
            raise TypeError("a RedisBucket made from a client cannot be pickled: make it from a URL")
        return _rebuild, self._arguments


def _rebuild(
    rates: Any, url: str, prefix: str, algorithm: type[Algorithm], when_down: WhenDown, clock: Clock | None
) -> RedisBucket:
    return RedisBucket(rates, url, prefix=prefix, algorithm=algorithm, when_down=when_down, clock=clock)


def adapted(url_or_client: str | AnyClient) -> Client[Any]:
    """Return what runs scripts through this client, or through connections of our own to this URL."""
    if isinstance(url_or_client, str):
        if own is None:
            raise ImportError("a URL needs redis-py and hiredis: pip install 'pyrate-limiter-anyio[redis]'")
        connections: Client[Any] = own.OwnConnections(url_or_client)
        return connections
    for kind in type(url_or_client).__mro__:
        library, name = _KINDS.get(f"{kind.__module__}.{kind.__qualname__}", (None, ""))
        if library is not None:
            client: Client[Any] = getattr(library, name)(url_or_client)
            return client
    raise TypeError(
        f"RedisBucket needs a URL, a client of redis.asyncio or one of coredis, not {type(url_or_client)!r};"
        " a client that is not async would block the event loop"
    )
