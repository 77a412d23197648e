"""What the waiting room itself costs: asks of a store that answers by itself, in the next turn of the loop.

The floor is what no room can do without: a future for each ask, and a list of them for each call of the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from harness import Body, main, measure
from results import Report

from pyrate_limiter import AbstractBucket, Answer, Ask, Duration, Limiter, Rate

TASKS = 100
PLENTY = 10**9
GRANTED = Answer(0, 1, remaining=1, reset=1)
ROUND = 0.004
"""Seconds that a round takes: enough for each task to ask some ten times, so that starting it hardly counts."""
IDLE = 4
"""Turns of the loop after which nothing is left of an ask."""
BOUNDS = {"100 tasks, 1 key": 3, "100 tasks, 100 keys": 3, "1 task": 2.2, "1 task, now and then": 1.8}
Take = Callable[[str], Awaitable[object]]


class Ready(AbstractBucket):
    """A store that costs nothing: everything is granted, one turn of the loop later."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        await asyncio.sleep(0)
        return [GRANTED] * len(asks)


class Floor:
    """Gathers what is asked and grants it, in a call at a time."""

    def __init__(self) -> None:
        self._gathered: list[asyncio.Future[bool]] = []
        self._courier: asyncio.Task[None] | None = None

    async def take(self, key: str) -> bool:
        future = asyncio.get_running_loop().create_future()
        self._gathered.append(future)
        if self._courier is None:
            self._courier = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        while self._gathered:
            call, self._gathered = self._gathered, []
            await asyncio.sleep(0)
            for future in call:
                future.set_result(True)
            await asyncio.sleep(0)
        self._courier = None


def asking(take: Take, tasks: int, keys: int) -> Body:
    """Return what lets so many tasks ask at once, each so many times."""

    async def one(key: str, calls: int) -> None:
        for _ in range(calls):
            await take(key)

    async def body(calls: int) -> None:
        await asyncio.gather(*(one(f"key {i % keys}", calls) for i in range(tasks)))

    return body


def apart(take: Take) -> Body:
    """Return what lets one task ask now and then, so that the room is empty in between."""

    async def body(calls: int) -> None:
        for _ in range(calls):
            await take("key")
            for _ in range(IDLE):
                await asyncio.sleep(0)

    return body


async def turns(take: Take, calls: int = 100) -> float:
    """Return how many turns of the loop one ask takes, when the room is empty."""
    loop = asyncio.get_running_loop()
    seen = 0

    def turn() -> None:
        nonlocal seen, ticking
        seen += 1
        ticking = loop.call_soon(turn)

    ticking = loop.call_soon(turn)
    await apart(take)(calls)
    ticking.cancel()
    return seen / calls - IDLE


async def benchmark(report: Report) -> None:
    bucket = Ready(Rate(PLENTY, Duration.SECOND))
    limiter = Limiter(bucket, keyed=True, async_wrapper=True)
    floor = Floor()

    async def direct(key: str) -> None:
        await bucket._apply([Ask(key, 1)])

    def take(key: str) -> Awaitable[object]:
        return limiter.try_acquire(key, blocking=False)

    shapes = {"100 tasks, 1 key": (TASKS, 1), "100 tasks, 100 keys": (TASKS, TASKS), "1 task": (1, 1)}
    cases = {"1 task, now and then": apart(take), "floor, 1 task, now and then": apart(floor.take)}
    for shape, (tasks, keys) in shapes.items():
        cases[shape] = asking(take, tasks, keys)
        cases[f"floor, {shape}"] = asking(floor.take, tasks, keys)
    samples = await measure(cases, round_time=ROUND)
    for shape, (tasks, _) in shapes.items():
        for name in (shape, f"floor, {shape}"):
            samples[name] = [taken / tasks for taken in samples[name]]
    table = report.times("One ask of a store that costs nothing", samples)
    for shape, most in BOUNDS.items():
        report.at_most(f"{shape} / floor", table.ratio(shape, f"floor, {shape}"), most)
    for name, one in {"ours": take, "floor": floor.take, "the store alone": direct}.items():
        report.note(f"{name}: turns of the loop for an ask", await turns(one))


if __name__ == "__main__":
    main(benchmark)
