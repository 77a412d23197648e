"""One line of those who wait to send to one server: in order of arrival, for tasks and threads alike."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from math import inf
from operator import attrgetter

from .pace import Pace

NOT_YET = -1

_arrival = attrgetter("arrival")


class Place:
    """The place of one request in the line.

    Attributes:
        arrival: the older goes first, also when it comes back after a refusal.
        refusals: how often the server has refused it.
        number: under which it was let go; `NOT_YET` before.
        wake: called when it was let go, or has become the first.
    """

    __slots__ = ("arrival", "number", "refusals", "wake")

    def __init__(self, arrival: int, refusals: int, wake: Callable[[], None]) -> None:
        self.arrival = arrival
        self.refusals = refusals
        self.wake = wake
        self.number = NOT_YET


class Line:
    """Those who wait for one server. It is not for several threads at once.

    The first one has the alarm: it comes back at the moment that `advance` returns, and all others sleep until they
    are let go or become the first.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._waiting: list[Place] = []
        self._arrivals = 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits here."""
        return not self._waiting

    def arrive(self) -> int:
        """Return a number for a request that comes for the first time."""
        self._arrivals += 1
        return self._arrivals

    def pass_by(self, now: float) -> int:
        """Let a request go that need not wait, and return its number; `NOT_YET` if it must join the line."""
        if self._waiting or self.pace.due(now) > now:
            return NOT_YET
        return self.pace.send(now)

    def join(self, place: Place) -> None:
        """Wait, ahead of all who came later."""
        insort(self._waiting, place, key=_arrival)

    def leave(self, place: Place, now: float) -> None:
        """Go away without having been sent."""
        if place.number == NOT_YET:
            self._waiting.remove(place)
        else:
            self.pace.lost()
        self.call(now)

    def advance(self, now: float) -> float:
        """Let go who may, and return when the first of the others may."""
        while self._waiting:
            due = self.pace.due(now)
            if due > now:
                return due
            place = min(self._waiting, key=_chances) if self.pace.cautious else self._waiting[0]
            self._waiting.remove(place)
            place.number = self.pace.send(now)
            place.wake()
        return inf

    def alarm(self, place: Place, now: float) -> float:
        """Return when somebody who waits is to look again."""
        due = self.advance(now)
        return due if self._waiting and self._waiting[0] is place else inf

    def call(self, now: float) -> None:
        """Let go who may after something has changed, and let the first set the alarm."""
        if self.advance(now) < inf:
            self._waiting[0].wake()

    def earliest(self, place: Place, now: float) -> float:
        """Return the earliest moment at which somebody who waits can be let go, if nobody before leaves."""
        return self.pace.expected(now, self._waiting.index(place))


def _chances(place: Place) -> tuple[int, int]:
    return place.refusals, place.arrival
