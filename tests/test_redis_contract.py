"""The contract of a bucket, kept by RedisBucket: by URL on asyncio, through coredis on trio, and on a cluster."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import coredis
import pytest
import redis.asyncio

from pyrate_limiter.buckets.outage import Fail
from pyrate_limiter.buckets.redis import RedisBucket
from pyrate_limiter.rates import Rate
from pyrate_limiter.testing.contract import BucketContract, OneLoopContract

ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")
UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop")
TRIO = pytest.param(("trio", {}), id="trio")


class AtAPlace:
    place: Any

    def make_bucket(self, rates: Sequence[Rate], **options: Any) -> RedisBucket:
        return RedisBucket(rates, self.place, prefix=uuid.uuid4().hex, when_down=Fail(budget=10), **options)


class TestUrl(AtAPlace, BucketContract):
    test_the_clock_is_read_while_nobody_else_decides = None  # the server's is: the one for tests is read here

    @pytest.fixture(params=[ASYNCIO, UVLOOP])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture(autouse=True)
    def use(self, redis_url: str) -> None:
        self.place = redis_url


@pytest.mark.may_block  # redis-py reads its own version from the disk for each connection of a pool
class TestCluster(AtAPlace, OneLoopContract):
    @pytest.fixture(params=[ASYNCIO])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture(autouse=True)
    async def use(self, redis_cluster_url: str) -> AsyncIterator[None]:
        async with redis.asyncio.RedisCluster.from_url(redis_cluster_url) as self.place:
            yield


class TestCoredis(AtAPlace, OneLoopContract):
    @pytest.fixture(params=[ASYNCIO, TRIO])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture(autouse=True)
    async def use(self, redis_url: str) -> AsyncIterator[None]:
        async with coredis.Redis.from_url(redis_url) as self.place:
            yield
