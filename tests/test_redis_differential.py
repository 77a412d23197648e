"""The scripts decide as the Python algorithms do, to the microsecond."""

from __future__ import annotations

import os
from itertools import islice

import pytest

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from pyrate_limiter.buckets.outage import Fail
from pyrate_limiter.buckets.redis import RedisBucket
from pyrate_limiter.buckets.redis.families import MOST
from pyrate_limiter.rates import Rate
from pyrate_limiter.testing import ManualClock

from .differential import Alike, Crowded, Endless, Huge, Regretful, Story

ALGORITHMS = [SlidingWindowLog, GCRA, TokenBucket, LeakyBucket, FixedWindow, SlidingWindowCounter]
DECISIONS = int(os.environ.get("DIFFERENTIAL_DECISIONS", "100000"))
"""For each algorithm."""


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def compare(story: Story, algorithm: type[Algorithm], url: str, calls: int) -> int:
    """Follow a story for so many calls, and return how many decisions were equal."""
    clock = ManualClock()
    bucket = RedisBucket(
        story.rates, url, prefix="differential", algorithm=algorithm, when_down=Fail(budget=30), clock=clock
    )
    seen = 0
    try:
        for call, (now, asks, expected) in enumerate(islice(story.tell(), calls)):
            clock.now = now
            answers = await bucket._apply(asks)
            for ask, answer, other in zip(asks, answers, expected, strict=True):
                assert answer == other, f"call {call} of {story.rates} at {now}: {ask}"
            seen += len(asks)
    finally:
        await bucket.aclose()
    return seen


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_script_decides_as_python_does(algorithm: type[Algorithm], redis_url: str) -> None:
    seen = seed = 0
    while seen < DECISIONS:
        seen += await compare(Story(algorithm, seed), algorithm, redis_url, 60)
        seed += 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_equal_asks_in_a_row_are_decided_one_by_one(algorithm: type[Algorithm], redis_url: str) -> None:
    for seed in range(20):
        await compare(Alike(algorithm, seed), algorithm, redis_url, 40)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_numbers_are_exact_up_to_the_bounds(algorithm: type[Algorithm], redis_url: str) -> None:
    for seed in range(10):
        await compare(Huge(algorithm, seed, MOST), algorithm, redis_url, 50)


@pytest.mark.parametrize(
    "rates", [[Rate(7, 1000)], [Rate(1000, 1000)], [Rate(5000, 1000)], [Rate(1500, 2000), Rate(900, 1000)]], ids=str
)
async def test_a_full_ring_decides_as_python_does(rates: list[Rate], redis_url: str) -> None:
    await compare(Crowded(SlidingWindowLog, 0, rates), SlidingWindowLog, redis_url, 4000)


async def test_what_is_given_back_at_once_is_as_if_it_had_never_been(redis_url: str) -> None:
    for seed in range(20):
        await compare(Regretful(SlidingWindowLog, seed), SlidingWindowLog, redis_url, 100)


async def test_counts_that_never_come_to_rest_stay_exact(redis_url: str) -> None:
    await compare(Endless(SlidingWindowLog, 0, MOST), SlidingWindowLog, redis_url, 500)
