"""The Lua scripts: one for each family of algorithms, and the numbers that tell it the rates.

Lua counts in doubles, which hold integers up to 2^53. The bounds here keep every sum that a script makes below that;
products are taken apart by the script itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from struct import pack

from ...algorithms import GCRA, Algorithm, FixedWindow, LeakyBucket, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from ...rates import MICROSECONDS, Rate

FORMAT = 1
"""The version of what the scripts keep: it goes into every key, so that no version reads what another one wrote."""
MOST = 2**50
"""The largest limit and burst, in units, and the longest interval, in microseconds, that the scripts count exactly."""
LONGEST_BURST = 2**51
"""The longest time that a whole burst may take to come back, in microseconds (71 years)."""

_MOST_RUNS = 1002
"""The most runs of a log above a limit of 1000: an interval is a thousand cells, and its ends lie in two others."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, bound to rates.

    Attributes:
        source: its text.
        sha: the digest by which a server knows it.
        rates: what it is told about the rates.
        digest: stands for the algorithm, the rates and the format, in every key.
    """

    source: str
    sha: str
    rates: bytes
    digest: str


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
    numbers = [describe(rate) for rate in rates]
    source = _SOURCES[family]
    return Script(
        source,
        hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
        pack(f"<{1 + len(rates) * len(numbers[0])}d", len(numbers[0]), *sum(numbers, ())),
        hashlib.sha256(f"{algorithm.__name__} {rates} {FORMAT}".encode()).hexdigest()[:8],
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


def _emission(rate: Rate, paced: bool) -> tuple[int, ...]:
    interval = rate.interval * MICROSECONDS
    shared = math.gcd(interval, rate.limit)
    p, q = interval // shared, rate.limit // shared
    burst = rate.burst or rate.limit
    return (burst, *divmod(p, q), q, *divmod(burst * p, q), paced)


def _window(rate: Rate) -> tuple[int, ...]:
    return (rate.limit, rate.interval * MICROSECONDS)


def _log(rate: Rate) -> tuple[int, ...]:
    rule = SlidingWindowLog(rate)
    return (rate.limit, rule.interval, rule._cell, rate.limit if rule._cell == 1 else _MOST_RUNS)


_FAMILIES: dict[type[Algorithm], tuple[str, Callable[[Rate], tuple[int, ...]]]] = {
    SlidingWindowLog: ("sliding_log", _log),
    GCRA: ("gcra", lambda rate: _emission(rate, False)),
    TokenBucket: ("gcra", lambda rate: _emission(rate, False)),
    LeakyBucket: ("gcra", lambda rate: _emission(rate, True)),
    FixedWindow: ("fixed_window", _window),
    SlidingWindowCounter: ("sliding_counter", _window),
}


def _source(family: str) -> str:
    folder = files(__package__ or "").joinpath("scripts")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in ("prelude", family, "decide"))


# Read when this module is imported: a bucket may be made on a running event loop, which must not wait for a disk.
_SOURCES = {family: _source(family) for family, _ in _FAMILIES.values()}
