"""The clock: it counts microseconds, it is the store's, and a grant is stamped when it is made."""

from __future__ import annotations

import time

import anyio

from ...decisions import Decision
from ...rates import Duration, Rate
from .basis import WINDOW, Contract, in_time, same


class ReadsItsClock(Contract):
    """The store's clock decides, at the moment of the decision, and no other."""

    async def test_a_stamp_counts_microseconds(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        began = time.monotonic()
        first = (await bucket.peek()).at
        left = time.monotonic()
        await anyio.sleep(0.03)
        returned = time.monotonic()
        last = (await bucket.peek()).at
        least, most = 0.9e6 * (returned - left), 1.1e6 * (time.monotonic() - began)
        same((type(first), type(last)), (int, int), "stamps")
        same(least <= last - first <= most, True, f"{least:.0f} <= {last - first} <= {most:.0f} µs between two stamps")
        await bucket.aclose()

    async def test_a_grant_is_stamped_when_it_is_made_however_late(self) -> None:
        bucket = self.make_bucket([Rate(2, 4 * WINDOW)])
        await bucket.acquire(2)
        granted: list[Decision] = []

        async def one() -> None:
            granted.append(await bucket.acquire(2))

        before = (await bucket.peek()).at
        with in_time("one who waits for a window"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one)
                await anyio.sleep(0.01)
                late = time.monotonic() + 0.25
                while time.monotonic() < late:
                    pass  # the loop is blocked while the waiter is due
        after = (await bucket.peek()).at
        same(before + 250_000 <= granted[0].at <= after, True, f"{before} + 0.25 s <= {granted[0].at} <= {after}")
        await bucket.aclose()
