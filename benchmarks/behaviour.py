"""What limiters do when it gets difficult.

A late event loop, a cancelled waiter, a heavy request, a full key. Each limiter runs in a process of its own. *Most* is
the most that came within an interval, *most, late* the same while the event loop stands still twice, *lost* the permits
that are gone after a waiter was cancelled. *Heavy* and *free key* are the intervals waited by a request of the whole
limit among light ones (12 are looked at), and by one for a free key while others wait for a full one. *Overtaken* is
how many of 60 waiters were, *stall* for how many intervals the loop stood still.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from harness import elsewhere, main, peers
from results import Report

APART = ("pyrate-limiter 3.9", "pyrate-limiter 4.5")
"""Peers whose import name is ours."""
LIMIT = 10
PATIENCE = 12
"""Intervals after which a heavy request counts as starved."""
Acquire = Callable[[str, int], Awaitable[Any]]
"""Takes a key and a weight, waits, and returns when admitted."""


class Peer(NamedTuple):
    """One limiter.

    Attributes:
        make: returns a fresh one: `LIMIT` units per interval of so many seconds.
        interval: the shortest that shows what it does, in seconds.
        columns: what is looked at; all of them if it is not said.
        weights: whether requests may weigh more than one unit.
        keys: whether one limiter keeps several keys apart.
    """

    make: Callable[[float], Acquire]
    interval: float = 0.2
    weights: bool = True
    keys: bool = True
    columns: tuple[str, ...] = ()


def ours(interval: float) -> Acquire:
    from pyrate_limiter import Limiter, Rate

    return Limiter(Rate(LIMIT, round(interval * 1000)), keyed=True, buffer_ms=0).acquire


def pyrate_limiter_3(interval: float) -> Acquire:
    from pyrate_limiter import BucketAsyncWrapper, BucketFactory, InMemoryBucket, Limiter, Rate, RateItem, TimeClock

    class Each(BucketFactory):  # as its documentation says: a bucket for each name, in a dict
        def __init__(self) -> None:
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return RateItem(name, TimeClock().now(), weight=weight)

        def get(self, item: Any) -> Any:
            if item.name not in self.buckets:
                self.buckets[item.name] = BucketAsyncWrapper(InMemoryBucket([Rate(LIMIT, round(interval * 1000))]))
            return self.buckets[item.name]

    limiter = Limiter(Each(), raise_when_fail=False, max_delay=10**6, retry_until_max_delay=True, buffer_ms=0)
    return limiter.try_acquire_async


def pyrate_limiter_3_plain(interval: float) -> Acquire:
    from pyrate_limiter import Limiter, Rate

    rate = Rate(LIMIT, round(interval * 1000))
    limiter = Limiter(rate, raise_when_fail=False, max_delay=10**6, retry_until_max_delay=True)
    return limiter.try_acquire_async


def pyrate_limiter_4(interval: float) -> Acquire:
    from pyrate_limiter import (
        BucketAsyncWrapper,
        BucketFactory,
        InMemoryBucket,
        Limiter,
        MonotonicClock,
        Rate,
        RateItem,
    )

    class Each(BucketFactory):
        def __init__(self) -> None:
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return RateItem(name, MonotonicClock().now(), weight=weight)

        def get(self, item: Any) -> Any:
            if item.name not in self.buckets:
                self.buckets[item.name] = BucketAsyncWrapper(InMemoryBucket([Rate(LIMIT, round(interval * 1000))]))
            return self.buckets[item.name]

    return Limiter(Each(), buffer_ms=0).try_acquire_async


def aiolimiter(interval: float) -> Acquire:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(LIMIT, interval)
    return lambda key, weight: limiter.acquire(weight)


def asynciolimiter(interval: float) -> Acquire:
    from asynciolimiter import LeakyBucketLimiter

    limiter = LeakyBucketLimiter(LIMIT / interval, capacity=LIMIT)
    return lambda key, weight: limiter.wait()


def throttled(interval: float) -> Acquire:
    from datetime import timedelta

    from throttled.asyncio import MemoryStore, Throttled, rate_limiter

    quota = rate_limiter.per_duration(timedelta(seconds=interval), LIMIT, burst=LIMIT)
    limiter = Throttled(quota=quota, store=MemoryStore(), timeout=1000)

    async def acquire(key: str, weight: int) -> None:
        while (await limiter.limit(key, weight)).limited:
            pass

    return acquire


def steindamm(interval: float) -> Acquire:
    from steindamm import AsyncTokenBucket

    run = time.monotonic_ns()  # its state belongs to the name, for the whole process

    async def acquire(key: str, weight: int) -> None:
        options = {"capacity": LIMIT, "refill_frequency": interval / LIMIT, "refill_amount": 1, "max_sleep": 0}
        async with AsyncTokenBucket.create(name=f"{run} {key}", tokens_to_consume=weight, **options):
            pass

    return acquire


def limits(interval: float) -> Acquire:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    window, item = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(LIMIT, round(interval))

    async def acquire(key: str, weight: int) -> None:
        while not await window.hit(item, key, cost=weight):  # noqa: ASYNC110 - it cannot wait
            await asyncio.sleep(0.001)

    return acquire


def token_bucket(interval: float) -> Acquire:
    from token_bucket import Limiter, MemoryStorage

    limiter = Limiter(LIMIT / interval, LIMIT, MemoryStorage())

    async def acquire(key: str, weight: int) -> None:
        while not limiter.consume(key, weight):  # noqa: ASYNC110 - it cannot wait
            await asyncio.sleep(0.001)

    return acquire


PEERS = {
    "this project": Peer(ours),
    "pyrate-limiter 3.9": Peer(pyrate_limiter_3),
    "pyrate-limiter 3.9, bucket not wrapped": Peer(pyrate_limiter_3_plain, columns=("stall",)),
    "pyrate-limiter 4.5": Peer(pyrate_limiter_4),
    "aiolimiter": Peer(aiolimiter, keys=False),
    "asynciolimiter": Peer(asynciolimiter, keys=False, weights=False),
    "throttled-py": Peer(throttled, interval=1),
    "steindamm": Peer(steindamm),
    "limits": Peer(limits, interval=1, columns=("most", "most, late")),
    "token-bucket": Peer(token_bucket, columns=("most", "most, late")),
}


async def most_in_an_interval(peer: Peer) -> float:
    """Return the most units that come back within an interval while forty of them are asked for, one by one."""
    return await _most(peer, [1] * 4 * LIMIT, pauses=0)


async def most_with_a_late_loop(peer: Peer) -> float:
    """Return the same for a loop that stands still twice; the requests are of one unit, or of the whole limit."""
    light = await _most(peer, [1] * 4 * LIMIT, pauses=2)
    return max(light, await _most(peer, [LIMIT] * 4, pauses=2)) if peer.weights else light


async def _most(peer: Peer, weights: list[int], pauses: int) -> float:
    acquire, came = peer.make(peer.interval), []

    async def one(weight: int) -> None:
        await acquire("k", weight)
        came.append((time.perf_counter(), weight))

    tasks = [asyncio.create_task(one(weight)) for weight in weights]
    for _ in range(pauses):
        await asyncio.sleep(0.6 * peer.interval)
        time.sleep(2.5 * peer.interval)  # noqa: ASYNC251 - that is what is looked at
    await asyncio.gather(*tasks)
    # Answers reach us a little late, some more than others: 95 % of an interval forgive that.
    span = 0.95 * peer.interval
    return max(sum(weight for at, weight in came if 0 <= at - first < span) for first, _ in came)


async def lost_by_cancelling(peer: Peer) -> float:
    """Return the most permits that are missing after a waiter was cancelled, at each of several moments."""
    expected = await _left(peer, None)
    return max([expected - await _left(peer, turns) for turns in range(8)])


async def _left(peer: Peer, turns: int | None) -> float:
    """Return what is left just after an interval, in which a waiter was cancelled.

    Args:
        peer: who is asked.
        turns: of the event loop between the moment at which the waiter is due and its end; 0: it is cancelled while it
            waits; None: there is no waiter.
    """
    acquire = peer.make(peer.interval)
    for _ in range(LIMIT):
        await acquire("k", 1)
    waiter = asyncio.ensure_future(acquire("k", 1)) if turns is not None else asyncio.ensure_future(asyncio.sleep(99))
    for _ in range(3):
        await asyncio.sleep(0)
    if turns:
        time.sleep(1.05 * peer.interval)  # noqa: ASYNC251 - the loop comes back when the waiter is due
    for _ in range((turns or 1) - 1):
        await asyncio.sleep(0)
    waiter.cancel()
    with suppress(asyncio.CancelledError):
        await waiter
        return LIMIT  # it was served: nothing can be lost
    if not turns:
        await asyncio.sleep(1.05 * peer.interval)
    return await _at_once(acquire, peer.interval)


async def _at_once(acquire: Acquire, interval: float) -> int:
    for count in range(LIMIT):
        try:
            await asyncio.wait_for(_coroutine(acquire), 0.02 * interval)
        except TimeoutError:
            return count
    return LIMIT


async def _coroutine(acquire: Acquire) -> None:
    await acquire("k", 1)


async def heavy_beside_light(peer: Peer) -> float | None:
    """Return the longest wait, in intervals, of three requests of the whole limit beside twenty tasks that ask for one
    unit each.
    """
    if not peer.weights:
        return None
    acquire = peer.make(peer.interval)

    async def light() -> None:
        while True:
            await acquire("k", 1)

    tasks = [asyncio.create_task(light()) for _ in range(2 * LIMIT)]
    await asyncio.sleep(peer.interval)
    waited = 0.0
    for _ in range(3):
        waited = max(waited, await _timed(partial(acquire, "k", LIMIT), peer))
        if waited >= PATIENCE:
            break
        await asyncio.sleep(0.3 * peer.interval)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return waited


async def free_beside_full(peer: Peer) -> float | None:
    """Return the intervals that a key with all its budget waits while another key's waiter waits."""
    if not peer.keys:
        return None
    acquire = peer.make(peer.interval)
    for _ in range(LIMIT):
        await acquire("full", 1)
    waiter = asyncio.ensure_future(acquire("full", 1))
    await asyncio.sleep(0.01)
    waited = await _timed(partial(acquire, "free", 1), peer)
    await waiter
    return waited


