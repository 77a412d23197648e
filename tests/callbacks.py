"""A store that begins a call at once and calls back with its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio

from pyrate_limiter import Answer, Ask
from pyrate_limiter.algorithms import decide
from pyrate_limiter.testing import ScriptedStore
from pyrate_limiter.waiting import Heard, loop_of, running


class CallsBack(ScriptedStore):
    """Decides halfway through a trip, as every scripted store.

    Attributes:
        begun: what it was asked that way.
        ready: whether it can begin at once.
        mute: whether it has no answers for what it begins.
        at_once: the most calls that were under way together.
    """

    calls_back = True

    def __init__(self, rates: Any, **options: Any) -> None:
        super().__init__(rates, **options)
        self.begun: list[Ask] = []
        self.ready = True
        self.mute = False
        self.at_once = 0
        self._under_way = 0

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        self._goes()
        try:
            return await super()._apply(asks)
        finally:
            self._under_way -= 1

    def _begin(self, ask: Ask, heard: Heard) -> bool:
        if self.ready:
            self.begun.append(ask)
            self._goes()
            later(self.delay / 2, partial(self._decide_one, ask, heard))
        return self.ready

    def _decide_one(self, ask: Ask, heard: Heard) -> None:
        answer = None
        if not self.mute:
            with self._lock:
                (answer,) = decide(self.rule, self._states, [ask], self._clock())
                self.granted += 0 if answer.wait else ask.cost
        later(self.delay / 2, partial(self._returns, answer, heard))

    def _goes(self) -> None:
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)

    def _returns(self, answer: Answer | None, heard: Heard) -> None:
        self._under_way -= 1
        heard(answer)


def loop_clock() -> int:
    """Return the time of the running event loop, in microseconds, outside of tasks too."""
    return round(loop_of(running()).time() * 1e6)


def later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function in the running event loop after some time."""
    if isinstance(running(), asyncio.AbstractEventLoop):
        asyncio.get_running_loop().call_later(seconds, function)
        return
    import trio

    async def wait() -> None:
        await anyio.sleep(seconds)
        function()

    trio.lowlevel.spawn_system_task(wait)
