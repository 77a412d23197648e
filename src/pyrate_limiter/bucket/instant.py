"""Buckets that decide in place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar
from weakref import ref

import anyio

from ..algorithms import Algorithm, SlidingWindowLog
from ..decisions import BUSY, Answer, Ask, Decision
from ..listening import Audience, Heard
from ..rates import Rate
from ..waiting import Make, Patience, running
from .abstract import AbstractBucket
from .checks import valid_key

T = TypeVar("T")

in_place: ContextVar[bool] = ContextVar("in_place", default=False)
"""Whether this is a sync call on a thread that runs an event loop: it may open a file there, since nobody else can."""


class InPlace(Protocol):
    """What can decide a take in place: now, without awaiting, and only if nobody waits."""

    def _take(self, name: str, weight: int, keyed: bool) -> int:
        """Take, and return the wait; `BUSY` if the long way has to be gone."""
        ...

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Take, and return the decision; None if the long way has to be gone."""

    def _grant(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Do as `_decide` does, for one who goes the long way also if it is refused: what is returned then is false."""


class User(Protocol):
    """A limiter that lets its bucket decide in place."""

    def _choose_at_hand(self) -> None:
        """Ask the bucket again what decides in place."""


class Nowhere:
    """Where nothing can be decided in place."""

    @staticmethod
    def _take(name: str, weight: int, keyed: bool) -> int:
        return BUSY

    @staticmethod
    def _decide(name: str, weight: int, keyed: bool) -> Decision | None:
        return None

    @staticmethod
    def _grant(name: str, weight: int, keyed: bool) -> Decision | None:
        return None


class InstantBucket(AbstractBucket):
    """A bucket whose store is memory: it decides in place, under a short lock, without awaiting anything."""

    instant = True
    batch = 1_000_000
    least = 4

    def __init__(self, rates: Rate | Sequence[Rate], *, algorithm: type[Algorithm] = SlidingWindowLog) -> None:
        super().__init__(rates, algorithm=algorithm)
        self._users: dict[int, ref[User]] = {}

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
            weight is not an int from 1 to the capacity, a keyed call has no name, or a label is not a str.
        """

    @abstractmethod
    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Do as `_take` does, and return the decision; None instead of `BUSY`."""

    def _grant(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Do as `_decide` does, for one who goes the long way also if it is refused.

        A bucket says `_grant = _decide`, which saves a call; they differ only where somebody listens.
        """
        return self._decide(name, weight, keyed)

    def _in_place(self) -> InPlace:
        """Return what decides in place for limiters."""
        return self if self._audience is None else Heard(self, self._audience)

    def _serve(self, user: User) -> None:
        """Tell a limiter, as long as it lives, when something else is to decide in place."""
        users = self._users
        known = ref(user, lambda gone: users.pop(id(gone), None))
        users[id(known)] = known

    def _heard_by(self, audience: Audience | None) -> None:
        super()._heard_by(audience)
        for known in tuple(self._users.values()):
            if (user := known()) is not None:
                user._choose_at_hand()

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        pause = 0.00005
        while (answers := self._step(asks)) is None:
            await self._pause(pause)
            pause = min(2 * pause, 0.002)
        return answers

    async def _pause(self, seconds: float) -> None:
        """Do what has to be done before the next step: let some time go by."""
        await anyio.sleep(seconds)

    def _ask(self, key: str, name: str, weight: int, patience: Patience, make: Make[T]) -> Coroutine[Any, Any, T]:
        if type(weight) is not int or not 0 < weight <= self.capacity:
            return self._ask_oddly(key, name, weight, patience, make)
        first = self._at_once(valid_key(key), weight)
        if first is None or 0 < first.wait <= patience.limit:
            return self._room().ask(key, name, weight, patience, first, make)
        return _known(make(name, weight, first, 0.0))

    def _at_once(self, key: str, cost: int) -> Answer | None:
        """Return the answer if it can be had in place; None if somebody waits or the lock is held elsewhere."""
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
        else:
            self._rouse(ask)

    def _rouse(self, ask: Ask) -> None:
        super()._rouse(ask)
        if ask.cost < 0 and self._rooms and (room := self._rooms.get(running())):
            room.rouse(ask.key)


async def _known(made: T) -> T:
    return made


NOWHERE: InPlace = Nowhere
"""The class itself: the interpreter does not learn where an attribute is whose default is an object of a class of ours,
and this one is read at every call."""
