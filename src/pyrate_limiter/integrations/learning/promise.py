"""What a server says is left, and whether to believe it.

"Nothing is left until then" can mean three things. A window begins then: before, everything is refused. All will be
back then: some is back much sooner. Or it is simply wrong. Which one it is shows when a request goes before that
moment, so once the pace is known, that is tried, once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

SHORT = 4
"""A wait for so many requests at the pace is a pause, not the end of a window."""
MARGIN = 1.0
"""Seconds by which a stated moment may be late: many servers round up to whole ones."""


class Mark(NamedTuple):
    """A statement that later ones are compared with: so many are left until then."""

    until: float = -inf
    remaining: int = 0
    number: int = 0
    heard: int = 0
    slack: int = 0


class Promise:
    """How many requests are left until when, as far as that is known.

    Args:
        held: returns how many seconds to wait for a moment that is stated to be in so many.
    """

    def __init__(self, held: Callable[[float], float]) -> None:
        self._held = held
        self._left = inf
        self._number = -1  # of the request whose answer said so
        self._until = -inf  # when the next may go
        self._stated = -inf  # when there will be more, if it is true
        self._attempt = -inf  # when to try whether it is meant that way
        self._mark = Mark()
        self._heard = 0
        self._kept = False  # before the moment, a request was refused
        self._untrue = False  # before the moment, more was there
        self._testing = False

    @property
    def broken_by_next(self) -> bool:
        """Whether one more request is more than is left."""
        return self._left <= 0

    def due(self, under_way: int) -> float:
        """Return when the next request may go."""
        if self._left > 0:
            return -inf
        return self._until if under_way else min(self._attempt, self._until)

    def spend(self) -> None:
        """Count a request that goes."""
        self._left -= 1

    def test(self, now: float) -> None:
        """Take note that a request goes although nothing is left."""
        self._testing = now < self._stated - MARGIN / 2
        self._left = inf

    def refused(self) -> None:
        """Take note that a request was refused."""
        self._left = inf
        self._kept = self._kept or self._testing
        self._testing = False

    def proved(self, now: float) -> bool:
        """Take note that a request was let through; return whether the promise was nothing to learn from."""
        if not self._testing:
            return False
        self._testing = False
        self._untrue = True
        return self._held(self._stated - now) < self._stated - now

    def reset(self, seconds: float | None) -> float | None:
        """Return the moment at which a refused request may come back, if the stated one is that."""
        return None if self._untrue else seconds

    def hear(self, number: int, now: float, remaining: int, reset: float | None, under_way: int, rate: float) -> float:
        """Learn from what the answer to a request says, and return the seconds to pause for it."""
        self._heard += 1
        if reset is None or self._untrue:
            self._left = inf
            return 0
        self._compare(Mark(now + reset, remaining, number, self._heard, under_way + 1), now)
        if rate and reset * rate < SHORT:
            self._left = inf
            return 0 if remaining else self._held(reset)
        # Those under way may be counted in what is left, or not yet. Answers may overtake each other.
        left = remaining - under_way
        self._left = left if number > self._number else min(self._left, left)
        self._number = max(number, self._number)
        self._until = now + self._held(reset)
        self._stated = now + reset
        self._attempt = now + 2 / rate if rate and not self._kept and reset > MARGIN else inf
        return 0

    def _compare(self, said: Mark, now: float) -> None:
        """Find out whether something comes back before the stated moment."""
        mark = self._mark
        if now >= mark.until:
            self._mark = said
        elif now < mark.until - MARGIN:
            spent = min(said.heard - mark.heard, said.number - mark.number)
            self._untrue = self._untrue or said.remaining + spent > mark.remaining + mark.slack
