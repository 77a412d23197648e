"""Ten thousand tasks that wait for one key: how long, in which order, how many at once, and at what cost in CPU."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from harness import Report, elsewhere, main, once

from pyrate_limiter import GCRA, Algorithm, Decision, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog

WAITERS = 10_000
LIMIT = 5000
PEER = Path(os.environ.get("PYRATE_PEER", ".peers/pyrate-limiter-3.9")) / "bin" / "python"
"""The interpreter of an environment with pyrate-limiter 3.9, whose name ours has too."""
THEIRS = """
import asyncio, json, logging, sys, time
from pyrate_limiter import BucketAsyncWrapper, Duration, InMemoryBucket, Limiter, Rate
logging.disable(logging.CRITICAL)
waiters, limit = int(sys.argv[1]), int(sys.argv[2])
async def main():
    bucket = BucketAsyncWrapper(InMemoryBucket([Rate(limit, Duration.SECOND)]))
    limiter = Limiter(bucket, raise_when_fail=False, max_delay=Duration.HOUR, retry_until_max_delay=True)
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(limiter.try_acquire_async("k") for _ in range(waiters)))
    return time.perf_counter() - start, time.process_time() - cpu
passed, cpu = asyncio.run(main())
print(json.dumps({"passed": passed, "cpu": cpu}))
"""


async def waited(algorithm: type[Algorithm]) -> tuple[list[Decision], float, float]:
    """Return the decisions in the order in which they came, the seconds that passed, and those of CPU."""
    limiter = Limiter(InMemoryBucket(Rate(LIMIT, Duration.SECOND), algorithm=algorithm), buffer_ms=0)
    decisions: list[Decision] = []

    async def wait(number: int) -> None:
        decisions.append(await limiter.acquire(str(number)))

    async def everybody() -> None:
        await asyncio.gather(*(wait(number) for number in range(WAITERS)))

    return decisions, *await once(everybody)


def peak(stamps: list[int]) -> int:
    """Return the most units in any half-open second."""
    most = first = 0
    for last, stamp in enumerate(stamps):
        while stamp - stamps[first] >= 1_000_000:
            first += 1
        most = max(most, last - first + 1)
    return most


async def benchmark(report: Report) -> None:
    theirs = elsewhere(PEER, THEIRS, str(WAITERS), str(LIMIT))
    their_cpu = report.note("pyrate-limiter 3.9: CPU per waiter", theirs["cpu"] / WAITERS * 1e6, "µs")
    report.note("pyrate-limiter 3.9: time", theirs["passed"], "s")
    for label, algorithm, least, most in (("log", SlidingWindowLog, 1.0, LIMIT), ("GCRA", GCRA, 1.0, 2 * LIMIT - 1)):
        decisions, passed, cpu = min([await waited(algorithm) for _ in range(3)], key=lambda result: result[2])
        stamps = [decision.at for decision in decisions]
        report.note(f"{label}: time", passed, "s")
        report.at_most(f"{label}: first to last / ideal", (stamps[-1] - stamps[0]) / 1e6 / least, 1.03)
        report.at_most(f"{label}: out of order", float(decisions != sorted(decisions, key=lambda d: int(d.name))), 0)
        report.at_most(f"{label}: most units in a second, by stamps", peak(sorted(stamps)), most)
        report.at_most(f"{label}: CPU per waiter", cpu / WAITERS * 1e6, their_cpu, "µs")


if __name__ == "__main__":
    main("waiters", benchmark)
