"""Requests on virtual time: what an algorithm would do with each, by running it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from ..algorithms import Rule
from ..clocks import SECOND

SLOTS = 120
"""Parts of the time for which outcomes are counted: a number with many divisors, so that a plot can join some."""


class Course:
    """What becomes of one stream of requests under one rule.

    They wait in one line, in order of arrival, each as long as it is patient. Nobody leaves the line, so it is known
    on arrival when a request will be granted: whoever would wait longer than it can is refused then, and spends
    nothing. The state of the rule is the one that it will have when the last in line has been granted.

    Args:
        name: of the algorithm.
        rule: the algorithm, bound to its rates.
        patience: the longest wait, in microseconds.
        length: of the whole simulation, in microseconds.

    Attributes:
        slots: for each part of the time, the requests of it that were admitted at once, later, and never.
        peaks: for each rate, the most that was granted within its interval.
        waited: the sum of the waits, in microseconds.
        longest: the longest of them.
    """

    def __init__(self, name: str, rule: Rule, patience: int, length: int) -> None:
        self.name, self.rule = name, rule
        self.slots = [[0, 0, 0] for _ in range(SLOTS)]
        self.peaks = [0] * len(rule.rates)
        self.waited = self.longest = 0
        self._patience, self._length = patience, length
        self._state, self._granted = rule.fresh(), 0
        self._windows: list[deque[int]] = [deque() for _ in rule.rates]

    def meet(self, now: int) -> None:
        """Decide the next request, which comes at `now` microseconds, and count what becomes of it."""
        moment = max(now, self._granted)
        due = moment + self.rule.probe(self._state, moment, 1)
        wait = due - now
        slot = self.slots[now * SLOTS // self._length]
        if wait > self._patience:
            slot[2] += 1
            return
        _, self._state = self.rule.admit(self._state, due, 1)
        self._granted = due
        slot[1 if wait else 0] += 1
        self.waited += wait
        self.longest = max(self.longest, wait)
        self._watch(due)

    @property
    def outcomes(self) -> tuple[int, int, int]:
        """How many were admitted at once, later, and never."""
        at_once, later, never = (sum(part) for part in zip(*self.slots, strict=True))
        return at_once, later, never

    @property
    def bounds(self) -> list[int]:
        """The most that the algorithm ever grants within the interval of each rate."""
        return [self.rule.at_most(rate.interval * 1000) for rate in self.rule.rates]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with times in seconds."""
        at_once, later, never = self.outcomes
        return {
            "algorithm": self.name,
            "admitted": at_once,
            "delayed": later,
            "refused": never,
            "mean_delay": self.waited / SECOND / later if later else 0.0,
            "longest_delay": self.longest / SECOND,
            "windows": [
                {"rate": str(rate), "most": most, "bound": bound}
                for rate, most, bound in zip(self.rule.rates, self.peaks, self.bounds, strict=True)
            ],
            "slots": self.slots,
        }

    def _watch(self, granted: int) -> None:
        for index, (window, rate) in enumerate(zip(self._windows, self.rule.rates, strict=True)):
            window.append(granted)
            while window[0] <= granted - rate.interval * 1000:
                window.popleft()
            self.peaks[index] = max(self.peaks[index], len(window))


def run(courses: Sequence[Course], moments: Iterable[int]) -> bool:
    """Let every request meet every rule; return False if Ctrl-C ended it before the last one."""
    try:
        for now in moments:
            for course in courses:
                course.meet(now)
    except KeyboardInterrupt:
        return False
    return True
