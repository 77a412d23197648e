"""Ten thousand tasks that wait for one key.

How long, in which order, how many in any second, and at what cost in CPU. What is let through is counted by the stamps
of decisions (ours), or by the clock of the task that was let through (peers, which have no stamps). A limit of 5000 a
second that admits bursts lets up to 10 000 into one second; an exact window never more than 5000.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from aiolimiter import AsyncLimiter
from asynciolimiter import LeakyBucketLimiter
from harness import elsewhere, in_turn, main, peers
from results import Report

from pyrate_limiter import GCRA, Algorithm, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog

WAITERS = 10_000
LIMIT = 5000
TIMES = 8
"""Whole runs, of which the best counts: a machine with other work to do is late for reasons of its own."""
OURS, THEIRS = "ours", "pyrate-limiter 3.9"
EXACT, BURSTS = LIMIT, 2 * LIMIT - 1
"""The most units that are let into a second: by an exact window, and by one that refills while it is emptied."""
ALGORITHMS: dict[str, tuple[type[Algorithm], int, int]] = {
    "log": (SlidingWindowLog, EXACT, LIMIT - 1),
    "GCRA": (GCRA, BURSTS, 0),
}
"""The algorithms, their most, and after which arrival the last is due in a second."""
WORK = """
import asyncio, json, logging, sys, time
from pyrate_limiter import BucketAsyncWrapper, Duration, InMemoryBucket, Limiter, Rate
logging.disable(logging.CRITICAL)
waiters, limit, max_delay = json.loads(sys.argv[1])
async def main():
    bucket = BucketAsyncWrapper(InMemoryBucket([Rate(limit, Duration.SECOND)]))
    limiter = Limiter(bucket, raise_when_fail=False, max_delay=max_delay, retry_until_max_delay=True, buffer_ms=0)
    cpu = time.process_time()
    await asyncio.gather(*(limiter.try_acquire_async("k") for _ in range(waiters)))
    return time.process_time() - cpu
print(asyncio.run(main()) / waiters * 1e6)
"""
"""The same for them and for us, each in a process of its own: prints the microseconds of CPU per waiter."""
Wait = Callable[[int], Awaitable[int]]
"""Waits as the one of that number, and returns the microsecond at which it was let through."""


class Run(NamedTuple):
    """What ten thousand waiters saw: the moments of arrival, and who was let through when, in microseconds."""

    arrivals: list[int]
    served: list[tuple[int, int]]
    cpu: float

    @property
    def in_order(self) -> bool:
        numbers = [number for number, _ in self.served]
        return numbers == sorted(numbers)

    @property
    def seconds(self) -> float:
        """From the first who was let through to the last."""
        return (self.served[-1][1] - self.served[0][1]) / 1e6

    @property
    def peak(self) -> int:
        """The most who were let through in any half-open second."""
        stamps = sorted(at for _, at in self.served)
        most = first = 0
        for last, stamp in enumerate(stamps):
            while stamp - stamps[first] >= 1_000_000:
                first += 1
            most = max(most, last - first + 1)
        return most

    def lateness(self, before: int) -> float:
        """Return the time that it took, as a multiple of what one line with a perfect timer takes.

        There the last is served as soon as it has come and is allowed: an interval after the one that came `before`.
        """
        by_limit = self.arrivals[before] + Duration.SECOND * 1000
        ideal = max(self.arrivals[-1], by_limit) - self.arrivals[0]
        return self.seconds * 1e6 / ideal


async def run(wait: Wait) -> Run:
    """Let all wait at once."""
    arrivals: list[int] = []
    served: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        arrivals.append(_now())
        served.append((number, await wait(number)))

    cpu = time.process_time()
    await asyncio.gather(*map(one, range(WAITERS)))
    return Run(arrivals, served, (time.process_time() - cpu) / WAITERS * 1e6)


def ours(algorithm: type[Algorithm]) -> Wait:
    limiter = Limiter(InMemoryBucket(Rate(LIMIT, Duration.SECOND), algorithm=algorithm), buffer_ms=0)

    async def wait(number: int) -> int:
        return (await limiter.acquire(str(number))).at

    return wait


def aiolimiter() -> Wait:
    limiter = AsyncLimiter(LIMIT, 1)

    async def wait(_: int) -> int:
        await limiter.acquire()
        return _now()

    return wait


def asynciolimiter() -> Wait:
    limiter = LeakyBucketLimiter(LIMIT, capacity=LIMIT)

    async def wait(_: int) -> int:
        await limiter.wait()
        return _now()

    return wait


def _now() -> int:
    return time.monotonic_ns() // 1000


async def benchmark(report: Report) -> None:
    made: dict[str, Callable[[], Wait]] = {f"{label}": partial(ours, one[0]) for label, one in ALGORITHMS.items()}
    made |= {"aiolimiter": aiolimiter, "asynciolimiter": asynciolimiter}
    runs: dict[str, list[Run]] = {name: [] for name in made}
    for _ in range(TIMES):
        for name, make in made.items():
            runs[name].append(await run(make()))
    for name, seen in runs.items():
        report.note(f"{name}: first to last", min(one.seconds for one in seen), "s")
        report.note(f"{name}: most in a second", max(one.peak for one in seen))
        report.note(f"{name}: runs out of order", sum(not one.in_order for one in seen), f"of {TIMES}")
    for label, (_, most, before) in ALGORITHMS.items():
        report.at_most(f"{label}: first to last / ideal", min(one.lateness(before) for one in runs[label]), 1.03)
        report.at_most(f"{label}: runs that were out of order", sum(not one.in_order for one in runs[label]), 0)
        report.at_most(f"{label}: most units in a second", max(one.peak for one in runs[label]), most)
    report.times("A waiter's CPU, all in one process", {name: [one.cpu for one in seen] for name, seen in runs.items()})
    in_processes(report)


def in_processes(report: Report) -> None:
    """Compare with the peer whose import name is ours; it does not wait at all without a max_delay."""
    cases = {
        OURS: partial(cpu_of, sys.executable, None),
        f"{OURS}, with a max_delay": partial(cpu_of, sys.executable, Duration.HOUR),
        **{name: partial(cpu_of, str(python), Duration.HOUR) for name, python in peers(THEIRS).items()},
    }
    table = report.times("A waiter's CPU, in processes of their own", in_turn(cases), THEIRS)
    if THEIRS in cases:
        report.at_most(f"CPU per waiter / {THEIRS}", table.ratio(OURS, THEIRS), 1)


def cpu_of(python: str, max_delay: int | None) -> float:
    microseconds: float = elsewhere(python, "-c", WORK, json.dumps([WAITERS, LIMIT, max_delay]))
    return microseconds


if __name__ == "__main__":
    main(benchmark)
