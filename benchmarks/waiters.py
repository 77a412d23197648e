"""Ten thousand tasks that wait for one key: how long, in which order, how many at once, and at what cost in CPU."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from harness import Report, elsewhere, main

from pyrate_limiter import GCRA, Algorithm, Decision, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog

WAITERS = 10_000
LIMIT = 5000
TIMES = 8
"""Whole runs, of which the best counts: a machine with other work to do is late for reasons of its own."""
ALGORITHMS: dict[str, tuple[type[Algorithm], int, int]] = {
    "log": (SlidingWindowLog, LIMIT, LIMIT - 1),
    "GCRA": (GCRA, 2 * LIMIT - 1, 0),
}
"""The algorithms, the most units that they let into a second, and after which arrival the last is due in a second."""
PEER = Path(os.environ.get("PYRATE_PEER", ".peers/pyrate-limiter-3.9")) / "bin" / "python"
"""The interpreter of an environment with pyrate-limiter 3.9, whose name ours has too."""
OURS, THEIRS = "ours", "pyrate-limiter 3.9"
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
print(json.dumps({"cpu": asyncio.run(main()) / waiters * 1e6}))
"""
"""The same for them and for us, each in a process of its own: prints the microseconds of CPU per waiter."""


async def waited(algorithm: type[Algorithm]) -> tuple[list[Decision], list[int]]:
    """Return the decisions in the order in which they came, and the moments of arrival."""
    limiter = Limiter(InMemoryBucket(Rate(LIMIT, Duration.SECOND), algorithm=algorithm), buffer_ms=0)
    decisions: list[Decision] = []
    arrivals: list[int] = []

    async def wait(number: int) -> None:
        arrivals.append(time.monotonic_ns() // 1000)
        decisions.append(await limiter.acquire(str(number)))

    await asyncio.gather(*(wait(number) for number in range(WAITERS)))
    return decisions, arrivals


def lateness(decisions: list[Decision], arrivals: list[int], before: int) -> float:
    """Return the time from the first to the last, as a multiple of what one line with a perfect timer takes.

    There the last is served as soon as it has come and is allowed: an interval after the one that came `before`.
    """
    by_limit = arrivals[before] + Duration.SECOND * 1000
    ideal = max(arrivals[-1], by_limit) - arrivals[0]
    return (decisions[-1].at - decisions[0].at) / ideal


def peak(stamps: list[int]) -> int:
    """Return the most units in any half-open second."""
    most = first = 0
    for last, stamp in enumerate(stamps):
        while stamp - stamps[first] >= 1_000_000:
            first += 1
        most = max(most, last - first + 1)
    return most


async def benchmark(report: Report) -> None:
    # Theirs does not wait at all without a max_delay; ours waits as long as it takes.
    workers = {
        OURS: (sys.executable, None),
        f"{OURS}, with a max_delay": (sys.executable, Duration.HOUR),
        THEIRS: (PEER, Duration.HOUR),
    }
    cpu: dict[str, list[float]] = {name: [] for name in workers}
    runs: dict[str, list[tuple[list[Decision], list[int]]]] = {label: [] for label in ALGORITHMS}
    for _ in range(TIMES):
        for name, (python, max_delay) in workers.items():
            cpu[name].append(elsewhere(python, WORK, json.dumps([WAITERS, LIMIT, max_delay]))["cpu"])
        for label, (algorithm, *_) in ALGORITHMS.items():
            runs[label].append(await waited(algorithm))
    for name, taken in cpu.items():
        report.note(f"{name}: CPU per waiter", min(taken), "µs")
    report.at_most(f"CPU per waiter / {THEIRS}", min(cpu[OURS]) / min(cpu[THEIRS]), 1)
    for label, (_, most, before) in ALGORITHMS.items():
        late = min(lateness(decisions, arrivals, before) for decisions, arrivals in runs[label])
        disorder = sum(decisions != sorted(decisions, key=lambda one: int(one.name)) for decisions, _ in runs[label])
        crowd = max(peak([decision.at for decision in decisions]) for decisions, _ in runs[label])
        report.at_most(f"{label}: first to last / ideal", late, 1.03)
        report.at_most(f"{label}: runs that were out of order", disorder, 0)
        report.at_most(f"{label}: most units in a second, by stamps", crowd, most)


if __name__ == "__main__":
    main("waiters", benchmark)
