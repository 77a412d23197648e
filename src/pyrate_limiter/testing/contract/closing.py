"""Closing: a bucket that is closed says so to those who wait, and to those who come."""

from __future__ import annotations

import anyio
import pytest

from ...errors import LimiterClosed, RateLimitError
from ...rates import Duration, Rate
from .basis import Contract, in_time, same


class Closes(Contract):
    """Nobody waits for a bucket that is closed."""

    async def test_closing_ends_the_waits(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        await bucket.take()
        ends: list[BaseException] = []

        async def one() -> None:
            try:
                await bucket.acquire()
            except RateLimitError as error:
                ends.append(error)

        with in_time("five who wait for a bucket that is closed"):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(one)
                await anyio.sleep(0.02)
                await bucket.aclose()
        same([type(end) for end in ends], [LimiterClosed] * 5, "what the waiters got")
        with pytest.raises(LimiterClosed):
            await bucket.take()
        await bucket.aclose()  # once more does nothing
