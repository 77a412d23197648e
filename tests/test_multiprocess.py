"""The bucket in shared memory, within one process: two buckets with one name stand for two processes."""

from __future__ import annotations

import random
from itertools import count

import pytest

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    bind,
    decide,
)
from pyrate_limiter.buckets.multiprocess import MultiprocessBucket, TableFull, lifetime
from pyrate_limiter.buckets.multiprocess.folder import Folder
from pyrate_limiter.decisions import BEHIND, FOREVER, RESET, Answer, Ask
from pyrate_limiter.rates import Rate

ALGORITHMS = [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter]
RATES = {
    "one": [Rate(1, 10)],
    "few": [Rate(7, 20)],
    "many": [Rate(5000, 100)],
    "three": [Rate(5, 10), Rate(12, 50), Rate(3000, 1000)],
}
_numbers = count()


class Now:
    """A clock that stands where it is put."""

    def __init__(self, now: int = 10_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def name():
    """A name of this test's own, whose file goes with it."""
    name = f"test {next(_numbers)}"
    yield name
    with Folder() as folder:
        folder.remove(lifetime.named(name), lambda header: True)


def random_asks(rng: random.Random, granted: list[tuple[str, int, int]], capacity: int) -> list[Ask]:
    """Return a batch: takes of all sizes, looks, resets, and give-backs of what was granted before."""
    asks = []
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        key, kind = rng.choice(["", "a", "b\0"]), rng.random()
        if kind < 0.15 and granted:
            key, cost, at = granted.pop(rng.randrange(len(granted)))
            asks.append(Ask(key, -rng.randint(1, cost), at=at))
        elif kind < 0.2:
            asks.append(Ask(key, 0))
        elif kind < 0.21:
            asks.append(Ask(key, RESET))
        else:
            cost = min(capacity, rng.choice([1, 1, 1, 2, 3, capacity // 3 or 1, capacity]))
            asks.append(Ask(key, cost, rng.choice([0, 0, FOREVER])))
    return asks


def remember(granted: list[tuple[str, int, int]], asks: list[Ask], answers: list[Answer]) -> None:
    granted += [
        (ask.key, ask.cost, answer.at) for ask, answer in zip(asks, answers, strict=True) if ask.cost > 0 == answer.wait
    ]
    del granted[:-40]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)
def test_three_processes_answer_as_one_in_memory(algorithm: type[Algorithm], rates: list[Rate], seed: int, name: str):
    rng, clock = random.Random(seed), Now()
    buckets = [MultiprocessBucket(rates, name, algorithm=algorithm, clock=clock) for _ in range(3)]
    rule, states, granted = bind(algorithm, rates), {}, []
    pace = rng.choice([50, 1000, 4000])
    for _ in range(600):
        clock.now += rng.choice([0, 1, pace, rng.randrange(2 * pace)])
        if rng.random() < 0.02:
            clock.now -= rng.choice([500, 1_500_000])
        elif rng.random() < 0.01:
            clock.now += 3_000_000
        asks = random_asks(rng, granted, rule.capacity)
        expected = decide(rule, states, asks, clock.now)
        bucket = rng.choice(buckets)
        if len(asks) == 1 and asks[0].cost > 0 and rng.random() < 0.7:
            answers = [bucket._decide(asks[0].key, asks[0].cost)]
        else:
            answers = bucket._step(asks)
        assert answers == expected
        remember(granted, asks, answers)
