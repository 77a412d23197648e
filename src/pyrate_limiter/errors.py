"""The errors: fields go in, the sentence is made inside, and all of them survive pickling.

(The fields are plain attributes and may be left out of the constructor, so what `Exception` does for pickling
and copying is enough.)
"""

from __future__ import annotations

from typing import Any

from .decisions import Decision
from .rates import Rate


class RateLimitError(Exception):
    """The base of all errors of this package.

    Attributes:
        name: whose budget it was about, or None.
        weight: the units asked for, or None.
        rate: the rate that refused, or None.
        decision: the refusal as a `Decision`, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str | None = None,
        weight: int | None = None,
        rate: Rate | None = None,
        decision: Decision | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.name = name
        self.weight = weight
        self.rate = rate
        self.decision = decision

    @property
    def meta_info(self) -> dict[str, Any]:
        """The fields as one dict, with the sentence under ``error``."""
        rate = None if self.rate is None else str(self.rate)
        return {"error": self.message, "name": self.name, "weight": self.weight, "rate": rate}


class BucketFullException(RateLimitError):
    """Not now, and the caller does not wait (or too many wait already)."""

    @classmethod
    def of(cls, decision: Decision, advice: str = "wait with acquire(), or come back then") -> BucketFullException:
        """Return the error that says what a refused `Decision` says."""
        return cls(
            f"{decision.rate} is reached for {decision.name!r}: {decision.weight} more fit"
            f" in {decision.retry_after:.6g} s; {advice}",
            name=decision.name,
            weight=decision.weight,
            rate=decision.rate,
            decision=decision,
        )


class WeightTooLarge(BucketFullException, ValueError):
    """This weight never fits, however long one waits."""

    @classmethod
    def over(cls, capacity: int, name: str, weight: int, rate: Rate) -> WeightTooLarge:
        """Return the error for a weight above the heaviest that can ever fit."""
        return cls(
            f"weight {weight} for {name!r} never fits: at most {capacity} at once under {rate};"
            " ask for less, or raise the limit or the burst",
            name=name,
            weight=weight,
            rate=rate,
        )


class LimiterDelayException(RateLimitError, TimeoutError):
    """Not within the time that the caller allows."""

    @classmethod
    def of(cls, decision: Decision, limit: float) -> LimiterDelayException:
        """Return the error for a refused `Decision` whose wait is longer than `limit` seconds."""
        wait = decision.waited + decision.retry_after
        return cls(
            f"{decision.weight} for {decision.name!r} would wait {wait:.6g} s under {decision.rate},"
            f" longer than the {limit:.6g} s allowed; raise timeout or max_delay, or come back then",
            name=decision.name,
            weight=decision.weight,
            rate=decision.rate,
            decision=decision,
        )


class WouldBlock(RateLimitError, RuntimeError):
    """A sync call that has to wait, on a thread that runs an event loop."""


class LimiterClosed(RateLimitError, RuntimeError):
    """The limiter or the bucket was closed, perhaps while this call was waiting."""


class StoreError(RateLimitError):
    """The store could not decide: it is down, slow, full or not what it should be."""
