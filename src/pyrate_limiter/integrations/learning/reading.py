"""What servers say about their limits, in all the ways in which they say it.

- draft-ietf-httpapi-ratelimit-headers-11 (``RateLimit``, ``RateLimit-Policy``), and its three fields of before -07.
- Retry-After (RFC 9110, section 10.2.3), which wins; seen with fractions, ISO dates and epochs; ``retry-after-ms``.
- GitHub (epochs), X (epochs), OpenAI (Go's durations), Anthropic (RFC 3339), Discord (seconds with fractions).

A field that is malformed is ignored whole; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

from ..fields import NAMES
from .fields import Member, members, repeated_members
from .pace import News


class Family(NamedTuple):
    """The two fields of one limit: what is left, and when there will be more, or all.

    Attributes:
        remaining: the name of the one.
        reset: the name of the other.
        counts_requests: whether what is left is a number of requests.
    """

    remaining: str
    reset: str
    counts_requests: bool = True


class Left(NamedTuple):
    """What a server says about one limit."""

    remaining: int
    reset: float | None
    counts_requests: bool


REQUESTS, CONCURRENT = "requests", "concurrent-requests"
"""Units of a policy, as they are written: one that counts requests, and one that has nothing to do with time."""
FAMILIES = (
    Family("ratelimit-remaining", "ratelimit-reset"),
    Family("x-ratelimit-remaining", "x-ratelimit-reset-after"),
    Family("x-ratelimit-remaining", "x-ratelimit-reset"),
    Family("x-rate-limit-remaining", "x-rate-limit-reset"),
    Family("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    Family("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", False),
    Family("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    Family("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", False),
    Family("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", False),
    Family("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset", False),
)
RETRY_AFTER, RETRY_AFTER_MS, DATE = "retry-after", "retry-after-ms", "date"
WANTED = {RETRY_AFTER, RETRY_AFTER_MS, DATE, NAMES.policy, NAMES.state}.union(
    *((family.remaining, family.reset) for family in FAMILIES)
)
_FAMILIES_OF = {name: [each for each in FAMILIES if each.remaining == name] for name, _, _ in FAMILIES}
_WANTED = {name.encode(): name for name in WANTED}

LONGEST = 64
"""Characters of a moment or a number that is read at all."""
EPOCH, EPOCH_MS = 1e9, 1e12
"""A bare number above these is an epoch, in seconds or in milliseconds."""
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_COUNT = re.compile(r"[0-9]{1,18}")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s|us|µs|ns))+")
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def wanted(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the fields of a response that say something about limits, by their names in lower case."""
    found: dict[str, str] = {}
    for name, value in raw:
        key = _WANTED.get(name) or _WANTED.get(name.lower())
        if key is not None:
            line = value.decode("latin-1")
            found[key] = f"{found[key]}, {line}" if key in found else line
    if len(found) == 1 and DATE in found:
        return {}
    return found


def read(fields: dict[str, str], *, refused: bool, wall: float) -> News:
    """Return what a response says.

    Args:
        fields: from `wanted`.
        refused: whether the request was refused for its rate.
        wall: the time of the client's clock, in seconds since the epoch.
    """
    now = _server_time(fields.get(DATE), wall)
    lefts = _stated_by_draft(fields) if NAMES.state in fields else []
    lefts += _stated_by_family(fields, now)
    tightest = _tightest(lefts)
    hold = _hold(fields, now) if refused else None
    if tightest is not None:
        # A refusal although something is left is about another limit, of which nothing is known.
        reset = tightest.reset if not refused or not tightest.remaining else None
        return News(refused, hold, tightest.remaining, reset or None)
    return News(refused, hold)


def seconds(text: str, now: float) -> float | None:
    """Return how far away a moment is: a number of seconds, an epoch, a duration or a date; None if it is malformed.

    Args:
        text: the moment.
        now: the server's time, in seconds since the epoch.
    """
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number > EPOCH:
            number = (number / 1000 if number > EPOCH_MS else number) - now
        return max(number, 0.0)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    moment = _date(text)
    return None if moment is None else max(moment - now, 0.0)


@lru_cache(maxsize=64)
def _date(text: str) -> float | None:
    """Return a date of HTTP or ISO 8601, in seconds since the epoch; one without a zone is of UTC."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = parse(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _server_time(date: str | None, wall: float) -> float:
    """Return the server's time: ours, unless its Date contradicts, which is cut to whole seconds and a little old."""
    stated = None if date is None else _date(date)
    return wall if stated is None or stated <= wall <= stated + 2 else stated


def _hold(fields: dict[str, str], now: float) -> float | None:
    """Return the seconds after which to come back; None if none are stated, or none that say anything."""
    exact = fields.get(RETRY_AFTER_MS)
    if exact is not None and len(exact) <= LONGEST and _NUMBER.fullmatch(exact.strip()):
        return float(exact) / 1000 or None
    stated = fields.get(RETRY_AFTER)
    return None if stated is None else seconds(stated, now) or None


def _stated_by_draft(fields: dict[str, str]) -> list[Left]:
    units = _units(repeated_members(fields[NAMES.policy])) if NAMES.policy in fields else {}
    lefts = []
    for state in members(fields[NAMES.state]) or ():
        unit = units.get(state.name, REQUESTS)
        left = _left(state, unit)
        if left is None:
            return []  # malformed, and ignored whole
        if unit != CONCURRENT:
            lefts.append(left)
    return lefts


def _units(policies: tuple[Member, ...] | None) -> dict[str, int | str]:
    return {policy.name: policy.parameters[NAMES.unit] for policy in policies or () if NAMES.unit in policy.parameters}


def _left(state: Member, unit: int | str) -> Left | None:
    remaining, reset = state.parameters.get(NAMES.remaining), state.parameters.get(NAMES.seconds, 0)
    if type(remaining) is not int or type(reset) is not int or remaining < 0 or reset < 0:
        return None
    return Left(remaining, float(reset), unit == REQUESTS)


def _stated_by_family(fields: dict[str, str], now: float) -> list[Left]:
    lefts = []
    for name in _FAMILIES_OF.keys() & fields.keys():
        for family in _FAMILIES_OF[name]:
            remaining, reset = fields[name].strip(), fields.get(family.reset)
            moment = seconds(reset, now) if reset is not None else None
            if moment is not None and _COUNT.fullmatch(remaining):
                lefts.append(Left(int(remaining), moment, family.counts_requests))
    return lefts


def _tightest(lefts: list[Left]) -> Left | None:
    """Return the limit that matters: of those with nothing left the latest, else the least of those in requests."""
    empty = [left for left in lefts if not left.remaining]
    if empty:
        return max(empty, key=lambda left: left.reset or 0)
    return min([left for left in lefts if left.counts_requests], default=None)
