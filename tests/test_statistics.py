"""What every bucket, and a limiter, says of itself."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    BucketStatistics,
    Duration,
    InMemoryBucket,
    Limiter,
    Listener,
    LocalShare,
    MultiprocessBucket,
    PostgresBucket,
    Rate,
    RedisBucket,
    SQLiteBucket,
    Wait,
)
from pyrate_limiter.testing import ScriptedStore

RATE = Rate(1, Duration.HOUR)
NOBODY = "127.0.0.1:1"
"""Where no server is."""


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Queue(Listener):
    """Knows when so many wait."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.complete = anyio.Event()

    def on_wait(self, wait: Wait) -> None:
        self.length -= 1
        if not self.length:
            self.complete.set()


async def waiting_at(bucket: AbstractBucket, *keys: str) -> BucketStatistics:
    """Return what a bucket says while one waits for each of these keys."""
    queue = Queue(len(keys))
    with bucket.listen(queue):
        async with anyio.create_task_group() as group:
            for key in keys:
                await bucket.take(key=key)
                group.start_soon(lambda key=key: bucket.acquire(key=key))
            with anyio.fail_after(5):
                await queue.complete.wait()
            found = bucket.statistics()
            group.cancel_scope.cancel()
    return found


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        pytest.param(lambda _: InMemoryBucket(RATE), 2, id="memory"),
        pytest.param(
            lambda _: MultiprocessBucket(RATE),
            2,
            id="multiprocess",
            marks=pytest.mark.skipif(os.name == "nt", reason="MultiprocessBucket needs flock, which Windows has not"),
        ),
        pytest.param(lambda path: SQLiteBucket(RATE, path / "limits.db"), None, id="sqlite"),
        pytest.param(lambda _: ScriptedStore(RATE), None, id="a store"),
    ],
)
async def test_a_bucket_says_who_waits_and_what_it_knows(
    make: Callable[[Path], AbstractBucket], keys: int | None, tmp_path: Path
) -> None:
    bucket = make(tmp_path)
    found = await waiting_at(bucket, "a", "b")
    assert found == BucketStatistics(keys, waiting=2, owed=0, down=False, outages=0, degraded=0)
    assert bucket.statistics().waiting == 0
    await bucket.aclose()


async def test_redis_and_postgresql_say_who_waits(redis_url: str, postgres_dsn: str) -> None:
    for bucket in (RedisBucket(RATE, redis_url, prefix="statistics"), PostgresBucket(RATE, postgres_dsn, "statistics")):
        for key in ("a", "b"):
            await bucket.reset(key=key)
        assert await waiting_at(bucket, "a", "b") == BucketStatistics(None, waiting=2, owed=0)
        await bucket.aclose()


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
async def test_a_store_that_is_down_shows(kind: str) -> None:
    policy = LocalShare(1, budget=5)
    bucket = (
        RedisBucket(RATE, f"redis://{NOBODY}", when_down=policy)
        if kind == "redis"
        else PostgresBucket(RATE, f"postgresql://nobody@{NOBODY}/none", when_down=policy)
    )
    for _ in range(3):
        await bucket.take()
    assert bucket.statistics() == BucketStatistics(None, 0, 0, down=True, outages=1, degraded=3)
    assert Limiter(bucket).statistics() == bucket.statistics()
    await bucket.aclose()


async def test_a_limiter_says_what_its_buckets_say_together() -> None:
    class Tiers(BucketFactory):
        def __init__(self) -> None:
            self.buckets = {"a": InMemoryBucket(RATE), "b": InMemoryBucket(RATE), "c": ScriptedStore(RATE)}

        def get(self, name: str, weight: int) -> AbstractBucket:
            return self.buckets[name]

    limiter = Limiter(Tiers(), keyed=True)
    assert limiter.statistics() == BucketStatistics(0, 0, 0)
    await limiter.take("a")
    await limiter.take("b")
    assert limiter.statistics() == BucketStatistics(2, 0, 0)
    await limiter.take("c")
    assert limiter.statistics() == BucketStatistics(None, 0, 0)


def test_statistics_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limiter(RATE).statistics().keys = 1  # type: ignore[misc]


def test_a_limiter_without_a_bucket_holds_nothing() -> None:
    assert Limiter.__new__(Limiter).statistics() == BucketStatistics(0, 0, 0)
