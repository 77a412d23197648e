"""The one waiting room: lines, batching, give-backs and cancellation, for every bucket and both kinds of loop.

The room knows no algorithm. One task, the courier, talks to the store; it exists only while somebody waits or a call
is under way, and for one turn of the loop after that. Callers await a turn of their own and may leave at any instant:
the courier's call goes on without them, and what it brings to one who has left goes back. (A caller that made the call
itself could be cancelled in it: a shield of anyio's does not hold off asyncio's own cancellation.)

While a call is under way, asks gather; when it returns they leave together. So there is no timer and no latency when
idle, and one call serves a thousand when busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from ..decisions import BEHIND, FOREVER, Answer, Ask
from .line import NEVER, Caller, Line, Patience, Waiter
from .loops import Loop

_tuple = tuple.__new__


class Estimates(Protocol):
    """What a rule knows of lines."""

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        """Return a lower bound on the wait after the head is due, in microseconds."""
        ...

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        """Return an upper bound on it."""
        ...


class Store(Protocol):
    """What a room needs of its bucket."""

    batch: int
    share: int
    pause: float
    least: int
    _owed: deque[Ask]

    @property
    def rule(self) -> Estimates: ...
    def _apply(self, asks: Sequence[Ask], /) -> Awaitable[list[Answer]]: ...
    def _owe(self, ask: Ask, /) -> None: ...


class Call:
    """One call of the store.

    Attributes:
        asks: what it is asked.
        callers: who asks each of them; None for what is given back.
        lines: the lines in which they stand.
    """

    __slots__ = ("asks", "callers", "lines")

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.callers: list[Caller | None] = []
        self.lines: list[Line] = []

    def add(self, caller: Caller | None, ask: Ask) -> None:
        """Ask something that has no line."""
        self.callers.append(caller)
        self.asks.append(ask)

    def add_line(self, line: Line, chosen: list[Waiter], now: float) -> None:
        """Ask for the first waiters of a line."""
        self.lines.append(line)
        self.callers += chosen
        self.asks += [waiter.renewed(now, line.margin) for waiter in chosen]


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
        self._emptied = emptied
        self._lines: dict[str, Line] = {}
        self._ready: deque[Line] = deque()
        self._sleeping: list[tuple[float, int, Line]] = []
        self._order = count()
        self._errands: deque[Caller] = deque()
        self._bell = self._done = loop.turn()
        self._serving = False
        self._trip = 0.0
        self.waiting = 0

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    async def ask(self, key: str, cost: int, patience: Patience, first: Answer | None = None) -> tuple[Answer, float]:
        """Take `cost` units of `key`, in order of arrival.

        Args:
            key: of the bucket.
            cost: units, above zero.
            patience: how the caller waits.
            first: the refusal that the bucket gave in place, just now, if it did and nobody waits for that key.

        Returns:
            The answer, whose wait is never `BEHIND`, and the seconds that it took if the caller had to wait.
        """
        now = self._loop.time()
        line = self._lines.get(key) or self._open(key, first)
        if line.due is not None and line.units:
            vain = self._vain(line, line.units, cost, patience.limit, now)
            if vain is not None:
                return vain, 0.0
        ask = _tuple(Ask, (key, cost, patience.limit, -1, False))
        waiter = Waiter(ask, self._loop.turn(), patience, now, line.margin_before)
        self._join(line, waiter, first, now)
        until = waiter.until(line.margin)
        try:
            while not waiter.settled:
                await waiter.turn.wait(until)
                if not waiter.settled:
                    waiter.turn = self._loop.turn()
                    until = self._expire(line, waiter, until)
        except BaseException:
            self._abandon(line, waiter)
            raise
        return _told(waiter), self._loop.time() - now if waiter.waits else 0.0

    async def run(self, ask: Ask) -> Answer:
        """Look, give back or reset: never behind anybody."""
        errand = Caller(ask, self._loop.turn())
        self._errands.append(errand)
        self._work()
        try:
            await errand.turn.wait(NEVER)
        except BaseException:
            errand.gone = True
            raise
        return _told(errand)

    def pay(self, ask: Ask) -> None:
        """Give back what a caller got who is gone; the next in line moves up at once."""
        self._store._owe(ask)
        self.rouse(ask.key)
        self._work()  # where it could not be given back in place

    def rouse(self, key: str) -> None:
        """Ask at once for a line that sleeps, because something was given back."""
        line = self._lines.get(key)
        if line is not None and line.due is not None:
            self._make_ready(line)
            self._work()

    @property
    def empty(self) -> bool:
        """Whether nobody is here and nothing is under way."""
        return not (self._serving or self._lines or self._errands)

    def close(self, error: BaseException, owner: object = None) -> None:
        """Tell all who wait that it is over, or all who wait through one owner."""
        for line in list(self._lines.values()):
            for waiter in [w for w in line if owner is None or w.patience.owner is owner]:
                self._dismiss(line, waiter)
                waiter.fail(error)
        if owner is None:
            for errand in self._errands:
                errand.fail(error)
            self._errands.clear()
        self._work()

    # The callers' side.

    def _open(self, key: str, first: Answer | None) -> Line:
        line = self._lines[key] = Line(key)
        if first is None:
            self._make_ready(line)
        return line

    def _join(self, line: Line, waiter: Waiter, first: Answer | None, now: float) -> None:
        line.join(waiter)
        if first is not None:
            self._sleep(line, first, waiter, now)
        if line.due is None:
            line.judged = False
        else:
            self._count_in(line, waiter, now)
        self._work()

    def _expire(self, line: Line, waiter: Waiter, until: float) -> float:
        """Refuse a waiter whose time is up, unless its time was lengthened by buffers or its turn has just come."""
        now = self._loop.time()
        lengthened = waiter.until(line.margin)
        if lengthened > max(now, until):
            return lengthened
        # Its last attempt may be due at this very moment: give it the time of a trip to the store.
        last_attempt = lengthened + 2 * self._trip + 0.001
        if now < last_attempt:
            return last_attempt
        self._refuse(line, waiter, now)
        return NEVER

    def _abandon(self, line: Line, waiter: Waiter) -> None:
        """Leave, whatever has become of it in the meantime."""
        if not waiter.settled:
            waiter.gone = True
            self._dismiss(line, waiter)
            self._work()
        elif waiter.answer is not None and not waiter.answer.wait:
            self.pay(_give_back(waiter.ask, waiter.answer))

    def _dismiss(self, line: Line, waiter: Waiter) -> None:
        """Take a waiter out of its line; a lighter one that becomes the head is asked for at once."""
        was_head = line.pressed and next(iter(line)) is waiter
        line.leave(waiter)
        self.waiting -= waiter.waits
        if not line.units:
            self._drop(line)
        elif was_head and next(iter(line)).ask.cost < line.head_cost:
            self.rouse(line.key)

    def _drop(self, line: Line) -> None:
        line.due = None
        if self._lines.get(line.key) is line:
            del self._lines[line.key]

    def _make_ready(self, line: Line) -> None:
        line.due = None
        if not line.ready:
            line.ready = True
            self._ready.append(line)

    def _count_in(self, line: Line, waiter: Waiter, now: float) -> None:
        """Let somebody begin to wait, unless too many do."""
        if waiter.waits:
            return
        if waiter.patience.most is not None and self.waiting >= waiter.patience.most:
            self._refuse(line, waiter, now)
            return
        waiter.waits = True
        self.waiting += 1

    # What is known of the future.

    def _vain(self, line: Line, ahead: int, cost: int, limit: int, now: float) -> Answer | None:
        """Return the refusal for one behind `ahead` units who can wait for `limit` microseconds; None if it can."""
        if line.fits is None or line.refused is None or limit >= FOREVER:
            return None
        due = max(0, round((line.fits - now) * 1e6))
        if limit and due + self._store.rule.soonest(ahead, cost, line.head_cost, line.refused.rate) <= limit:
            return None
        late = self._store.rule.latest(ahead, cost, line.head_cost, max(line.heaviest, cost))
        return line.refused._replace(wait=max(1, due + late), at=line.refused.at + line.refused.wait - due)

    def _judge(self, line: Line, now: float) -> None:
        """Tell those at once who came before it was known that they wait in vain."""
        ahead = 0
        for waiter in list(line):
            if ahead and (vain := self._vain(line, ahead, waiter.ask.cost, waiter.patience_at(now, line.margin), now)):
                self._dismiss(line, waiter)
                waiter.settle(vain)
            else:
                ahead += waiter.ask.cost
        line.judged = True

    def _refuse(self, line: Line, waiter: Waiter, now: float) -> None:
        known = self._vain(line, line.ahead_of(waiter), waiter.ask.cost, 0, now)
        self._dismiss(line, waiter)
        waiter.settle(known or Answer(max(1, waiter.patience.limit), 0))

    # The courier.

    def _work(self) -> None:
        """See to it that the courier knows of what there is to do, or that there is nothing left."""
        urgent = self._ready or self._errands or self._store._owed
        if self._serving:
            if urgent or not self._lines:
                self._bell.come()
        elif urgent or self._lines:
            self._serving = True
            self._loop.spawn(self._serve, self._ended)

    async def _serve(self) -> None:
        waited = False
        try:
            while True:
                call = self._gather()
                if call.asks:
                    await self._make(call)
                    waited = False
                elif not waited:
                    # Whoever was served just now runs first, and may ask again: that saves another courier.
                    await self._loop.breath()
                    waited = True
                elif self._sleeping:
                    self._bell = self._loop.turn()
                    await self._bell.wait(self._sleeping[0][0])
                else:
                    break
        finally:
            self._serving = False

    def _ended(self) -> None:
        """Send another courier if one was cancelled while callers wait for it; otherwise say that all is done."""
        if self._serving:
            return
        for line in self._lines.values():
            if line.due is None:
                self._make_ready(line)
        self._work()
        if not self._serving:
            self._done.come()
            self._emptied()

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        while self._serving:
            self._done = self._loop.turn()
            await self._done.wait(NEVER)

    def _gather(self) -> Call:
        """Return the next call: give-backs first, then of each line that is due a prefix."""
        call = Call()
        store, now = self._store, self._loop.time()
        while store._owed and len(call.asks) < store.batch:
            call.add(None, store._owed.popleft())
        while self._errands and len(call.asks) < store.batch:
            errand = self._errands.popleft()
            call.add(errand, errand.ask)
        for ask in call.asks:
            if ask.cost < 0:
                self.rouse(ask.key)
        self._wake(now)
        while self._ready and len(call.asks) < store.batch:
            line = self._ready.popleft()
            line.ready = False
            most = min(store.batch - len(call.asks), max(store.least, line.reach))
            chosen = line.prefix(store.share if line.pressed else NEVER, most)
            line.reach = 0
            line.fits = None
            call.add_line(line, chosen, now)
        return call

    def _wake(self, now: float) -> None:
        """Make ready the lines whose time has come, and forget the sleeps that were cut short."""
        while self._sleeping and (self._sleeping[0][0] <= now or self._sleeping[0][2].due != self._sleeping[0][0]):
            due, _, line = heappop(self._sleeping)
            if line.due == due:
                self._make_ready(line)

    def _sleep(self, line: Line, answer: Answer, head: Waiter, now: float) -> None:
        line.pressed = True
        line.sleep(answer, head, now)
        heappush(self._sleeping, (line.due or now, next(self._order), line))
        if self._sleeping[0][2] is line:
            self._bell.come()

    def _rest(self, line: Line, now: float) -> None:
        """Ask for a line again after a pause, in which other processes may take."""
        line.due = now + self._store.pause
        heappush(self._sleeping, (line.due, next(self._order), line))

    async def _make(self, call: Call) -> None:
        left = self._loop.time()
        try:
            answers = await self._store._apply(call.asks)
        except Exception as error:
            self._fail(call.callers, error)
        else:
            self._trip = self._loop.time() - left
            self._deliver(call.callers, answers)
        self._settle(call.lines)

    def _fail(self, callers: Iterable[Caller | None], error: Exception) -> None:
        """Tell those whom it concerns. What was to be given back stays spent: the store may have heard of it."""
        for caller in callers:
            if caller is None or caller.gone or caller.settled:
                continue
            if isinstance(caller, Waiter):
                self._dismiss(self._lines[caller.ask.key], caller)
            caller.fail(error)

    def _deliver(self, callers: Iterable[Caller | None], answers: Iterable[Answer]) -> None:
        now = self._loop.time()
        for caller, answer in zip(callers, answers, strict=True):
            if caller is None:
                continue
            if caller.gone or caller.settled:
                if caller.ask.cost > 0 and not answer.wait:
                    self._store._owe(_give_back(caller.ask, answer))
            elif isinstance(caller, Waiter):
                self._tell(self._lines[caller.ask.key], caller, answer, now)
            else:
                caller.settle(answer)

    def _tell(self, line: Line, waiter: Waiter, answer: Answer, now: float) -> None:
        """Let a waiter go with its answer, or stay in line."""
        if not answer.wait:
            line.reach += 2
            self._dismiss(line, waiter)
            waiter.settle(answer)
            return
        line.pressed = True
        if answer.wait == BEHIND:
            self._count_in(line, waiter, now) if waiter.ask.patience else self._refuse(line, waiter, now)
        elif answer.wait <= waiter.ask.patience:
            self._sleep(line, answer, waiter, now)
            self._count_in(line, waiter, now)
        else:
            self._dismiss(line, waiter)
            waiter.settle(answer)

    def _settle(self, lines: Iterable[Line]) -> None:
        """Decide what becomes of the lines that were asked for: asleep, ready again, or gone."""
        now = self._loop.time()
        for line in lines:
            if self._lines.get(line.key) is not line:
                continue
            if line.due is not None:
                if not line.judged:
                    self._judge(line, now)
            elif line.pressed and self._store.pause:
                self._rest(line, now)
            else:
                self._make_ready(line)


def _told(caller: Caller) -> Answer:
    if caller.error is not None:
        # One error may reach many callers: each raises it with the trace of the call alone.
        raise caller.error.with_traceback(caller.trace)
    if caller.answer is None:
        raise RuntimeError("a turn came without an outcome; this is a bug in pyrate_limiter")
    return caller.answer


def _give_back(ask: Ask, answer: Answer) -> Ask:
    return Ask(ask.key, -ask.cost, at=answer.at, degraded=answer.degraded)
