"""The waiting room when things come together that seldom do. On virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pyrate_limiter import (
    Ask,
    Decision,
    Duration,
    InMemoryBucket,
    Limiter,
    LimiterDelayException,
    Rate,
    StoreError,
)
from pyrate_limiter.testing import LoopClock, ScriptedStore

from .virtual import virtual_backends

anyio_backend = virtual_backends


def scripted(rate: Rate, **options: Any) -> ScriptedStore:
    return ScriptedStore(rate, clock=LoopClock(), **options)


@pytest.mark.parametrize("once", [False, True])
async def test_time_that_runs_out_during_a_slow_call_is_a_timeout(once: bool) -> None:
    store = scripted(Rate(5, 1000), delay=5)
    limiter = Limiter(store, retry_until_max_delay=not once)
    with pytest.raises(LimiterDelayException) as refusal:
        await limiter.acquire(timeout=0.1)
    assert refusal.value.decision is not None
    assert refusal.value.decision.waited == pytest.approx(0.1, abs=0.01)
    await anyio.sleep(20)
    assert store.granted == 0


async def test_time_that_runs_out_on_the_way_is_a_timeout() -> None:
    store = scripted(Rate(1, 1000), delay=1)
    limiter = Limiter(store, buffer_ms=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.acquire)
        await anyio.sleep(0.1)
        tasks.start_soon(limiter.acquire)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        with pytest.raises(LimiterDelayException):  # 0.6 s are left as it is asked for, and it would take one more
            await limiter.acquire(timeout=1.5)


async def test_what_is_given_back_in_part_is_no_sleep_in_vain() -> None:
    bucket = InMemoryBucket(Rate(10, 1000), clock=LoopClock())
    once = Limiter(bucket, buffer_ms=0, retry_until_max_delay=False)
    first, _ = await once.acquire(weight=2), await once.acquire(weight=8)
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_after, 0.1, once.refund, first)
        assert await once.acquire(weight=8)
    assert anyio.current_time() - start == pytest.approx(1)


async def test_a_clock_that_wakes_too_early_is_no_sleep_in_vain() -> None:
    behind = LoopClock()
    bucket = InMemoryBucket(Rate(1, 1000), clock=lambda: behind() * 999 // 1000)
    once = Limiter(bucket, buffer_ms=0, retry_until_max_delay=False)
    await once.acquire()
    assert await once.acquire()


async def _after(seconds: float, function: Any, *args: object) -> None:
    await anyio.sleep(seconds)
    await function(*args)


async def test_a_take_behind_one_who_has_left_is_not_refused_for_that() -> None:
    store = scripted(Rate(10, 60_000), delay=1)
    await store.acquire(5)
    left = anyio.CancelScope()
    taken: list[Decision] = []

    async def leaves() -> None:
        with left:
            await store.acquire(8)

    async def takes() -> None:
        taken.append(await store.take(5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.peek)
        await anyio.sleep(0.1)
        tasks.start_soon(leaves)
        await anyio.sleep(0.1)
        tasks.start_soon(takes)
        await anyio.sleep(1.7)
        left.cancel()
    assert [decision.allowed for decision in taken] == [True]
    assert store.statistics().waiting == 0


async def test_who_stands_behind_one_whose_permit_went_back_in_place_moves_up_at_once() -> None:
    bucket = InMemoryBucket(Rate(1, Duration.HOUR), clock=LoopClock())
    step, held = bucket._step, ["looks", "takes"]
    bucket._step = lambda asks: None if ("takes" if asks[0].cost else "looks") in held else step(asks)  # type: ignore[method-assign,assignment,return-value]
    left = anyio.CancelScope()

    async def leaves() -> None:
        with left:
            await bucket.acquire()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bucket.peek)
        await anyio.sleep(0.01)
        tasks.start_soon(leaves)
        await anyio.sleep(0.01)
        tasks.start_soon(bucket.acquire)
        await anyio.sleep(0.01)
        held.remove("looks")  # the next call has both who take
        await anyio.sleep(0.01)
        left.cancel()
        await anyio.sleep(0.01)
        held.remove("takes")
    assert anyio.current_time() < 1


class Raced(deque[Ask]):
    """Give-backs of which another event loop takes the last one between a look and a grip."""

    looks = 0

    def __len__(self) -> int:
        self.looks += 1
        return int(self.looks == 1) or super().__len__()


async def test_another_loop_may_take_the_last_of_what_is_owed(caplog: pytest.LogCaptureFixture) -> None:
    store = scripted(Rate(1, 1000))
    store._owed = Raced()
    assert (await store.take()).allowed
    assert not caplog.records


async def test_errands_of_a_courier_that_was_cancelled_have_an_end(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        return  # nobody can cancel a system task but the run's end
    store = scripted(Rate(1, 1000), delay=1)
    taken = await store.acquire()
    errands = [asyncio.ensure_future(errand) for errand in (store.peek(), store.refund(taken))]
    await asyncio.sleep(0.1)
    for task in asyncio.all_tasks():
        if "courier" in task.get_name():
            task.cancel()
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*errands, return_exceptions=True)
    assert [type(end) for end in ends] == [StoreError, StoreError]
    assert (await store.take()).allowed


async def test_sleeps_that_were_cut_short_are_forgotten() -> None:
    bucket = InMemoryBucket(Rate(1, Duration.DAY), clock=LoopClock())
    await bucket.acquire(key="a")
    await bucket.acquire(key="b")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bucket.acquire(key="a"))
        await anyio.sleep(1)
        for _ in range(1000):
            with anyio.move_on_after(0.001):
                await bucket.acquire(key="b")
        room = next(iter(bucket._rooms.values()))
        assert len(room._lines._sleeping) < 200
        tasks.cancel_scope.cancel()
