"""Clocks that a test moves."""

from __future__ import annotations

import anyio


class ManualClock:
    """A clock that stands still until it is told to move, either way.

    Args:
        now: where it starts, in microseconds.
    """

    def __init__(self, now: int = 1_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move by so many seconds, back if they are below zero."""
        self.now += round(seconds * 1e6)


class LoopClock:
    """The clock of the running event loop, so that virtual time moves the bucket too. Needs a running loop."""

    def __call__(self) -> int:
        return round(anyio.current_time() * 1e6)
