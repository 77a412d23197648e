"""RedisBucket on a server that is killed, frozen, restarted, or far away."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import coredis
import pytest
import redis.asyncio

from pyrate_limiter.algorithms import GCRA, Algorithm, SlidingWindowLog
from pyrate_limiter.buckets.outage import Fail, LocalShare, Refuse, StoreDown
from pyrate_limiter.buckets.redis import RedisBucket
from pyrate_limiter.decisions import Decision
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Duration, Rate

from .proxy import Proxy
from .servers import RedisCluster, RedisServer
from .sharing import SHARED, work

pytestmark = pytest.mark.may_block  # redis-py reads its own version from the disk for each connection of a pool
BUDGET = 0.2
"""Seconds that a decision may wait for the store."""
PROBE = 0.3
"""Seconds between two attempts to reach a store that is down."""
PLENTY = Rate(1_000_000, Duration.HOUR)


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def own(url: str) -> AsyncIterator[Any]:
    yield url


@asynccontextmanager
async def of_redis_py(url: str) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(url) as client:
        yield client


@asynccontextmanager
async def of_coredis(url: str) -> AsyncIterator[Any]:
    async with coredis.Redis.from_url(url) as client:
        yield client


def each_client(test: Any) -> Any:
    return pytest.mark.parametrize("client", [own, of_redis_py, of_coredis], ids=lambda client: client.__name__)(test)


class Load:
    """Tasks that call without pause, and what they saw.

    Attributes:
        decisions: what they were told.
        errors: the errors they were told.
        slowest: the longest that one of them was kept waiting, in seconds.
        late: the longest that the loop itself was late, for which no store can help.
    """

    def __init__(self, bucket: RedisBucket, tasks: int = 20) -> None:
        self._bucket = bucket
        self._tasks = tasks
        self.decisions: list[Decision] = []
        self.errors: list[StoreError] = []
        self.slowest = self.late = 0.0

    @property
    def granted(self) -> int:
        return sum(decision.allowed and not decision.degraded for decision in self.decisions)

    async def __aenter__(self) -> Self:
        self._running = [asyncio.create_task(self._call()) for _ in range(self._tasks)]
        self._running.append(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _call(self) -> None:
        while True:
            start = time.monotonic()
            try:
                self.decisions.append(await self._bucket.take())
            except StoreError as error:
                self.errors.append(error)
            self.slowest = max(self.slowest, time.monotonic() - start)
            await asyncio.sleep(0.002)

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            self.late = max(self.late, time.monotonic() - due)


# The polls below look at what happens in other processes, or at many tasks at once: nothing there could set an event.
async def until(happened: Callable[[], bool], seconds: float = 10) -> float:
    """Wait for something, and return how long it took."""
    start = time.monotonic()
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return time.monotonic() - start


async def spent(bucket: RedisBucket) -> int:
    return bucket.rates[0].limit - (await bucket.peek()).remaining


@each_client
async def test_a_frozen_server_costs_nobody_more_than_the_budget(
    client: Callable[[str], Any], private_redis: RedisServer
) -> None:
    policy = Refuse(budget=BUDGET, probe=PROBE)
    async with client(private_redis.url) as one:
        bucket = RedisBucket(PLENTY, one, when_down=policy)
        async with Load(bucket) as load:
            await until(lambda: load.granted > 50)
            private_redis.pause()
            await asyncio.sleep(2)
            private_redis.resume()
            back = await until(lambda: not bucket.outage.down)
            seen = load.granted
            await until(lambda: load.granted > seen + 50)
        assert load.slowest < BUDGET + 0.05 + load.late
        assert back < PROBE + BUDGET + 0.05 + load.late
        assert not load.errors
        assert bucket.outage.outages == 1
        assert bucket.outage.degraded == sum(decision.degraded for decision in load.decisions) > 50
        # What was under way when the load ended may have been granted as well.
        assert 0 <= await spent(bucket) - load.granted <= 20
        await bucket.aclose()


@each_client
async def test_a_call_that_outlived_its_budget_spends_nothing(
    client: Callable[[str], Any], private_redis: RedisServer
) -> None:
    async with client(private_redis.url) as one:
        bucket = RedisBucket(PLENTY, one, when_down=Fail(budget=0.1, probe=0.001))
        assert await bucket.take()
        for _ in range(5):
            private_redis.pause()
            with pytest.raises(StoreError, match=r"did not answer within"):
                await bucket.take()
            private_redis.resume()
            await until_back(bucket.peek)
        assert await spent(bucket) == 1
        await bucket.aclose()


async def until_back(ask: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await ask()
            except StoreError:
                await asyncio.sleep(0.01)
            else:
                return


@each_client
async def test_broken_connections_reach_no_caller(client: Callable[[str], Any], private_redis: RedisServer) -> None:
    limit = 300
    async with client(private_redis.url) as one:
        bucket = RedisBucket(Rate(limit, Duration.HOUR), one)
        decisions = []
        for i in range(limit + 100):
            decisions.append(await bucket.take())
            if i % 20 == 0:
                with private_redis.client() as direct:
                    direct.client_kill_filter(_type="normal", skipme=True)
        granted = sum(map(bool, decisions))
        assert limit - 20 <= granted <= limit  # a run whose answer was lost is spent, and not granted
        assert await spent(bucket) == limit
        await bucket.aclose()


async def test_connections_that_break_under_load_admit_nothing_twice(private_redis: RedisServer) -> None:
    limit = 2000
    with Proxy(private_redis.port) as proxy:
        bucket = RedisBucket(
            Rate(limit, Duration.HOUR), f"redis://127.0.0.1:{proxy.port}", when_down=Refuse(probe=0.01)
        )
        async with Load(bucket) as load:
            for _ in range(20):
                seen = len(load.decisions)
                await until(lambda seen=seen: len(load.decisions) > seen + 50)  # type: ignore[misc]
                await asyncio.to_thread(proxy.drop)
            await until(lambda: len(load.decisions) > limit + 200)
        assert load.granted <= limit
        assert not load.errors
        await bucket.aclose()


async def test_a_restart_in_the_middle_is_survived(private_redis: RedisServer) -> None:
    bucket = RedisBucket(PLENTY, private_redis.url, when_down=LocalShare(0.5, budget=BUDGET, probe=PROBE))
    async with Load(bucket) as load:
        await until(lambda: load.granted > 50)
        await asyncio.to_thread(private_redis.stop)
        await until(lambda: bucket.outage.degraded > 50)
        await asyncio.to_thread(private_redis.start)
        back = await until(lambda: not bucket.outage.down)
        seen = load.granted
        await until(lambda: load.granted > seen + 50)
    assert back < PROBE + BUDGET + 0.05 + load.late
    assert load.slowest < BUDGET + 0.05 + load.late
    assert all(load.decisions)
    assert not load.errors
    await bucket.aclose()


async def test_a_slow_network_is_an_outage_and_a_stalled_one_too(private_redis: RedisServer) -> None:
    with Proxy(private_redis.port) as proxy:
        bucket = RedisBucket(PLENTY, f"redis://127.0.0.1:{proxy.port}", when_down=Refuse(budget=BUDGET, probe=PROBE))
        async with Load(bucket) as load:
            await until(lambda: load.granted > 50)
            for worse, better in ((slow(proxy, 1.0), slow(proxy, 0.0)), (proxy.stall, proxy.flow)):
                degraded = bucket.outage.degraded
                await asyncio.to_thread(worse)
                await until(lambda degraded=degraded: bucket.outage.degraded > degraded + 50)  # type: ignore[misc]
                await asyncio.to_thread(better)
                await until(lambda: not bucket.outage.down)
        assert load.slowest < BUDGET + 0.05 + load.late
        assert bucket.outage.outages == 2
        await bucket.aclose()


def slow(proxy: Proxy, delay: float) -> Callable[[], None]:
    def set_delay() -> None:
        proxy.delay = delay

    return set_delay


async def test_a_server_that_is_not_there_is_named_at_once() -> None:
    bucket = RedisBucket(PLENTY, "redis://user:secret@127.0.0.1:1/3")
    with pytest.raises(StoreError, match=r"Redis at 127\.0\.0\.1:1/3 is down: .*asked again in 1 s") as caught:
        await bucket.take()
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError, match=r"Redis at 127\.0\.0\.1:1/3 is down"):
        await bucket.take()
    await bucket.aclose()


async def test_a_wrong_password_is_a_matter_of_configuration(private_redis: RedisServer) -> None:
    with private_redis.client() as direct:
        direct.config_set("requirepass", "right")
    for url in (private_redis.url, f"redis://:wrong@127.0.0.1:{private_redis.port}"):
        bucket = RedisBucket(PLENTY, url, when_down=Refuse())
        with pytest.raises(StoreError, match="see to its rights"):
            await bucket.take()
        assert not bucket.outage.outages
        await bucket.aclose()


async def test_a_server_that_cannot_write_is_down(private_redis: RedisServer) -> None:
    bucket = RedisBucket(PLENTY, private_redis.url, when_down=Fail(probe=0.001))
    with private_redis.client() as direct:
        await bucket.take()
        direct.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match=r"is down|cannot serve now"):
            await bucket.take()
        assert bucket.outage.down
        direct.config_set("maxmemory", 0)
        direct.replicaof("127.0.0.1", 1)
        await asyncio.sleep(0.01)
        with pytest.raises(StoreError, match=r"is down|cannot serve now"):
            await bucket.take()
        direct.replicaof("NO", "ONE")
        await until_back(bucket.take)
    await bucket.aclose()


@pytest.mark.parametrize(
    ("said", "down"),
    [
        ("BUSY Redis is busy running a script", True),
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("NOREPLICAS Not enough good replicas to write", True),
        ("-LOADING Redis is loading the dataset in memory", True),
        ("NOPERM this user has no permissions to run the 'evalsha' command", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("Error running script: user_script:1: BUSYNESS", False),
    ],
)
async def test_what_a_server_says_tells_whether_it_is_down(said: str, down: bool) -> None:
    async def refusing(*_: object) -> list[object]:
        raise redis.exceptions.ResponseError(said)

    bucket = RedisBucket(PLENTY, "redis://nowhere:1")
    bucket._client._talk = refusing  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="at nowhere:1") as raised:
        await bucket.take()
    assert isinstance(raised.value, StoreDown) is down
    assert bucket.outage.down is down
    await bucket.aclose()


async def test_a_dead_node_of_a_cluster_is_an_outage() -> None:
    def make() -> RedisCluster:
        return RedisCluster().__enter__()

    cluster = await asyncio.to_thread(make)
    try:
        async with redis.asyncio.RedisCluster.from_url(cluster.url) as client:
            bucket = RedisBucket(PLENTY, client, when_down=Refuse(budget=BUDGET, probe=0.05))
            keys = [str(i) for i in range(30)]
            assert all(await asyncio.gather(*(bucket.take(key=key) for key in keys)))
            cluster.nodes[2].pause()
            start = time.monotonic()
            decisions = await asyncio.gather(*(bucket.take(key=key) for key in keys))
            assert time.monotonic() - start < BUDGET + 0.3
            assert all(decision.degraded for decision in decisions)
            cluster.nodes[2].resume()
            await until_asked(bucket)
            assert all(await asyncio.gather(*(bucket.take(key=key) for key in keys)))
    finally:
        await asyncio.to_thread(cluster.__exit__)


async def until_asked(bucket: RedisBucket) -> None:
    async with asyncio.timeout(10):
        while (await bucket.take()).degraded:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_trio_keeps_the_budget_too(private_redis: RedisServer) -> None:
    import trio

    async def main() -> None:
        async with coredis.Redis.from_url(private_redis.url) as client:
            bucket = RedisBucket(PLENTY, client, when_down=Refuse(budget=BUDGET, probe=0.05))
            assert await bucket.take()
            private_redis.pause()
            start = time.monotonic()
            assert (await bucket.take()).degraded
            assert BUDGET < time.monotonic() - start < BUDGET + 0.15
            private_redis.resume()
            with trio.fail_after(10):
                while (await bucket.take()).degraded:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert bucket.rates[0].limit - (await bucket.peek()).remaining == 2

    await asyncio.to_thread(trio.run, main)


# Many callers.


@pytest.mark.parametrize("limit", [400, 2000])
async def test_a_thousand_callers_are_served_in_order_by_a_few_calls(limit: int, redis_url: str) -> None:
    with Proxy(int(redis_url.rpartition(":")[2]), delay=0.0025) as proxy:
        bucket = RedisBucket(
            Rate(limit, Duration.MINUTE),
            f"redis://127.0.0.1:{proxy.port}",
            prefix=uuid.uuid4().hex,
            when_down=Fail(budget=5),
        )
        await bucket.peek()
        before, served = proxy.pieces, []

        async def acquire(i: int) -> None:
            await bucket.acquire()
            served.append(i)

        tasks = [asyncio.create_task(acquire(i)) for i in range(1000)]
        await until(lambda: len(served) == min(1000, limit))
        await bucket.peek()
        assert served == list(range(min(1000, limit)))
        assert proxy.pieces - before <= 20
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bucket.aclose()


@pytest.mark.alone
@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA])
async def test_processes_share_a_limit_exactly_and_evenly(algorithm: type[Algorithm], redis_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    prefix, results, ready = uuid.uuid4().hex, spawn.Queue(), spawn.Barrier(4)
    workers = [
        spawn.Process(target=work, args=(redis_url, prefix, algorithm, ready, results), daemon=True) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    counts = [await asyncio.to_thread(results.get, timeout=60) for _ in workers]
    for worker in workers:
        await asyncio.to_thread(worker.join)
    stamps = sorted(stamp for process in counts for stamps in process for stamp in stamps)
    span = SHARED.interval * 1000
    at_most = RedisBucket(SHARED, redis_url, algorithm=algorithm).rule.at_most(span)
    first = 0
    for last, stamp in enumerate(stamps):
        while stamps[first] <= stamp - span:
            first += 1
        assert last - first + 1 <= at_most
    assert all(stamps for process in counts for stamps in process)
    per_process = Counter({i: sum(map(len, process)) for i, process in enumerate(counts)})
    assert max(per_process.values()) <= 2 * min(per_process.values()), per_process


@pytest.mark.alone
async def test_one_process_far_from_its_server_reaches_the_limit(redis_url: str) -> None:
    rate = Rate(100, 200)
    with Proxy(int(redis_url.rpartition(":")[2]), delay=0.01) as proxy:
        url, prefix = f"redis://127.0.0.1:{proxy.port}", uuid.uuid4().hex
        bucket = RedisBucket(rate, url, prefix=prefix, when_down=Fail(budget=5))
        decisions = await asyncio.gather(*(bucket.acquire() for _ in range(400)))
        stamps = sorted(decision.at for decision in decisions)
        # Four windows' worth in three intervals, and for each wait a trip and what the machine adds.
        assert stamps[-1] - stamps[0] < 3 * 200_000 + 300_000
        await bucket.aclose()
