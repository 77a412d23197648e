"""The gate in front of one server: for tasks of an event loop, and for threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from math import inf

import anyio

from .line import NOT_YET, Line, Place
from .pace import News, Pace


class TooLate(Exception):
    """A request cannot go within the time that it has.

    Attributes:
        seconds: until it could, at the earliest.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Gate:
    """Lets the tasks of one event loop through; on asyncio and on trio."""

    def __init__(self, pace: Pace) -> None:
        self.line = Line(pace)
        self._pace = pace
        self.time = _running_time()

    def pass_by(self) -> int:
        """Let a request go that need not wait, and return its number as `enter` does; `NOT_YET` if it must enter."""
        return self.line.pass_by(self.time())

    async def enter(self, arrival: int, refusals: int, deadline: float) -> int:
        """Wait until a request may go, and return its number, to be answered for by `answered` or `lost`.

        Raises:
            TooLate: it cannot go before the deadline; at once where that is known.
        """
        turn = _Turn()
        place = Place(arrival, refusals, turn.come)
        self.line.join(place)
        try:
            return await self._wait(place, turn, deadline)
        except BaseException:
            self.line.leave(place, self.time())
            raise

    async def _wait(self, place: Place, turn: _Turn, deadline: float) -> int:
        while True:
            now = self.time()
            alarm = self.line.alarm(place, now)
            if place.number != NOT_YET:
                self.line.call(now)
                return place.number
            _require_in_time(self.line, place, now, deadline)
            await turn.wait(min(alarm, deadline) - now)

    def answered(self, number: int, news: News) -> None:
        """Learn from the answer to a request, and call who may go now."""
        now = self.time()
        self._pace.answered(number, now, news)
        self.line.call(now)

    def lost(self) -> None:
        """Take note that a request has ended without an answer."""
        self._pace.lost()
        self.line.call(self.time())

    def opens_by(self, deadline: float) -> bool:
        """Return whether one more request could go before the deadline."""
        return self._pace.expected(self.time(), 0) <= deadline


class _Turn:
    """A moment that a task waits for, again and again."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()

    def come(self) -> None:
        self._event.set()


class SyncGate:
    """Lets threads through."""

    time = staticmethod(time.monotonic)

    def __init__(self, pace: Pace) -> None:
        self.line = Line(pace)
        self._pace = pace
        self._lock = threading.Lock()

    def pass_by(self) -> int:
        """Do as `Gate.pass_by` does."""
        with self._lock:
            return self.line.pass_by(self.time())

    def enter(self, arrival: int, refusals: int, deadline: float) -> int:
        """Do as `Gate.enter` does; the thread sleeps."""
        turn = threading.Event()
        place = Place(arrival, refusals, turn.set)
        with self._lock:
            self.line.join(place)
        try:
            return self._wait(place, turn, deadline)
        except BaseException:
            with self._lock:
                self.line.leave(place, self.time())
            raise

    def _wait(self, place: Place, turn: threading.Event, deadline: float) -> int:
        while True:
            with self._lock:
                now = self.time()
                turn.clear()
                alarm = self.line.alarm(place, now)
                if place.number != NOT_YET:
                    self.line.call(now)
                    return place.number
                _require_in_time(self.line, place, now, deadline)
            seconds = min(alarm, deadline) - now
            turn.wait(None if seconds == inf else min(seconds, threading.TIMEOUT_MAX))

    def answered(self, number: int, news: News) -> None:
        """Do as `Gate.answered` does."""
        with self._lock:
            now = self.time()
            self._pace.answered(number, now, news)
            self.line.call(now)

    def lost(self) -> None:
        """Do as `Gate.lost` does."""
        with self._lock:
            self._pace.lost()
            self.line.call(self.time())

    def opens_by(self, deadline: float) -> bool:
        """Do as `Gate.opens_by` does."""
        return self._pace.expected(self.time(), 0) <= deadline


def _running_time() -> Callable[[], float]:
    """Return the clock of the running loop; anyio's own way to it takes a microsecond and a half each time."""
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        return anyio.current_time


def _require_in_time(line: Line, place: Place, now: float, deadline: float) -> None:
    if deadline == inf:
        return
    earliest = line.earliest(place, now)
    if earliest > deadline or now >= deadline:
        raise TooLate(max(earliest - now, 0.0))
