"""What the algorithms mean, written the slow way: from the list of all grants, with fractions, looking at nothing else.

A model answers one question: would `cost` units fit at the moment `now`, given these grants? Everything else (how
long to wait, what is left, when a key is as new) follows from asking it at other moments and for other costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    Rule,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from pyrate_limiter.rates import Rate


class Grant(NamedTuple):
    at: int
    cost: int


class Model(Protocol):
    def __call__(self, rate: Rate, grants: Sequence[Grant], now: int, cost: int) -> bool: ...


def log_admits(rate: Rate, grants: Sequence[Grant], now: int, cost: int) -> bool:
    interval = rate.interval * 1000
    return held(rate, grants, now - interval) + cost <= rate.limit


def held(rate: Rate, grants: Sequence[Grant], horizon: int) -> int:
    """Return the units that count as later than `horizon`: above a limit of 1000, a cell counts as late as its last."""
    cell = -(-rate.interval * 1000 // 1000) if rate.limit > 1000 else 1
    latest = {grant.at // cell: grant.at for grant in grants}
    return sum(grant.cost for grant in grants if latest[grant.at // cell] > horizon)


def gcra_admits(rate: Rate, grants: Sequence[Grant], now: int, cost: int) -> bool:
    burst = rate.limit if rate.burst is None else rate.burst
    period, tat = _tat(rate, grants)
    return tat + cost * period - burst * period <= now


def leaky_admits(rate: Rate, grants: Sequence[Grant], now: int, cost: int) -> bool:
    return _tat(rate, grants)[1] <= now


def fixed_admits(rate: Rate, grants: Sequence[Grant], now: int, cost: int) -> bool:
    windows, current = _windows(rate, grants), now // (rate.interval * 1000)
    return windows[current] + cost <= rate.limit


def counter_admits(rate: Rate, grants: Sequence[Grant], now: int, cost: int) -> bool:
    interval = rate.interval * 1000
    windows, current = _windows(rate, grants), now // interval
    part = 1 - Fraction(now - current * interval, interval)
    return windows[current - 1] * part + windows[current] + cost <= rate.limit


MODELS: dict[type[Algorithm], Model] = {
    SlidingWindowLog: log_admits,
    GCRA: gcra_admits,
    TokenBucket: gcra_admits,
    LeakyBucket: leaky_admits,
    FixedWindow: fixed_admits,
    SlidingWindowCounter: counter_admits,
}


def admits(algorithm: type[Algorithm], rule: Rule, grants: Sequence[Grant], now: int, cost: int) -> bool:
    return all(MODELS[algorithm](rate, grants, now, cost) for rate in rule.rates)


def at_most_holds(rule: Rule, grants: Sequence[Grant]) -> bool:
    """Return whether no half-open span holds more than `at_most` says: those from one grant to another are enough."""
    for first, start in enumerate(grants):
        units = 0
        for grant in grants[first:]:
            units += grant.cost
            if units > rule.at_most(grant.at - start.at + 1):
                return False
    return True


def _tat(rate: Rate, grants: Sequence[Grant]) -> tuple[Fraction, Fraction]:
    """Return the time that a unit takes, and the moment at which all that was granted has drained."""
    period, tat = Fraction(rate.interval * 1000, rate.limit), Fraction(0)
    for at, cost in grants:
        tat = max(tat, Fraction(at)) + cost * period
    return period, tat


def _windows(rate: Rate, grants: Sequence[Grant]) -> Counter[int]:
    windows: Counter[int] = Counter()
    for at, cost in grants:
        windows[at // (rate.interval * 1000)] += cost
    return windows
