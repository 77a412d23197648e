"""Redis: decisions per second, on a server of its own on loopback.

Beside limits and throttled-py, and beside the driver alone: one INCR for each decision. A URL, or a client that is
handed in. All in one process, in turn. The limit is never reached.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import redis.asyncio
from harness import LONG_ROUNDS, ROOT, main, options, per_second
from results import FLOOR, Report

from pyrate_limiter import GCRA, Rate, SlidingWindowLog
from pyrate_limiter.buckets.redis import RedisBucket

sys.path[:0] = [str(ROOT)]  # for the servers of the tests

LIMIT, INTERVAL = 10**7, 3_600_000
Take = Callable[[str], Awaitable[Any]]
Opened = Callable[[str], Any]
SHAPES = {"1 task": ["a"], "100 tasks, 1 key": ["a"] * 100, "100 tasks, 100 keys": [f"key {i}" for i in range(100)]}
LIMITS, THROTTLED, DRIVER = "limits, fixed window", "throttled-py, fixed window", f"{FLOOR}: one INCR"
BOUNDS = [
    ("1 task", "log, URL", (LIMITS,), 0.9),
    ("1 task", "GCRA, URL", (LIMITS,), 0.9),
    ("1 task", "log, client", (LIMITS,), 0.7),
    ("1 task", "GCRA, client", (LIMITS,), 0.7),
    ("100 tasks, 1 key", "log, URL", (LIMITS, THROTTLED), 8),
    ("100 tasks, 1 key", "GCRA, URL", (LIMITS, THROTTLED), 8),
    ("100 tasks, 100 keys", "log, URL", (LIMITS, THROTTLED), 3),
    ("100 tasks, 100 keys", "GCRA, URL", (LIMITS, THROTTLED), 3),
]
"""Shape, case, rivals, and how many times as fast as the fastest of them it must be."""


@asynccontextmanager
async def limits(url: str) -> AsyncIterator[Take]:
    from limits import RateLimitItemPerHour
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    limiter = FixedWindowRateLimiter(RedisStorage(f"async+{url}", implementation="redispy"))
    item = RateLimitItemPerHour(LIMIT)
    yield lambda key: limiter.hit(item, key)


@asynccontextmanager
async def throttled(url: str) -> AsyncIterator[Take]:
    from throttled.asyncio import RedisStore, Throttled, per_hour

    throttle = Throttled(using="fixed_window", quota=per_hour(LIMIT), store=RedisStore(server=url))

    async def take(key: str) -> bool:
        return not (await throttle.limit(key)).limited

    yield take


@asynccontextmanager
async def driver(url: str) -> AsyncIterator[Take]:
    async with redis.asyncio.Redis.from_url(url) as client:
        yield lambda key: client.incr(f"floor:{key}")


def ours(algorithm: Any, handed_in: bool = False) -> Opened:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Take]:
        async with redis.asyncio.Redis.from_url(url) as client:
            place = client if handed_in else url
            bucket = RedisBucket(Rate(LIMIT, INTERVAL), place, prefix=f"{handed_in}", algorithm=algorithm)
            yield lambda key: bucket.take(key=key)
            await bucket.aclose()

    return opened


WHO: dict[str, Opened] = {
    "log, URL": ours(SlidingWindowLog),
    "GCRA, URL": ours(GCRA),
    "log, client": ours(SlidingWindowLog, handed_in=True),
    "GCRA, client": ours(GCRA, handed_in=True),
    LIMITS: limits,
    THROTTLED: throttled,
    DRIVER: driver,
}


async def benchmark(report: Report) -> None:
    from tests.servers import RedisServer

    with RedisServer() as server:
        async with AsyncExitStack() as stack:
            takes = {name: await stack.enter_async_context(opened(server.url)) for name, opened in WHO.items()}
            for shape, names in SHAPES.items():
                table = report.rates(f"Redis, {shape}", await rates(takes, names), LIMITS, THROTTLED)
                for where, name, rivals, bound in BOUNDS:
                    if where == shape:
                        what = f"{shape}, {name} / {' or '.join(rivals)}"
                        report.at_least(what, table.ratio(name, *rivals), bound)


async def rates(takes: dict[str, Take], names: list[str]) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {name: [] for name in takes}
    for take in takes.values():
        await per_second(take, names, options().seconds / 4)
    for _ in range(options().rounds or LONG_ROUNDS):
        for name, take in takes.items():
            seen[name].append(await per_second(take, names, options().seconds))
    return seen


if __name__ == "__main__":
    main(benchmark)
