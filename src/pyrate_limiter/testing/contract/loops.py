"""Loops: event loops, in threads or one after another, share the budget, and none leaves the store locked."""

from __future__ import annotations

import asyncio

from ...decisions import Ask, Decision
from ...rates import Duration, Rate
from ..stamps import most_in_any
from .basis import WINDOW, Contract, SlowClock, in_threads, in_time, same


class SharesWithLoops(Contract):
    """A bucket belongs to no event loop."""

    def test_loops_in_threads_share_the_budget(self) -> None:
        bucket = self.make_bucket([Rate(20, WINDOW)])
        decisions: list[Decision] = []

        async def work() -> None:
            for _ in range(3):
                decisions.extend(await asyncio.gather(*(bucket.acquire() for _ in range(5))))

        in_threads(4, work, "fifteen units for each, twenty in each window")
        same(len(decisions), 60, "all are served")
        most, bound = most_in_any(WINDOW * 1000, decisions), bucket.rule.at_most(WINDOW * 1000)
        same(most <= bound, True, f"at most {bound} in a window by the stamps, but there are {most}")
        asyncio.run(bucket.aclose())

    def test_who_finds_the_store_busy_is_not_refused(self) -> None:
        bucket = self.make_bucket([Rate(10, Duration.HOUR)], clock=SlowClock())
        decisions: list[Decision] = []

        async def work() -> None:
            decisions.extend([await bucket.take() for _ in range(2)])

        in_threads(3, work, "two units for each, of ten")
        same([decision.allowed for decision in decisions], [True] * 6, "admitted")
        asyncio.run(bucket.aclose())

    def test_the_clock_is_read_while_nobody_else_decides(self) -> None:
        clock = SlowClock()
        bucket = self.make_bucket([Rate(10, Duration.HOUR)], clock=clock)

        async def work() -> None:
            for _ in range(2):
                await bucket._apply([Ask("a", 1)])

        in_threads(2, work, "two calls from each")
        same(clock.reads >= 4, True, "a clock that is read for each call")
        same(clock.at_once, 1, "calls that read the clock at the same time")
        asyncio.run(bucket.aclose())

    def test_a_second_loop_takes_over_after_the_first(self) -> None:
        bucket = self.make_bucket([Rate(3, Duration.HOUR)])

        async def take() -> bool:
            return (await bucket.take()).allowed

        allowed = [asyncio.run(take()) for _ in range(5)]
        same(allowed, [True, True, True, False, False], "admitted, one loop after another")
        asyncio.run(bucket.aclose())

    def test_a_loop_that_ends_in_the_middle_of_a_call_stops_nobody(self) -> None:
        bucket = self.make_bucket([Rate(100, Duration.HOUR)])

        async def leave(turns: int) -> None:
            taking = asyncio.ensure_future(bucket.take())
            for _ in range(turns):  # by then the call is under way, has come back, or has not begun
                await asyncio.sleep(0)
            taking.cancel()

        for turns in range(8):
            asyncio.run(leave(turns))

        async def look() -> int:
            with in_time("a look at a store whose callers left in the middle of their calls"):
                return (await bucket.peek()).remaining

        left = asyncio.run(look())
        same(92 <= left <= 100, True, f"remaining, after 8 who left, {left}")
        asyncio.run(bucket.aclose())
