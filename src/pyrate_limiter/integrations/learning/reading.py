"""What servers say about their limits, in all the ways in which they say it.

- draft-ietf-httpapi-ratelimit-headers-11 (``RateLimit``, ``RateLimit-Policy``), and its three fields of before -07.
- Retry-After (RFC 9110, section 10.2.3), which wins; seen with fractions, ISO dates and epochs; ``retry-after-ms``.
- GitHub (epochs), X (epochs), OpenAI (Go's durations), Anthropic (RFC 3339), Discord (seconds with fractions).

A field that is malformed is ignored whole; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple, TypeAlias

from ..fields import NAMES
from .fields import LONGEST as LONGEST_FIELD
from .fields import Member, members, numbered, taken_apart
from .pace import News, Policy

REQUESTS, CONCURRENT = "requests", "concurrent-requests"
"""Units of a policy, as they are written: one that counts requests, and one that has nothing to do with time."""


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


class Stated(NamedTuple):
    """What a server says that one of its limits is.

    Attributes:
        counts_requests: whether it counts requests.
        policy: so many requests in so many seconds; None if that is not stated.
        window: the seconds after which all that was used is back, at the latest.
    """

    counts_requests: bool = True
    policy: Policy | None = None
    window: float = inf


Left: TypeAlias = tuple[int, float, bool, Policy | None]
"""What a server says about one limit: what is left, the seconds until there is more, whether it counts requests, and
how many it admits in how many seconds."""
UNSTATED = Stated()
_tuple = tuple.__new__
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
STATE, POLICY = NAMES.state, NAMES.policy
RETRY_AFTER, RETRY_AFTER_MS, DATE = "retry-after", "retry-after-ms", "date"
WANTED = {RETRY_AFTER, RETRY_AFTER_MS, DATE, POLICY, STATE}.union(
    *((family.remaining, family.reset) for family in FAMILIES)
)
_FAMILIES_OF = {name: [each for each in FAMILIES if each.remaining == name] for name, _, _ in FAMILIES}
_WANTED = {name.encode(): name for name in WANTED}

LONGEST = 64
"""Characters of a moment or a number that is read at all."""
EPOCH, EPOCH_MS = 1e9, 1e12
"""A bare number above these is an epoch, in seconds or in milliseconds."""
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_COUNT = re.compile(r"[ \t]*[0-9]{1,18}[ \t]*")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s|us|µs|ns))+")
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def wanted(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the fields of a response that say something about limits, by their names in lower case."""
    found: dict[str, str] = {}
    for name, value in raw:
        key = _WANTED.get(name.lower())
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
    lefts = [*_stated_by_draft(fields[STATE], fields.get(POLICY, ""))] if STATE in fields else []
    hold = None
    if refused or not _FAMILIES_OF.keys().isdisjoint(fields):
        now = _server_time(fields.get(DATE), wall)
        lefts += _stated_by_family(fields, now)
        hold = _hold(fields, now) if refused else None
    tightest = _tightest(lefts)
    if tightest is None:
        return News(refused, hold)
    remaining, reset, _, policy = tightest
    if refused and remaining:
        return News(refused, hold, remaining)  # it is about another limit, of which nothing is known
    return _tuple(News, (refused, hold, remaining, reset or None, policy))


def seconds(text: str, now: float) -> float | None:
    """Return how far away a moment is: a number of seconds, an epoch, a duration or a date; None if it is malformed.

    Args:
        text: the moment.
        now: the server's time, in seconds since the epoch.
    """
    moment = _moment(text) if len(text) <= LONGEST else None
    if moment is None:
        return None
    value, since_epoch = moment
    return max(value - now, 0.0) if since_epoch else value


@lru_cache(maxsize=256)
def _moment(text: str) -> tuple[float, bool] | None:
    """Return a number of seconds, and whether they are those since the epoch; None if it is malformed."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        return (number / 1000 if number > EPOCH_MS else number), number > EPOCH
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)), False
    date = _date(text)
    return None if date is None else (date, True)


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
    moment = None if date is None or len(date) > LONGEST else _moment(date)
    if moment is None:
        return wall
    stated, since_epoch = moment
    return stated if since_epoch and not stated <= wall <= stated + 2 else wall


def _hold(fields: dict[str, str], now: float) -> float | None:
    """Return the seconds after which to come back; None if none are stated, or none that say anything."""
    exact = fields.get(RETRY_AFTER_MS)
    if exact is not None and len(exact) <= LONGEST and _NUMBER.fullmatch(exact.strip()):
        return float(exact) / 1000 or None
    stated = fields.get(RETRY_AFTER)
    return None if stated is None else seconds(stated, now) or None


def _stated_by_draft(state: str, policies: str) -> Sequence[Left]:
    if len(state) > LONGEST_FIELD or len(policies) > LONGEST_FIELD:
        return []  # nor kept in a cache
    pieces = taken_apart(state)
    places = _places(policies, *pieces[::2])
    if places is None:
        found = _lefts(members(state), policies)
        return [(left, min(reset, of.window), of.counts_requests, of.policy) for left, reset, of in found]
    pieces.append("0")  # which the places -1 mean
    return [
        (int(pieces[remaining]), min(int(pieces[reset]), window), counts_requests, policy)
        for remaining, reset, (counts_requests, policy, window) in places
    ]


@lru_cache(maxsize=256)
def _places(policies: str, *form: str) -> list[tuple[int, int, Stated]] | None:
    """Return what all fields of a form say, with indices of their pieces instead of numbers; None: see `numbered`."""
    found = numbered(form)
    if found is None:
        return None
    return [(2 * remaining - 1, 2 * reset - 1, stated) for remaining, reset, stated in _lefts(found, policies)]


def _lefts(states: tuple[Member, ...] | None, policies: str) -> list[tuple[int, int, Stated]]:
    known = {name: _stated(parameters) for name, parameters in members(policies) or ()}
    lefts = []
    for name, parameters in states or ():
        remaining = _count(parameters.get(NAMES.remaining))
        reset = _count(parameters.get(NAMES.seconds, 0))
        if remaining is None or reset is None:
            return []  # malformed, and ignored whole
        stated = known.get(name, UNSTATED)
        if stated is not None:
            lefts.append((remaining, reset, stated))
    return lefts


def _stated(parameters: Mapping[str, Any]) -> Stated | None:
    """Return what a policy says of its limit; None if that has nothing to do with time."""
    unit = parameters.get(NAMES.unit, REQUESTS)
    if unit == CONCURRENT:
        return None
    quota, window = _count(parameters.get(NAMES.quota)), _count(parameters.get(NAMES.window))
    policy = (quota, float(window)) if unit == REQUESTS and quota and window else None
    return Stated(unit == REQUESTS, policy, window or inf)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _stated_by_family(fields: dict[str, str], now: float) -> list[Left]:
    lefts: list[Left] = []
    for name, value in fields.items():
        for family in _FAMILIES_OF.get(name, ()):
            reset = fields.get(family.reset)
            moment = None if reset is None else seconds(reset, now)
            if moment is not None and _COUNT.fullmatch(value):
                lefts.append((int(value), moment, family.counts_requests, None))
    return lefts


def _tightest(lefts: list[Left]) -> Left | None:
    """Return the limit that matters: of those with nothing left the latest, else the least of those in requests."""
    tightest = None
    for left in lefts:
        remaining, reset, counts_requests, _ = left
        if not remaining:
            if tightest is None or tightest[0] or reset > tightest[1]:
                tightest = left
        elif counts_requests and (tightest is None or left[:2] < tightest[:2]):
            tightest = left
    return tightest
