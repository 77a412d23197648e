"""A hundred thousand keys: their bytes, what the first call for one costs, and how they go when they are idle."""

from __future__ import annotations

import gc
import time
import tracemalloc
from functools import partial

from aiolimiter import AsyncLimiter
from harness import Report, main, once

from pyrate_limiter import GCRA, Algorithm, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog
from pyrate_limiter.clocks import Clock
from pyrate_limiter.testing import ManualClock

KEYS = 100_000
NAMES = [f"user:{number}" for number in range(KEYS)]
"""Made beforehand: a program has its names in any case."""
ALGORITHMS: dict[str, tuple[type[Algorithm], int]] = {"log": (SlidingWindowLog, 300), "GCRA": (GCRA, 150)}
"""The algorithms, and the most bytes that a key may take."""
TIMES = 5
"""A key can be touched for the first time only once, so instead of short rounds: the best of so many whole runs."""


def keyed(algorithm: type[Algorithm], clock: Clock | None = None) -> Limiter[bool]:
    return Limiter(InMemoryBucket(Rate(10, Duration.MINUTE), algorithm=algorithm, clock=clock), keyed=True)


def bytes_per_key(algorithm: type[Algorithm]) -> float:
    """Return what a key with one entry takes."""
    limiter = keyed(algorithm, ManualClock(time.monotonic_ns() // 1000))
    gc.collect()
    tracemalloc.start()
    for name in NAMES[:KEYS]:
        limiter.try_acquire(name)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
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


async def objects() -> None:
    """Do by hand what a keyed limiter does: an aiolimiter for each name, kept, and its first permit."""
    limiters: dict[str, AsyncLimiter] = {}
    for name in NAMES:
        limiters[name] = limiter = AsyncLimiter(10, 60)
        await limiter.acquire()


async def touches(algorithm: type[Algorithm]) -> None:
    limiter = keyed(algorithm)
    for name in NAMES:
        limiter.try_acquire(name)


async def benchmark(report: Report) -> None:
    bodies = {"aiolimiter": objects} | {label: partial(touches, kind) for label, (kind, _) in ALGORITHMS.items()}
    runs = [{name: (await once(body))[1] / KEYS * 1e6 for name, body in bodies.items()} for _ in range(TIMES)]
    first = {name: min(run[name] for run in runs) for name in bodies}
    report.note("aiolimiter: a new object and its first permit, CPU", first["aiolimiter"], "µs")
    for label, (algorithm, most) in ALGORITHMS.items():
        report.note(f"{label}: first call for a key, CPU", first[label], "µs")
        report.at_most(f"{label}: first call / a new aiolimiter", first[label] / first["aiolimiter"], 0.5)
        report.at_most(f"{label}: a key", bytes_per_key(algorithm), most, "bytes")
        left, longest = min([leaving(algorithm) for _ in range(3)], key=lambda result: result[1])
        report.at_most(f"{label}: idle keys left after as many calls", left - 1, 0)
        report.at_most(f"{label}: longest of these calls", longest, 1, "ms")


if __name__ == "__main__":
    main("keys", benchmark)
