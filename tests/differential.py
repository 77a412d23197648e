"""Random scripts for a store that decides in a language of its own, under a clock that also steps back."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator

from pyrate_limiter.algorithms import Algorithm, Rule, State, bind, decide
from pyrate_limiter.decisions import FOREVER, RESET, Answer, Ask
from pyrate_limiter.rates import Duration, Rate

SECOND = 1_000_000
_LIMITS = [(1, 3), (2, 12), (5, 100), (100, 1000), (1001, 5000), (10**6, 10**7)]
_INTERVALS = [1, 7, 100, 1000, 60_000, int(Duration.DAY), int(Duration.WEEK)]


class Story:
    """One bucket's life: call after call, with what the Python algorithm says to each.

    Args:
        algorithm: of the bucket.
        seed: the same one tells the same story.
        batch: the most asks in one call.
    """

    _memory = 50
    """How many grants may still be given back."""

    def __init__(self, algorithm: type[Algorithm], seed: int, batch: int = 100) -> None:
        self.random = random.Random(f"{algorithm.__name__} {seed}")
        self.rates = [self._rate(algorithm) for _ in range(self.random.choice((1, 1, 1, 2, 2, 3)))]
        self.rule: Rule = bind(algorithm, self.rates)
        self.now = 1_790_000_000 * SECOND + self.random.randrange(SECOND)
        self._batch = batch
        self._keys = [f"{seed} {i}" for i in range(self.random.choice((1, 1, 2, 5)))]
        self._interval = self.random.choice(self.rates).interval * 1000
        self._heaviest = self.random.choice((1, 1, max(1, self.rule.capacity // 20), self.rule.capacity))
        self._crowd = self.random.choice((1, 3, 20, batch, batch, batch))
        self._pace = self.random.choice((1, 10, 100, 3000))
        self._states: dict[str, State] = {}
        self._granted: list[tuple[str, int, int]] = []
        self._waits = [0]

    def tell(self) -> Iterator[tuple[int, list[Ask], list[Answer]]]:
        """Yield, without end, a moment, the asks of a call, and the answers to them."""
        while True:
            self._pass_time()
            asks = [self._ask() for _ in range(self.random.randint(1, self._crowd))]
            answers = decide(self.rule, self._states, asks, self.now)
            for ask, answer in zip(asks, answers, strict=True):
                if ask.cost > 0 and not answer.wait:
                    self._granted.append((ask.key, ask.cost, answer.at))
            self._waits = [answer.wait for answer in answers if answer.wait > 0] or self._waits
            del self._granted[: -self._memory]
            yield self.now, asks, answers

    def _rate(self, algorithm: type[Algorithm]) -> Rate:
        limit = self.random.randint(*self.random.choice(_LIMITS))
        burst = self.random.choice((None, 1, limit, 2 * limit + 1)) if algorithm.bursts else None
        return Rate(limit, self.random.choice(_INTERVALS), burst)

    def _pass_time(self) -> None:
        kind = self.random.random()
        if kind < 0.5:
            self.now += self.random.randrange(2 + self._interval // self._pace)
        elif kind < 0.7:
            self.now += self.random.choice((0, 1, self._interval // 1000, self._interval // 7))
        elif kind < 0.9:  # to where something ends: a window, or an interval after a grant
            ends = [self.now - self.now % self._interval, *(at for _, _, at in self._granted[-3:])]
            self.now = max(self.now, self.random.choice(ends) + self._interval + self.random.choice((-1, 0, 1)))
        elif kind < 0.95:
            self.now -= self.random.randrange(SECOND)
        elif kind < 0.97:
            self.now -= SECOND + self.random.choice((-1, 0, 1))
        elif kind < 0.98:
            self.now -= self.random.randrange(1, 3 * max(self._interval, SECOND))

    def _ask(self) -> Ask:
        key, kind = self.random.choice(self._keys), self.random.random()
        if kind < 0.8:
            cost = self.random.randint(1, min(self._heaviest, self.rule.capacity))
            some = self.random.choice((self.random.randrange(2 * self._interval), self.random.choice(self._waits)))
            return Ask(key, cost, self.random.choice((0, 0, some, FOREVER)))
        if kind < 0.85:
            return Ask(key, 0)
        if kind < 0.86:
            return Ask(key, RESET) if self.random.random() < 0.2 else Ask(key, -1, at=self.now)
        if not self._granted:
            return Ask(key, -3)
        key, cost, at = self.random.choice(self._granted)
        if self.random.random() < 0.1:
            at += self.random.randint(-2, 2)
        return Ask(key, -self.random.choice((cost, cost, self.random.randint(1, cost), cost + 1)), at=at)


class Huge(Story):
    """A story of numbers whose products no double holds.

    Args:
        algorithm: of the bucket.
        seed: the same one tells the same story.
        most: the largest limit and burst, and interval in microseconds.
    """

    def __init__(self, algorithm: type[Algorithm], seed: int, most: int) -> None:
        self._most = most
        super().__init__(algorithm, seed)

    def _rate(self, algorithm: type[Algorithm]) -> Rate:
        limit = self._most - self.random.randrange(2 ** self.random.randint(1, 49))
        interval = self.random.randint(1, self._most // 1000 >> self.random.choice((0, 10, 20, 30)))
        burst = self.random.choice((None, self.random.randint(1, limit))) if algorithm.bursts else None
        return Rate(limit, interval, burst)

    def _pass_time(self) -> None:
        super()._pass_time()
        if not 0 < self.now < 2**52:  # the year 2112
            self.now = 2**51


class Crowded(Story):
    """A story that fills the log to its last run and goes on: a unit at a time, each in a run of its own if it can."""

    _memory = 2000

    def __init__(self, algorithm: type[Algorithm], seed: int, rates: list[Rate]) -> None:
        super().__init__(algorithm, seed)
        self.rates = rates
        self.rule = bind(algorithm, rates)
        self._keys = [f"crowded {seed}"]
        self._interval = rates[0].interval * 1000
        self._heaviest = self._crowd = 1

    def _pass_time(self) -> None:
        if self.random.random() < 0.998:
            self.now += self.random.randint(1, self._interval * 10 // min(7 * self.rates[0].limit, 7000))
        else:
            self.now += self.random.randrange(self._interval // 4)

    def _ask(self) -> Ask:
        live = bisect_right(self._granted, self.now - self._interval, key=lambda grant: grant[2])
        if self.random.random() < 0.98 or live == len(self._granted):
            return super()._ask()
        key, cost, at = self._granted[live]
        return Ask(key, -cost, at=at)


class Regretful(Story):
    """A story of small units that are given back as soon as they are taken, in cells that they share."""

    def __init__(self, algorithm: type[Algorithm], seed: int) -> None:
        super().__init__(algorithm, seed)
        self._heaviest, self._crowd, self._pace = 3, 5, 20_000

    def _rate(self, algorithm: type[Algorithm]) -> Rate:
        return Rate(self.random.randint(1001, 2000), self.random.choice((3_600_000, int(Duration.DAY))))

    def _pass_time(self) -> None:
        kind = self.random.random()
        if kind < 0.7:
            self.now += self.random.randrange(self._interval // 2000)
        elif kind < 0.9:
            self.now -= self.random.randrange(self._interval // 500)
        else:
            super()._pass_time()

    def _ask(self) -> Ask:
        if self._granted and self.random.random() < 0.4:
            key, cost, at = (
                self._granted[self.random.choice((-1, -1, -2))] if len(self._granted) > 1 else self._granted[0]
            )
            return Ask(key, -self.random.randint(1, cost), at=at)
        return super()._ask()


class Alike(Story):
    """A story of equal asks in long rows, with rates whose units are whole microseconds apart."""

    def __init__(self, algorithm: type[Algorithm], seed: int) -> None:
        super().__init__(algorithm, seed)
        self._heaviest, self._crowd = min(self.rule.capacity, self.random.choice((1, 1, 3))), 100
        self._before = Ask(self._keys[0], 1)

    def _rate(self, algorithm: type[Algorithm]) -> Rate:
        limit = self.random.choice((1, 2, 7, 60, 100, 1000, 3000))
        burst = self.random.choice((None, 1, limit, 2 * limit + 1)) if algorithm.bursts else None
        return Rate(limit, limit * self.random.choice((1, 3, 50)), burst)

    def _ask(self) -> Ask:
        if self.random.random() < 0.1:
            self._before = super()._ask()
        return self._before


class Endless(Story):
    """A story of one key that is never idle, until its counts pass what a double holds."""

    def __init__(self, algorithm: type[Algorithm], seed: int, most: int) -> None:
        self._most = most
        super().__init__(algorithm, seed)
        self._heaviest, self._crowd, self._keys = most // 4, 3, [f"endless {seed}"]

    def _rate(self, algorithm: type[Algorithm]) -> Rate:
        return Rate(self._most, 1000)

    def _pass_time(self) -> None:
        self.now += self.random.randrange(self._interval // 5)
