"""What an algorithm is: a rule over integers, without a clock, a store or an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    from ..rates import Rate

State: TypeAlias = Any
"""The state of one key: the algorithm's own, never looked into by anybody else."""
MILLISECOND = 1000
"""Microseconds in a millisecond: a rate's interval is in the latter, all times here in the former."""


class Rule(ABC):
    """An algorithm bound to its rates: what it costs to take, and when it fits.

    All times are int microseconds of one clock, never below zero. `probe`, `commit` and `view` may assume
    `now >= last(state)`: `decide` sees to that, and calls `rebase` after a step back of the clock.

    Attributes:
        rates: the rates it is bound to.
        capacity: the heaviest cost that can ever fit.
    """

    rates: tuple[Rate, ...]
    capacity: int

    @abstractmethod
    def fresh(self) -> State:
        """Return the state of a key that was never seen."""

    @abstractmethod
    def at_most(self, span: int) -> int:
        """Return the most units that any half-open span of `span` microseconds can hold."""

    @abstractmethod
    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        """Return a lower bound on how long one in line waits after the moment at which the line's head is due.

        Args:
            ahead: the units in front of it, the head's included.
            own: its own units.
            head: the head's units; it is due when they fit, and not a microsecond earlier.
            rate: the index of the rate that refused the head.
        """

    @abstractmethod
    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        """Return an upper bound for the same, if nobody outside the line takes.

        Args:
            ahead: the units in front of it, the head's included.
            own: its own units.
            head: the head's units.
            heaviest: no one in line, itself included, weighs more.
        """

    @abstractmethod
    def probe(self, state: State, now: int, cost: int) -> int:
        """Return in how many microseconds `cost` fits if nothing else comes: 0 is now. Changes nothing.

        `cost` is between 1 and `capacity`: what is heavier never fits, and nobody asks.
        """

    @abstractmethod
    def commit(self, state: State, now: int, cost: int) -> State:
        """Count `cost` (for which `probe` said 0) at `now`, perhaps in place, and return the state."""

    def admit(self, state: State, now: int, cost: int) -> tuple[int, State]:
        """Count `cost` at `now` if it fits; return what `probe` says, and the state.

        Every admission goes through here. An algorithm may do it in one step, and `commit` (or `probe`) by it.
        """
        wait = self.probe(state, now, cost)
        return wait, state if wait else self.commit(state, now, cost)

    @abstractmethod
    def give_back(self, state: State, now: int, cost: int, at: int) -> State:
        """Uncount up to `cost` units stamped `at`, at most what is still counted of them, and return the state.

        Nothing is fitted into the room that the units left: what was granted since then stays as it was granted.
        """

    @abstractmethod
    def view(self, state: State, now: int, refused: int = 0) -> tuple[int, int, int]:
        """Return the units left, the microseconds until the key is as new, and the index of the rate that says so.

        Args:
            state: of the key.
            now: the moment.
            refused: a cost that was just refused: the rate is then the one that refused it.
        """

    @abstractmethod
    def last(self, state: State) -> int:
        """Return the latest stamp in the state; a negative number if there is none."""

    @abstractmethod
    def rebase(self, state: State, now: int) -> State:
        """Make the stamps that lie after `now` be `now`, after the clock was set back."""

    @abstractmethod
    def idle_at(self, state: State) -> int:
        """Return the moment from which the state says no more than a fresh one."""

    @abstractmethod
    def pack(self, state: State) -> bytes:
        """Return the state as bytes."""

    @abstractmethod
    def unpack(self, data: bytes) -> State:
        """Return the state that `pack` made.

        Raises:
            ValueError: the bytes are no such state.
        """


