"""One call that nobody disturbs.

Ours in every form, against peers and against the least that Python can do. Peers whose import name is ours run in
processes of their own, beside ours in such a process.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import token_bucket
from aiolimiter import AsyncLimiter
from asynciolimiter import LeakyBucketLimiter
from harness import Body, case, elsewhere, in_turn, main, measure, peers
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from results import FLOOR, Report
from steindamm import AsyncLocalTokenBucket
from throttled.asyncio import MemoryStore, Throttled, per_sec

from pyrate_limiter import GCRA, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog

PLENTY = 10**6
"""Units per second: never used up here."""
AIOLIMITER, LIMITS, TOKEN_BUCKET = "aiolimiter", "limits, fixed window", "token-bucket"
CALLS = {
    "try_acquire_async": "await limiter.try_acquire_async('k', blocking=False)",
    "acquire": "await limiter.acquire('k')",
    "take": "await limiter.take('k')",
    "sync try_acquire": "limiter.try_acquire('k')",
    "sync try_acquire, not blocking": "limiter.try_acquire('k', blocking=False)",
}
WAITING = ("acquire", "sync try_acquire")
"""These would wait where the others are refused."""
ALGORITHMS = {"log": SlidingWindowLog, "GCRA": GCRA}
OURS, OLD, NEW = "ours", "pyrate-limiter 3.9", "pyrate-limiter 4.5"
ALONE = """
import asyncio, json, logging, sys, time
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
logging.disable(logging.CRITICAL)
limiter = Limiter(InMemoryBucket([Rate(10**6, Duration.SECOND)]))
call, options = json.loads(sys.argv[1])
call = getattr(limiter, call)

async def awaited(calls):
    for _ in range(calls):
        await call("k", **options)

async def plain(calls):
    for _ in range(calls):
        call("k", **options)

async def main():
    body = awaited if call.__name__.endswith("async") else plain
    times = []
    for _ in range(60):
        began = time.perf_counter()
        await body(100)
        times.append(time.perf_counter() - began)
    print(json.dumps(min(times) * 1e4))

asyncio.run(main())
"""
"""The same for them and for us, each in a process of its own: prints the microseconds per call of the best round."""


class Floor:
    """A fixed window in plain Python, without lock, key or result: what no limiter can be faster than."""

    def __init__(self) -> None:
        self.count = 0

    async def acquire(self) -> bool:
        self.count += 1
        return self.count < 1 << 60


def theirs() -> dict[str, Body]:
    storage = MemoryStorage()
    fixed, moving = FixedWindowRateLimiter(storage), MovingWindowRateLimiter(storage)
    item = RateLimitItemPerSecond(PLENTY)
    gcra = Throttled(using="gcra", quota=per_sec(PLENTY, burst=PLENTY), store=MemoryStore())
    bucket = AsyncLocalTokenBucket(name="k", capacity=PLENTY, refill_amount=PLENTY)
    return {
        f"{FLOOR}: a counter": case("await floor.acquire()", floor=Floor()),
        AIOLIMITER: case("await limiter.acquire()", limiter=AsyncLimiter(PLENTY, 1)),
        "asynciolimiter": case("await limiter.wait()", limiter=LeakyBucketLimiter(PLENTY, capacity=PLENTY)),
        LIMITS: case("await window.hit(item, 'k')", window=fixed, item=item),
        "limits, moving window": case("await window.hit(item, 'k')", window=moving, item=item),
        "steindamm": case("async with bucket: pass", bucket=bucket),
        "throttled-py, GCRA": case("await throttled.limit('k')", throttled=gcra),
        f"{TOKEN_BUCKET} (sync)": case(
            "limiter.consume('k')", limiter=token_bucket.Limiter(PLENTY, PLENTY, token_bucket.MemoryStorage())
        ),
    }


def ours(label: str) -> dict[str, Body]:
    cases = {}
    open_ = Limiter(InMemoryBucket(Rate(PLENTY, Duration.SECOND), algorithm=ALGORITHMS[label]))
    full = Limiter(InMemoryBucket(Rate(5, Duration.MINUTE), algorithm=ALGORITHMS[label]))
    for _ in range(5):
        full.try_acquire()
    for call, statement in CALLS.items():
        cases[f"{label} {call}"] = case(statement, limiter=open_)
        if call not in WAITING:
            cases[f"{label} {call}, refused"] = case(statement, limiter=full)
    return cases


async def benchmark(report: Report) -> None:
    # One algorithm after the other, as programs use them: the interpreter adapts its bytecode to the types it meets.
    sync_peer = f"{TOKEN_BUCKET} (sync)"
    for label in ALGORITHMS:
        samples = await measure(theirs() | ours(label))
        table = report.times(f"One call, {label}", samples, AIOLIMITER, LIMITS, sync_peer)
        for suffix in ("", ", refused"):
            boolean = f"{label} try_acquire_async{suffix}"
            decision = f"{label} {'take' if suffix else 'acquire'}{suffix}"
            synchronous = f"{label} sync try_acquire{', not blocking, refused' if suffix else ''}"
            report.at_most(f"{boolean} / {AIOLIMITER}", table.ratio(boolean, AIOLIMITER), 1.5)
            report.at_most(f"{decision} / {AIOLIMITER}", table.ratio(decision, AIOLIMITER), 1.8)
            report.at_most(f"{boolean} / {LIMITS}", table.ratio(boolean, LIMITS), 0.5)
            report.at_most(f"{decision} / {LIMITS}", table.ratio(decision, LIMITS), 0.5)
            report.at_most(f"{synchronous} / {TOKEN_BUCKET}", table.ratio(synchronous, sync_peer), 1.7)
    pythons = {OURS: sys.executable} | {name: str(python) for name, python in peers(OLD, NEW).items()}
    for title, call in (("async", "try_acquire_async"), ("sync", "try_acquire")):
        cases = {name: partial(alone, python, call, name) for name, python in pythons.items()}
        report.times(f"One call in a process of its own, {title}", in_turn(cases), OURS)


def alone(python: str, call: str, name: str) -> float:
    """Return the microseconds per call in a process of its own; only peers before 4 cannot be told not to wait."""
    options = {} if name == OLD else {"blocking": False}
    microseconds: float = elsewhere(python, "-c", ALONE, json.dumps([call, options]))
    return microseconds


if __name__ == "__main__":
    main(benchmark)
