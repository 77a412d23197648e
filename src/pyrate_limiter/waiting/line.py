"""Who waits for one key, in order of arrival."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, NoReturn

from ..decisions import FOREVER, Answer, Ask
from .loops import NEVER, Turn


class Patience(NamedTuple):
    """How a caller waits.

    Attributes:
        limit: the longest wait, in microseconds; 0 does not wait.
        buffer: what is added to each sleep, in microseconds, and does not count against the limit.
        once: whether it gives up when it is to wait for longer than it was told first.
        most: how many may wait in this room before it, or None.
        owner: through whom it waits: that one may dismiss it.
        began: what is called when it begins to wait, with the seconds that this will probably take.
    """

    limit: int = FOREVER
    buffer: int = 0
    once: bool = False
    most: int | None = None
    owner: object = None
    began: Callable[[float], None] | None = None


AT_ONCE = Patience(0)


class Caller:
    """Somebody who awaits the answer to an ask, and may wait for it in a line.

    Attributes:
        ask: what it asks.
        turn: the moment that it waits for.
        patience: how it waits.
        deadline: by the loop's clock, buffers apart.
        settled: whether the outcome is known, even if the caller has not yet run to see it, or is not wanted any more.
        answer: the outcome, once it is settled and there is one.
        failure: the outcome where there is no answer: an error, and the trace of what raised it.
        line: where it stands, or None.
        waits: whether it began to wait, or its time ran out before; it is counted, as long as it stands in line.
        promised: by the store's clock, when it would be admitted, as it was told when it first was the head of its
            line; -1 before that.
    """

    __slots__ = (
        "answer", "ask", "deadline", "failure", "line", "patience", "promised", "settled", "turn", "waits",
    )  # fmt: skip
    answer: Answer

    def __init__(self, ask: Ask, turn: Turn, patience: Patience = AT_ONCE, deadline: float = NEVER) -> None:
        self.ask = ask
        self.turn = turn
        self.patience = patience
        self.deadline = deadline
        self.settled = False
        self.failure: tuple[BaseException, TracebackType | None] | None = None
        self.line: Line | None = None
        self.waits = False
        self.promised = -1

    def renewed(self, now: float) -> Ask:
        """Return its ask, with the patience that it has left."""
        patience = self.patience_at(now)
        if patience != self.ask.patience:
            self.ask = self.ask._replace(patience=patience)
        return self.ask

    def patience_at(self, now: float) -> int:
        """Return the microseconds that it can still wait."""
        if self.deadline == NEVER:
            return self.patience.limit
        return max(0, round((self.until - now) * 1e6))

    def overtaken(self, answer: Answer) -> bool:
        """Return whether somebody else was faster, for one who does not sleep again: a refusal names a later moment.

        It names the same one, or an earlier one, where the sleep was cut short or the loop's clock was ahead.
        """
        return self.patience.once and -1 < self.promised < answer.at + answer.wait

    @property
    def until(self) -> float:
        """Its deadline, later by the buffers that its line has slept since it came: they do not count."""
        return self.deadline if self.line is None else self.deadline + self.line.margin_since(self)

    def give_up(self) -> NoReturn:
        """Raise the error that there is instead of an answer.

        It may reach many callers: each raises it with the trace of the call alone.
        """
        error, trace = self.failure or (RuntimeError("there is an answer"), None)
        raise error.with_traceback(trace)


class Line:
    """The waiters for one key; there is one from the first refusal of somebody who stays until nobody is left.

    Attributes:
        key: of the bucket.
        units: all units in line.
        heaviest: the heaviest that ever stood in it.
        fits: when its head is admitted if nobody else comes, by the loop's clock; None while that is not known.
        due: when its head is to be asked again; None while it is asked or ready to be.
        refused: what its head was told last.
        margin: the seconds of buffer that were added to its sleeps so far.
        judged: whether all in line were told if they wait in vain.
        reach: how many of it are asked for in the next call: twice as many as were granted in the last one.
        ready: whether it stands among those that the courier asks for next.
        head_cost: the units of the head that was refused last.
    """

    __slots__ = (
        "_waiters", "due", "fits", "head_cost", "heaviest", "judged", "key", "margin", "reach", "ready", "refused",
        "units",
    )  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.units = 0
        self.heaviest = 0
        self.fits: float | None = None
        self.due: float | None = None
        self.refused: Answer | None = None
        self.margin = 0.0
        self.judged = True
        self.reach = NEVER
        self.ready = False
        self.head_cost = 0
        self._waiters: OrderedDict[Caller, float] = OrderedDict()

    def __iter__(self) -> Iterator[Caller]:
        return iter(self._waiters)

    def join(self, waiter: Caller) -> None:
        """Stand at the end."""
        # The buffers that were slept before this moment: without that of a sleep which is under way.
        margin = self.margin if self.due is None or self.fits is None else self.margin - (self.due - self.fits)
        self._waiters[waiter] = margin
        self.units += waiter.ask.cost
        self.heaviest = max(self.heaviest, waiter.ask.cost)
        waiter.line = self

    def leave(self, waiter: Caller) -> None:
        """Step out of the line, from wherever one stands."""
        del self._waiters[waiter]
        self.units -= waiter.ask.cost
        waiter.line = None

    def prefix(self, units: float, most: float) -> list[Caller]:
        """Return the first waiters who weigh no more than `units` together, at most `most` and at least one."""
        chosen: list[Caller] = []
        for waiter in self._waiters:
            units -= waiter.ask.cost
            if chosen and (units < 0 or len(chosen) == most):
                break
            chosen.append(waiter)
        return chosen

    def sleep(self, answer: Answer, head: Caller, now: float) -> float:
        """Note that the head was refused, and return when to ask for it again."""
        if head.promised < 0:
            head.promised = answer.at + answer.wait
        self.head_cost = head.ask.cost
        self.refused = answer
        self.fits = now + answer.wait / 1e6
        self.due = self.fits + head.patience.buffer / 1e6
        self.margin += head.patience.buffer / 1e6
        return self.due

    def margin_since(self, waiter: Caller) -> float:
        """Return the seconds of buffer that were added to the sleeps since a waiter came."""
        return self.margin - self._waiters[waiter]

    def ahead_of(self, waiter: Caller) -> int:
        """Return the units in front of a waiter."""
        if next(reversed(self._waiters)) is waiter:
            return self.units - waiter.ask.cost
        ahead = 0
        for other in self._waiters:
            if other is waiter:
                break
            ahead += other.ask.cost
        return ahead
