"""The keys in memory: bounded, swept as calls go by, and never a way around a limit."""

from __future__ import annotations

import random

import pytest

from pyrate_limiter import GCRA, FixedWindow, InMemoryBucket, Rate, SlidingWindowCounter, SlidingWindowLog
from pyrate_limiter.buckets.keys import OVERFLOW
from pyrate_limiter.testing import ManualClock

SECOND = 1_000_000
algorithms = pytest.mark.parametrize(
    "algorithm", [SlidingWindowLog, GCRA, FixedWindow, SlidingWindowCounter], ids=lambda a: a.__name__
)


@algorithms
def test_idle_keys_are_gone_after_as_many_calls_as_there_were_keys(algorithm: type) -> None:
    clock = ManualClock()
    bucket = InMemoryBucket(Rate(10, 1000), algorithm=algorithm, clock=clock)
    for i in range(1000):
        bucket._take(f"key{i}", 1, keyed=True)
        clock.now += 500
    assert bucket.statistics().keys > 150
    clock.now += 3 * SECOND
    for _ in range(1000):
        bucket._take("another", 1, keyed=True)
    assert bucket.statistics().keys == 1


@algorithms
def test_no_key_goes_while_its_state_says_something(algorithm: type) -> None:
    clock = ManualClock(995 * SECOND)
    bucket = InMemoryBucket(Rate(2, 10_000), algorithm=algorithm, clock=clock)

    def others(phase: str) -> None:  # they become idle one after another, so passes go round and round
        for i in range(500):
            bucket._take(f"{phase}{i}", 1, keyed=True)
            clock.now += 10_000

    others("before")
    for i in range(100):
        assert not bucket._take(f"key{i}", 2, keyed=True)
    phases = ["meanwhile", "then"] * (2 if algorithm is SlidingWindowCounter else 1)  # that one counts twice as long
    for phase in phases:
        others(f"{phase}{clock.now}")
    clock.now -= 1
    for _ in range(2000):  # and once more over all of them, in their last microsecond
        bucket._take("another", 1, keyed=True)
    assert bucket.statistics().keys < 100 + 500 * (1 + len(phases))
    assert all(bucket._take(f"key{i}", 2, keyed=True) for i in range(100))


def test_a_full_table_is_no_way_around_the_limit() -> None:
    clock = ManualClock()
    bucket = InMemoryBucket(Rate(1, 60_000), max_keys=50, clock=clock)
    chance, admitted = random.Random(1), {}
    for round_ in range(3):
        for i in chance.sample(range(5000), 5000):
            if not bucket._take(f"key{i}", 1, keyed=True):
                assert f"key{i}" not in admitted, round_
                admitted[f"key{i}"] = True
    assert bucket.statistics().keys <= 50 + OVERFLOW
    assert len(admitted) <= 50 + OVERFLOW


def test_a_name_of_the_overflow_gets_no_second_budget_when_room_comes() -> None:
    clock = ManualClock()
    bucket = InMemoryBucket(Rate(1, 60_000), max_keys=1, clock=clock)
    bucket._take("first", 1, keyed=True)
    clock.now += 30 * SECOND
    assert not bucket._take("late", 1, keyed=True)  # in the overflow
    clock.now += 31 * SECOND
    for _ in range(10):
        bucket._take("late", 1, keyed=True)  # the first one is idle and goes, so there is room
    assert bucket._take("late", 1, keyed=True) > 0
    clock.now += 30 * SECOND
    assert not bucket._take("late", 1, keyed=True)


def test_names_in_the_table_keep_their_budgets_when_it_is_full() -> None:
    bucket = InMemoryBucket(Rate(2, 60_000), max_keys=10, clock=ManualClock())
    for i in range(10):
        bucket._take(f"key{i}", 1, keyed=True)
    for i in range(5000):
        bucket._take(f"stranger{i}", 1, keyed=True)
    assert all(not bucket._take(f"key{i}", 1, keyed=True) for i in range(10))


def test_a_hot_key_is_not_swept_at_every_call() -> None:
    clock = ManualClock()
    bucket = InMemoryBucket(Rate(10**9, 1000), algorithm=GCRA, clock=clock)
    bucket._take("", 1, keyed=True)
    states = bucket._keys.young
    for _ in range(100):
        clock.now += 1
        bucket._take("", 1, keyed=True)
    assert bucket._keys.young is states


def test_a_clock_that_goes_back_and_forth_decides_as_the_rule_says() -> None:
    clock = ManualClock(10_000 * SECOND)
    bucket = InMemoryBucket(Rate(3, 10_000), clock=clock)
    assert [bool(bucket._take("a", 1, keyed=True)) for _ in range(4)] == [False, False, False, True]
    clock.now -= 3600 * SECOND
    assert bucket._take("a", 1, keyed=True) == 10 * SECOND  # locked for one interval, not for an hour
    clock.now += 10 * SECOND
    assert not bucket._take("a", 3, keyed=True)
    clock.now += 3600 * SECOND
    assert not bucket._take("a", 3, keyed=True)
