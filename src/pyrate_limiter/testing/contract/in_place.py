"""In place: what is decided without awaiting is decided as by the store's own calls, and nobody overtakes by it."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from ...algorithms import Algorithm, State, bind, decide
from ...bucket import InstantBucket
from ...decisions import BUSY, UNNAMED, Ask
from ...errors import LimiterClosed
from ...rates import Duration, Rate
from ..clocks import ManualClock
from .basis import NOW, Contract, same

ODD_TAKES: tuple[tuple[Any, Any, bool], ...] = (
    *(("a", 0, True), ("a", -1, True), ("a", 6, True), ("a", True, True), ("a", 1.0, True), ("a", "1", True)),
    *((UNNAMED, 1, True), (5, 1, False), (None, 1, False)),
)
"""Name, weight, and whether names are keys: of a bucket that holds five units."""


class DecidesInPlace(Contract):
    """`_take`, `_decide` and `_grant` say what `_apply` would say, or that the long way has to be gone."""

    async def test_in_place_it_decides_as_the_rule_does(self, algorithm: type[Algorithm]) -> None:
        chance, clock = random.Random(5), ManualClock(NOW)
        rates = [Rate(7, 100), Rate(9, 300)]
        rule = bind(algorithm, rates)
        bucket = await self._opened(rates, algorithm=algorithm, clock=clock)
        states: dict[str, State] = {}
        for _ in range(120):
            clock.now += chance.choice([0, 1, 500, 20_000, 70_000, 300_000])
            name, cost, keyed = chance.choice("abc"), chance.randint(1, rule.capacity), chance.random() < 0.7
            (wanted,) = decide(rule, states, [Ask(name if keyed else "", cost)], clock.now)
            asked = f"{cost} units of {name!r}, keyed={keyed}, at {clock.now}"
            if chance.random() < 0.5:
                same(bucket._take(name, cost, keyed), wanted.wait, f"the wait for {asked}")
            else:
                decided = chance.choice([bucket._decide, bucket._grant])(name, cost, keyed)
                same(decided, bucket._decision(name, cost, wanted), f"the decision on {asked}")
        await bucket.aclose()

    async def test_what_is_not_simply_a_take_goes_the_long_way(self) -> None:
        bucket = await self._opened([Rate(5, Duration.HOUR)])
        for asked in ODD_TAKES:
            same(bucket._take(*asked), BUSY, f"_take{asked}")
            same((bucket._decide(*asked), bucket._grant(*asked)), (None, None), f"_decide and _grant{asked}")
        for key in ("a", "", UNNAMED):
            same((await bucket.peek(key=key)).remaining, 5, "remaining")
        await bucket.aclose()

    async def test_in_place_nobody_overtakes_who_waits(self) -> None:
        bucket = await self._opened([Rate(2, Duration.HOUR)])
        await bucket.take(key="a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: bucket.acquire(2, key="a"))
            await anyio.sleep(0.01)
            same(bucket._take("a", 1, True), BUSY, "_take, behind one who waits")
            same((bucket._decide("a", 1, True), bucket._grant("a", 1, True)), (None, None), "_decide, _grant, likewise")
            tasks.cancel_scope.cancel()
        same((await bucket.take(key="a")).allowed, True, "a newcomer, when nobody waits any more")
        await bucket.aclose()

    async def test_in_place_what_is_closed_says_so(self) -> None:
        bucket = await self._opened([Rate(2, Duration.HOUR)])
        same((bucket._take("a", 1, True), bool(bucket._decide("a", 1, True))), (0, True), "in place, before")
        await bucket.aclose()
        for decide_in_place in (bucket._take, bucket._decide, bucket._grant):
            with pytest.raises(LimiterClosed):
                decide_in_place("a", 1, True)

    async def _opened(self, rates: list[Rate], **options: Any) -> InstantBucket:
        """Return a bucket that has done what it does at first use, so that it can decide in place."""
        bucket = self.make_bucket(rates, **options)
        await bucket.peek()
        if not isinstance(bucket, InstantBucket):
            raise TypeError(f"a {type(bucket).__name__} decides nothing in place: use BucketContract for it")
        return bucket
