"""A store across an imaginary network, which does what a test tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import anyio

from ..algorithms import Algorithm, SlidingWindowLog, State, decide
from ..bucket import AbstractBucket
from ..clocks import Clock, monotonic
from ..decisions import Answer, Ask
from ..rates import Rate


class ScriptedStore(AbstractBucket):
    """A bucket whose store is a trip away, counts its calls, and fails on demand.

    Like a real server it decides halfway through the trip, whether or not its caller is still there at the end.

    Args:
        rates: one rate or several.
        algorithm: how they are counted.
        delay: seconds of one trip, there and back.
        clock: the store's clock.

    Attributes:
        delay: seconds of one trip; may be changed at any time.
        calls: the asks of every call so far.
        granted: the units that the store granted so far, less those given back.
        fail: called with the number of each call (from 1); what it raises is raised after the store has decided.
    """

    def __init__(
        self,
        rates: Rate | Sequence[Rate],
        *,
        algorithm: type[Algorithm] = SlidingWindowLog,
        delay: float = 0.005,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(rates, algorithm=algorithm)
        self.delay = delay
        self.calls: list[list[Ask]] = []
        self.granted = 0
        self.fail: Callable[[int], None] = lambda _: None
        self._clock = clock or monotonic
        self._lock = Lock()
        self._states: dict[str, State] = {}

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        self.calls.append(list(asks))
        number = len(self.calls)
        await anyio.sleep(self.delay / 2)
        with self._lock:  # loops in other threads may ask, too
            answers = decide(self.rule, self._states, asks, self._clock())
            self.granted += sum(ask.cost for ask, answer in zip(asks, answers, strict=True) if not answer.wait)
        await anyio.sleep(self.delay / 2)
        self.fail(number)
        return answers
