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


class Said(NamedTuple):
    """What an answer says.

    Attributes:
        number: of the request.
        remaining: so many are left.
        reset: seconds after which there will be more, or all; None if that is not stated.
        under_way: so many others are under way.
        sent: so many were sent until now.
    """

    number: int
    remaining: int
    reset: float | None
    under_way: int
    sent: int


class Promise:
    """How many requests are left until when, as far as that is known.

    Args:
        held: returns how many seconds to wait for a moment that is stated to be in so many.
    """

    def __init__(self, held: Callable[[float], float]) -> None:
        self._held = held
        self._left = inf  # the least that was said, until more is said to a request sent later
        self._later = 0  # the first number that was sent later
        self._until = -inf  # when the next may go
        self._stated = -inf  # when there will be more, if it is true
        self._attempt = -inf  # when to try whether it is meant that way
        self._mark = Mark()
        self._heard = 0
        self._kept = False  # before the moment, a request was refused
        self._untrue = False  # before the moment, more was there
        self._testing = False

    def broken(self, under_way: int) -> bool:
        """Return whether one request more may be more than is left: of those under way nobody knows if they count."""
        return self._left <= under_way

    def due(self, under_way: int) -> float:
        """Return when the next request may go."""
        if self._left > under_way:
            return -inf
        return self._until if under_way else min(self._attempt, self._until)

    def test(self, now: float) -> None:
        """Take note that a request goes although nothing is left."""
        self._testing = now < self._stated - MARGIN / 2
        self._left = inf

    def refused(self, hold: float | None, reset: float | None) -> float | None:
        """Take note that a request was refused, and return the seconds until it may come back, if they are stated."""
        self._left = inf
        self._kept = self._kept or self._testing
        self._testing = False
        if hold is None:
            return None if self._untrue else reset
        # Who is told to come back before the other moment learns what that one is: when all will be back.
        self._untrue = self._untrue or (reset is not None and hold + MARGIN < reset)
        return hold

    def proved(self, now: float) -> bool:
        """Take note that a request was let through; return whether the promise was nothing to learn from."""
        if not self._testing:
            return False
        self._testing = False
        self._untrue = True
        return self._held(self._stated - now) < self._stated - now

    def hear(self, said: Said, now: float, rate: float) -> float:
        """Learn from what an answer says, and return the seconds to pause for it."""
        self._heard += 1
        remaining, reset = said.remaining, said.reset
        if reset is None or self._untrue:
            self._left = inf
            return 0
        self._compare(said, now, reset)
        if rate and reset * rate < SHORT:
            self._left = inf
            return 0 if remaining else self._held(reset)
        if remaining > self._left and said.number < self._later:
            return 0  # it was overtaken by one that knows better
        self._left = remaining
        self._later = said.sent
        self._until = now + self._held(reset)
        self._stated = now + reset
        self._attempt = now + 2 / rate if rate and not self._kept and reset > MARGIN else inf
        return 0

    def _compare(self, said: Said, now: float, reset: float) -> None:
        """Find out whether something comes back before the stated moment."""
        mark = self._mark
        if now >= mark.until:
            self._mark = Mark(now + reset, said.remaining, said.number, self._heard, said.under_way + 1)
        elif now < mark.until - MARGIN:
            spent = min(self._heard - mark.heard, said.number - mark.number)
            if said.remaining + spent > mark.remaining + mark.slack + said.under_way + 1:
                self._untrue = True
