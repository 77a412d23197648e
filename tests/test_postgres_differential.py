"""PostgresBucket decides as the Python algorithms do, to the microsecond: by SQL functions, and by statements."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pyrate_limiter.algorithms import GCRA, Algorithm, FixedWindow, LeakyBucket, SlidingWindowCounter, SlidingWindowLog
from pyrate_limiter.buckets.postgres import PostgresBucket
from pyrate_limiter.rates import Rate

from .differential import Crowded, Huge, Story
from .postgres import closing, database, patient, query

ALGORITHMS = [GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter, SlidingWindowLog]
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)
DECISIONS = int(os.environ.get("DIFFERENTIAL_DECISIONS", "100000"))
A_STORY = 6_000
A_CALL = 100
"""What a call counts at least, so that many stories are told and the time goes into decisions."""


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> Iterator[str]:
    with database(postgres_dsn) as own:
        query(own, PostgresBucket.ddl())
        yield own


@pytest.fixture(autouse=True)
def empty(dsn: str) -> None:
    query(dsn, "TRUNCATE pyrate_limiter, pyrate_limiter_pages")


async def compare(story: Story, dsn: str, decisions: int, functions: bool | None) -> int:
    """Tell a story until so many decisions have been compared; None takes turns."""
    now = [0]
    ways = [patient(story.rates, dsn, algorithm=type_of(story), functions=f, clock=lambda: now[0]) for f in (0, 1)]
    for bucket in ways:
        bucket._sweeper._next = float("inf")  # a row that was swept has forgotten how far the clock had come
    chance = random.Random(decisions)
    compared = 0
    async with closing(ways[0]), closing(ways[1]):
        for now[0], asks, wanted in story.tell():
            bucket = ways[chance.randrange(2) if functions is None else functions]
            got = await bucket._apply(asks)
            assert got == wanted, first_difference(story, asks, got, wanted)
            compared += len(asks)
            decisions -= max(A_CALL, len(asks))
            if decisions <= 0:
                return compared
    raise AssertionError("a story has no end")


def type_of(story: Story) -> type[Algorithm]:
    rule = story.rule
    return type(getattr(rule, "rules", [rule])[0])


def first_difference(story: Story, asks: Any, got: Any, wanted: Any) -> str:
    for ask, one, other in zip(asks, got, wanted, strict=True):
        if one != other:
            return f"{story.rates} at {story.now}: {ask} got {one} instead of {other}"
    return "another number of answers"


@each_algorithm
async def test_functions_decide_as_the_algorithms_do(algorithm: type[Algorithm], dsn: str) -> None:
    compared, seed = 0, 0
    while compared < DECISIONS:
        story = Story(algorithm, seed)
        story._crowd = 100 if seed % 2 else story._crowd
        compared += await compare(story, dsn, A_STORY, functions=True)
        seed += 1


@each_algorithm
async def test_statements_and_functions_go_on_from_each_other(algorithm: type[Algorithm], dsn: str) -> None:
    for seed in range(8):
        await compare(Story(algorithm, seed, batch=30), dsn, A_STORY, functions=None)


@each_algorithm
async def test_numbers_beyond_a_bigint_are_for_python(algorithm: type[Algorithm], dsn: str) -> None:
    for seed in range(3):
        await compare(Huge(algorithm, seed, 2**52), dsn, A_STORY // 4, functions=True)


CROWDED = [
    [Rate(1000, 1000)],
    [Rate(5000, 1000)],
    [Rate(64, 100), Rate(400, 1000)],
    [Rate(300, 400), Rate(100, 120), Rate(50, 60), Rate(9, 10)],
]


@pytest.mark.parametrize("rates", CROWDED, ids=lambda rates: f"{len(rates)}x{rates[0].limit}")
async def test_a_full_log_goes_on_in_pages(rates: list[Rate], dsn: str) -> None:
    await compare(Crowded(SlidingWindowLog, 1, rates), dsn, A_CALL * 1500, functions=True)
    assert query(dsn, "SELECT count(*) > 5 FROM pyrate_limiter_pages") == [True]
    await compare(Crowded(SlidingWindowLog, 2, rates), dsn, A_CALL * 500, functions=None)
