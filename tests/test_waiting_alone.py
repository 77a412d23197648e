"""A single caller's call without a task, where the store begins it at once and calls back. On virtual time."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pyrate_limiter import Ask, Decision, Limiter, LimiterClosed, LimiterDelayException, Rate, StoreError
from pyrate_limiter.waiting import Patience
from pyrate_limiter.waiting.courier import Courier

from .callbacks import CallsBack, loop_clock
from .virtual import virtual_backends

anyio_backend = virtual_backends
THREE = Rate(3, 1000)


def store(**options: Any) -> CallsBack:
    return CallsBack(THREE, clock=loop_clock, **options)


async def granted(bucket: CallsBack) -> list[bool]:
    return [bool(await bucket.take()) for _ in range(4)]


async def test_who_asks_alone_needs_no_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = store()
    monkeypatch.setattr(Courier, "_serve", None)
    assert await granted(bucket) == [True, True, True, False]
    assert (len(bucket.begun), bucket.calls) == (4, [])


async def test_nothing_is_left_of_the_room_after_that() -> None:
    bucket = store()
    await bucket.take()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert not bucket._rooms


async def test_who_comes_meanwhile_goes_in_one_call() -> None:
    bucket = store()
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(bucket.take)
    assert (len(bucket.begun), [len(call) for call in bucket.calls]) == (1, [49])
    assert bucket.granted == 3


async def test_who_is_refused_and_stays_is_admitted_in_order() -> None:
    bucket = CallsBack(Rate(1, 1000), clock=loop_clock)
    order: list[int] = []

    async def acquire(place: int) -> None:
        await bucket.acquire()
        order.append(place)

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for place in range(4):
            tasks.start_soon(acquire, place)
            await anyio.sleep(0.01)
    assert order == [0, 1, 2, 3]
    assert 3 <= anyio.current_time() - began < 3.05


@pytest.mark.parametrize("when", [0.001, 0.004], ids=["before the store decides", "after"])
async def test_what_was_granted_to_one_who_has_left_goes_back(when: float) -> None:
    bucket = store()
    with anyio.move_on_after(when):
        await bucket.take(3)
    await anyio.sleep(0.1)
    assert bucket.granted == 0
    assert await bucket.take(3)


@pytest.mark.parametrize("weight", [1, 3])
async def test_who_comes_as_somebody_leaves_gets_what_that_one_would_have_had(weight: int) -> None:
    bucket = store()
    decisions: list[Decision] = []

    async def take() -> None:
        decisions.append(await bucket.acquire(weight, timeout=0.1))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.001):
            tasks.start_soon(take)  # it comes while the other one is on its way
            await bucket.acquire(3)
    assert [bool(decision) for decision in decisions] == [True]


async def test_where_the_store_cannot_begin_a_courier_asks() -> None:
    bucket = store()
    bucket.ready = False
    assert await granted(bucket) == [True, True, True, False]
    assert (bucket.begun, len(bucket.calls)) == ([], 4)


async def test_where_there_is_no_answer_a_courier_asks_again() -> None:
    bucket = store()
    bucket.mute = True
    assert await granted(bucket) == [True, True, True, False]
    assert bucket.begun
    assert (len(bucket.calls), bucket.granted) == (4, 3)


async def test_nobody_asks_again_for_one_who_has_left() -> None:
    bucket = store()
    bucket.mute = True
    with anyio.move_on_after(0.001):
        await bucket.take()
    await anyio.sleep(0.1)
    assert (bucket.calls, bucket._rooms) == ([], {})


async def test_an_error_of_the_courier_that_asks_again_reaches_the_caller() -> None:
    bucket = store()
    bucket.mute = True

    def fail(_: int) -> None:
        raise StoreError("it is broken")

    bucket.fail = fail
    with pytest.raises(StoreError, match="broken"):
        await bucket.take()


async def test_one_call_without_an_answer_is_no_reason_to_make_tasks_for_good() -> None:
    bucket = store()
    bucket.mute = True
    await bucket.take()
    bucket.mute = False
    bucket.begun.clear()
    await bucket.take()
    await bucket.take()
    assert len(bucket.begun) == 2


async def test_a_courier_ends_as_soon_as_somebody_asks_alone() -> None:
    bucket = store()
    bucket.ready = False
    await bucket.take()
    bucket.ready = True
    assert [bool(await bucket.take()) for _ in range(3)] == [True, True, False]
    assert len(bucket.begun) == 3


async def test_there_is_one_call_at_a_time_however_it_is_made() -> None:
    bucket = store()

    async def some(place: int) -> None:
        for i in range(20):
            await anyio.sleep(0.0017 * (i % 3) * place)
            bucket.ready = i % 4 > 0
            await bucket.take()

    async with anyio.create_task_group() as tasks:
        for place in range(3):
            tasks.start_soon(some, place)
    assert bucket.begun
    assert bucket.calls
    assert bucket.at_once == 1


async def test_a_call_is_not_made_for_one_who_came_meanwhile_and_left() -> None:
    bucket = store()

    async def come_and_leave() -> None:
        await anyio.sleep(0.001)
        with anyio.move_on_after(0.001):
            await bucket.take()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(come_and_leave)
        await bucket.take()
    await anyio.sleep(0.1)
    assert (len(bucket.begun), bucket.calls, bucket.granted) == (1, [], 1)


async def test_the_store_is_told_of_the_patience_that_is_left() -> None:
    bucket = store(delay=0.2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bucket.take)
        await anyio.sleep(0.1)
        await bucket.acquire(timeout=0.5)
    assert bucket.begun[1].patience == pytest.approx(400_000, abs=1000)


async def test_who_came_meanwhile_and_waits_in_vain_is_told_at_once() -> None:
    bucket = store()
    await bucket.take(3)
    refused: list[float] = []

    async def impatient() -> None:
        await anyio.sleep(0.001)
        with pytest.raises(LimiterDelayException):
            await bucket.acquire(3, timeout=1.5)
        refused.append(anyio.current_time())

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(impatient)
        await bucket.acquire()
    assert [moment - began < 0.1 for moment in refused] == [True]


async def test_closing_waits_for_a_call_that_brings_nothing() -> None:
    bucket = store()
    await bucket.take(3)
    async with anyio.create_task_group() as tasks:

        async def take() -> None:
            with pytest.raises(LimiterClosed):
                await bucket.take()

        tasks.start_soon(take)
        await anyio.sleep(0.001)
        with anyio.fail_after(1):
            await bucket.aclose()
    assert bucket._under_way == 0


async def test_closing_waits_for_the_call_and_gives_back() -> None:
    bucket = store()
    errors: list[BaseException] = []

    async def take() -> None:
        try:
            await bucket.take(2)
        except LimiterClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.sleep(0.001)
        await bucket.aclose()
    assert len(errors) == 1
    assert bucket.granted == 0
    assert not bucket._rooms


async def test_give_backs_go_before_who_comes_alone() -> None:
    bucket = store()
    decision = await bucket.take(3)
    bucket._owe(Ask("", -3, at=decision.at))
    assert await bucket.take(3)
    assert [ask.cost for call in bucket.calls for ask in call] == [-3, 3]


async def test_time_runs_out_during_the_call() -> None:
    bucket = store(delay=0.5)
    limiter = Limiter(bucket, async_wrapper=True)
    assert await limiter.try_acquire(timeout=1)
    began = anyio.current_time()
    assert not await limiter.try_acquire(weight=3, timeout=0.1)
    assert anyio.current_time() - began < 1.2
    await anyio.sleep(2)
    assert bucket.granted == 1


async def test_an_error_of_who_is_told_of_the_wait_reaches_the_caller() -> None:
    bucket = store()
    await bucket.take(3)

    def began(_: float) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await bucket._request("", "", 1, Patience(began=began))
    assert not await bucket.take()
