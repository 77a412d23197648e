"""What a bucket is asked, what it answers, and what a user gets to see of it."""

from __future__ import annotations

from typing import NamedTuple

from .rates import Rate

FOREVER = 2**53 - 1
"""The patience of a caller who sets no limit, in microseconds: the largest int that a double holds exactly."""
BEHIND = -1
"""The wait of an ask behind another one of its key, which waits."""
BUSY = -2
"""The wait of an instant decision that could not be made because the lock is held elsewhere: never a refusal."""
RESET = -FOREVER
"""The cost that forgets everything that is counted for a key."""
UNNAMED = "".join(("py", "rate"))
"""The name of calls that give none: this very object, so that a caller's own "pyrate" is told apart from it."""


class Ask(NamedTuple):
    """One question to a store: take, look, give back and reset are one thing.

    Attributes:
        key: whose budget.
        cost: above 0 takes; 0 looks whether one unit would fit; below 0 gives back what was stamped `at`; `RESET`
            forgets all.
        patience: how long this caller can still wait, in microseconds; 0 answers now and leaves.
        at: the stamp of what is given back.
        degraded: whether what is given back was granted by a stand-in.
    """

    key: str
    cost: int
    patience: int = 0
    at: int = -1
    degraded: bool = False


class Answer(NamedTuple):
    """What a store says to one `Ask`.

    Attributes:
        wait: 0: admitted; > 0: alone it would fit in so many microseconds; `BEHIND`: somebody in front waits.
        at: the store's clock at the decision, in microseconds.
        remaining: the units left of the rate that `rate` names.
        reset: microseconds until the key is as new.
        rate: the index of the rate that refused, or else of the tightest.
        degraded: whether a stand-in decided because the store could not.
    """

    wait: int
    at: int
    remaining: int = 0
    reset: int = 0
    rate: int = 0
    degraded: bool = False


class Decision(NamedTuple):
    """What became of one request. It is true if the request was admitted.

    Attributes:
        allowed: whether it was admitted.
        name: the name it was asked for.
        weight: its units.
        at: the moment of the decision by the store's clock, in microseconds.
        retry_after: seconds after which the same request would be admitted; 0 if it was.
        reset_after: seconds until the key is as new.
        remaining: units left of `rate`.
        limit: the limit of `rate`.
        rate: the rate that refused, or else the tightest.
        waited: seconds that the caller waited.
        degraded: whether a stand-in decided because the store could not.
    """

    allowed: bool
    name: str
    weight: int
    at: int
    retry_after: float
    reset_after: float
    remaining: int
    limit: int
    rate: Rate
    waited: float = 0.0
    degraded: bool = False

    def __bool__(self) -> bool:
        return self.allowed
