"""Virtual time passes only when there is nothing to do, and then at once, on both backends."""

import asyncio
import socket
import time
from functools import partial

import anyio
import pytest

from .virtual import VirtualLoop, virtual_backends

anyio_backend = virtual_backends
HOUR = 3600
SOON = 2
"""Real seconds that no test here comes near to, and far below any of the sleeps."""


@pytest.fixture(autouse=True)
def in_no_time():
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SOON


async def test_an_hour_of_sleep_takes_no_time():
    start = anyio.current_time()
    await anyio.sleep(HOUR)
    assert anyio.current_time() - start == pytest.approx(HOUR, abs=1e-6)


async def test_the_clock_starts_at_zero_and_stands_still_while_there_is_something_to_do():
    assert anyio.current_time() == 0
    for _ in range(1000):
        await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == 0


async def test_sleepers_wake_in_order_each_at_its_moment():
    woken = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, round(anyio.current_time(), 6)))

    async with anyio.create_task_group() as group:
        for seconds in (3 * HOUR, 0.000_001, 24 * 30 * HOUR, 1, 0.25):
            group.start_soon(sleeper, seconds)
    assert woken == [(s, s) for s in (0.000_001, 0.25, 1, 3 * HOUR, 24 * 30 * HOUR)]


async def test_a_timeout_ends_a_longer_sleep_at_its_moment():
    with anyio.move_on_after(HOUR) as scope:
        await anyio.sleep(2 * HOUR)
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(HOUR)


async def test_tasks_that_hand_over_to_each_other_spend_no_time():
    send, receive = anyio.create_memory_object_stream[int]()
    async with anyio.create_task_group() as group, send, receive:
        for i in range(100):
            group.start_soon(send.send, i)
        assert sorted([await receive.receive() for _ in range(100)]) == list(range(100))
    assert anyio.current_time() == 0


def test_two_runs_see_the_same_moments():
    async def moments() -> list[float]:
        seen = []
        for i in range(1, 50):
            async with asyncio.timeout(0.07 * i):
                await asyncio.sleep(0.0301 * i)
            seen.append(asyncio.get_running_loop().time())
        return seen

    first, second = (anyio.run(moments, backend_options={"loop_factory": VirtualLoop}) for _ in range(2))
    assert first == second
    assert first[-1] == pytest.approx(0.0301 * sum(range(50)))


def test_what_is_ready_comes_before_the_next_timer():
    async def wait_for_a_byte() -> float:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        here, there = socket.socketpair()
        with here, there:
            there.send(b"-")
            loop.add_reader(here, came.set)
            async with asyncio.timeout(HOUR):
                await came.wait()
            loop.remove_reader(here)
        return loop.time()

    assert anyio.run(wait_for_a_byte, backend_options={"loop_factory": VirtualLoop}) == 0


def test_a_loop_without_timers_waits_for_what_a_thread_reports():
    async def wait_for_a_thread() -> float:
        await anyio.to_thread.run_sync(partial(time.sleep, 0.02))
        return asyncio.get_running_loop().time()

    assert anyio.run(wait_for_a_thread, backend_options={"loop_factory": VirtualLoop}) == 0
