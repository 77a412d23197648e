"""A call costs the same whatever the limit and the weight.

A window of 10 units or of 100 000, kept full; a call of weight 1 or of 10 000. The peer's exact window beside it.
"""

from __future__ import annotations

from harness import Body, case, main, measure
from limits import RateLimitItemPerHour
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from results import Report

from pyrate_limiter import (
    GCRA,
    Algorithm,
    FixedWindow,
    InMemoryBucket,
    Limiter,
    Rate,
    SlidingWindowCounter,
    SlidingWindowLog,
)
from pyrate_limiter.testing import ManualClock

ALGORITHMS = (SlidingWindowLog, GCRA, FixedWindow, SlidingWindowCounter)
SMALL, LARGE = 10, 100_000
HEAVY = 10_000


def flowing(algorithm: type[Algorithm], calls: int, weight: int = 1) -> Body:
    """Return calls that keep a window of so many calls full: each comes when one like it has just left."""
    # On a clock of its own, so that a window of any size is full, whatever the speed of this machine.
    clock = ManualClock()
    limiter = Limiter(InMemoryBucket(Rate(calls * weight, calls), algorithm=algorithm, clock=clock))
    step = 1000  # microseconds: the interval has as many milliseconds as calls
    for _ in range(calls):
        clock.now += 0 if algorithm is GCRA else step
        if not limiter.try_acquire("k", weight, blocking=False):
            raise RuntimeError("the window was to be filled")
    statement = "clock.now += step; limiter.try_acquire('k', weight, False)"
    return case(statement, clock=clock, step=step, limiter=limiter, weight=weight)


async def theirs(calls: int, weight: int = 1) -> Body:
    """Return calls to a window of so many that is full: it stays so, since it asks the wall clock; all are refused."""
    window, item = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerHour(calls * weight)
    for _ in range(calls):
        await window.hit(item, "k", cost=weight)
    return case("await window.hit(item, 'k', cost=weight)", window=window, item=item, weight=weight)


async def benchmark(report: Report) -> None:
    for algorithm in ALGORITHMS:
        name = algorithm.__name__
        small, large, heavy = f"{name}, {SMALL} units", f"{name}, {LARGE} units", f"{name}, {SMALL} calls of {HEAVY}"
        cases = {
            small: flowing(algorithm, SMALL),
            large: flowing(algorithm, LARGE),
            heavy: flowing(algorithm, SMALL, HEAVY),
        }
        table = report.times(name, await measure(cases), small)
        report.at_most(f"{name}: window of {LARGE} / {SMALL}", table.ratio(large, small), 1.3)
        report.at_most(f"{name}: weight {HEAVY} / 1", table.ratio(heavy, small), 1.3)
    small = f"limits, moving window, {SMALL} units"
    cases = {
        small: await theirs(SMALL),
        f"limits, moving window, {LARGE} units": await theirs(LARGE),
        f"limits, moving window, {SMALL} calls of {HEAVY}": await theirs(SMALL, HEAVY),
    }
    report.times("limits, moving window, refused", await measure(cases), small)


if __name__ == "__main__":
    main(benchmark)
