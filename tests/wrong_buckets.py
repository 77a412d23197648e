"""Buckets that are wrong, each in one way that a backend's author might not notice."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio

from pyrate_limiter import (
    BEHIND,
    FOREVER,
    GCRA,
    RESET,
    AbstractBucket,
    Answer,
    Ask,
    Decision,
    InMemoryBucket,
    Rate,
    SlidingWindowLog,
    StoreError,
)
from pyrate_limiter.algorithms import State, decide
from pyrate_limiter.testing import ScriptedStore

Make = Callable[..., AbstractBucket]
store = partial(ScriptedStore, delay=0.001)


class Asked(InMemoryBucket):
    """Asks something else than it was asked, in every call."""

    def _change(self, ask: Ask) -> Ask:
        raise NotImplementedError

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        return super()._step([self._change(ask) for ask in asks])


class Said(InMemoryBucket):
    """Says something else than the rule, in every call."""

    def _change(self, ask: Ask, answer: Answer) -> Answer:
        raise NotImplementedError

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        return [self._change(ask, answer) for ask, answer in zip(asks, super()._step(asks), strict=True)]


# What it answers, and to whom.


class OutOfOrder(InMemoryBucket):
    """Groups a batch by key, and answers in that order."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        return super()._step(sorted(asks, key=lambda ask: ask.key))


class NeverCloses(InMemoryBucket):
    """Lets a light ask pass a heavy one that waits."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        return [super(NeverCloses, self)._step([ask])[0] for ask in asks]


class ClosesForTheImpatient(InMemoryBucket):
    """Puts everybody behind one who does not wait."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = super()._step(asks)
        refused = [ask.key for ask, answer in zip(asks, answers, strict=True) if answer.wait]
        return [
            a if ask.key not in refused or a.wait else a._replace(wait=BEHIND)
            for ask, a in zip(asks, answers, strict=True)
        ]


class ClosesTooLate(Asked):
    """Takes one who could just wait for one who cannot."""

    def _change(self, ask: Ask) -> Ask:
        return ask._replace(patience=ask.patience - 1) if 0 < ask.patience < FOREVER else ask


class LooksFromBehind(InMemoryBucket):
    """Lets a look stand in line."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        answers, closed = super()._step(asks), set()
        for i, (ask, answer) in enumerate(zip(asks, answers, strict=True)):
            if 0 < answer.wait <= ask.patience:
                closed.add(ask.key)
            if ask.key in closed and not ask.cost:
                answers[i] = answer._replace(wait=BEHIND)
        return answers


class OneTooMany(Said):
    """Admits, at the edge of the window, what fits a microsecond later."""

    def _change(self, ask: Ask, answer: Answer) -> Answer:
        return answer._replace(wait=0) if answer.wait == 1 else answer


class Milliseconds(Said):
    """Rounds a wait up to what its timer can sleep."""

    def _change(self, ask: Ask, answer: Answer) -> Answer:
        return answer._replace(wait=-(-answer.wait // 1000) * 1000) if answer.wait > 0 else answer


class FewAtOnce(ScriptedStore):
    """Uses a store that changes at most 25 items in a transaction."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        if len({ask.key for ask in asks}) > 25:
            raise StoreError("too many items in one transaction")
        return await super()._apply(asks)


class OwnIdeaOfAlgorithms(InMemoryBucket):
    """Takes `algorithm=` and counts by the log all the same."""

    def __init__(self, rates: Sequence[Rate], algorithm: Any = None, **options: Any) -> None:
        super().__init__(rates, **options)


class FloorLog(SlidingWindowLog):
    """Says a microsecond too little."""

    def admit(self, state: State, now: int, cost: int) -> tuple[int, State]:
        wait, state = super().admit(state, now, cost)
        return (wait - 1 if wait > 1 else wait), state


class FloorGCRA(GCRA):
    """Rounds a wait down."""

    def admit(self, state: int, now: int, cost: int) -> tuple[int, int]:
        wait, state = super().admit(state, now, cost)
        return (wait - 1 if wait > 1 else wait), state


# What it counts.


class LosesRefunds(ScriptedStore):
    """Drops what is given back."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await super()._apply([ask if ask.cost >= 0 else ask._replace(cost=-1, at=0) for ask in asks])


class RefundsByWeight(Asked):
    """Gives back what was taken last, whatever the stamp."""

    def _change(self, ask: Ask) -> Ask:
        states = self._keys.young
        return ask._replace(at=self.rule.last(states[ask.key])) if RESET < ask.cost < 0 and ask.key in states else ask


class LooksCost(Asked):
    """Takes a unit to look whether one is there."""

    def _change(self, ask: Ask) -> Ask:
        return ask._replace(cost=ask.cost or 1)


class IgnoresReset(ScriptedStore):
    """Forgets nothing."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await super()._apply([ask if ask.cost > -(2**52) else ask._replace(cost=0) for ask in asks])


