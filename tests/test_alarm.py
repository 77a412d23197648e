"""A limit on the time of calls that are made one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyrate_limiter.buckets.alarm import Alarm


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def takes(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def test_a_call_that_takes_too_long_is_ended() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    assert await alarm.within(60, takes(0)) == "done"
    with pytest.raises(TimeoutError):
        await alarm.within(0.01, takes(5))
    assert await alarm.within(60, takes(0)) == "done"


async def test_a_timer_that_rings_for_an_earlier_call_ends_no_later_one() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    await alarm.within(0.01, takes(0))
    assert await alarm.within(60, takes(0.03)) == "done"
    with pytest.raises(TimeoutError):
        await alarm.within(0.01, takes(5))


async def test_a_hundred_calls_need_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    alarm, timers = Alarm(loop), 0
    call_at = loop.call_at

    def counted(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return call_at(*arguments, **options)

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(100):
        await alarm.within(60, takes(0))
    assert timers == 1


async def test_a_cancellation_is_none_of_its_business() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    task = asyncio.create_task(alarm.within(60, takes(5)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_was_ended_leaves_no_cancellation_behind() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(TimeoutError):
        await alarm.within(0.01, takes(5))
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_who_is_cancelled_just_as_it_is_late_is_cancelled() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    task = asyncio.create_task(alarm.within(0, takes(5)))
    await asyncio.sleep(0)
    alarm._ring()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
