"""What is to be asked of the store next: what is given back, what is fresh, and the lines whose time has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from ..decisions import Ask
from .line import Caller
from .lines import Lines
from .loops import NEVER
from .store import Store


class Call:
    """One call of the store.

    Attributes:
        asks: what it is asked.
        callers: who asks each of them; None for what is given back.
        returns: those of the asks that make room.
    """

    __slots__ = ("asks", "callers", "returns")

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.callers: list[Caller | None] = []
        self.returns: Sequence[Ask] = ()

    def give_back(self, ask: Ask) -> None:
        """Give back for somebody who has left."""
        self.callers.append(None)
        self.asks.append(ask)

    def add(self, callers: Sequence[Caller], now: float) -> None:
        """Ask for callers, with the patience that they have left."""
        self.callers += callers
        self.asks += [c.ask if c.deadline == NEVER else c.renewed(now) for c in callers]


NOTHING = Call()


class Outbox:
    """Who is to be asked for, beside those who stand in line.

    Args:
        store: the bucket.
        lines: where those stand who were refused and stay.

    Attributes:
        fresh: takes that go to the store for the first time, in order of arrival; nobody waits for their keys.
        errands: looks, give-backs and resets: never behind anybody.
    """

    def __init__(self, store: Store, lines: Lines) -> None:
        self.fresh: list[Caller] = []
        self.errands: deque[Caller] = deque()
        self._fresh_first = False
        self._store = store
        self._lines = lines

    def urgent(self) -> bool:
        """Return whether there is something to do at once."""
        return bool(self.fresh or self._lines.ready or self.errands or self._store._owed)

    def alone(self) -> Caller | None:
        """Return the one for whom a call would be, if there is only one, and it takes and nobody waits."""
        if len(self.fresh) != 1 or self._lines.by_key or self.errands or self._store._owed:
            return None
        (caller,) = self.fresh
        return None if caller.settled else caller

    def gather(self, now: float) -> Call:
        """Return the next call: give-backs first, then in turn what is fresh, and of each line that is due a prefix."""
        call = Call()
        if self._store._owed or self.errands:
            self._gather_errands(call, now)
        self._lines.wake(now)
        self._gather_takes(call, now)
        return call

    def _gather_errands(self, call: Call, now: float) -> None:
        owed, batch = self._store._owed, self._store.batch
        with suppress(IndexError):  # between the look and the grip another loop may have taken the last one
            while owed and len(call.asks) < batch:
                call.give_back(owed.popleft())
        while self.errands and len(call.asks) < batch:
            call.add([self.errands.popleft()], now)
        call.returns = [ask for ask in call.asks if ask.cost < 0]
        for ask in call.returns:
            self._lines.rouse(ask.key)

    def _gather_takes(self, call: Call, now: float) -> None:
        # By turns, so that neither keeps the other from a place in a call that is full.
        self._fresh_first = not self._fresh_first
        if self._fresh_first:
            self._gather_fresh(call, now)
        while self._lines.ready and len(call.asks) < self._store.batch:
            call.add(self._lines.next_up(self._store.batch - len(call.asks)), now)
        if not self._fresh_first:
            self._gather_fresh(call, now)

    def _gather_fresh(self, call: Call, now: float) -> None:
        if self.fresh:
            most = self._store.batch - len(call.asks)
            chosen, self.fresh = self.fresh[:most], self.fresh[most:]
            call.add([caller for caller in chosen if not caller.settled], now)

    def refuse_errands(self, error: BaseException) -> None:
        """Tell those whose errands have not begun that there is no answer."""
        for errand in self.errands:
            self._lines.fail(errand, error)
        self.errands.clear()