class Algorithm(Rule):
    """A rule for a single rate: the base of the algorithms.

    Attributes:
        bursts: whether the burst of a rate means anything to it.
        limit: the rate's units.
        interval: the rate's interval, in microseconds.

    Raises:
        ValueError: the rate has a burst and the algorithm has none.
    """

    bursts: ClassVar[bool] = False

    def __init__(self, rate: Rate) -> None:
        if rate.burst is not None and not self.bursts:
            raise ValueError(f"{type(self).__name__} has no burst: leave burst out of Rate({rate}), or use GCRA")
        self.rates = (rate,)
        self.limit = rate.limit
        self.interval = rate.interval * MILLISECOND
        self.capacity = rate.limit

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        return self.shortest(ahead + own)

    def shortest(self, units: int) -> int:
        """Return the shortest time between the first and the last of so many units, by `at_most`."""
        longest = 1
        while self.at_most(longest) < units:
            longest *= 2
        return bisect_left(range(longest), units, key=lambda span: self.at_most(span + 1))


class Several(Rule):
    """Several rates at once: all admit, or none counts anything. The state is a list with one for each."""

    def __init__(self, rules: Sequence[Algorithm]) -> None:
        self.rules = tuple(rules)
        self.rates = tuple(rule.rates[0] for rule in rules)
        self.capacity = min(rule.capacity for rule in rules)

    def fresh(self) -> State:
        return [rule.fresh() for rule in self.rules]

    def at_most(self, span: int) -> int:
        return min(rule.at_most(span) for rule in self.rules)

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        # Only the rate that refused the head is known to be full when the head is due.
        spans = [rule.shortest(ahead + own) for rule in self.rules]
        return max(*spans, self.rules[rate].soonest(ahead, own, head))

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        # The unit that a rate delays may delay one of another rate, and so on back to the head: a path of
        # intervals, none of which carries fewer units than its rate does. One interval more covers the rest.
        slowest = max(rule.latest(ahead, own, head, heaviest) for rule in self.rules)
        return slowest + max(rule.interval for rule in self.rules)

    def probe(self, state: State, now: int, cost: int) -> int:
        return max([rule.probe(one, now, cost) for rule, one in zip(self.rules, state, strict=True)])

    def commit(self, state: State, now: int, cost: int) -> State:
        return [rule.commit(one, now, cost) for rule, one in zip(self.rules, state, strict=True)]

    def give_back(self, state: State, now: int, cost: int, at: int) -> State:
        return [rule.give_back(one, now, cost, at) for rule, one in zip(self.rules, state, strict=True)]

    def view(self, state: State, now: int, refused: int = 0) -> tuple[int, int, int]:
        views = [rule.view(one, now) for rule, one in zip(self.rules, state, strict=True)]
        if refused:
            waits = [rule.probe(one, now, refused) for rule, one in zip(self.rules, state, strict=True)]
            index = waits.index(max(waits))
        else:
            index = min(range(len(views)), key=lambda i: views[i][0])
        return views[index][0], max(view[1] for view in views), index

    def last(self, state: State) -> int:
        return max(rule.last(one) for rule, one in zip(self.rules, state, strict=True))

    def rebase(self, state: State, now: int) -> State:
        return [rule.rebase(one, now) for rule, one in zip(self.rules, state, strict=True)]

    def idle_at(self, state: State) -> int:
        return max(rule.idle_at(one) for rule, one in zip(self.rules, state, strict=True))

    def pack(self, state: State) -> bytes:
        parts = [rule.pack(one) for rule, one in zip(self.rules, state, strict=True)]
        return b"".join(len(part).to_bytes(4, "little") + part for part in parts)

    def unpack(self, data: bytes) -> State:
        states, start = [], 0
        for rule in self.rules:
            end = start + 4 + int.from_bytes(data[start : start + 4], "little")
            states.append(rule.unpack(data[start + 4 : end]))
            start = end
        if start != len(data):
            raise ValueError(f"{len(data)} bytes are no state of {len(self.rules)} rates: it would take {start}")
        return states


def bind(algorithm: type[Algorithm], rates: Sequence[Rate]) -> Rule:
    """Return the rule for these rates; a single rate is not wrapped."""
    return algorithm(rates[0]) if len(rates) == 1 else Several([algorithm(rate) for rate in rates])
