"""The courier: the one task that talks to the store.

It exists only while somebody waits or a call is under way, and for one turn of the loop after that. Callers may leave
at any instant: its call goes on without them, and what it brings to one who has left goes back. (A caller that made the
call itself could be cancelled in it: a shield of anyio's does not hold off asyncio's own cancellation.)

While a call is under way, asks gather; when it returns they leave together. So there is no timer and no latency when
idle, and one call serves a thousand when busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..decisions import Answer, Ask
from ..errors import StoreError
from .line import Caller
from .lines import Lines
from .loops import NEVER, Loop, Turn
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


NONE = Call()


class Courier:
    """Brings what is asked to the store, and the answers back.

    Args:
        store: the bucket.
        loop: the event loop, which alone may call this object.
        lines: where those stand who were refused and stay.
        emptied: called when nobody is left and nothing is under way.

    Attributes:
        fresh: takes that go to the store for the first time, in order of arrival; nobody waits for their keys.
        errands: looks, give-backs and resets: never behind anybody.
        serving: whether there is a courier.
        idle: whether it has to be told of what there is to do: it sleeps, or there is none.
        trip: the seconds that the last call took.
    """

    def __init__(self, store: Store, loop: Loop, lines: Lines, emptied: Callable[[], None]) -> None:
        self.fresh: list[Caller] = []
        self.errands: deque[Caller] = deque()
        self.serving = False
        self.idle = True
        self.trip = 0.0
        self._fresh_first = False
        self._store = store
        self._loop = loop
        self._lines = lines
        self._emptied = emptied
        self._call = NONE
        self._bell: Turn = None
        self._until = NEVER
        self._drainers: list[Turn] = []

    @property
    def takers(self) -> list[Caller]:
        """Those who take and stand in no line: under way, or about to be."""
        callers = [*self._call.callers, *self.fresh]
        return [caller for caller in callers if caller is not None and caller.line is None and caller.ask.cost > 0]

    def refuse_errands(self, error: BaseException) -> None:
        """Tell those whose errands have not begun that there is no answer."""
        for errand in self.errands:
            self._lines.fail(errand, error)
        self.errands.clear()

    def bring(self, caller: Caller) -> None:
        """Take with you somebody who asks for a key for which nobody waits."""
        self.fresh.append(caller)
        if self.idle:
            self.work()

    def work(self) -> None:
        """See to it that a courier does what there is to do, or sees that there is nothing left."""
        if self.serving:
            if self.idle and (self._urgent() or not self._lines.by_key or self._lines.due < self._until):
                self.idle = False
                self._loop.come(self._bell)
        elif self._urgent() or self._lines.by_key:
            self.serving = True
            self.idle = False
            self._loop.spawn(self._serve, self._ended)
        else:
            for done in self._drainers:
                self._loop.come(done)
            self._drainers.clear()
            self._emptied()

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        while self.serving:
            done = self._loop.turn()
            self._drainers.append(done)
            await self._loop.wait(done, NEVER)

    def _urgent(self) -> bool:
        """Return whether there is something to do at once."""
        return bool(self.fresh or self._lines.ready or self.errands or self._store._owed)

    async def _serve(self) -> None:
        rested = False
        while True:
            now = self._loop.time()
            if self._urgent() or self._lines.due <= now:
                call = self._gather(now)
                if call.asks:
                    await self._make(call, now)
                    rested = False
            elif not rested:
                # Whoever was served just now runs first, and may ask again: that saves another courier.
                await self._loop.breath()
                rested = True
            elif self._lines.by_key:
                await self._sleep()
            else:
                break

    async def _sleep(self) -> None:
        """Sleep until a line is due, or `work` has something to do."""
        self._bell = self._loop.turn()
        self._until = self._lines.due
        self.idle = True
        await self._loop.wait(self._bell, self._until)
        self.idle = False

    def _ended(self) -> None:
        """Send another courier if somebody came just now, or if this one was cancelled while callers wait for it."""
        self.serving = False
        self.idle = True
        self.work()

    def _gather(self, now: float) -> Call:
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

    async def _make(self, call: Call, left: float) -> None:
        self._call = call
        try:
            answers = await self._store._apply(call.asks)
            now = self._loop.time()
            self._deliver(call.callers, answers, now)
            self.trip = now - left
            for ask in call.returns:
                self._store._rouse(ask)
        except Exception as error:
            self._fail(call.callers, error)
        except BaseException:
            # This courier is cancelled; for the takers who are still there, another one asks again.
            self.fresh = [taker for taker in self.takers if not taker.settled]
            errands = [caller for caller in call.callers if caller is not None and caller.ask.cost <= 0]
            self._fail(errands, StoreError("the task that asked the store was cancelled; what it did is not known"))
            raise
        finally:
            self._call = NONE
            if self._lines.asked:
                self._lines.decided(self._loop.time())

    def _fail(self, callers: Sequence[Caller | None], error: Exception) -> None:
        """Tell those whom it concerns. What was to be given back stays spent: the store may have heard of it."""
        for caller in callers:
            if caller is not None and not caller.settled:
                self._lines.fail(caller, error)

    def _deliver(self, callers: Sequence[Caller | None], answers: Sequence[Answer], now: float) -> None:
        lines, come = self._lines, self._loop.come
        unwanted: list[Ask] = []
        for caller, answer in zip(callers, answers, strict=True):
            if caller is None:
                continue
            if caller.settled:
                if caller.ask.cost > 0 and not answer.wait:
                    unwanted.append(give_back(caller.ask, answer))
            elif answer.wait and caller.ask.cost > 0:
                lines.refused(caller, answer, now)
            elif caller.line is not None:
                lines.settle(caller, answer)
            else:
                caller.answer = answer
                caller.settled = True
                come(caller.turn)
        if lines.formed:
            self.fresh = lines.adopt(self.fresh)
        for ask in unwanted:  # now that those behind stand in line: a bucket that takes it back in place rouses them
            self._store._owe(ask)


def give_back(ask: Ask, answer: Answer) -> Ask:
    """Return what gives back what was granted."""
    return Ask(ask.key, -ask.cost, at=answer.at, degraded=answer.degraded)
