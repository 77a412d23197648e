"""Exactness: every answer is the rule's, to the microsecond; never over, and never under for nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import anyio
import pytest

from ...algorithms import Algorithm, State, bind, decide
from ...decisions import FOREVER, RESET, Ask, Decision
from ...rates import Duration, Rate
from ..clocks import ManualClock
from ..stamps import most_in_any
from .basis import NOW, WINDOW, Contract, at_once, in_time, same


class IsExact(Contract):
    """A bucket admits exactly what the rule does, whatever is asked at whatever moment."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_decides_as_the_rule_does(self, algorithm: type[Algorithm], seed: int) -> None:
        chance = random.Random(seed)
        rates = [Rate(chance.randint(1, 20), chance.choice([10, 100, 1000])) for _ in range(1 + seed % 2)]
        await self._compare(chance, algorithm, rates, [0, 1, 500, 20_000, 300_000, 2_000_000], gives_back=True)

    async def test_decides_as_the_rule_does_when_the_clock_is_set_back(self, algorithm: type[Algorithm]) -> None:
        # What is idle may be forgotten, and with it how far the clock had come: so here nothing becomes idle.
        steps = [0, 1, 500_000, 2_000_000, -1, -400_000, -999_999, -1_000_000, -2_500_000]
        for rates in ([Rate(20, Duration.HOUR)], [Rate(20, Duration.HOUR), Rate(30, Duration.DAY)]):
            await self._compare(random.Random(4), algorithm, rates, steps, gives_back=False)

    async def _compare(
        self,
        chance: random.Random,
        algorithm: type[Algorithm],
        rates: Sequence[Rate],
        steps: Sequence[int],
        gives_back: bool,
    ) -> None:
        clock = ManualClock(NOW)
        bucket = self.make_bucket(rates, algorithm=algorithm, clock=clock)
        rule = bind(algorithm, rates)
        states: dict[str, State] = {}
        granted: list[Ask] = []
        for _ in range(60):
            clock.now += chance.choice(steps)
            asks = [_random_ask(chance, rule.capacity, granted) for _ in range(chance.randint(1, 12))]
            wanted = decide(rule, states, asks, clock.now)
            same(await bucket._apply(asks), wanted, f"answers to {asks} at {clock.now}")
            if gives_back:
                granted += [ask._replace(at=got.at) for ask, got in zip(asks, wanted, strict=True) if not got.wait]
        await bucket.aclose()

    async def test_a_wait_is_exact(self, algorithm: type[Algorithm]) -> None:
        clock = ManualClock(NOW)
        bucket = self.make_bucket([Rate(3, 1000)], algorithm=algorithm, clock=clock)
        await bucket.take(2)
        clock.now += 1234
        while (refused := await bucket.take(2)).allowed:
            clock.now += 1
        wait = round(refused.retry_after * 1e6)
        clock.now += wait - 1
        same((await bucket.take(2)).allowed, False, "a microsecond before the wait is over")
        clock.now += 1
        same((await bucket.take(2)).allowed, True, "when the wait is over")
        await bucket.aclose()

    # From here on by the bucket's own clock.

    async def test_never_over_and_never_under(self, algorithm: type[Algorithm]) -> None:
        rate = Rate(10, WINDOW)
        bucket = self.make_bucket([rate], algorithm=algorithm)
        decisions: list[Decision] = []

        async def one() -> None:
            decisions.append(await bucket.acquire())

        await at_once([one] * 35, "35 callers, 10 of them in each window")
        same(len(decisions), 35, "all are served")
        for span in (WINDOW * 1000, WINDOW * 2500):
            most, bound = most_in_any(span, decisions), algorithm(rate).at_most(span)
            same(most <= bound, True, f"at most {bound} in {span} µs by the stamps, but there are {most}")
        await bucket.aclose()

    async def test_a_burst_that_does_not_wait_gets_exactly_the_limit(self) -> None:
        bucket = self.make_bucket([Rate(20, Duration.HOUR)])
        decisions: list[Decision] = []

        async def one() -> None:
            decisions.append(await bucket.take())

        await at_once([one] * 60, "60 callers who do not wait")
        same(sum(decision.allowed for decision in decisions), 20, "admitted")
        await bucket.aclose()

    async def test_what_counts_for_a_longer_rate_outlives_the_shorter(self) -> None:
        bucket = self.make_bucket([Rate(2, WINDOW), Rate(3, Duration.HOUR)])
        await bucket.take(2)
        with in_time("the third unit"):
            await bucket.acquire()
        await anyio.sleep(1.5 * WINDOW / 1000)  # by now the shorter rate has forgotten all three
        refused = await bucket.take()
        same((refused.allowed, refused.rate), (False, Rate(3, Duration.HOUR)), "a fourth unit, and who refuses it")
        await bucket.aclose()


def _random_ask(chance: random.Random, capacity: int, granted: list[Ask]) -> Ask:
    kind = chance.random()
    if kind < 0.15 and granted:
        taken = chance.choice(granted)
        return Ask(taken.key, -chance.randint(1, max(1, abs(taken.cost))), at=taken.at)
    key = chance.choice(["a", "b", "c"])
    if kind < 0.25:
        return Ask(key, RESET if granted and kind > 0.22 else 0)
    return Ask(key, chance.randint(1, capacity), chance.choice([0, 1000, 50_000, FOREVER]))
