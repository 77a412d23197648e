"""What hypothesis draws: rates, rules, weights, and scripts of lapses of time and weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pyrate_limiter.algorithms import Algorithm, Rule, bind
from pyrate_limiter.rates import Rate

settings.register_profile(
    "ci", derandomize=True, max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

DUE, EARLY = -1, -2
"""Lapses that depend on the last refusal: as long as it said, and a microsecond less."""

moments = st.sampled_from([0, 1, 999_999, 1_000_000, 86_400_000_000, 1_700_000_000_000_000]) | st.integers(0, 2**53)
limits = st.integers(1, 4) | st.integers(1, 50) | st.integers(990, 1010) | st.integers(1001, 5000)
intervals = st.sampled_from([1, 2, 7, 10, 100, 999, 1000, 1001, 60_000, 3_600_000]) | st.integers(1, 3_600_000)


class Step(NamedTuple):
    """Let so many microseconds pass, then ask for so many units."""

    lapse: int
    weight: int


class Plan(NamedTuple):
    """A rule, a moment to begin at, and the steps from there."""

    rule: Rule
    start: int
    steps: list[Step]


@st.composite
def rates(draw: st.DrawFn, algorithm: type[Algorithm]) -> Rate:
    limit = draw(limits)
    burst = draw(st.none() | st.integers(1, 3 * limit)) if algorithm.bursts else None
    return Rate(limit, draw(intervals), burst)


@st.composite
def rules(draw: st.DrawFn, algorithm: type[Algorithm], most: int = 3) -> Rule:
    """Draw one rate or several: two that know nothing of each other, or one that stretches another."""
    first = draw(rates(algorithm))
    others = st.lists(rates(algorithm) | stretched(first), max_size=most - 1)
    return bind(algorithm, [first, *draw(others)])


@st.composite
def stretched(draw: st.DrawFn, rate: Rate) -> Rate:
    """Draw a rate that binds now and then beside `rate`: a few times its interval for fewer times its limit."""
    times = draw(st.integers(2, 5))
    limit = draw(st.integers(rate.limit, rate.limit * times))
    return Rate(limit, rate.interval * times + draw(st.integers(0, 3)), None)


def weights(capacity: int) -> st.SearchStrategy[int]:
    """Draw weights that fill the capacity after few and after many steps."""
    few = st.integers(1, max(1, capacity // 3))
    return few | st.integers(1, capacity) | st.integers(max(1, capacity - 1), capacity)


def lapses(periods: Sequence[int]) -> st.SearchStrategy[int]:
    """Draw lapses of time: none, as told, a microsecond less, about an interval or a part of one."""
    told = st.sampled_from([0, 0, DUE, DUE, EARLY])
    near = st.builds(lambda period, off: max(0, period + off), st.sampled_from(periods), st.integers(-2, 2))
    return told | near | st.integers(0, 2 * periods[0]) | st.integers(0, periods[0] // 50 + 1)


def steps(rule: Rule, longest: int = 25) -> st.SearchStrategy[list[Step]]:
    periods = [rate.interval * 1000 for rate in rule.rates]
    periods += [rate.interval * 1000 // rate.limit for rate in rule.rates]
    periods += [(rate.interval * 1000 - 1) // 1000 + 1 for rate in rule.rates]
    # Fewer would seldom come to the limit.
    return st.lists(st.builds(Step, lapses(periods), weights(rule.capacity)), min_size=8, max_size=longest)


@st.composite
def plans(draw: st.DrawFn, algorithm: type[Algorithm], most: int = 3, longest: int = 25) -> Plan:
    rule = draw(rules(algorithm, most))
    return Plan(rule, draw(moments), draw(steps(rule, longest)))
