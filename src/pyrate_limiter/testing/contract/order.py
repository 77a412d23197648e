"""Order: within an event loop, those who wait for a key are served as they came, and delay no other key."""

from __future__ import annotations

import random
from functools import partial

import anyio

from ...decisions import Decision
from ...rates import Duration, Rate
from ..stamps import most_in_any
from .basis import WINDOW, Contract, at_once, same


class KeepsOrder(Contract):
    """Nobody overtakes, whatever the weights."""

    async def test_order_of_arrival_whatever_the_weights(self) -> None:
        bucket = self.make_bucket([Rate(10, WINDOW)])
        arrived: list[Decision | None] = []

        async def one(weight: int) -> None:
            place = len(arrived)
            arrived.append(None)
            arrived[place] = await bucket.acquire(weight)

        chance = random.Random(1)
        weights = [10, *(chance.choice([1, 1, 2, 8]) for _ in range(12))]
        await at_once([partial(one, weight) for weight in weights], f"weights {weights}, 10 units in each window")
        granted = [decision for decision in arrived if decision is not None]
        stamps = [decision.at for decision in granted]
        same(stamps, sorted(stamps), "stamps in order of arrival")
        most, bound = most_in_any(WINDOW * 1000, granted), bucket.rule.at_most(WINDOW * 1000)
        same(most <= bound, True, f"at most {bound} in a window by the stamps, but there are {most}")
        await bucket.aclose()

    async def test_a_key_that_waits_delays_no_other(self) -> None:
        bucket = self.make_bucket([Rate(2, Duration.HOUR)])
        await bucket.take(key="a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: bucket.acquire(2, key="a"))
            await anyio.sleep(0.01)
            for i in range(20):
                same((await bucket.take(key=f"b{i}")).allowed, True, "a free key")
            same((await bucket.take(key="a")).allowed, False, "a newcomer who would fit, behind the one who waits")
            tasks.cancel_scope.cancel()
        await bucket.aclose()
