"""Cancellation: who waits may leave at any instant, spends nothing, and the next moves up at once."""

from __future__ import annotations

import random

import anyio
import anyio.lowlevel
import pytest

from ...decisions import Decision
from ...rates import Duration, Rate
from .basis import Contract, in_time, same


class LetsGo(Contract):
    """What is granted to one who has left goes back."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_what_is_granted_to_the_cancelled_goes_back(self, seed: int) -> None:
        bucket = self.make_bucket([Rate(100, Duration.HOUR)])
        chance = random.Random(seed)
        served: list[Decision] = []

        async def cancel(scope: anyio.CancelScope, turns: int) -> None:
            for _ in range(turns):  # by then the call is under way, has come back, or has not begun
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        async def one() -> None:
            await anyio.sleep(chance.random() * 0.005)
            with anyio.CancelScope() as scope:
                if chance.random() < 0.6:
                    tasks.start_soon(cancel, scope, chance.randint(0, 8))
                served.append(await bucket.acquire())

        with in_time("90 callers, all of whom are admitted or leave"):
            async with anyio.create_task_group() as tasks:
                for _ in range(90):
                    tasks.start_soon(one)
        with in_time(f"{len(served)} were served of 100: the others go back"):
            while (await bucket.peek()).remaining != 100 - len(served):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await bucket.aclose()

    async def test_the_next_moves_up_at_once(self) -> None:
        bucket = self.make_bucket([Rate(10, Duration.HOUR)])
        first = await bucket.take(8)
        served: list[int] = []
        heavy = anyio.CancelScope()

        async def one(weight: int) -> None:
            await bucket.acquire(weight)
            served.append(weight)

        async def leaves() -> None:
            with heavy:
                await one(5)

        with in_time("those behind the cancelled one, and after the refund"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(leaves)
                await anyio.sleep(0.02)
                tasks.start_soon(one, 2)
                await anyio.sleep(0.02)
                heavy.cancel()  # the lighter one behind it fits
                tasks.start_soon(one, 8)
                while served != [2]:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
                await bucket.refund(first)
        same(served, [2, 8], "those behind the cancelled one, and after the refund")
        await bucket.aclose()
