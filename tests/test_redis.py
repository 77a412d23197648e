"""What RedisBucket promises beside its decisions: keys, clients, connections, scripts that vanish."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import coredis
import pytest
import redis
import redis.asyncio
from coredis.connection import TCPLocation

from pyrate_limiter.algorithms import GCRA, Algorithm, FixedWindow, LeakyBucket, SlidingWindowCounter, SlidingWindowLog
from pyrate_limiter.buckets.redis import RedisBucket, clients
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Duration, Rate
from pyrate_limiter.testing import ManualClock

from .hosts import HostClocks
from .servers import RedisCluster, RedisServer

pytestmark = pytest.mark.may_block  # redis-py reads its own version from the disk for each connection of a pool
RATE = Rate(3, Duration.MINUTE)
ALGORITHMS = [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter]


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def prefix() -> str:
    """Return keys of one test's own."""
    return uuid.uuid4().hex


@pytest.fixture
def leftovers() -> Iterator[None]:
    """Let go of the streams that coredis leaves open."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@asynccontextmanager
async def closing(bucket: RedisBucket) -> AsyncIterator[RedisBucket]:
    try:
        yield bucket
    finally:
        await bucket.aclose()


async def allowed(bucket: RedisBucket, tries: int, key: str = "") -> list[bool]:
    return [bool(await bucket.take(key=key)) for _ in range(tries)]


# Clients.


@asynccontextmanager
async def own(url: str) -> AsyncIterator[Any]:
    yield url


@asynccontextmanager
async def handed_in(url: str, **settings: Any) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(url, **settings) as client:
        yield client


@asynccontextmanager
async def decoding(url: str) -> AsyncIterator[Any]:
    async with handed_in(url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def of_resp2(url: str) -> AsyncIterator[Any]:
    async with handed_in(url, protocol=2) as client:
        yield client


@asynccontextmanager
async def of_coredis(url: str) -> AsyncIterator[Any]:
    async with coredis.Redis.from_url(url) as client:
        yield client


CLIENTS = [own, handed_in, decoding, of_resp2, of_coredis]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
async def test_every_client_counts_the_same_keys(client: Callable[[str], Any], redis_url: str, prefix: str) -> None:
    async with client(redis_url) as one, closing(RedisBucket(RATE, one, prefix=prefix)) as bucket:
        assert await allowed(bucket, 2) == [True, True]
    async with closing(RedisBucket(RATE, redis_url, prefix=prefix)) as other:
        assert await allowed(other, 2) == [True, False]
        decision = await other.peek()
        assert (decision.remaining, decision.limit) == (0, 3)
        assert 59 < decision.retry_after <= 60
        await other.reset()
        assert await allowed(other, 4) == [True, True, True, False]


async def test_a_client_that_was_handed_in_stays_open(redis_url: str, prefix: str) -> None:
    async with handed_in(redis_url) as client:
        await RedisBucket(RATE, client, prefix=prefix).aclose()
        bucket = RedisBucket(RATE, client, prefix=prefix)
        await bucket.take()
        await bucket.aclose()
        assert await client.ping()


async def test_a_pool_without_a_connection_to_spare_is_waited_for(redis_url: str, prefix: str) -> None:
    pool = redis.asyncio.ConnectionPool.from_url(redis_url, max_connections=1)
    async with (
        redis.asyncio.Redis.from_pool(pool) as client,
        closing(RedisBucket(RATE, client, prefix=prefix)) as bucket,
    ):
        taken = await pool.get_connection()
        taking = asyncio.create_task(bucket.take())
        await asyncio.sleep(0.02)
        assert not taking.done()
        await pool.release(taken)
        assert await taking


@pytest.mark.parametrize("client", [redis.Redis(), object()], ids=["blocking", "unknown"])
def test_what_is_no_async_client_is_refused(client: Any) -> None:
    with pytest.raises(TypeError, match=r"RedisBucket needs a URL, a client of redis\.asyncio or one of coredis"):
        RedisBucket(RATE, client)


async def test_redis_py_says_that_it_does_not_run_on_trio(redis_url: str) -> None:
    import trio

    bucket = RedisBucket(RATE, redis_url)

    async def take() -> None:
        with pytest.raises(StoreError, match="on trio hand in a coredis client"):
            await bucket.take()

    await asyncio.to_thread(trio.run, take)


def test_coredis_runs_on_trio(redis_url: str, prefix: str) -> None:
    import trio

    async def main() -> list[bool]:
        async with coredis.Redis.from_url(redis_url) as client:
            bucket = RedisBucket(RATE, client, prefix=prefix)
            return await allowed(bucket, 4)

    assert trio.run(main) == [True, True, True, False]


@pytest.mark.usefixtures("leftovers")
async def test_a_coredis_client_outside_its_context_is_told_so(redis_url: str) -> None:
    client = coredis.Redis.from_url(redis_url)
    bucket = RedisBucket(RATE, client)
    with pytest.raises(StoreError, match="use the bucket inside `async with client:`"):
        await bucket.take()


# Clusters.


@asynccontextmanager
async def cluster_of_redis_py(url: str) -> AsyncIterator[Any]:
    async with redis.asyncio.RedisCluster.from_url(url) as client:
        yield client


@asynccontextmanager
async def cluster_of_coredis(url: str) -> AsyncIterator[Any]:
    place = urlsplit(url)
    async with coredis.RedisCluster(startup_nodes=[TCPLocation(place.hostname, place.port)]) as client:
        yield client


@pytest.mark.usefixtures("leftovers")
@pytest.mark.parametrize("client", [cluster_of_redis_py, cluster_of_coredis], ids=lambda client: client.__name__)
async def test_a_cluster_decides_a_batch_on_all_its_nodes(
    client: Callable[[str], Any], redis_cluster: RedisCluster, prefix: str
) -> None:
    keys = [f"key {i}" for i in range(30)]
    for node in redis_cluster.nodes:
        with node.client() as direct:
            direct.script_flush()
    async with client(redis_cluster.url) as one, closing(RedisBucket(RATE, one, prefix=prefix)) as bucket:
        for expected in (True, True, True, False):
            taken = await asyncio.gather(*(bucket.take(key=key) for key in keys))
            assert [bool(decision) for decision in taken] == [expected] * len(keys)
    per_node = []
    for node in redis_cluster.nodes:
        with node.client() as direct:
            per_node.append(len(direct.keys(f"{prefix}:*")))
    assert sum(per_node) == len(keys)
    assert all(per_node)


async def test_a_url_of_a_cluster_asks_for_a_cluster_client(redis_cluster: RedisCluster, prefix: str) -> None:
    async with closing(RedisBucket(RATE, redis_cluster.url, prefix=prefix)) as bucket:
        with pytest.raises(StoreError, match="hand in a RedisCluster client"):
            await asyncio.gather(*(bucket.take(key=str(i)) for i in range(50)))


class Sentinel(RedisServer):
    """A sentinel that watches one server."""

    def __init__(self, watched: RedisServer) -> None:
        super().__init__()
        self._watched = watched

    def _command(self) -> list[str]:
        (self.folder / "conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {self._watched.port} 1\n"
        )
        return [super()._command()[0], "conf", "--sentinel"]


async def test_a_client_behind_sentinel_finds_its_server(private_redis: RedisServer) -> None:
    with Sentinel(private_redis) as sentinel:
        sentinels = redis.asyncio.Sentinel([("127.0.0.1", sentinel.port)])
        async with sentinels.master_for("main") as client:
            bucket = RedisBucket(RATE, client)
            assert await allowed(bucket, 4) == [True, True, True, False]
            assert bucket.outage.store == "Redis at main"
        for each in sentinels.sentinels:
            await each.aclose()


# Keys.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_key_expires_with_what_it_says(algorithm: type[Algorithm], redis_url: str, prefix: str) -> None:
    rates = [Rate(2, 1000), Rate(5, 20_000)]
    async with closing(RedisBucket(rates, redis_url, prefix=prefix, algorithm=algorithm)) as bucket:
        decision = await bucket.take(key="a")
        await bucket.take(key="a")
        await bucket.take(key="b")
        await bucket.refund(decision, key="a")
        await bucket.take(key="c")
        await bucket.reset(key="c")
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        lives = {key.rpartition(":")[2]: client.pttl(key) for key in client.keys(f"{prefix}:*")}
    assert sorted(lives) == ["a", "b"]
    assert all(0 < life <= 41_000 for life in lives.values()), lives


@pytest.mark.parametrize("name", ["", " ", "}{", "{a}b", "a:b*?[", "\0\r\n", "ключ", "🦀", "x" * 5000])
async def test_names_and_prefixes_are_any_text(name: str, redis_url: str, prefix: str) -> None:
    async with closing(RedisBucket(RATE, redis_url, prefix=prefix + name)) as bucket:
        assert await allowed(bucket, 4, name) == [True, True, True, False]
        assert await allowed(bucket, 1, f"{name} ") == [True]


async def test_limiters_with_other_rates_or_algorithms_share_nothing(redis_url: str, prefix: str) -> None:
    for rates in (RATE, [RATE, Rate(9, Duration.HOUR)], Rate(3, Duration.HOUR)):
        for algorithm in ALGORITHMS:
            bucket = RedisBucket(rates, redis_url, prefix=prefix, algorithm=algorithm)
            async with closing(bucket):
                assert await bucket.take(bucket.capacity)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_foreign_values_under_our_keys_are_said_and_trip_nothing(
    algorithm: type[Algorithm], redis_url: str, prefix: str
) -> None:
    async with closing(RedisBucket(RATE, redis_url, prefix=prefix, algorithm=algorithm)) as bucket:
        await bucket.take(key="list")
        await bucket.take(key="text")
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            for key in client.keys(f"{prefix}:*"):
                client.delete(key)
                client.lpush(key, "x") if key.endswith("list") else client.set(key, "x")
        for key in ("list", "text"):
            with pytest.raises(StoreError, match=r"WRONGTYPE.*keys with this prefix"):
                await bucket.take(key=key)
        assert not bucket.outage.outages
        assert await bucket.take(key="other")


# Rates, pickles, loops.


@pytest.mark.parametrize(
    ("rate", "algorithm", "nearest"),
    [
        (Rate(2**51, 1000), SlidingWindowLog, Rate(2**50, 1000)),
        (Rate(1, 2**50), FixedWindow, Rate(1, 2**50 // 1000)),
        (Rate(1, Duration.DAY, burst=10**9), GCRA, Rate(1, Duration.DAY, burst=26062)),
    ],
)
def test_a_rate_beyond_doubles_is_refused_with_the_nearest_that_fits(
    rate: Rate, algorithm: type[Algorithm], nearest: Rate
) -> None:
    with pytest.raises(ValueError, match="the nearest is") as caught:
        RedisBucket(rate, "redis://", algorithm=algorithm)
    assert str(caught.value).endswith(repr(nearest))
    RedisBucket(nearest, "redis://", algorithm=algorithm)


def test_an_algorithm_without_a_script_is_refused() -> None:
    class Own(GCRA):
        """One of a user's own, whatever it inherits."""

    with pytest.raises(TypeError, match="Redis has no script for Own: use one of SlidingWindowLog, GCRA"):
        RedisBucket(RATE, "redis://", algorithm=Own)


