"""What the commands understand: rates, algorithms and arrivals, as words."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from ..algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from ..clocks import SECOND
from ..rates import Rate

T = TypeVar("T")
ALGORITHMS: dict[str, type[Algorithm]] = {
    "log": SlidingWindowLog,
    "gcra": GCRA,
    "token": TokenBucket,
    "leaky": LeakyBucket,
    "fixed": FixedWindow,
    "counter": SlidingWindowCounter,
}
FASTEST = 1e6
"""Arrivals a second: one for each microsecond."""


class Arrivals:
    """When requests come.

    Args:
        text: ``poisson:20`` (by chance, 20 a second on average), ``even:20`` (every 50 ms) or ``burst:20`` (20 at the
            start of each second).

    Raises:
        ValueError: the text is none of these.
    """

    def __init__(self, text: str) -> None:
        kind, _, number = text.partition(":")
        known = {"poisson": self._poisson, "even": self._even, "burst": self._burst}
        try:
            self.per_second = float(number)
        except ValueError:
            self.per_second = math.nan
        if kind not in known or not 0 < self.per_second <= FASTEST:
            raise ValueError(f"cannot read the arrivals {text!r}: write poisson:20, even:20 or burst:20 (a second)")
        self.text = text
        self._moments = known[kind]

    def moments(self, seconds: float, seed: int) -> Iterator[int]:
        """Yield the moments within so many seconds, in order, in microseconds; a seed gives the same ones again."""
        end = round(seconds * SECOND)
        for at in self._moments(random.Random(seed)):  # noqa: S311 - chance that repeats is what a simulation wants
            if at >= end:
                return
            yield at

    def _poisson(self, chance: random.Random) -> Iterator[int]:
        at = 0.0
        while True:
            at += chance.expovariate(self.per_second) * SECOND
            yield int(at)

    def _even(self, _: random.Random) -> Iterator[int]:
        count = 0
        while True:
            yield int(count * SECOND / self.per_second)
            count += 1

    def _burst(self, _: random.Random) -> Iterator[int]:
        start = 0
        while True:
            yield from [start] * max(1, round(self.per_second))
            start += SECOND


def word(name: str, read: Callable[[str], T]) -> Callable[[Any], T]:
    """Return a type of parameter that `read` reads, which raises ValueError with a sentence for the user."""

    def convert(value: Any) -> T:
        try:
            return read(value) if isinstance(value, str) else value
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    convert.__name__ = name  # what click's help calls it
    return convert


RATE = word("rate", Rate.parse)
ARRIVALS = word("arrivals", Arrivals)
ALGORITHM = click.Choice(list(ALGORITHMS))
