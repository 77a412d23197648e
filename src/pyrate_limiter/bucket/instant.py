"""Buckets that decide in place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Protocol

import anyio

from ..decisions import BUSY, Answer, Ask, Decision
from ..waiting import running
from .abstract import AbstractBucket

in_place: ContextVar[bool] = ContextVar("in_place", default=False)
"""Whether this is a sync call on a thread that runs an event loop: it may open a file there, since nobody else can."""


class InPlace(Protocol):
    """What can decide a take in place: now, without awaiting, and only if nobody waits."""

    def _take(self, name: str, weight: int, keyed: bool) -> int:
        """Take, and return the wait; `BUSY` if the long way has to be gone."""
        ...

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Take, and return the decision; None if the long way has to be gone."""


class Nowhere:
    """Where nothing can be decided in place."""

    @staticmethod
    def _take(name: str, weight: int, keyed: bool) -> int:
        return BUSY

    @staticmethod
    def _decide(name: str, weight: int, keyed: bool) -> Decision | None:
        return None


class InstantBucket(AbstractBucket):
    """A bucket whose store is memory: it decides in place, under a short lock, without awaiting anything."""

    instant = True
    batch = 1_000_000
    least = 4

    @abstractmethod
    def _step(self, asks: Sequence[Ask]) -> list[Answer] | None:
        """Decide a batch now, by `decide`; None if the lock is held elsewhere, or more is to be done first."""

    @abstractmethod
    def _take(self, name: str, weight: int, keyed: bool) -> int:
        """Decide one take by the same rule.

        Args:
            name: the key if `keyed`; otherwise a label, and the key is "".
            weight: whatever the caller gave.
            keyed: whether names are keys.

        Returns:
            The wait; or `BUSY` if the long way has to be gone: because the lock is held elsewhere, somebody waits, the
            weight is not an int from 1 to the capacity, or a keyed call has no name.
        """

    @abstractmethod
    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Do as `_take` does, and return the decision; None instead of `BUSY`."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        pause = 0.00005
        while (answers := self._step(asks)) is None:
            await self._pause(pause)
            pause = min(2 * pause, 0.002)
        return answers

    async def _pause(self, seconds: float) -> None:
        """Do what has to be done before the next step: let some time go by."""
        await anyio.sleep(seconds)

    def _at_once(self, key: str, cost: int) -> Answer | None:
        self._require_open()
        if self._rooms and (room := self._rooms.get(running())) and key in room:
            return None
        answers = self._step((Ask(key, cost),))
        return answers[0] if answers else None

    async def _run(self, ask: Ask) -> Answer:
        self._require_open()
        answers = self._step((ask,))
        if answers is None:
            return await super()._run(ask)
        self._rouse(ask)
        return answers[0]

    def _owe(self, ask: Ask) -> None:
        if self._step((ask,)) is None:
            super()._owe(ask)

    def _rouse(self, ask: Ask) -> None:
        """Let the next in line of this loop move up after a give-back."""
        if ask.cost < 0 and self._rooms and (room := self._rooms.get(running())):
            room.rouse(ask.key)


NOWHERE: InPlace = Nowhere
"""The class itself: the interpreter does not learn where an attribute is whose default is an object of a class of ours,
and this one is read at every call."""
