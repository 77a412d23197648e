"""What a server says about its limits: the fields of a response, and the body of a refusal.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11, Lists of RFC 9651. The draft is no RFC yet and a
proposal renames its parameters, so all names stand in one table, `NAMES`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from .. import Decision, Rate

TOO_MANY = 429
UNAVAILABLE = 503
Fields: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields as ASGI has them: names in lower case."""


class Names(NamedTuple):
    """How the draft calls the two fields and their parameters."""

    policy: str = "ratelimit-policy"
    state: str = "ratelimit"
    quota: str = "q"
    window: str = "w"
    unit: str = "qu"
    partition: str = "pk"
    remaining: str = "r"
    seconds: str = "t"


NAMES = Names()
MEDIA_TYPE = "application/problem+json"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
_POLICY, _STATE = NAMES.policy.encode(), NAMES.state.encode()
_LIMIT, _REMAINING, _RESET = b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"
WRITTEN = frozenset({_POLICY, _STATE})
LEGACY = WRITTEN | {_LIMIT, _REMAINING, _RESET}
"""The names of all fields that `fields` writes, without and with the legacy ones."""
_EXCEEDED = "Request cannot be satisfied as assigned quota has been exceeded"
_REDUCED = "Request cannot be satisfied due to temporary server capacity constraints"


class Policies:
    """The rates of one limiter, as its clients read them.

    Args:
        name: of the policy; one for each rate; or None for what each rate says of itself, such as ``100/1m``.
        rates: of the limiter. None if they are known only from each decision.

    Raises:
        ValueError: a name is not printable ASCII, two are equal, or there are too few or too many.
    """

    def __init__(self, name: str | Sequence[str] | None, rates: Sequence[Rate]) -> None:
        self.names = _names(name, rates)
        self._name = name if isinstance(name, str) else None
        self._known = {id(rate): name for rate, name in zip(rates, self.names, strict=True)}
        self._rates = tuple(rates)  # kept, so that each id stays theirs
        self._declared = b", ".join(map(_policy, self.names, rates))
        self._states = {id(rate): _state(name) for rate, name in zip(rates, self.names, strict=True)}
        for known in (*self.names, self._name or ""):
            quoted(known)

    def name(self, rate: Rate) -> str:
        """Return the name of a rate."""
        return self._known.get(id(rate)) or self._name or str(rate)

    def declared(self, rate: Rate) -> bytes:
        """Return the items of the policy field, given the rate of a decision."""
        return self._declared or _policy(self.name(rate), rate)

    def state(self, decision: Decision) -> bytes:
        """Return the item of the state field: what is left, and within how many seconds no more than that is."""
        form = self._states.get(id(decision.rate)) or _state(self.name(decision.rate))
        return form % (decision.remaining, _seconds(decision))


Ruling: TypeAlias = tuple[Policies, Decision]
"""What one limit said to one request."""


class Problem(NamedTuple):
    """A refusal, ready to be sent.

    Attributes:
        status: of the response.
        fields: what is said beside the body.
        title: the body's, for people.
        body: in JSON.
    """

    status: int
    fields: Fields
    title: str
    body: bytes

    @property
    def headers(self) -> Fields:
        """All header fields."""
        length = b"%d" % len(self.body)
        return [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", length), *self.fields]


def fields(rulings: Sequence[Ruling], *, legacy: bool = False) -> Fields:
    """Return the fields that say what the limits of a request are and what is left of them.

    Args:
        rulings: of all limits that were asked.
        legacy: add ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` (epoch seconds) of the tightest.
    """
    if len(rulings) == 1:
        policies, decision = rulings[0]
        found = [(_POLICY, policies.declared(decision.rate)), (_STATE, policies.state(decision))]
    else:
        found = [
            (_POLICY, b", ".join(policies.declared(decision.rate) for policies, decision in rulings)),
            (_STATE, b", ".join(policies.state(decision) for policies, decision in rulings)),
        ]
    return found + _legacy(decision for _, decision in rulings) if legacy else found


def exceeded(refused: Sequence[Ruling]) -> Problem:
    """Return the answer to a request that was refused.

    It may come back when every limit that refused it would admit it: the time is rounded up. If that is never, because
    it weighs more than ever fits, the answer names no time.
    """
    wait = max(decision.retry_after for _, decision in refused)
    seconds = 0 if math.isinf(wait) else max(1, math.ceil(wait))
    return _exceeded(seconds, tuple(policies.name(decision.rate) for policies, decision in refused))


@lru_cache(maxsize=1024)  # those who come too often are told the same again and again
def _exceeded(seconds: int, violated: tuple[str, ...]) -> Problem:
    """Return the refusal for so many seconds, 0 for ever."""
    detail = f"Try again in {seconds} s." if seconds else "It weighs more than the quota ever admits at once."
    after: Fields = [(b"retry-after", b"%d" % seconds)] if seconds else []
    members = {"type": QUOTA_EXCEEDED, "title": _EXCEEDED, "detail": detail, "violated-policies": violated}
    return _problem(TOO_MANY, after, members)


def unavailable() -> Problem:
    """Return the answer to a request that could not be decided."""
    return _problem(UNAVAILABLE, [], {"type": REDUCED_CAPACITY, "title": _REDUCED})


def quoted(text: str) -> bytes:
    """Return a String of RFC 9651.

    Raises:
        ValueError: it is not printable ASCII.
    """
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"a policy's name must be printable ASCII, not {text!r}: give another policy_name=")
    return b'"%b"' % text.replace("\\", "\\\\").replace('"', '\\"').encode()


def _names(name: str | Sequence[str] | None, rates: Sequence[Rate]) -> list[str]:
    if name is None:
        names = [str(rate) for rate in rates]
    elif isinstance(name, str):
        names = [name] if len(rates) == 1 else [f"{name}-{rate}" for rate in rates]
    else:
        names = list(name)
    if len(names) != len(rates) or len(set(names)) != len(names):
        raise ValueError(f"policy_name={name!r} must give each of the {len(rates)} rates a name of its own")
    return names


def _policy(name: str, rate: Rate) -> bytes:
    window = -(-rate.interval // 1000)
    return b"%b;%b=%d;%b=%d" % (quoted(name), NAMES.quota.encode(), rate.limit, NAMES.window.encode(), window)


def _state(name: str) -> bytes:
    """Return the item for a name, with two numbers to be filled in."""
    text = quoted(name).replace(b"%", b"%%")
    return b"%b;%b=%%d;%b=%%d" % (text, NAMES.remaining.encode(), NAMES.seconds.encode())


def _seconds(decision: Decision) -> int:
    """Return for how long no more than what is left can be used: of the decision's rate, where there are others."""
    if not decision.allowed and not math.isinf(decision.retry_after):
        return math.ceil(decision.retry_after)
    limit, interval, burst = decision.rate.limit, decision.rate.interval, decision.rate.burst
    longest = interval / 1000 * max(1.0, (burst or limit) / limit)
    return math.ceil(min(decision.reset_after, longest))


def _legacy(decisions: Iterable[Decision]) -> Fields:
    tightest = min(decisions, key=lambda decision: (decision.allowed, decision.remaining))
    reset = math.ceil(time.time() + _seconds(tightest))
    return [
        (_LIMIT, b"%d" % tightest.limit),
        (_REMAINING, b"%d" % tightest.remaining),
        (_RESET, b"%d" % reset),
    ]


def _problem(status: int, more: Fields, members: dict[str, Any]) -> Problem:
    body = json.dumps(members | {"status": status}).encode()
    return Problem(status, [(b"cache-control", b"no-store"), *more], members["title"], body)
