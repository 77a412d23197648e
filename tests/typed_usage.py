"""Typical uses, for the type checkers: each `assert_type` is what a user's own code may rely on.

mypy and pyright read this file, in strict mode; nothing runs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, assert_type

from pyrate_limiter import (
    GCRA,
    LIMITER,
    AbstractBucket,
    Admit,
    Answer,
    BucketAsyncWrapper,
    BucketFactory,
    BucketStatistics,
    Decision,
    Duration,
    InMemoryBucket,
    Limiter,
    LimiterDelayException,
    Listener,
    Listening,
    LocalShare,
    MultiprocessBucket,
    PostgresBucket,
    Rate,
    RedisBucket,
    SQLiteBucket,
    Wait,
    create_inmemory_limiter,
    create_sqlite_bucket,
    create_sqlite_limiter,
    init_global_limiter,
    validate_rate_list,
)
from pyrate_limiter.algorithms import decide
from pyrate_limiter.decisions import Ask
from pyrate_limiter.integrations.opentelemetry import OpenTelemetryListener
from pyrate_limiter.testing import ManualClock, ScriptedStore

rate = Rate(10, Duration.SECOND)
Pending = Coroutine[Any, Any, bool]


def values() -> None:
    assert_type(Rate(10, Duration.SECOND, burst=5).burst, int | None)
    assert_type(Rate.parse("10/minute"), Rate)
    assert_type(Duration.readable(1500), str)
    assert_type(validate_rate_list([rate]), bool)
    assert_type(rate.limit, int)
    assert_type(decide(GCRA(rate), {}, [Ask("a", 1)], 0), list[Answer])


def a_limiter_of(bucket: AbstractBucket, factory: BucketFactory) -> None:
    assert_type(Limiter(rate), Limiter[bool])
    assert_type(Limiter([rate, Rate(100, Duration.MINUTE)], keyed=True, max_waiters=10), Limiter[bool])
    assert_type(Limiter(bucket, max_delay=Duration.HOUR, raise_when_fail=True), Limiter[bool])
    assert_type(Limiter(factory, buffer_ms=0), Limiter[bool])
    assert_type(Limiter(rate, ManualClock(), False, None, True, 50), Limiter[bool])


def sync_calls(limiter: Limiter) -> None:
    assert_type(limiter.try_acquire(), bool)
    assert_type(limiter.try_acquire("name", 2, blocking=False), bool)
    assert_type(limiter.sync.acquire("name", 2, timeout=1.5), Decision)
    assert_type(limiter.sync.take("name"), Decision)
    assert_type(limiter.sync.peek(), Decision)
    limiter.sync.refund(limiter.sync.take())
    limiter.sync.refund("name", 2, at=1)
    limiter.sync.reset("name")
    with limiter as decision:
        assert_type(decision, Decision)
    with limiter.slot("name", weight=2) as decision:
        assert_type(decision, Decision)
    with limiter.disabled():
        limiter.close()


async def async_calls(limiter: Limiter) -> None:
    assert_type(await limiter.acquire("name", 2, timeout=1.5), Decision)
    assert_type(await limiter.take(), Decision)
    assert_type(await limiter.peek("name"), Decision)
    assert_type(await limiter.try_acquire_async("name", blocking=False), bool)
    await limiter.refund(await limiter.acquire())
    await limiter.reset()
    async with limiter as decision:
        assert_type(decision, Decision)
    async with limiter.slot("name", weight=2, timeout=3) as decision:
        assert_type(decision, Decision)
    await limiter.aclose()


async def awaited_calls(limiter: Limiter[Pending]) -> None:
    assert_type(limiter, Limiter[Coroutine[Any, Any, bool]])
    pending = assert_type(limiter.try_acquire(), Coroutine[Any, Any, bool])
    assert_type(await pending, bool)
    assert_type(await limiter.try_acquire("name", 2, timeout=1), bool)
    if await limiter.try_acquire():
        await limiter.acquire()


async def awaited_limiters() -> None:
    await awaited_calls(Limiter(rate, async_wrapper=True))
    await awaited_calls(Limiter(BucketAsyncWrapper(InMemoryBucket(rate)), buffer_ms=0))
    await awaited_calls(create_inmemory_limiter(async_wrapper=True))
    await awaited_calls(create_sqlite_limiter(5, Duration.SECOND, async_wrapper=True))


def known_at_run_time(awaited: bool) -> None:
    assert_type(Limiter(rate, async_wrapper=awaited).try_acquire(), bool | Coroutine[Any, Any, bool])


def factories() -> None:
    assert_type(create_inmemory_limiter(), Limiter[bool])
    assert_type(create_inmemory_limiter(20, Duration.MINUTE, algorithm=GCRA, keyed=True), Limiter[bool])
    assert_type(create_sqlite_limiter(db_path="limits.db", use_file_lock=True).try_acquire(), bool)
    assert_type(create_sqlite_bucket([rate], None), SQLiteBucket)
    init_global_limiter(InMemoryBucket(rate), max_delay=Duration.HOUR)
    assert_type(LIMITER.try_acquire("name"), bool)


def decisions(decision: Decision) -> None:
    assert_type(decision.allowed, bool)
    assert_type(bool(decision), bool)
    assert_type(decision.name, str)
    assert_type(decision.weight, int)
    assert_type(decision.at, int)
    assert_type(decision.retry_after, float)
    assert_type(decision.reset_after, float)
    assert_type(decision.remaining, int)
    assert_type(decision.limit, int)
    assert_type(decision.rate, Rate)
    assert_type(decision.waited, float)
    assert_type(decision.degraded, bool)


def errors(error: LimiterDelayException) -> None:
    assert_type(error.decision, Decision | None)
    assert_type(error.rate, Rate | None)
    assert_type(error.name, str | None)
    assert_type(error.meta_info, dict[str, Any])


async def buckets(bucket: AbstractBucket) -> None:
    assert_type(await bucket.acquire(2, key="name", timeout=None), Decision)
    assert_type(await bucket.take(key="name"), Decision)
    assert_type(bucket.statistics(), BucketStatistics)
    assert_type(bucket.statistics().keys, int | None)
    assert_type(ScriptedStore(rate, delay=0.01).granted, int)


class Ears(Listener):
    def on_admit(self, decision: Decision) -> None:
        assert_type(decision.waited, float)

    def on_wait(self, wait: Wait) -> None:
        assert_type(wait.seconds, float)
        assert_type(wait.decision, Decision | None)


def watching(limiter: Limiter[bool], bucket: AbstractBucket) -> None:
    assert_type(limiter.listen(Ears()), Listening)
    with bucket.listen(OpenTelemetryListener("api", attributes=lambda name: {"tier": name})) as listening:
        assert_type(listening, Listening)
    listening.close()
    assert_type(limiter.statistics().down, bool)


async def stores() -> None:
    assert_type(MultiprocessBucket.init([rate], name="api"), MultiprocessBucket)
    assert_type(Limiter(SQLiteBucket([rate], "limits.db", use_file_lock=True)), Limiter[bool])
    assert_type(RedisBucket(rate, "redis://localhost", when_down=LocalShare(0.25)).outage.down, bool)
    assert_type(PostgresBucket(rate, "postgresql://localhost", when_down=Admit()).outage.degraded, int)
    assert_type(PostgresBucket.ddl("limits"), str)


async def decorated(limiter: Limiter) -> None:
    @limiter.as_decorator()
    def plain(number: int, *, text: str = "") -> list[int]:
        return [number, len(text)]

    @limiter.as_decorator(name=lambda user: user, weight=len)
    async def awaited(user: str) -> bytes:
        return user.encode()

    assert_type(plain(1, text="a"), list[int])
    assert_type(await awaited("user-1"), bytes)
    called: Callable[[str], Awaitable[bytes]] = awaited
    assert_type(await called("user-1"), bytes)


class Tiers(BucketFactory):
    """A factory may be sync, or async."""

    def get(self, name: str, weight: int) -> InMemoryBucket:
        return InMemoryBucket(rate)


class Fetched(BucketFactory):
    """Its buckets come from elsewhere."""

    async def get(self, name: str, weight: int) -> AbstractBucket:
        return SQLiteBucket(rate, "limits.db")
