"""What a client may send next, learned from what a server answered.

A state machine without a clock, a loop or a thread: time is an argument, in seconds of any clock that does not step.
It suits servers of all kinds without being told which: windows that begin anew, windows that slide, buckets that fill.

- Nothing is held back before the server has refused a request or said that nothing is left.
- Then nobody goes until the stated moment. Where none is stated, or it proved wrong, one request at a time asks, each
  after a longer while.
- Once one is let through, few go first: as many may be under way as were let through since, plus one.
- From then on requests are spread at the rate at which the server let them through between two such moments, however
  it counts. While all goes well the pace grows, slowly at first, so that it meets the limit about once in two windows,
  and a little is taken back when it does: so does TCP find the capacity of a path (V. Jacobson, "Congestion Avoidance
  and Control", SIGCOMM 1988).
- Where the server states its policy, that is the pace, as long as what it does agrees with it.
- A refusal of what was sent before the last one was known says nothing new: a burst of them counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import random
from typing import NamedTuple, TypeAlias

from .promise import Promise, Said

Jitter: TypeAlias = Callable[[], float]
Policy: TypeAlias = tuple[int, float]

FIRST_STEP = 0.5
"""Seconds until the first question to a server that does not say when it will answer, before its pace is known."""
FIRST_GAPS = 8
"""Afterwards: so many requests would have gone meanwhile at the pace."""
PATIENT, BRISK = 4, 1.4
"""A further question waits for the time since the refusal, divided by this: before the pace is known, and after."""
FEW = 8
"""Fewer requests say nothing about a pace. While so few may be under way, one that was refused yields to the others."""
FEWEST, MOST = 16, 1024
"""An epoch is as many requests as were let through between two lessons, but at least and at most so many."""
GROWTH = 0.025
"""How much the pace grows over the first epoch without a refusal; over the next, twice as much, and so on,"""
DOUBLINGS = 4
"""but not more than so often: a server that saves up what is not asked for would be met at any speed."""
BACK = 0.95
"""What is kept of a pace that met the limit."""
STEEPEST = 0.8
"""What is kept of it at least, if it was learned from more than the first few lessons."""
LESSONS = 4
CREDIT = 0.1
"""The part of an epoch that may go at once after a pause."""
STEADY = 0.97
"""What is used of a pace that the server's policy states: who uses all of it meets the limit again and again."""
LATENESS = 0.02, 1.0
"""A hold is prolonged by chance by up to this part of it, and at most by so many seconds."""


class News(NamedTuple):
    """What one answer says.

    Attributes:
        refused: whether the request was refused for its rate.
        hold: seconds after which to come back; None if that is not stated.
        remaining: requests that are left; None if that is not stated.
        reset: seconds after which there are more, or all of them; None if that is not stated.
        policy: requests, and the seconds in which the server admits so many; None if that is not stated.
    """

    refused: bool = False
    hold: float | None = None
    remaining: int | None = None
    reset: float | None = None
    policy: Policy | None = None


