"""One call that nobody else disturbs: ours in every form, against peers and against the least that Python can do."""

from __future__ import annotations

import token_bucket
from aiolimiter import AsyncLimiter
from harness import Body, Report, case, main, measure
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from pyrate_limiter import GCRA, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog

PLENTY = 10**6
"""Units per second: never used up here."""
AIOLIMITER, LIMITS, TOKEN_BUCKET = "aiolimiter", "limits", "token-bucket"
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


class Floor:
    """A fixed window in plain Python, without lock, key or result: what no limiter can be faster than."""

    def __init__(self) -> None:
        self.count = 0

    async def acquire(self) -> bool:
        self.count += 1
        return self.count < 1 << 60


def peers() -> dict[str, Body]:
    window = FixedWindowRateLimiter(MemoryStorage())
    return {
        "floor: a counter": case("await floor.acquire()", floor=Floor()),
        AIOLIMITER: case("await limiter.acquire()", limiter=AsyncLimiter(PLENTY, 1)),
        LIMITS: case("await window.hit(item, 'k')", window=window, item=RateLimitItemPerSecond(PLENTY)),
        TOKEN_BUCKET: case("limiter.consume('k')", limiter=_token_bucket()),
    }


def _token_bucket() -> token_bucket.Limiter:
    return token_bucket.Limiter(PLENTY, PLENTY, token_bucket.MemoryStorage())


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
    for label in ALGORITHMS:
        report.add(await measure(peers() | ours(label)), against=(AIOLIMITER, LIMITS, TOKEN_BUCKET))
        for suffix in ("", ", refused"):
            boolean = f"{label} try_acquire_async{suffix}"
            decision = f"{label} {'take' if suffix else 'acquire'}{suffix}"
            synchronous = f"{label} sync try_acquire{', not blocking, refused' if suffix else ''}"
            report.at_most(f"{boolean} / {AIOLIMITER}", report.ratio(boolean, AIOLIMITER), 1.5)
            report.at_most(f"{decision} / {AIOLIMITER}", report.ratio(decision, AIOLIMITER), 1.8)
            report.at_most(f"{boolean} / {LIMITS}", report.ratio(boolean, LIMITS), 0.5)
            report.at_most(f"{decision} / {LIMITS}", report.ratio(decision, LIMITS), 0.5)
            report.at_most(f"{synchronous} / {TOKEN_BUCKET}", report.ratio(synchronous, TOKEN_BUCKET), 1.7)


if __name__ == "__main__":
    main("uncontended", benchmark)
