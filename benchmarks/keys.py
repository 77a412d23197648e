"""A hundred thousand keys.

How many bytes one takes, what the first call for one costs, and how they go when they are idle.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial

from aiolimiter import AsyncLimiter
from harness import main, once
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from results import Report
from steindamm import AsyncLocalTokenBucket
from throttled.asyncio import MemoryStore, Throttled, per_min

from pyrate_limiter import GCRA, Algorithm, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog
from pyrate_limiter.clocks import Clock
from pyrate_limiter.testing import ManualClock

KEYS = 100_000
NAMES = [f"user:{number}" for number in range(KEYS)]
"""Made beforehand: a program has its names in any case."""
ALGORITHMS: dict[str, tuple[type[Algorithm], int]] = {"log": (SlidingWindowLog, 300), "GCRA": (GCRA, 150)}
"""The algorithms, and the most bytes that a key may take."""
Fill = Callable[[], Awaitable[object]]
TIMES = 5
"""A key can be touched for the first time only once, so instead of short rounds: the best of so many whole runs."""


def keyed(algorithm: type[Algorithm], clock: Clock | None = None) -> Limiter[bool]:
    return Limiter(InMemoryBucket(Rate(10, Duration.MINUTE), algorithm=algorithm, clock=clock), keyed=True)


async def bytes_per_key(fill: Fill) -> float:
    """Return what a key with one entry takes, of all that is allocated meanwhile."""
    gc.collect()
    tracemalloc.start()
    kept = await fill()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return taken / KEYS


def leaving(algorithm: type[Algorithm]) -> tuple[int, float]:
    """Return how many keys are left after as many further calls as there were, and the milliseconds of the longest."""
    clock = ManualClock(time.monotonic_ns() // 1000)
    bucket = InMemoryBucket(Rate(10, Duration.MINUTE), algorithm=algorithm, clock=clock)
    limiter = Limiter(bucket, keyed=True)
    for name in NAMES[:KEYS]:
        limiter.try_acquire(name)
    clock.advance(61)
    longest = 0
    for _ in range(KEYS):
        # By the clock of this thread's CPU: that others run meanwhile is not ours.
        start = time.thread_time_ns()
        limiter.try_acquire("another", blocking=False)
        longest = max(longest, time.thread_time_ns() - start)
    return bucket.statistics().keys or 0, longest / 1e6


# A first permit for each of the names, and what holds them all.


async def ours(algorithm: type[Algorithm]) -> object:
    limiter = keyed(algorithm)
    for name in NAMES:
        limiter.try_acquire(name)
    return limiter


async def aiolimiter() -> object:
    """Do by hand what a keyed limiter does: an object for each name, kept."""
    limiters: dict[str, AsyncLimiter] = {}
    for name in NAMES:
        limiters[name] = limiter = AsyncLimiter(10, 60)
        await limiter.acquire()
    return limiters


async def limits(strategy: type[FixedWindowRateLimiter | MovingWindowRateLimiter]) -> object:
    window, item = strategy(MemoryStorage()), RateLimitItemPerMinute(10)
    for name in NAMES:
        await window.hit(item, name)
    return window


async def steindamm() -> object:
    """It keeps its buckets at the class, for ever."""
    AsyncLocalTokenBucket._buckets.clear()
    for name in NAMES:
        async with AsyncLocalTokenBucket(name=name, capacity=10, refill_amount=10, refill_frequency=60):
            pass
    return AsyncLocalTokenBucket._buckets


async def throttled() -> object:
    """Without room for all, its store drops the keys that were used last long ago, whatever they hold."""
    limiter = Throttled(using="gcra", quota=per_min(10), store=MemoryStore(options={"MAX_SIZE": KEYS}))
    for name in NAMES:
        await limiter.limit(name)
    return limiter


FILLS: dict[str, Fill] = {
    **{label: partial(ours, kind) for label, (kind, _) in ALGORITHMS.items()},
    "aiolimiter, an object for each": aiolimiter,
    "limits, fixed window": partial(limits, FixedWindowRateLimiter),
    "limits, moving window": partial(limits, MovingWindowRateLimiter),
    "steindamm": steindamm,
    "throttled-py, GCRA": throttled,
}


async def cpu_per_key(fill: Fill) -> float:
    async def body() -> None:
        await fill()

    return (await once(body))[1] / KEYS * 1e6


async def benchmark(report: Report) -> None:
    other = "aiolimiter, an object for each"
    runs = [{name: await cpu_per_key(fill) for name, fill in FILLS.items()} for _ in range(TIMES)]
    first = {name: [run[name] for run in runs] for name in FILLS}
    table = report.times("The first call for a key, CPU", first, other)
    sizes = {name: await bytes_per_key(fill) for name, fill in FILLS.items()}
    for name, size in sizes.items():
        report.note(f"{name}: a key", size, "bytes")
    for label, (algorithm, most) in ALGORITHMS.items():
        report.at_most(f"{label}: first call / a new aiolimiter", table.ratio(label, other), 0.5)
        report.at_most(f"{label}: a key", sizes[label], most, "bytes")
        left, longest = min([leaving(algorithm) for _ in range(3)], key=lambda result: result[1])
        report.at_most(f"{label}: idle keys left after as many calls", left - 1, 0)
        report.at_most(f"{label}: longest of these calls", longest, 1, "ms")


if __name__ == "__main__":
    main(benchmark)
