"""Nothing drifts: after a million intervals a rate has admitted exactly what it should.

What it should, for `limit` units an interval and somebody who takes whatever fits: the log and the fixed window, the
limit once every interval; the counter, the limit once every second interval, since it weighs the window before;
GCRA, its burst and then limit / interval to the last microsecond; the paced bucket, a burst for each time that a
burst takes, begun on a whole microsecond.
"""

from __future__ import annotations

import pytest

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    bind,
)
from pyrate_limiter.rates import Duration, Rate

MILLION = 1_000_000
START = 1_700_000_000_000_000

both = pytest.mark.parametrize("rate", [Rate(7, 1000), Rate(3, Duration.SECOND)], ids=str)


@both
@pytest.mark.parametrize(
    ("algorithm", "intervals"), [(SlidingWindowLog, 1), (FixedWindow, 1), (SlidingWindowCounter, 2)]
)
def test_a_full_limit_fits_exactly_when_it_should(algorithm: type[Algorithm], intervals: int, rate: Rate) -> None:
    """Take the limit as soon as it fits, and now and then let some hundred intervals pass."""
    rule, state, now, admitted = algorithm(rate), algorithm(rate).fresh(), START, 0
    interval, skipped = rule.interval, 98
    for _ in range(MILLION // (100 * intervals)):
        for _ in range(2):
            state = rule.commit(state, now, rate.limit)
            admitted += rate.limit
            assert rule.probe(state, now, 1) > 0
            wait = rule.probe(state, now, rate.limit)
            assert wait == intervals * interval
            now += wait
        now += skipped * intervals * interval
    assert now - START == MILLION * interval
    assert admitted == MILLION // (50 * intervals) * rate.limit


@both
def test_gcra_admits_the_burst_and_then_the_rate_to_the_microsecond(rate: Rate) -> None:
    """Come back at odd moments, a thousand times, and take all that is there."""
    interval = rate.interval * 1000
    rule = GCRA(Rate(rate.limit, rate.interval, burst=2000 * rate.limit))
    state, admitted, elapsed = rule.fresh(), 0, 0
    while elapsed < MILLION * interval:
        left, _, _ = rule.view(state, START + elapsed)
        assert rule.probe(state, START + elapsed, left) == 0
        state = rule.commit(state, START + elapsed, left)
        assert rule.probe(state, START + elapsed, 1) > 0
        admitted += left
        assert admitted == rule.capacity + elapsed * rate.limit // interval
        elapsed += 999 * interval + 333_337


@both
def test_units_of_gcra_taken_when_due_are_never_late(rate: Rate) -> None:
    rule, now, interval = GCRA(rate), START, rate.interval * 1000
    state = rule.commit(rule.fresh(), now, rate.limit)
    for unit in range(1, 100_000):
        now += rule.probe(state, now, 1)
        state = rule.commit(state, now, 1)
        assert now == START - (-unit * interval // rate.limit)


@both
def test_the_paced_bucket_starts_each_request_on_the_first_whole_microsecond(rate: Rate) -> None:
    rule, now = LeakyBucket(Rate(rate.limit, rate.interval, burst=1000 * rate.limit)), START
    state = rule.fresh()
    for burst in range(1000):
        assert now == START + burst * 1000 * rule.interval
        state = rule.commit(state, now, rule.capacity)
        now += rule.probe(state, now, 1)
    assert now == START + MILLION * rule.interval
    for _ in range(1000):
        state = rule.commit(state, now, 1)
        assert rule.probe(state, now, 1) == -(-rule.interval // rate.limit)
        now += rule.probe(state, now, 1)


@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter])
def test_rates_may_stand_in_any_order(algorithm: type[Algorithm]) -> None:
    """Three a minute with one a day is legal, and so is its reverse: the day decides."""
    rates = [Rate(3, Duration.MINUTE), Rate(1, Duration.DAY)]
    for order, refuses in ((rates, 1), (rates[::-1], 0)):
        rule = bind(algorithm, order)
        now = 20_000 * Duration.DAY * 1000
        state = rule.commit(rule.fresh(), now, 1)
        day = 2 if algorithm is SlidingWindowCounter else 1
        assert rule.probe(state, now, 1) == day * Duration.DAY * 1000
        assert rule.view(state, now, 1)[::2] == (0, refuses)
        assert rule.capacity == 1