class Pace:
    """What is known of one server.

    Args:
        max_hold: the most seconds to wait for a moment that the server states.
        jitter: returns a number between 0 and 1.
    """

    def __init__(self, max_hold: float, jitter: Jitter = random) -> None:
        self._max_hold = max_hold
        self._jitter = jitter
        self._promise = Promise(self._held)
        # The requests: each has a number.
        self._sent = 0
        self._under_way = 0
        self._room = inf  # for so many under way
        self._news_from = 0  # the first number whose refusal says something new
        # The hold.
        self._until = -inf
        self._asking = False  # nothing was let through since the limit was met
        self._met = self._shut = -inf  # when it was met, and when the last question was refused
        self._stated: float | None = None  # when the server said that it would answer
        self._doubted = False  # it answered long before that
        # The pace, in requests per second; 0: none yet.
        self._rate = 0.0
        self._policy: Policy | None = None
        self._disproved: Policy | None = None
        self._most = inf  # what the policy allows
        self._in_spite = False  # since the last lesson, a request was refused
        self._next = -inf
        self._lessons = 0
        # The epoch, from which the pace is learned, and how well it goes since the last lesson.
        self._since = -inf
        self._admitted = 0
        self._epoch = FEWEST
        self._smooth = 0

    @property
    def cautious(self) -> bool:
        """Whether the next request may well be refused."""
        return self._room < FEW

    def due(self, now: float) -> float:
        """Return when the next request may go; infinity if that depends on those under way."""
        if self._under_way >= self._room:
            return inf
        due = max(self._until, self._next, self._promise.due(self._under_way))
        if due > now + self._max_hold + LATENESS[1]:
            self._forget_moments()  # they are of another clock: that of a loop that has ended
            return now
        return due

    def expected(self, now: float, before: int) -> float:
        """Return the earliest moment for a request with so many before it."""
        due = max(self._until, self._next, now)
        return due + before / self._rate if self._rate else due

    def send(self, now: float) -> int:
        """Let a request go, and return its number."""
        if self._since == -inf:
            self._since = now
        if not self._asking and self._promise.broken(self._under_way):
            self._promise.test(now)
            self._meet(now)
        if self._rate:
            gap = min(1 / self._rate, self._max_hold)
            self._next = max(self._next, now - CREDIT * self._epoch * gap) + gap
        self._under_way += 1
        self._sent += 1
        return self._sent - 1

    def lost(self) -> None:
        """Take note that a request has ended without an answer."""
        self._under_way -= 1

    def answered(self, number: int, now: float, news: News) -> None:
        """Learn from the answer to a request."""
        self._under_way -= 1
        if news.policy not in (None, self._policy):
            self._policy, self._most = news.policy, inf
        if news.refused:
            if number >= self._news_from:
                self._refused(now, news)
            return
        self._admitted += 1
        self._smooth += 1
        if not self._asking:
            self._room += 1
            self._grow()
        elif number >= self._news_from:
            self._learn(now)
        if news.remaining is not None:
            said = Said(number, news.remaining, news.reset, self._under_way, self._sent)
            pause = self._promise.hear(said, now, self._rate)
            if pause:
                self._until = max(self._until, now + pause)
                self._smooth = 0

    def _refused(self, now: float, news: News) -> None:
        again = self._asking
        if not again:
            self._meet(now)
        self._news_from = self._sent
        self._shut = now
        self._in_spite = True
        stated = self._promise.refused(news.hold, news.reset)
        step = self._step(now)
        if stated is None or self._doubted:
            wait = step
        elif again and self._stated is not None:
            wait = max(stated, step)  # what was stated the last time proved wrong
        else:
            wait = stated
        self._stated = None if stated is None else now + stated
        self._until = now + self._held(wait)

    def _held(self, seconds: float) -> float:
        """Return how many seconds to wait for a moment that is so far away."""
        seconds = min(seconds, self._max_hold)
        return seconds + self._jitter() * min(LATENESS[0] * seconds, LATENESS[1])

    def _step(self, now: float) -> float:
        """Return the seconds until the next question to a server that does not say when it will answer."""
        if not self._rate or self._lessons < 2:
            return max(FIRST_STEP, (now - self._met) / PATIENT)
        return max(FIRST_GAPS / self._rate, (now - self._met) / BRISK)

    def _meet(self, now: float) -> None:
        """Begin to ask one at a time."""
        self._asking = True
        self._stated = None
        self._met = self._shut = now
        self._news_from = self._sent
        self._room = 1

    def _learn(self, now: float) -> None:
        """Take the pace from what was let through since the last lesson, now that something is again."""
        self._asking = False
        self._room = 2
        self._smooth = 0
        self._lessons += 1
        if self._stated is not None and now < self._stated - 1:
            self._doubted = True
        # Asked several times, the server began to answer at some moment after the last refusal.
        opened = (now + self._shut) / 2 if self._shut > self._met and self._lessons > 1 else now
        measured = self._admitted / max(opened - self._since, 1e-3)
        enough = self._admitted >= FEW and (not self._rate or self._admitted >= self._epoch / 4)
        if self._rate or enough:
            self._rate = self._corrected(measured, enough)
        self._heed_policy(now, opened - self._since)
        if self._promise.proved(now):
            self._rate = 0.0  # it was learned from holds without a reason
        if enough:
            self._epoch = min(max(FEWEST, self._admitted, self._epoch // 2), MOST)
        if enough or self._lessons == 1:  # when it began, others may have used up most of what there was
            self._since = now
            self._admitted = 0

    def _corrected(self, measured: float, enough: bool) -> float:
        rate = self._rate * BACK
        if not rate:
            return measured
        if measured >= rate:
            return rate
        if enough and (self._lessons < LESSONS or measured < rate / 2):
            return measured
        return max(measured, STEEPEST * rate)

    def _heed_policy(self, now: float, elapsed: float) -> None:
        """Take the pace from the policy, if what was let through agrees with it; less, if more was refused even so."""
        if self._policy is None or self._policy == self._disproved:
            return
        quota, window = self._policy
        if self._admitted > 2 * quota + quota / window * elapsed:  # a full bucket, or two windows, explain no more
            self._disproved = self._policy
            self._most = inf
            return
        heeded, self._most = self._most < inf, STEADY * quota / window
        self._rate = min(self._rate, self._most) if heeded and self._in_spite else self._most
        self._in_spite = False
        self._next = now  # no credit for the hold: all of it comes back only as it was used

    def _grow(self) -> None:
        if self._rate:
            grown = self._rate * (1 + GROWTH * 2 ** min(self._smooth // self._epoch, DOUBLINGS) / self._epoch)
            self._rate = min(grown, self._most)

    def _forget_moments(self) -> None:
        self._until = self._next = self._since = -inf
        self._promise = Promise(self._held)
