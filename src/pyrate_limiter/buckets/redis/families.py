"""The Lua scripts: one for each family of algorithms, and the numbers that tell it the rates.

Lua counts in doubles, which hold integers up to 2^53. The bounds here keep every sum that a script makes below that;
products are taken apart by the script itself.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from struct import pack
from typing import TypeAlias

from ...algorithms import GCRA, Algorithm, FixedWindow, LeakyBucket, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from ...rates import MICROSECONDS, Rate
from .resp import words

FORMAT = 2
"""The version of what the scripts keep: it goes into every key, so that no version reads what another one wrote."""
MOST = 2**50
"""The largest limit and burst, in units, and the longest interval, in microseconds, that the scripts count exactly."""
LONGEST_BURST = 2**51
"""The longest time that a whole burst may take to come back, in microseconds (71 years)."""

_SLOT = 16
"""Bytes of a slot of the log: a time and a count."""
_MOST_RUNS = 1002
"""The most runs of a log above a limit of 1000: an interval is a thousand cells, and its ends lie in two others."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, bound to rates.

    Attributes:
        source: its text.
        sha: the digest by which a server knows it.
        call: the words that call it by that, as they go over the wire.
        rates: what it is told about the rates.
        digest: stands for the algorithm, the rates and the format, in every key.
        growth: by how many microseconds each unit, of several that are taken at one moment, puts off the moment at
            which a key is as new; None where that is no whole number.
    """

    source: str
    sha: str
    call: bytes
    rates: bytes
    digest: str
    growth: int | None


def script_for(algorithm: type[Algorithm], rates: Sequence[Rate]) -> Script:
    """Return the script that decides as `algorithm` does for these rates.

    Raises:
        TypeError: there is no script for this algorithm.
        ValueError: a rate is beyond what the script counts exactly.
    """
    if algorithm not in _FAMILIES:
        known = ", ".join(kind.__name__ for kind in _FAMILIES)
        raise TypeError(f"Redis has no script for {algorithm.__name__}: use one of {known}, or another store")
    family, describe = _FAMILIES[algorithm]
    for rate in rates:
        _require_exact(algorithm, rate)
    numbers = [number for rate in describe(rates) for number in rate]
    source = _SOURCES[family]
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(
        source,
        sha,
        words(b"EVALSHA", sha.encode()),
        pack(f"<{len(numbers)}d", *numbers),
        hashlib.sha256(f"{algorithm.__name__} {rates} {FORMAT}".encode()).hexdigest()[:8],
        _growth(algorithm, rates),
    )


def _require_exact(algorithm: type[Algorithm], rate: Rate) -> None:
    nearest = replace(
        rate,
        limit=min(rate.limit, MOST),
        interval=min(rate.interval, MOST // MICROSECONDS),
        burst=rate.burst and min(rate.burst, MOST),
    )
    if algorithm.bursts and _time_of_burst(nearest) > LONGEST_BURST:
        nearest = replace(nearest, burst=max(1, LONGEST_BURST * nearest.limit // (nearest.interval * MICROSECONDS)))
    if nearest != rate:
        raise ValueError(f"Redis counts in doubles, and {rate!r} is beyond what they hold: the nearest is {nearest!r}")


def _time_of_burst(rate: Rate) -> int:
    return (rate.burst or rate.limit) * rate.interval * MICROSECONDS // rate.limit


def _growth(algorithm: type[Algorithm], rates: Sequence[Rate]) -> int | None:
    if not algorithm.bursts:
        return 0
    growth, rest = divmod(rates[0].interval * MICROSECONDS, rates[0].limit)
    return None if rest or len(rates) > 1 else growth


_Numbers: TypeAlias = Iterable[tuple[int, ...]]
"""What a script is told of each rate."""


def _even(rates: Sequence[Rate]) -> _Numbers:
    return (_emission(rate, False) for rate in rates)


def _paced(rates: Sequence[Rate]) -> _Numbers:
    return (_emission(rate, True) for rate in rates)


def _emission(rate: Rate, paced: bool) -> tuple[int, ...]:
    interval = rate.interval * MICROSECONDS
    shared = math.gcd(interval, rate.limit)
    p, q = interval // shared, rate.limit // shared
    burst = rate.burst or rate.limit
    return (burst, *divmod(p, q), q, *divmod(burst * p, q), paced)


def _windows(rates: Sequence[Rate]) -> _Numbers:
    return ((rate.limit, rate.interval * MICROSECONDS) for rate in rates)


def _logs(rates: Sequence[Rate]) -> _Numbers:
    ring = 0
    for rate in rates:
        rule = SlidingWindowLog(rate)
        slots = rate.limit if rule._cell == 1 else _MOST_RUNS
        yield rate.limit, rule.interval, rule._cell, slots, ring
        ring += _SLOT * slots


_FAMILIES: dict[type[Algorithm], tuple[str, Callable[[Sequence[Rate]], _Numbers]]] = {
    SlidingWindowLog: ("sliding_log", _logs),
    GCRA: ("gcra", _even),
    TokenBucket: ("gcra", _even),
    LeakyBucket: ("gcra", _paced),
    FixedWindow: ("fixed_window", _windows),
    SlidingWindowCounter: ("sliding_counter", _windows),
}
_PARTS = {
    "sliding_log": ("prelude", "sliding_log", "decide"),
    "gcra": ("prelude", "numbers", "muldiv", "gcra", "decide"),
    "fixed_window": ("prelude", "numbers", "fixed_window", "decide"),
    "sliding_counter": ("prelude", "numbers", "muldiv", "sliding_counter", "decide"),
}
_CONSTANTS = re.compile(r"^local ([A-Z_, ]+) = ([-0-9, ]+)\n", re.MULTILINE)
_COMMENT = re.compile(r"\s*--.*")


def _source(parts: Sequence[str]) -> str:
    """Return a script: its parts, without comments, and with numbers in place of the names that stand for them."""
    folder = files(__package__ or "").joinpath("scripts")
    text = "\n".join(_COMMENT.sub("", folder.joinpath(f"{part}.lua").read_text("utf-8")) for part in parts)
    values: dict[str, str] = {}
    for names, numbers in _CONSTANTS.findall(text):
        values |= zip(names.split(", "), numbers.split(", "), strict=True)
    bare = _CONSTANTS.sub("", text)
    return re.sub(r"\b[A-Z_]+\b", lambda name: values.get(name[0], name[0]), bare)


# Read when this module is imported: a bucket may be made on a running event loop, which must not wait for a disk.
_SOURCES = {family: _source(parts) for family, parts in _PARTS.items()}