async def overtaken(peer: Peer) -> float:
    """Return how many of sixty, who come one after the other, are served after one who came later."""
    acquire, served = peer.make(peer.interval), []

    async def one(number: int) -> None:
        await acquire("k", 1)
        served.append(number)

    tasks = []
    for number in range(6 * LIMIT):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(peer.interval / 40)
    await asyncio.gather(*tasks)
    return sum(any(later > number for later in served[:place]) for place, number in enumerate(served))


async def loop_stands_still(peer: Peer) -> float:
    """Return the intervals that the event loop stands still at most while one waits."""
    acquire, ticks = peer.make(peer.interval), [time.perf_counter()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.001)
            ticks.append(time.perf_counter())

    ticker = asyncio.create_task(tick())
    for _ in range(LIMIT + 1):
        await acquire("k", 1)
    await asyncio.sleep(0.005)
    ticker.cancel()
    return max(later - earlier for earlier, later in pairwise(ticks)) / peer.interval


async def _timed(acquire: Callable[[], Awaitable[Any]], peer: Peer) -> float:
    async def coroutine() -> None:
        await acquire()

    began = time.perf_counter()
    with suppress(TimeoutError):
        await asyncio.wait_for(coroutine(), PATIENCE * peer.interval)
    return (time.perf_counter() - began) / peer.interval


