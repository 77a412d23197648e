"""What a room needs of its bucket."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from ..decisions import Answer, Ask

T = TypeVar("T")
Make: TypeAlias = Callable[[str, int, Answer, float], T]
"""Makes what its user gets to see of a name, units, the answer, and the seconds waited."""
Heard: TypeAlias = Callable[[Answer | None], None]
"""Takes an answer, or None if there is none and `_apply` is to be asked."""


class Estimates(Protocol):
    """What a rule knows of lines."""

    def soonest(self, ahead: int, own: int, head: int, rate: int = 0) -> int:
        """Return a lower bound on the wait after the head is due, in microseconds."""
        ...

    def latest(self, ahead: int, own: int, head: int, heaviest: int) -> int:
        """Return an upper bound on it."""
        ...


class Store(Protocol):
    """A bucket, seen from its room.

    Attributes:
        batch: the most asks in one call.
        share: the most units for one key in one call while that key is refused.
        pause: the seconds between two such calls.
        least: so many waiters of a line are asked for at once even if fewer were granted the last time.
        calls_back: whether `_begin` may be asked.
    """

    batch: int
    share: int
    pause: float
    least: int
    calls_back: bool
    _owed: deque[Ask]

    @property
    def rule(self) -> Estimates: ...
    def _apply(self, asks: Sequence[Ask], /) -> Awaitable[list[Answer]]: ...
    def _begin(self, ask: Ask, heard: Heard, /) -> bool: ...
    def _owe(self, ask: Ask, /) -> None: ...
    def _rouse(self, ask: Ask, /) -> None: ...
