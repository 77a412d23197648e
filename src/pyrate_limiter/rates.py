"""Rates: how many units in how long a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any

MICROSECONDS = 1000
"""Microseconds in a millisecond: users speak in milliseconds, the arithmetic in microseconds."""


class Duration(IntEnum):
    """Lengths of time in milliseconds: SECOND, MINUTE, HOUR, DAY, WEEK."""

    SECOND = 1000
    MINUTE = 60 * SECOND
    HOUR = 60 * MINUTE
    DAY = 24 * HOUR
    WEEK = 7 * DAY

    @staticmethod
    def readable(milliseconds: int) -> str:
        """Return a length in milliseconds in the largest unit that it reaches, to a tenth: ``1.5m``, ``20ms``."""
        for unit in (Duration.WEEK, Duration.DAY, Duration.HOUR, Duration.MINUTE, Duration.SECOND):
            if milliseconds >= unit:
                return f"{round(milliseconds / unit, 1):g}{unit.name[0].lower()}"
        return f"{milliseconds}ms"


_UNITS = {unit.name.lower(): unit.value for unit in Duration} | {
    "ms": 1,
    "millisecond": 1,
    "s": Duration.SECOND.value,
    "sec": Duration.SECOND.value,
    "m": Duration.MINUTE.value,
    "min": Duration.MINUTE.value,
    "h": Duration.HOUR.value,
    "d": Duration.DAY.value,
    "w": Duration.WEEK.value,
}
_TEXT = re.compile(r"\s*(\d+)\s*(?:/|per)\s*(\d+)?\s*([a-z]+?)\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` units in `interval` milliseconds.

    Args:
        limit: units, a positive int.
        interval: milliseconds, a positive int; a `Duration` is one.
        burst: the most units at once, for the algorithms that have a burst (`GCRA`, `TokenBucket`,
            `LeakyBucket`); `limit` if not given.

    Raises:
        TypeError: a value is not an int (a bool is none either).
        ValueError: a value is not positive.
    """

    limit: int
    interval: int
    burst: int | None = None

    def __post_init__(self) -> None:
        require_positive("limit", self.limit)
        require_positive("interval", self.interval, "milliseconds, such as Duration.SECOND")
        if self.burst is not None:
            require_positive("burst", self.burst)
        object.__setattr__(self, "interval", int(self.interval))

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Return the rate that a text such as ``100/minute``, ``5 per 2 seconds`` or ``20/500ms`` names.

        Raises:
            ValueError: the text is not of the form ``LIMIT/UNIT`` or ``LIMIT/COUNT UNIT``.
        """
        found = _TEXT.fullmatch(text)
        unit = found and (_UNITS.get(found[3].lower()) or _UNITS.get(found[3].lower().removesuffix("s")))
        if not found or not unit:
            raise ValueError(f"cannot read the rate {text!r}: write LIMIT/UNIT, such as '100/minute' or '20/500ms'")
        return cls(int(found[1]), int(found[2] or 1) * unit)

    def __str__(self) -> str:
        burst = "" if self.burst is None else f" (burst {self.burst})"
        return f"{self.limit}/{Duration.readable(self.interval)}{burst}"


def require_positive(what: str, value: object, unit: str = "") -> None:
    """Raise TypeError or ValueError unless `value` is a positive int (a bool is none)."""
    allowed = "a positive int" + (f" ({unit})" if unit else "")
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be {allowed}, not {value!r}")
    if value <= 0:
        raise ValueError(f"{what} must be {allowed}, not {value!r}")


def as_rates(rates: Rate | Sequence[Rate]) -> tuple[Rate, ...]:
    """Return one rate or several as a tuple.

    Raises:
        ValueError: there is none.
        TypeError: one of them is not a `Rate`.
    """
    several: tuple[Any, ...]  # until each of them has been looked at
    several = tuple(rates) if isinstance(rates, Iterable) and not isinstance(rates, str) else (rates,)
    if not several:
        raise ValueError("rates is empty: give at least one Rate, such as Rate(10, Duration.SECOND)")
    for rate in several:
        if not isinstance(rate, Rate):
            raise TypeError(f"rates must hold Rate objects, not {rate!r}: write Rate(10, Duration.SECOND)")
    return several


def validate_rate_list(rates: Sequence[Rate]) -> bool:
    """Return whether the reference implementation would accept these rates in this order.

    It wants intervals and limits that rise and a density (limit per interval) that falls. Nothing here
    needs that: every class takes rates in any order. The function is there for code that asks it.
    """
    if not rates:
        return False
    return all(
        a.interval < b.interval and a.limit < b.limit and a.limit * b.interval > b.limit * a.interval
        for a, b in pairwise(rates)
    )
