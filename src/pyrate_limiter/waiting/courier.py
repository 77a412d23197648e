"""The courier: the one task that talks to the store.

It exists only while somebody waits or a call is under way, and for one turn of the loop after that. Callers may leave
at any instant: its call goes on without them, and what it brings to one who has left goes back. (A caller that made the
call itself could be cancelled in it: a shield of anyio's does not hold off asyncio's own cancellation.)

While a call is under way, asks gather; when it returns they leave together. So there is no timer and no latency when
idle, and one call serves a thousand when busy.

For a single caller there need not be a task, if the store can begin a call at once and calls back with its answer: that
takes a good part less time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..decisions import Answer, Ask
from ..errors import StoreError
from .line import Caller
from .lines import Lines
from .loops import NEVER, Loop, Turn
from .outbox import NOTHING, Call, Outbox
from .store import Store


class Courier:
    """Brings what is asked to the store, and the answers back.

    Args:
        store: the bucket.
        loop: the event loop, which alone may call this object.
        lines: where those stand who were refused and stay.
        emptied: called when nobody is left and nothing is under way.

    Attributes:
        outbox: what there is to ask.
        serving: whether there is a courier, or a call under way without one.
        idle: whether it has to be told of what there is to do: it sleeps, or there is none.
        trip: the seconds that the last call took.
    """

    def __init__(self, store: Store, loop: Loop, lines: Lines, emptied: Callable[[], None]) -> None:
        self.outbox = Outbox(store, lines)
        self.serving = False
        self.idle = True
        self.trip = 0.0
        self._store = store
        self._loop = loop
        self._lines = lines
        self._emptied = emptied
        self._call = NOTHING
        self._alone: Caller | None = None  # for whom a call is under way without a courier
        self._again = False  # whether such a call had no answer
        self._relieved = 0  # how many couriers end because such a call has begun
        self._bell: Turn = None
        self._until = NEVER
        self._drainers: list[Turn] = []

    @property
    def takers(self) -> list[Caller]:
        """Those who take and stand in no line: under way, or about to be."""
        callers = [self._alone, *self._call.callers, *self.outbox.fresh]
        return [caller for caller in callers if caller is not None and caller.line is None and caller.ask.cost > 0]

    def bring(self, caller: Caller) -> None:
        """Take with you somebody who asks for a key for which nobody waits."""
        self.outbox.fresh.append(caller)
        if self.idle:
            self.work()

    def work(self) -> None:
        """See to it that a courier does what there is to do, or sees that there is nothing left."""
        if self.serving:
            if self.idle and (self.outbox.urgent() or not self._lines.by_key or self._lines.due < self._until):
                self.idle = False
                self._loop.come(self._bell)
        elif self.outbox.urgent() or self._lines.by_key:
            if not self._begin():
                self._loop.spawn(self._serve, self._ended)
            self.serving = True
            self.idle = False
        else:
            for done in self._drainers:
                self._loop.come(done)
            self._drainers.clear()
            self._emptied()

    def _begin(self) -> bool:
        """Begin a call without a courier, if it is for one caller and the store can do that; return whether it has."""
        if not self._store.calls_back or self._again or (caller := self.outbox.alone()) is None:
            return False
        now = self._loop.time()
        if not self._store._begin(caller.renewed(now), partial(self._heard, caller, now)):
            return False
        self.outbox.fresh.clear()
        self._alone = caller
        return True

    def _heard(self, caller: Caller, left: float, answer: Answer | None) -> None:
        """Bring its answer to the caller, or see to it that a courier asks again."""
        self._alone = None
        self.serving = False
        self.idle = True
        try:
            if answer is not None:
                self._bring_home([caller], [answer], left)
            elif not caller.settled:
                self.outbox.fresh.insert(0, caller)
                self._again = True
        except Exception as error:
            self._fail([caller], error)
        finally:
            self._decided()
            if self.outbox.urgent() or self._lines.by_key:
                self.work()
            else:  # whoever was served just now runs first, and may ask again
                self._loop.soon(self._rest)

    def _rest(self) -> None:
        """See that there is nothing left, unless somebody came just now."""
        if not self.serving:
            self.work()

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        while self.serving:
            done = self._loop.turn()
            self._drainers.append(done)
            await self._loop.wait(done, NEVER)

    async def _serve(self) -> None:
        rested = False
        while True:
            now = self._loop.time()
            if self.outbox.urgent() or self._lines.due <= now:
                if self._begin():
                    self._relieved += 1
                    break
                call = self.outbox.gather(now)
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
        if self._relieved:
            self._relieved -= 1
            return
        self.serving = False
        self.idle = True
        self.work()

    async def _make(self, call: Call, left: float) -> None:
        self._call = call
        self._again = False
        try:
            self._bring_home(call.callers, await self._store._apply(call.asks), left)
            for ask in call.returns:
                self._store._rouse(ask)
        except Exception as error:
            self._fail(call.callers, error)
        except BaseException:
            # This courier is cancelled; for the takers who are still there, another one asks again.
            self.outbox.fresh = [taker for taker in self.takers if not taker.settled]
            errands = [caller for caller in call.callers if caller is not None and caller.ask.cost <= 0]
            self._fail(errands, StoreError("the task that asked the store was cancelled; what it did is not known"))
            raise
        finally:
            self._call = NOTHING
            self._decided()

    def _decided(self) -> None:
        if self._lines.asked:
            self._lines.decided(self._loop.time())

    def _fail(self, callers: Sequence[Caller | None], error: Exception) -> None:
        """Tell those whom it concerns. What was to be given back stays spent: the store may have heard of it."""
        for caller in callers:
            if caller is not None and not caller.settled:
                self._lines.fail(caller, error)

    def _bring_home(self, callers: Sequence[Caller | None], answers: Sequence[Answer], left: float) -> None:
        now = self._loop.time()
        self._deliver(callers, answers, now)
        self.trip = now - left

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
            self.outbox.fresh = lines.adopt(self.outbox.fresh)
        for ask in unwanted:  # now that those behind stand in line: a bucket that takes it back in place rouses them
            self._store._owe(ask)


def give_back(ask: Ask, answer: Answer) -> Ask:
    """Return what gives back what was granted."""
    return Ask(ask.key, -ask.cost, at=answer.at, degraded=answer.degraded)