async def test_a_bucket_made_from_a_url_can_be_pickled(redis_url: str, prefix: str) -> None:
    async with closing(RedisBucket(RATE, redis_url, prefix=prefix)) as bucket:
        await bucket.take(2)
        async with closing(pickle.loads(pickle.dumps(bucket))) as copy:
            assert await allowed(copy, 2) == [True, False]
    async with handed_in(redis_url) as client:
        with pytest.raises(TypeError, match="make it from a URL"):
            pickle.dumps(RedisBucket(RATE, client))


def test_loops_that_end_leave_nothing_behind(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(Rate(1000, Duration.MINUTE), redis_url, prefix=prefix)
    asyncio.run(bucket.acquire())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        asyncio.run(bucket.acquire())
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(bucket._client._places) <= 1  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
async def test_a_forked_child_makes_a_connection_of_its_own(redis_url: str, prefix: str) -> None:
    async with closing(RedisBucket(RATE, redis_url, prefix=prefix)) as bucket:
        await bucket.take()
        child = os.fork()
        if not child:
            code = 1
            try:
                asyncio.events._set_running_loop(None)
                code = 0 if asyncio.run(allowed(bucket, 1)) == [True] else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await allowed(bucket, 2) == [True, False]


# Scripts and clocks.


async def test_a_server_that_forgets_the_scripts_is_sent_them_again(private_redis: RedisServer, prefix: str) -> None:
    async with handed_in(private_redis.url) as client:
        for each in (private_redis.url, client):
            async with closing(RedisBucket(Rate(50, Duration.MINUTE), each, prefix=prefix + str(each))) as bucket:
                for expected in [True] * 50 + [False]:
                    with private_redis.client() as direct:
                        direct.script_flush()
                    assert bool(await bucket.take()) is expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_clock_that_is_set_back_locks_nobody_out(
    algorithm: type[Algorithm], redis_url: str, prefix: str
) -> None:
    clock = ManualClock(1_790_000_000_000_000)
    rate = Rate(3, 1000)
    async with closing(RedisBucket(rate, redis_url, prefix=prefix, algorithm=algorithm, clock=clock)) as bucket:
        await bucket.take(3)
        clock.advance(-3600)
        assert not await bucket.take(3)
        clock.advance(2)
        assert await bucket.take(3)


async def test_the_clocks_of_clients_do_not_matter(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = HostClocks(monkeypatch, clients)
    behind, right, ahead = (RedisBucket(Rate(20, 20_000), redis_url, prefix=prefix) for _ in range(3))
    async with closing(behind), closing(right), closing(ahead):
        granted = 0
        for _ in range(20):
            for host.ahead, bucket in ((-30, behind), (0, right), (30, ahead)):
                granted += bool(await bucket.take())
    assert granted == 20
