"""Clocks: functions without arguments that return microseconds as an int, never below zero."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
SECOND = 1_000_000
"""Microseconds in a second."""


def monotonic() -> int:
    """Return the host's monotonic clock: it never steps, and means nothing to another host."""
    return time.monotonic_ns() // 1000


def wall() -> int:
    """Return the host's wall clock, in microseconds since the epoch: it may step either way."""
    return time.time_ns() // 1000
