"""The one waiting room: lines, batching, give-backs and cancellation, for every bucket and both kinds of loop.

The room knows no algorithm. Callers await a turn of their own and may leave at any instant. Who asks for a key for
which nobody waits goes to the `Courier` as it comes; once the store has refused somebody who stays, there is a line for
that key (`Lines`), and whoever comes then stands behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..decisions import FOREVER, Answer, Ask
from .courier import Courier, give_back
from .foresight import vain
from .line import Caller, Patience
from .lines import Lines
from .loops import NEVER, Loop
from .store import Make, Store

T = TypeVar("T")
_tuple = tuple.__new__


class Room:
    """The waiters of one bucket on one event loop.

    Args:
        store: the bucket.
        loop: the event loop, which alone may call this object.
        emptied: called when nobody is left and nothing is under way.
    """

    def __init__(self, store: Store, loop: Loop, emptied: Callable[[], None]) -> None:
        self._store = store
        self._loop = loop
        self._lines = Lines(store, loop.come)
        self._courier = Courier(store, loop, self._lines, emptied)

    def __contains__(self, key: str) -> bool:
        """Return whether somebody who asked for the key may still have to be answered."""
        return key in self._lines.by_key or any(taker.ask.key == key for taker in self._courier.takers)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._lines.waiting

    @property
    def empty(self) -> bool:
        """Whether nobody is here and nothing is under way."""
        return not (self._courier.serving or self._lines.by_key or self._courier.outbox.errands)

    async def ask(self, key: str, name: str, cost: int, patience: Patience, first: Answer | None, make: Make[T]) -> T:
        """Take `cost` units of `key`, in order of arrival, and return what is made of the answer.

        Args:
            key: of the bucket.
            name: for what is made.
            cost: units, above zero.
            patience: how the caller waits.
            first: the refusal that the bucket gave in place, just now, if it did and nobody waits for that key.
            make: makes something of the name, the units, the answer and the seconds that the caller waited.

        """
        limit = patience.limit
        now = self._loop.time()
        line = self._lines.by_key.get(key)
        if line is not None and line.due is not None:
            refusal = vain(self._store.rule, line, line.units, cost, limit, now)
            if refusal is not None:
                return make(name, cost, refusal, 0.0)
        ask = _tuple(Ask, (key, cost, limit, -1, False))
        deadline = now + limit / 1e6 if 0 < limit < FOREVER else NEVER
        caller = Caller(ask, self._loop.turn(), patience, deadline)
        if line is not None:
            self._lines.join(line, caller, now)
        elif first is not None:
            self._lines.begin(caller, first, now)
            self._courier.work()
        else:
            self._courier.bring(caller)
        until = deadline if caller.line is None else caller.until
        try:
            while not caller.settled:
                await self._loop.wait(caller.turn, until)
                if not caller.settled:
                    until = self._expire(caller, until)
        except BaseException:
            self._abandon(caller)
            raise
        if caller.failure is not None:
            caller.give_up()
        return make(name, cost, caller.answer, self._loop.time() - now if caller.waits else 0.0)

    async def run(self, ask: Ask) -> Answer:
        """Look, give back or reset: never behind anybody."""
        errand = Caller(ask, self._loop.turn())
        self._courier.outbox.errands.append(errand)
        self._courier.work()
        try:
            await self._loop.wait(errand.turn, NEVER)
        except BaseException:
            errand.settled = True
            raise
        if errand.failure is not None:
            errand.give_up()
        return errand.answer

    def pay(self, ask: Ask) -> None:
        """Give back what a caller got who is gone; the next in line moves up at once."""
        self._store._owe(ask)
        self.rouse(ask.key)

    def rouse(self, key: str) -> None:
        """Ask at once for a line that sleeps, because something was given back."""
        self._lines.rouse(key)
        self._courier.work()

    def close(self, error: BaseException, owner: object = None) -> None:
        """Tell all who wait that it is over, or all who wait through one owner."""
        for caller in [*self._lines.waiters, *self._courier.takers]:
            if not caller.settled and (owner is None or caller.patience.owner is owner):
                self._lines.fail(caller, error)
        if owner is None:
            self._courier.outbox.refuse_errands(error)
        self._courier.work()

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        await self._courier.drained()

    def _expire(self, caller: Caller, until: float) -> float:
        """Refuse a caller whose time is up, unless its time was lengthened by buffers or its turn has just come.

        Returns:
            Until when it waits now.
        """
        caller.turn = self._loop.turn()
        now = self._loop.time()
        lengthened = caller.until
        if lengthened > max(now, until):
            return lengthened
        # Its last attempt may be due at this very moment: give it the time of a trip to the store.
        last_attempt = lengthened + 2 * self._courier.trip + 0.001
        if now < last_attempt:
            return last_attempt
        self._lines.refuse(caller, now)
        self._courier.work()
        return NEVER

    def _abandon(self, caller: Caller) -> None:
        """Leave, whatever has become of it in the meantime."""
        if not caller.settled:
            caller.settled = True
            self._lines.dismiss(caller)
            self._courier.work()
        elif caller.failure is None and not caller.answer.wait:
            self.pay(give_back(caller.ask, caller.answer))