COLUMNS: dict[str, Callable[[Peer], Coroutine[Any, Any, float | None]]] = {
    "most": most_in_an_interval,
    "most, late": most_with_a_late_loop,
    "lost": lost_by_cancelling,
    "heavy": heavy_beside_light,
    "free key": free_beside_full,
    "overtaken": overtaken,
    "stall": loop_stands_still,
}


async def look_at(name: str) -> dict[str, float | None]:
    peer = PEERS[name]
    return {column: await COLUMNS[column](peer) for column in peer.columns or COLUMNS}


def in_a_process(name: str, environments: dict[str, Path]) -> list[float | None]:
    """Look at a limiter in a process of its own."""
    python = next((path for peer, path in environments.items() if name.startswith(peer)), Path(sys.executable))
    found = elsewhere(python, __file__, "one", name)
    return [found.get(column) for column in COLUMNS]


async def benchmark(report: Report) -> None:
    environments = peers(*APART)
    missing = tuple(name for name in APART if name not in environments)
    rows = {name: in_a_process(name, environments) for name in PEERS if not name.startswith(missing)}
    report.grid(f"{LIMIT} per interval", [*COLUMNS], rows)


def one(name: str) -> None:
    """Look at one limiter, in this process, and print what it did."""
    logging.disable()
    print(json.dumps(asyncio.run(look_at(name))))


if __name__ == "__main__":
    one(sys.argv[2]) if sys.argv[1:2] == ["one"] else main(benchmark)
