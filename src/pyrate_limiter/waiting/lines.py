"""All lines of a room, and what becomes of those who stand in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from ..decisions import BEHIND, Answer
from .foresight import all_in_vain, expected, vain
from .line import Caller, Line
from .loops import NEVER, Turn
from .store import Store

_FORGOTTEN = 100
"""So many sleeps that were cut short may be kept until they would have ended."""


class Lines:
    """The lines, by key. They wait for nothing: they are told the time, and the courier looks at `ready` and `due`.

    Args:
        store: the bucket.
        come: lets a caller's turn come.

    Attributes:
        by_key: each line that is not empty.
        ready: those to be asked for next.
        asked: those that were asked for, or began, in the call that is under way.
        waiting: how many callers wait.
        formed: whether a line began of which those do not know yet who came in the meantime.
    """

    def __init__(self, store: Store, come: Callable[[Turn], None]) -> None:
        self.by_key: dict[str, Line] = {}
        self.ready: deque[Line] = deque()
        self.asked: list[Line] = []
        self.waiting = 0
        self.formed = False
        self._store = store
        self._come = come
        self._sleeping: list[tuple[float, int, Line]] = []
        self._order = count()

    @property
    def waiters(self) -> list[Caller]:
        """All who stand in a line."""
        return [waiter for line in self.by_key.values() for waiter in line]

    # Those who come and go.

    def begin(self, head: Caller, refusal: Answer, now: float) -> None:
        """Let somebody stand alone whom the bucket refused in place."""
        line = self.by_key[head.ask.key] = Line(head.ask.key)
        line.join(head)
        self._sleep(line, refusal, head, now)
        self._count_in(head, now)

    def join(self, line: Line, waiter: Caller, now: float) -> None:
        """Let somebody stand at the end of a line."""
        line.join(waiter)
        if line.due is None:
            line.judged = False
        else:
            self._count_in(waiter, now)

    def adopt(self, callers: list[Caller]) -> list[Caller]:
        """Let those stand in line who came while it formed; return the others."""
        self.formed = False
        others = []
        for caller in callers:
            line = self.by_key.get(caller.ask.key)
            if line is None:
                others.append(caller)
            elif not caller.settled:
                line.join(caller)
                line.judged = False
        return others

    def dismiss(self, waiter: Caller) -> None:
        """Take somebody out of its line; a lighter one that becomes the head is asked for at once."""
        line = waiter.line
        if line is None:
            return
        was_head = next(iter(line)) is waiter
        line.leave(waiter)
        self.waiting -= waiter.waits
        if not line.units:
            self._drop(line)
        elif was_head and next(iter(line)).ask.cost < line.head_cost:
            self.rouse(line.key)

    def settle(self, caller: Caller, answer: Answer) -> None:
        """Let a caller go with its answer."""
        if caller.line is not None:
            if not answer.wait:
                caller.line.reach += 2
            self.dismiss(caller)
        if 0 < answer.wait <= caller.patience.limit:
            caller.waits = True  # its time was spent before there was an answer
        caller.answer = answer
        caller.settled = True
        self._come(caller.turn)

    def fail(self, caller: Caller, error: BaseException) -> None:
        """Let a caller go without an answer."""
        self.dismiss(caller)
        caller.failure = error, error.__traceback__
        caller.settled = True
        self._come(caller.turn)

    def refuse(self, waiter: Caller, now: float) -> None:
        """Let somebody go who cannot wait any longer, with what is known of how long it would have to."""
        line = waiter.line or self.by_key.get(waiter.ask.key)
        known = line and vain(self._store.rule, line, line.ahead_of(waiter), waiter.ask.cost, 0, now)
        self.settle(waiter, known or Answer(max(1, waiter.patience.limit), 0))

    def _count_in(self, waiter: Caller, now: float, ahead: int | None = None) -> None:
        """Let somebody begin to wait, unless too many do; `ahead` are the units in front, if that is known already."""
        if waiter.waits:
            return
        if waiter.patience.most is not None and self.waiting >= waiter.patience.most:
            self.refuse(waiter, now)
            waiter.waits = False  # and how long it would have been is of no interest
            return
        waiter.waits = True
        self.waiting += 1
        if waiter.patience.began is not None:
            waiter.patience.began(expected(self._store.rule, waiter, ahead, now))

    # The store's answers.

    def refused(self, waiter: Caller, answer: Answer, now: float) -> None:
        """Let somebody go whom the store refused, or let it stand in line."""
        if answer.wait == BEHIND:
            line = self._stand(waiter)
            if line.due is None:  # whoever was in front has left, and nobody knows yet what is left for this one
                line.judged = False
                return
            if not waiter.ask.patience:
                self.refuse(waiter, now)
                return
        elif answer.wait <= waiter.ask.patience and not waiter.overtaken(answer):
            self._sleep(self._stand(waiter), answer, waiter, now)
        else:
            self.settle(waiter, answer)
            return
        self._count_in(waiter, now)

    def decided(self, now: float) -> None:
        """Decide what becomes of the lines that were asked for, or began: asleep, ready again, or gone."""
        for line in self.asked:
            if line.ready or self.by_key.get(line.key) is not line:
                continue
            if line.due is not None:
                if not line.judged:
                    self._judge(line, now)
            elif self._store.pause:
                self._rest(line, now)
            else:
                self._make_ready(line)
        self.asked.clear()

    def _stand(self, waiter: Caller) -> Line:
        """Return the line of a waiter, who joins it or begins it if it has none."""
        if waiter.line is not None:
            return waiter.line
        line = self.by_key.get(waiter.ask.key)
        if line is None:
            line = self.by_key[waiter.ask.key] = Line(waiter.ask.key)
            self.asked.append(line)
            self.formed = True
        line.join(waiter)
        return line

    def _judge(self, line: Line, now: float) -> None:
        """Tell those at once who came before it was known that they wait in vain; the others wait from now on."""
        line.judged = True
        for waiter, answer in all_in_vain(self._store.rule, line, now):
            self.settle(waiter, answer)
        ahead = 0
        for waiter in [*line]:
            if not (waiter.waits or waiter.settled):  # who hears of it may close the limiter, and that settles the rest
                self._count_in(waiter, now, ahead)
            ahead += waiter.ask.cost

    # Whose turn it is.

    @property
    def due(self) -> float:
        """When the next line is due, or `NEVER`."""
        return self._sleeping[0][0] if self._sleeping else NEVER

    def rouse(self, key: str) -> None:
        """Let a line that sleeps be asked for at once, because something was given back."""
        line = self.by_key.get(key)
        if line is not None and line.due is not None:
            self._make_ready(line)

    def wake(self, now: float) -> None:
        """Make ready the lines whose time has come, and forget the sleeps that were cut short."""
        while self._sleeping and (self._sleeping[0][0] <= now or self._sleeping[0][2].due != self._sleeping[0][0]):
            due, _, line = heappop(self._sleeping)
            if line.due == due:
                self._make_ready(line)

    def next_up(self, most: int) -> list[Caller]:
        """Return whom to ask for of the line that is ready for the longest time, at most so many."""
        line = self.ready.popleft()
        line.ready = False
        chosen = line.prefix(self._store.share, min(most, max(self._store.least, line.reach)))
        line.reach = 0
        line.fits = None
        self.asked.append(line)
        return chosen

    def _sleep(self, line: Line, answer: Answer, head: Caller, now: float) -> None:
        self._lie_down(line, line.sleep(answer, head, now))

    def _rest(self, line: Line, now: float) -> None:
        """Ask for a line again after a pause, in which other processes may take."""
        line.due = now + self._store.pause
        self._lie_down(line, line.due)

    def _lie_down(self, line: Line, due: float) -> None:
        heappush(self._sleeping, (due, next(self._order), line))
        if len(self._sleeping) > 2 * len(self.by_key) + _FORGOTTEN:
            sleepers = [sleeper for sleeper in self.by_key.values() if sleeper.due is not None]
            self._sleeping = [(sleeper.due or 0.0, next(self._order), sleeper) for sleeper in sleepers]
            heapify(self._sleeping)

    def _make_ready(self, line: Line) -> None:
        line.due = None
        if not line.ready:
            line.ready = True
            self.ready.append(line)

    def _drop(self, line: Line) -> None:
        line.due = None
        if self.by_key.get(line.key) is line:
            del self.by_key[line.key]
