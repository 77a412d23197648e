"""What the sliders of the page say."""

from __future__ import annotations

from typing import NamedTuple

from ... import Duration, InMemoryBucket, LeakyBucket, Rate
from ...algorithms import Rule, bind
from ...clocks import SECOND, Clock
from ..arguments import ALGORITHMS

RANGES = {"limit": (1, 50), "seconds": (1, 10), "burst": (1, 50), "wait": (0, 10), "traffic": (0, 50)}
"""The least and the most of each number."""


class Settings(NamedTuple):
    """A limit, and what comes against it.

    Attributes:
        algorithm: its name on the command line.
        limit: units within the interval.
        seconds: the interval.
        burst: the most at once, for algorithms that have a burst.
        wait: the most seconds for which a request is held until it fits.
        traffic: requests a second that come by themselves, by chance, while somebody looks.
    """

    algorithm: str = "gcra"
    limit: int = 5
    seconds: int = 1
    burst: int = 10
    wait: int = 2
    traffic: int = 0

    def moved(self, given: object) -> Settings:
        """Return these with those that are given in their place.

        Raises:
            ValueError: a name or a value is none that there is.
        """
        if not isinstance(given, dict) or not given.keys() <= set(self._fields):
            raise ValueError(f"send a JSON object with any of {', '.join(self._fields)}")
        for name, value in given.items():
            _require(name, value)
        return self._replace(**given)

    @property
    def rate(self) -> Rate:
        """The rate, with its burst if the algorithm has one."""
        algorithm = ALGORITHMS[self.algorithm]
        burst = self.burst if algorithm.bursts else None
        if algorithm is LeakyBucket:
            burst = 1  # its burst is for heavy requests, and here all weigh one unit
        return Rate(self.limit, self.seconds * Duration.SECOND, burst)

    @property
    def rule(self) -> Rule:
        """The algorithm, bound to the rate."""
        return bind(ALGORITHMS[self.algorithm], [self.rate])

    @property
    def bound(self) -> int:
        """The most that any interval ever holds."""
        return self.rule.at_most(self.seconds * SECOND)

    def bucket(self, clock: Clock) -> InMemoryBucket:
        """Return a new bucket that counts so."""
        return InMemoryBucket(self.rate, algorithm=ALGORITHMS[self.algorithm], clock=clock)


def _require(name: str, value: object) -> None:
    if name == "algorithm":
        if not isinstance(value, str) or value not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {value!r}")
        return
    least, most = RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
