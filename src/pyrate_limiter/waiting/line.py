"""Who waits for one key, in order of arrival."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple

from ..decisions import FOREVER, Answer, Ask
from .loops import Turn

NEVER = float("inf")


class Patience(NamedTuple):
    """How a caller waits.

    Attributes:
        limit: the longest wait, in microseconds; 0 does not wait.
        buffer: what is added to each sleep, in microseconds, and does not count against the limit.
        once: whether it gives up when it is refused after a sleep.
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


class Caller:
    """Somebody who awaits the answer to an ask of any kind.

    Attributes:
        settled: whether the outcome is known, even if the caller has not yet run to see it.
        gone: whether it left before that.
    """

    __slots__ = ("answer", "ask", "error", "gone", "settled", "trace", "turn")

    def __init__(self, ask: Ask, turn: Turn) -> None:
        self.ask = ask
        self.turn = turn
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.trace: TracebackType | None = None
        self.gone = False
        self.settled = False

    def settle(self, answer: Answer) -> None:
        """Tell the caller the answer."""
        self.answer = answer
        self.settled = True
        self.turn.come()

    def fail(self, error: BaseException) -> None:
        """Tell the caller that there is no answer."""
        self.error, self.trace = error, error.__traceback__
        self.settled = True
        self.turn.come()


class Waiter(Caller):
    """A caller who takes, and may wait for it in a line."""

    __slots__ = ("deadline", "margin", "patience", "slept", "waits")

    def __init__(self, ask: Ask, turn: Turn, patience: Patience, now: float, margin: float) -> None:
        super().__init__(ask, turn)
        self.patience = patience
        self.deadline = now + patience.limit / 1e6 if 0 < patience.limit < FOREVER else NEVER
        self.margin = margin
        self.waits = False
        self.slept = False

    def until(self, margin: float) -> float:
        """Return its deadline, later by the buffers that its line has slept since it came: they do not count."""
        return self.deadline + margin - self.margin

    def renewed(self, now: float, margin: float) -> Ask:
        """Return its ask, with the patience that it has left."""
        if self.slept or self.deadline != NEVER:
            patience = self.patience_at(now, margin)
            if patience != self.ask.patience:
                self.ask = self.ask._replace(patience=patience)
        return self.ask

    def patience_at(self, now: float, margin: float) -> int:
        """Return the microseconds that it can still wait."""
        if self.slept and self.patience.once:
            return 0
        if self.deadline == NEVER:
            return self.patience.limit
        return max(0, round((self.until(margin) - now) * 1e6))


class Line:
    """The waiters for one key.

    Attributes:
        key: of the bucket.
        units: all units in line.
        heaviest: the heaviest that ever stood in it.
        fits: when its head is admitted if nobody else comes, by the loop's clock; None while that is not known.
        due: when its head is to be asked again; None while it is asked or ready to be.
        refused: what its head was told last.
        pressed: whether anybody in it was refused since it was last empty.
        margin: the seconds of buffer that were added to its sleeps so far.
        judged: whether all in line were told if they wait in vain.
        reach: how many of it are asked for in the next call: twice as many as were granted in the last one.
        ready: whether it stands among those that the courier asks for next.
        head_cost: the units of the head that was refused last.
    """

    __slots__ = (
        "_waiters", "due", "fits", "head_cost", "heaviest", "judged", "key", "margin", "pressed", "reach", "ready",
        "refused", "units",
    )  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.units = 0
        self.heaviest = 0
        self.fits: float | None = None
        self.due: float | None = None
        self.refused: Answer | None = None
        self.pressed = False
        self.margin = 0.0
        self.judged = True
        self.reach = NEVER
        self.ready = False
        self.head_cost = 0
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    def join(self, waiter: Waiter) -> None:
        """Stand at the end."""
        self._waiters[waiter] = None
        self.units += waiter.ask.cost
        self.heaviest = max(self.heaviest, waiter.ask.cost)

    def leave(self, waiter: Waiter) -> None:
        """Step out of the line, from wherever one stands."""
        del self._waiters[waiter]
        self.units -= waiter.ask.cost

    def prefix(self, units: float, most: float) -> list[Waiter]:
        """Return the first waiters who weigh no more than `units` together, at most `most` and at least one."""
        chosen: list[Waiter] = []
        for waiter in self._waiters:
            units -= waiter.ask.cost
            if chosen and (units < 0 or len(chosen) == most):
                break
            chosen.append(waiter)
        return chosen

    def sleep(self, answer: Answer, head: Waiter, now: float) -> None:
        """Note that the head was refused, and when to ask for it again."""
        head.slept = True
        self.head_cost = head.ask.cost
        self.refused = answer
        self.fits = now + answer.wait / 1e6
        self.due = self.fits + head.patience.buffer / 1e6
        self.margin += head.patience.buffer / 1e6

    @property
    def margin_before(self) -> float:
        """The buffers that were slept before this moment: without that of a sleep which is under way."""
        return self.margin if self.due is None or self.fits is None else self.margin - (self.due - self.fits)

    def ahead_of(self, waiter: Waiter) -> int:
        """Return the units in front of a waiter."""
        if next(reversed(self._waiters)) is waiter:
            return self.units - waiter.ask.cost
        ahead = 0
        for other in self._waiters:
            if other is waiter:
                break
            ahead += other.ask.cost
        return ahead
