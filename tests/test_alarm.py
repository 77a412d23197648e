"""The limit on the time of calls, one after the other: on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from pyrate_limiter.buckets.alarm import Alarm

from .virtual import VirtualLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture
async def alarm() -> Alarm:
    return Alarm(asyncio.get_running_loop())


async def ended_after(alarm: Alarm, seconds: float, work: float) -> float:
    """Return how long a call took that wanted `work` seconds and was given `seconds`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    if work <= seconds:
        await alarm.within(seconds, asyncio.sleep(work))
    else:
        with pytest.raises(TimeoutError):
            await alarm.within(seconds, asyncio.sleep(work))
    return loop.time() - began


async def test_each_call_ends_at_its_own_time_whatever_the_ones_before_it_had(alarm: Alarm) -> None:
    for seconds, work in [(1, 0.9), (1, 2), (10, 3), (1, 2), (1, 0.5), (0.25, 2), (3, 2.9), (0.5, 9), (0, 1)]:
        assert await ended_after(alarm, seconds, work) == pytest.approx(min(seconds, work))


async def test_a_call_that_is_over_is_ended_no_more(alarm: Alarm) -> None:
    await alarm.within(1, asyncio.sleep(0.5))
    await asyncio.sleep(5)
    assert await ended_after(alarm, 1, 2) == pytest.approx(1)


async def test_who_is_cancelled_is_not_told_of_a_time(alarm: Alarm) -> None:
    call = asyncio.create_task(alarm.within(1, asyncio.sleep(2)))
    await asyncio.sleep(0.5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await ended_after(alarm, 1, 0.9) == pytest.approx(0.9)