class ResetsByPrefix(ScriptedStore):
    """Deletes what begins with the key."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        for ask in asks:
            if ask.cost == RESET:
                self._states = {key: state for key, state in self._states.items() if not key.startswith(ask.key)}
        return await super()._apply(asks)


class ResetsTheUnnamed(Asked):
    """Resets another key."""

    def _change(self, ask: Ask) -> Ask:
        return ask._replace(key="") if ask.cost == RESET else ask


class SixteenBits(Asked):
    """Keeps weights in a column that is too narrow."""

    def _change(self, ask: Ask) -> Ask:
        return ask._replace(cost=ask.cost % 65536) if ask.cost > 0 else ask


class LetsGoTooSoon(ScriptedStore):
    """Lets a key expire after the shortest interval."""

    _until = 0.0

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        if time.monotonic() > self._until:
            self._states.clear()
        self._until = time.monotonic() + min(rate.interval for rate in self.rates) / 1000
        return await super()._apply(asks)


class Renames(Asked):
    """Keeps a key as something that another key is kept as too."""

    def __init__(self, change: Callable[[str], str], rates: Sequence[Rate], **options: Any) -> None:
        super().__init__(rates, **options)
        self._rename = change

    def _change(self, ask: Ask) -> Ask:
        return ask._replace(key=self._rename(ask.key))


KEPT_AS: dict[str, Callable[[str], str]] = {
    "case": str.lower,
    "c-string": lambda key: key.split("\0")[0],
    "first-255": lambda key: key[:255],
    "no-last-spaces": lambda key: key.rstrip(" "),
    "normalised": partial(unicodedata.normalize, "NFC"),
    "latin-1": lambda key: key.encode("latin-1", "replace").decode("latin-1"),
    "number": lambda key: str(int(key)) if key.isdecimal() else key,
    "null": lambda key: key or "None",
}


# Its clock, and the stamps.


class PlannedStamps(InMemoryBucket):
    """Stamps a grant with the moment for which it was planned, not with that at which it is made."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = super()._step(asks)
        for i, answer in enumerate(answers):
            if answer.wait > 0:
                self._planned = answer.at + answer.wait
            elif asks[i].cost > 0 and hasattr(self, "_planned"):
                answers[i] = answer._replace(at=self._planned)
        return answers


class StampsAhead(ScriptedStore):
    """Grants at once what fits later, and says so in the stamp."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return [
            answer._replace(wait=0, at=answer.at + answer.wait) if 0 < answer.wait <= ask.patience else answer
            for ask, answer in zip(asks, await super()._apply(asks), strict=True)
        ]


class LosesTheStamp(Said):
    """Leaves out when it was."""

    def _change(self, ask: Ask, answer: Answer) -> Answer:
        return answer._replace(at=0)


class FourteenDigits(ScriptedStore):
    """Writes numbers as Lua does."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return decide(self.rule, self._states, asks, int(float(f"{self._clock():.14g}")))


class ReadsTheClockFirst(ScriptedStore):
    """Waits for its lock when it knows the time already."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        now = self._clock()
        with self._lock:
            return decide(self.rule, self._states, asks, now)


WRONG_CLOCKS: dict[str, Callable[[], Any]] = {
    "seconds": lambda: int(time.time()),
    "milliseconds": lambda: time.time_ns() // 1_000_000,
    "nanoseconds": time.time_ns,
    "float": lambda: time.time() * 1e6,
    "processor": lambda: time.process_time_ns() // 1000,
}


# Several who call at once.


class Racy(ScriptedStore):
    """Reads, goes away, and writes what it has read: between two loops a grant is lost."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        states = {ask.key: _copy(self._states.get(ask.key)) for ask in asks if ask.key in self._states}
        answers = decide(self.rule, states, asks, self._clock())
        await anyio.sleep(0.002)
        self._states.update(states)
        return answers


def _copy(state: State) -> State:
    return list(state) if isinstance(state, list) else state


class RefusesWhenBusy(ScriptedStore):
    """Takes a call that overlaps with another one for a refusal."""

    _busy = False

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = await super()._apply(asks)
        self._busy = not self._busy
        return [
            a._replace(wait=1000) if self._busy and ask.cost > 0 else a for ask, a in zip(asks, answers, strict=True)
        ]


class TakesALockForARefusal(ScriptedStore):
    """Tries a lock, and refuses if somebody holds it."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        if not self._lock.acquire(blocking=False):
            return [Answer(1000, 0)] * len(asks)
        try:
            return decide(self.rule, self._states, asks, self._clock())
        finally:
            self._lock.release()


class ForEachLoop(ScriptedStore):
    """Opens a store of its own for each event loop."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        self._states = self.__dict__.setdefault("_all", {}).setdefault(anyio.lowlevel.current_token(), {})
        return await super()._apply(asks)


class LeavesItsLock(ScriptedStore):
    """Does not let go of a lock if it is cancelled."""

    _held = False

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        while self._held:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        self._held = True
        answers = await super()._apply(asks)
        self._held = False
        return answers


# In place.


class Overtakes(InMemoryBucket):
    """Decides in place without looking whether somebody waits."""

    def _take(self, name: str, weight: int, keyed: bool) -> int:
        return self._step([Ask(name if keyed else "", weight)])[0].wait


class TakesLabelsForKeys(InMemoryBucket):
    """Does not ask whether names are keys."""

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        return super()._decide(name, weight, True)

    _grant = _decide


class TakesAnything(InMemoryBucket):
    """Leaves it to nobody to check a weight."""

    def _grant(self, name: str, weight: int, keyed: bool) -> Decision | None:
        return self._decision(name, weight, self._step([Ask(name, weight)])[0])


class StaysOpen(InMemoryBucket):
    """Is not told that it is closed."""

    def _shut(self) -> None:
        self.closed = True
