"""What to do while a store is down or slow: policies, which are values, and what answers in the store's place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from fractions import Fraction
from math import inf

from .. import clocks
from ..algorithms import Algorithm, bind
from ..decisions import BEHIND, RESET, Answer, Ask
from ..rates import Rate
from .memory import InMemoryBucket


class StandIn(ABC):
    """What answers while the store cannot."""

    def answer(self, asks: Sequence[Ask], now: int, wait: int) -> list[Answer]:
        """Answer `asks` in order by the closing rule of `decide`, at `now`; the store is asked again in `wait`."""
        closed: set[str] = set()
        answers = []
        for ask in asks:
            behind = ask.cost > 0 and ask.key in closed
            answer = Answer(BEHIND, now) if behind else self.answer_one(ask, now, wait)
            if ask.cost > 0 and 0 < answer.wait <= ask.patience:
                closed.add(ask.key)
            answers.append(answer._replace(degraded=True))
        return answers

    @abstractmethod
    def answer_one(self, ask: Ask, now: int, wait: int) -> Answer:
        """Answer one ask that nobody waits in front of; all times are in microseconds."""


@dataclass(frozen=True, slots=True)
class WhenDown(ABC):
    """What to do while the store is down or slow: one of `Fail`, `Refuse`, `Admit` and `LocalShare`.

    Args:
        budget: seconds that a decision may wait for the store; after the first one that waited in vain nobody waits.
        probe: seconds between two attempts to reach a store that is down; one call at a time makes them.

    Raises:
        ValueError: one of them is not positive, or infinite.
    """

    _: KW_ONLY
    budget: float = 1.0
    probe: float = 1.0

    def __post_init__(self) -> None:
        for name in ("budget", "probe"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name} must be a positive number of seconds, not {getattr(self, name)!r}")

    @abstractmethod
    def stand_in(self, rates: Sequence[Rate], algorithm: type[Algorithm]) -> StandIn | None:
        """Return what answers in place of the store, or None if its errors are to reach the callers."""


@dataclass(frozen=True, slots=True)
class Fail(WhenDown):
    """Raise `StoreError`, which names the store: the default."""

    def stand_in(self, rates: Sequence[Rate], algorithm: type[Algorithm]) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Refuse(WhenDown):
    """Refuse everything, and let those who can wait do so until the store is asked again."""

    def stand_in(self, rates: Sequence[Rate], algorithm: type[Algorithm]) -> StandIn:
        return _Refusing()


@dataclass(frozen=True, slots=True)
class Admit(WhenDown):
    """Admit everything, uncounted."""

    def stand_in(self, rates: Sequence[Rate], algorithm: type[Algorithm]) -> StandIn:
        return _Admitting(bind(algorithm, rates).capacity)


@dataclass(frozen=True, slots=True)
class LocalShare(WhenDown):
    """Decide in this process by a part of every limit and burst, counted apart from the store.

    With n processes a share of 1 / n keeps their sum within a limit of n or more; of a smaller one each has a unit.

    Args:
        share: the part, above 0 and up to 1; what it leaves of a limit is rounded down, and is at least 1 unit. It is
            taken for the fraction that was meant: 0.29 of 100 is 29, and 1 / 49 of 98 is 2.
        budget: as in `WhenDown`.
        probe: as in `WhenDown`.

    Raises:
        ValueError: the share is not above 0 and up to 1, or as in `WhenDown`.
    """

    share: float

    def __post_init__(self) -> None:
        WhenDown.__post_init__(self)
        if not 0 < self.share <= 1:
            raise ValueError(
                f"share must be above 0 and at most 1, not {self.share!r}: 1 / (number of processes) is safe"
            )

    def stand_in(self, rates: Sequence[Rate], algorithm: type[Algorithm]) -> StandIn:
        part = [_part_of(rate, self.share) for rate in rates]
        return _Counting(InMemoryBucket(part, algorithm=algorithm, clock=clocks.wall))


class _Refusing(StandIn):
    def answer_one(self, ask: Ask, now: int, wait: int) -> Answer:
        return Answer(wait if ask.cost >= 0 else 0, now, 0, wait)


class _Admitting(StandIn):
    def __init__(self, capacity: int) -> None:
        self._capacity = capacity

    def answer_one(self, ask: Ask, now: int, wait: int) -> Answer:
        return Answer(0, now, self._capacity)


class _Counting(StandIn):
    def __init__(self, bucket: InMemoryBucket) -> None:
        self._bucket = bucket

    def answer_one(self, ask: Ask, now: int, wait: int) -> Answer:
        if ask.cost > self._bucket.capacity:
            return Answer(wait, now, 0, wait)  # too heavy for the share: the store may still admit it
        if RESET < ask.cost < 0 and not ask.degraded:
            return Answer(0, now)  # a permit of the store's: the share never counted it
        return self._bucket._step((ask,))[0]


def _part_of(rate: Rate, share: float) -> Rate:
    meant = Fraction(share).limit_denominator(1_000_000)  # a float is a little more, or less
    burst = rate.burst and max(1, int(rate.burst * meant))
    return replace(rate, limit=max(1, int(rate.limit * meant)), burst=burst)
