"""The contract of a bucket, as tests: run them on a bucket of your own.

    from pyrate_limiter.testing.contract import BucketContract

    class TestMyBucket(BucketContract):
        def make_bucket(self, rates, **options):
            return MyBucket(rates, **options)  # an empty store of its own, made without I/O

They are collected by pytest and run by anyio's plugin (`anyio_mode = "auto"`), on each event loop that the
`anyio_backend` fixture names. What is about decisions runs on a manual clock; the rest on the bucket's own, in windows
of a tenth of a second, and judges by stamps alone, so a slow machine changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ..algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    State,
    TokenBucket,
    decide,
)
from ..bucket import AbstractBucket
from ..decisions import BEHIND, FOREVER, RESET, Ask, Decision
from ..errors import LimiterClosed, LimiterDelayException, RateLimitError, WeightTooLarge
from ..rates import Duration, Rate
from .clocks import ManualClock
from .stamps import most_in_any

ALGORITHMS: tuple[type[Algorithm], ...] = (
    SlidingWindowLog,
    GCRA,
    TokenBucket,
    LeakyBucket,
    FixedWindow,
    SlidingWindowCounter,
)
ODD_KEYS = (
    "",
    "a",
    "A",
    "a\0",
    "a\0b",
    "ä",
    "日本",
    "🦔",
    " ",
    "'; drop table x; --",
    "{x}",
    "}",
    "k" * 5000,
    "%s",
    "\n",
)
TENTH = Duration.SECOND // 10

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)


class BucketContract:
    """What every bucket must do. Subclass it and say how to make one."""

    def make_bucket(self, rates: Sequence[Rate], **options: Any) -> AbstractBucket:
        """Return a bucket with an empty store of its own; `options` are `algorithm=` and `clock=`."""
        raise NotImplementedError("a contract is for a bucket: override make_bucket")

    # Decisions, on a manual clock.

    @every_algorithm
    @pytest.mark.parametrize("seed", range(3))
    async def test_decides_as_the_rule_does(self, algorithm: type[Algorithm], seed: int) -> None:
        chance = random.Random(seed)
        rates = [Rate(chance.randint(1, 20), chance.choice([10, 100, 1000])) for _ in range(1 + seed % 2)]
        await self._compare(chance, algorithm, rates, [0, 1, 500, 20_000, 300_000, 2_000_000], gives_back=True)

    @every_algorithm
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
        clock = ManualClock(1_000_000_000_000)
        bucket = self.make_bucket(rates, algorithm=algorithm, clock=clock)
        states: dict[str, State] = {}
        granted: list[Ask] = []
        for _ in range(60):
            clock.now += chance.choice(steps)
            asks = [_random_ask(chance, bucket.capacity, granted) for _ in range(chance.randint(1, 12))]
            wanted = decide(bucket.rule, states, asks, clock.now)
            _same(await bucket._apply(asks), wanted, f"answers to {asks} at {clock.now}")
            if gives_back:
                granted += [ask._replace(at=got.at) for ask, got in zip(asks, wanted, strict=True) if not got.wait]
        await bucket.aclose()

    @every_algorithm
    async def test_a_wait_is_exact(self, algorithm: type[Algorithm]) -> None:
        clock = ManualClock()
        bucket = self.make_bucket([Rate(3, 1000)], algorithm=algorithm, clock=clock)
        await bucket.take(2)
        clock.now += 1234
        while (refused := await bucket.take(2)).allowed:
            clock.now += 1
        wait = round(refused.retry_after * 1e6)
        clock.now += wait - 1
        _same((await bucket.take(2)).allowed, False, "a microsecond before the wait is over")
        clock.now += 1
        _same((await bucket.take(2)).allowed, True, "when the wait is over")
        await bucket.aclose()

    async def test_a_batch_closes_at_its_first_patient_refusal(self) -> None:
        bucket = self.make_bucket([Rate(10, 1000)], clock=ManualClock())
        asks = [Ask("a", 8), Ask("a", 5, FOREVER), Ask("a", 1, FOREVER), Ask("a", 1), Ask("b", 1)]
        waits = [answer.wait for answer in await bucket._apply(asks)]
        _same(waits[0], 0, "what fits is admitted")
        _same(waits[1] > 0, True, "what does not fit is refused")
        _same(waits[2:], [BEHIND, BEHIND, 0], "those behind it, and another key")
        await bucket.aclose()

    async def test_who_cannot_wait_closes_nothing(self) -> None:
        bucket = self.make_bucket([Rate(10, 1000)], clock=ManualClock())
        waits = [
            answer.wait for answer in await bucket._apply([Ask("a", 8), Ask("a", 5), Ask("a", 5, 10), Ask("a", 2)])
        ]
        _same([wait == 0 for wait in waits], [True, False, False, True], "admitted")
        await bucket.aclose()

    async def test_keys_of_any_characters_stay_apart(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        for key in ODD_KEYS:
            _same((await bucket.take(key=key)).allowed, True, f"the first of {key[:20]!r}")
        for key in ODD_KEYS:
            _same((await bucket.take(key=key)).allowed, False, f"the second of {key[:20]!r}")
        with pytest.raises(ValueError, match="UTF-8"):
            await bucket.take(key="\ud800")
        await bucket.aclose()

    async def test_a_look_spends_nothing_and_a_reset_forgets(self) -> None:
        bucket = self.make_bucket([Rate(2, Duration.HOUR)])
        for _ in range(5):
            _same((await bucket.peek()).remaining, 2, "remaining before anything was taken")
        await bucket.take(2)
        looked = await bucket.peek()
        _same((looked.allowed, looked.remaining, looked.retry_after > 0), (False, 0, True), "a look at a full key")
        await bucket.reset()
        _same((await bucket.peek()).remaining, 2, "remaining after a reset")
        await bucket.aclose()

    @every_algorithm
    async def test_a_refund_gives_back_what_was_taken(self, algorithm: type[Algorithm]) -> None:
        bucket = self.make_bucket([Rate(5, Duration.HOUR)], algorithm=algorithm)
        before = await bucket.peek()
        decision = await bucket.take(4)
        await bucket.refund(await bucket.take(5))
        _same((await bucket.peek()).remaining <= 1, True, "a refused decision gives nothing back")
        await bucket.refund(decision)
        _same((await bucket.peek()).remaining, before.remaining, "remaining after the refund")
        await bucket.aclose()

    async def test_weights(self) -> None:
        bucket = self.make_bucket([Rate(5, Duration.HOUR), Rate(3, Duration.DAY)])
        _same((await bucket.take(0)).allowed, True, "nothing is always admitted")
        with pytest.raises(WeightTooLarge, match="at most 3"):
            await bucket.acquire(4)
        with pytest.raises(ValueError, match="0 or more"):
            await bucket.take(-1)
        with pytest.raises(TypeError, match="int"):
            await bucket.take(1.5)  # type: ignore[arg-type]
        _same((await bucket.peek()).remaining, 3, "remaining after all that")
        await bucket.aclose()

    # Many at once, on the bucket's own clock.

    @every_algorithm
    async def test_never_over_and_never_under(self, algorithm: type[Algorithm]) -> None:
        bucket = self.make_bucket([Rate(10, TENTH)], algorithm=algorithm)
        decisions: list[Decision] = []

        async def one() -> None:
            decisions.append(await bucket.acquire())

        await _all([one] * 35)
        _same(len(decisions), 35, "all are served")
        for span in (TENTH * 1000, 250_000):
            most, bound = most_in_any(span, decisions), bucket.rule.at_most(span)
            _same(most <= bound, True, f"at most {bound} in {span} µs by the stamps, but there are {most}")
        await bucket.aclose()

    async def test_a_burst_that_does_not_wait_gets_exactly_the_limit(self) -> None:
        bucket = self.make_bucket([Rate(20, Duration.HOUR)])
        decisions: list[Decision] = []

        async def one() -> None:
            decisions.append(await bucket.take())

        await _all([one] * 60)
        _same(sum(decision.allowed for decision in decisions), 20, "admitted")
        await bucket.aclose()

    async def test_order_of_arrival_whatever_the_weights(self) -> None:
        bucket = self.make_bucket([Rate(10, TENTH)])
        arrived: list[Decision | None] = []

        async def one(weight: int) -> None:
            place = len(arrived)
            arrived.append(None)
            arrived[place] = await bucket.acquire(weight)

        chance = random.Random(1)
        await _all([lambda w=w: one(w) for w in [10, *(chance.choice([1, 1, 2, 8]) for _ in range(12))]])
        granted = [decision for decision in arrived if decision is not None]
        stamps = [decision.at for decision in granted]
        _same(stamps, sorted(stamps), "stamps in order of arrival")
        _same(most_in_any(TENTH * 1000, granted) <= 10, True, "never more than the limit")
        await bucket.aclose()

    async def test_a_grant_is_stamped_when_it_is_made_however_late(self) -> None:
        bucket = self.make_bucket([Rate(2, TENTH)])
        await bucket.acquire(2)
        granted: list[Decision] = []

        async def one() -> None:
            granted.append(await bucket.acquire(2))

        before = (await bucket.peek()).at
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            await anyio.sleep(0.02)
            late = time.monotonic() + 0.3
            while time.monotonic() < late:
                pass  # the loop is blocked while the waiter is due
        after = (await bucket.peek()).at
        _same(before + 300_000 <= granted[0].at <= after, True, f"{before} + 0.3 s <= {granted[0].at} <= {after}")
        await bucket.aclose()

    async def test_a_key_that_waits_delays_no_other(self) -> None:
        bucket = self.make_bucket([Rate(2, Duration.HOUR)])
        await bucket.take(key="a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: bucket.acquire(2, key="a"))
            await anyio.sleep(0.01)
            for i in range(20):
                _same((await bucket.take(key=f"b{i}")).allowed, True, "a free key")
            _same((await bucket.take(key="a")).allowed, False, "a newcomer who would fit, behind the one who waits")
            tasks.cancel_scope.cancel()
        await bucket.aclose()

    async def test_a_wait_in_vain_is_known_at_once_and_spends_nothing(self) -> None:
        bucket = self.make_bucket([Rate(4, Duration.HOUR)])
        await bucket.take(3)
        with pytest.raises(LimiterDelayException) as refusal:
            await bucket.acquire(2, timeout=60)
        refused = refusal.value.decision
        retry_after = 0 if refused is None else refused.retry_after
        _same(3000 < retry_after <= 3600, True, f"the wait it says, {retry_after} s")
        _same((await bucket.peek()).remaining, 1, "remaining")
        await bucket.aclose()

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

        async with anyio.create_task_group() as tasks:
            for _ in range(90):
                tasks.start_soon(one)
        with anyio.fail_after(10):
            while (left := (await bucket.peek()).remaining) != 100 - len(served):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        _same(left, 100 - len(served), "remaining, with what was served")
        await bucket.aclose()

    async def test_the_next_moves_up_at_once(self) -> None:
        bucket = self.make_bucket([Rate(10, Duration.HOUR)])
        first = await bucket.take(8)
        served: list[int] = []

        async def one(weight: int) -> None:
            await bucket.acquire(weight)
            served.append(weight)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                heavy = anyio.CancelScope()

                async def leaves() -> None:
                    with heavy:
                        await one(5)

                tasks.start_soon(leaves)
                await anyio.sleep(0.02)
                tasks.start_soon(one, 2)
                await anyio.sleep(0.02)
                heavy.cancel()  # the lighter one behind it fits
                tasks.start_soon(one, 8)
                while served != [2]:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
                await bucket.refund(first)
        _same(served, [2, 8], "those behind the cancelled one, and after the refund")
        await bucket.aclose()

    async def test_closing_ends_the_waits(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        await bucket.take()
        ends: list[BaseException] = []

        async def one() -> None:
            try:
                await bucket.acquire()
            except RateLimitError as error:
                ends.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)
            await anyio.sleep(0.02)
            await bucket.aclose()
        _same([type(end) for end in ends], [LimiterClosed] * 5, "what the waiters got")
        with pytest.raises(LimiterClosed):
            await bucket.take()

    def test_loops_in_threads_share_the_budget(self) -> None:
        bucket = self.make_bucket([Rate(20, TENTH)])
        decisions: list[Decision] = []

        async def worker() -> None:
            for _ in range(3):
                decisions.extend(await asyncio.gather(*(bucket.acquire() for _ in range(5))))

        threads = [threading.Thread(target=lambda: asyncio.run(worker())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        _same(len(decisions), 60, "all are served")
        most = most_in_any(TENTH * 1000, decisions)
        _same(most <= 20, True, f"at most 20 in a window by the stamps, but there are {most}")

    def test_a_second_loop_takes_over_after_the_first(self) -> None:
        bucket = self.make_bucket([Rate(3, Duration.HOUR)])
        allowed = [asyncio.run(_take(bucket)) for _ in range(5)]
        _same(allowed, [True, True, True, False, False], "admitted, one loop after another")


async def _take(bucket: AbstractBucket) -> bool:
    return (await bucket.take()).allowed


async def _all(functions: Sequence[Any]) -> None:
    async with anyio.create_task_group() as tasks:
        for function in functions:
            tasks.start_soon(function)


def _random_ask(chance: random.Random, capacity: int, granted: list[Ask]) -> Ask:
    kind = chance.random()
    if kind < 0.15 and granted:
        taken = chance.choice(granted)
        return Ask(taken.key, -chance.randint(1, max(1, abs(taken.cost))), at=taken.at)
    key = chance.choice(["a", "b", "c"])
    if kind < 0.25:
        return Ask(key, RESET if granted and kind > 0.22 else 0)
    return Ask(key, chance.randint(1, capacity), chance.choice([0, 1000, 50_000, FOREVER]))


def _same(actual: object, wanted: object, what: str) -> None:
    if actual != wanted:
        raise AssertionError(f"{what}: {actual!r} instead of {wanted!r}")


__all__ = ["ALGORITHMS", "BucketContract"]
