"""Clocks: functions without arguments that return microseconds as an int, never below zero."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from time import monotonic_ns
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
SECOND = 1_000_000
"""Microseconds in a second."""
logger = logging.getLogger("pyrate_limiter")


def monotonic() -> int:
    """Return the host's monotonic clock: it never steps, and means nothing to another host."""
    return monotonic_ns() // 1000


def wall() -> int:
    """Return the host's wall clock, in microseconds since the epoch: it may step either way."""
    return time.time_ns() // 1000


def warn_set_back(by: int) -> None:
    """Log that a store's clock was set back by so many microseconds: once a minute, however many keys notice."""
    global _warned  # noqa: PLW0603
    if time.monotonic() < _warned + 60:
        return
    _warned = time.monotonic()
    logger.warning("a store's clock was set back by %.1f s: what it counted after that counts as of now", by / SECOND)


_warned = float("-inf")
