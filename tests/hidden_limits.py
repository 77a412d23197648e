"""Servers with a limit that their clients do not know, without a network: in the time of the running event loop.

A kind of server counts; a family of fields says something about it, or nothing, or a lie.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from typing import Any

import anyio

LIMIT, WINDOW = 80, 4.0
EPOCH = 1_700_000_000.37
"""The wall clock when a loop's clock is at 0: not at a whole second."""


@dataclass
class Verdict:
    """What a server knows about one request: seconds until there is more, and until there is all."""

    admitted: bool
    remaining: int
    more: float
    all: float


class Fixed:
    """Windows that begin anew, `phase` seconds before the clock's."""

    def __init__(self, phase: float) -> None:
        self.phase = phase
        self.window, self.count = -1, 0

    def __call__(self, now: float) -> Verdict:
        window = int((now + self.phase) // WINDOW)
        if window != self.window:
            self.window, self.count = window, 0
        end = (window + 1) * WINDOW - self.phase - now
        admitted = self.count < LIMIT
        self.count += admitted
        return Verdict(admitted, LIMIT - self.count, end, end)


class Sliding:
    """An exact window that slides."""

    def __init__(self, phase: float) -> None:
        self.log: deque[float] = deque()

    def __call__(self, now: float) -> Verdict:
        while self.log and self.log[0] <= now - WINDOW:
            self.log.popleft()
        admitted = len(self.log) < LIMIT
        if admitted:
            self.log.append(now)
        return Verdict(admitted, LIMIT - len(self.log), self.log[0] + WINDOW - now, self.log[-1] + WINDOW - now)


class Token:
    """A bucket that fills."""

    def __init__(self, phase: float) -> None:
        self.tokens, self.at = float(LIMIT), 0.0

    def __call__(self, now: float) -> Verdict:
        self.tokens = min(LIMIT, self.tokens + (now - self.at) * LIMIT / WINDOW)
        self.at = now
        admitted = self.tokens >= 1
        self.tokens -= admitted
        return Verdict(
            admitted,
            int(self.tokens),
            (1 - self.tokens % 1) * WINDOW / LIMIT,
            (LIMIT - self.tokens) * WINDOW / LIMIT,
        )


KINDS = {"fixed": Fixed, "sliding": Sliding, "token": Token}
Family = Callable[[Verdict, float], dict[str, str]]


def nothing(verdict: Verdict, now: float) -> dict[str, str]:
    return {}


def retry_after(verdict: Verdict, now: float) -> dict[str, str]:
    return {} if verdict.admitted else {"Retry-After": str(math.ceil(verdict.more))}


def retry_after_float(verdict: Verdict, now: float) -> dict[str, str]:
    return {} if verdict.admitted else {"Retry-After": f"{verdict.more:.3f}"}


def retry_after_date(verdict: Verdict, now: float) -> dict[str, str]:
    at = datetime.fromtimestamp(math.ceil(now + verdict.more), UTC)
    return {} if verdict.admitted else {"Retry-After": format_datetime(at, usegmt=True)}


def ietf(verdict: Verdict, now: float) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"default";q={LIMIT};w={WINDOW:.0f}',
        "RateLimit": f'"default";r={verdict.remaining};t={math.ceil(verdict.more)}',
    } | retry_after(verdict, now)


def ietf_before(verdict: Verdict, now: float) -> dict[str, str]:
    return {
        "RateLimit-Limit": str(LIMIT),
        "RateLimit-Remaining": str(verdict.remaining),
        "RateLimit-Reset": str(math.ceil(verdict.more)),
    }


def github(verdict: Verdict, now: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(LIMIT),
        "X-RateLimit-Remaining": str(verdict.remaining),
        "X-RateLimit-Used": str(LIMIT - verdict.remaining),
        "X-RateLimit-Reset": str(math.ceil(now + verdict.all)),
        "X-RateLimit-Resource": "core",
    }


def x(verdict: Verdict, now: float) -> dict[str, str]:
    return {
        "X-Rate-Limit-Limit": str(LIMIT),
        "X-Rate-Limit-Remaining": str(verdict.remaining),
        "X-Rate-Limit-Reset": str(math.ceil(now + verdict.all)),
    }


def openai(verdict: Verdict, now: float) -> dict[str, str]:
    again = {} if verdict.admitted else {"Retry-After-Ms": str(math.ceil(verdict.more * 1000)), "Retry-After": "1"}
    return {
        "X-RateLimit-Limit-Requests": str(LIMIT),
        "X-RateLimit-Remaining-Requests": str(verdict.remaining),
        "X-RateLimit-Reset-Requests": f"{int(verdict.all)}s{verdict.all % 1 * 1000:.0f}ms",
        "X-RateLimit-Limit-Tokens": "150000",
        "X-RateLimit-Remaining-Tokens": "149984",
        "X-RateLimit-Reset-Tokens": "6ms",
    } | again


def anthropic(verdict: Verdict, now: float) -> dict[str, str]:
    full = datetime.fromtimestamp(math.ceil(now + verdict.all), UTC).isoformat().replace("+00:00", "Z")
    return {
        "Anthropic-RateLimit-Requests-Limit": str(LIMIT),
        "Anthropic-RateLimit-Requests-Remaining": str(verdict.remaining),
        "Anthropic-RateLimit-Requests-Reset": full,
        "Anthropic-RateLimit-Tokens-Limit": "100000",
        "Anthropic-RateLimit-Tokens-Remaining": "99000",
        "Anthropic-RateLimit-Tokens-Reset": full,
    } | retry_after(verdict, now)


def discord(verdict: Verdict, now: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(LIMIT),
        "X-RateLimit-Remaining": str(verdict.remaining),
        "X-RateLimit-Reset": f"{now + verdict.more:.3f}",
        "X-RateLimit-Reset-After": f"{verdict.more:.3f}",
        "X-RateLimit-Bucket": "abcd1234",
    } | retry_after(verdict, now)


FAMILIES: dict[str, Family] = {
    each.__name__: each
    for each in (
        nothing,
        retry_after,
        retry_after_float,
        retry_after_date,
        ietf,
        ietf_before,
        github,
        x,
        openai,
        anthropic,
        discord,
    )
}

YEAR = 31_536_000


def a_year(verdict: Verdict, now: float) -> dict[str, str]:
    return {} if verdict.admitted else {"Retry-After": str(YEAR)}


def a_year_always(verdict: Verdict, now: float) -> dict[str, str]:
    return {"RateLimit": f'"default";r=0;t={YEAR}'} | a_year(verdict, now)


def negative(verdict: Verdict, now: float) -> dict[str, str]:
    return {"X-RateLimit-Remaining": "-5", "X-RateLimit-Reset": "-1", "Retry-After": "-3"}


def garbage(verdict: Verdict, now: float) -> dict[str, str]:
    return {"RateLimit": '"default;r=;t', "X-RateLimit-Remaining": "many", "Retry-After": "soon, or never"}


def huge(verdict: Verdict, now: float) -> dict[str, str]:
    return {"RateLimit": f'"default";r={10**15 - 1};t=1', "Retry-After": "9" * 60}


def at_once(verdict: Verdict, now: float) -> dict[str, str]:
    return {"RateLimit": '"default";r=0;t=0', "Retry-After": "0"}


def a_narrow_policy(verdict: Verdict, now: float) -> dict[str, str]:
    return ietf(verdict, now) | {"RateLimit-Policy": f'"default";q=1;w={YEAR}'}


def a_slow_policy(verdict: Verdict, now: float) -> dict[str, str]:
    return ietf(verdict, now) | {"RateLimit-Policy": f'"default";q={LIMIT // 20};w={WINDOW:.0f}'}


def a_wide_policy(verdict: Verdict, now: float) -> dict[str, str]:
    return ietf(verdict, now) | {"RateLimit-Policy": f'"default";q={10**15 - 1};w=1'}


LIES: dict[str, Family] = {
    each.__name__: each
    for each in (
        a_year,
        a_year_always,
        negative,
        garbage,
        huge,
        at_once,
        a_narrow_policy,
        a_slow_policy,
        a_wide_policy,
    )
}


class HiddenLimit:
    """A transport in front of a simulated server.

    Args:
        library: httpx or httpx2.
        kind: counts.
        family: says something.
        latency: seconds of a round trip, from and to.
    """

    def __init__(
        self, library: Any, kind: Any, family: Family, *, latency: tuple[float, float] = (0.002, 0.006), seed: int = 1
    ) -> None:
        self.library = library
        self.kind, self.family = kind, family
        self.latency = latency
        self.random = Random(seed)
        self.admitted: list[float] = []
        self.refused: list[float] = []
        self.arrived = 0.0

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def handle_async_request(self, request: Any) -> Any:
        # What is sent first arrives first; answers may overtake each other.
        self.arrived = max(self.arrived, anyio.current_time() + self.random.uniform(*self.latency) / 2)
        await anyio.sleep_until(self.arrived)
        now = anyio.current_time()
        verdict = self.kind(now)
        (self.admitted if verdict.admitted else self.refused).append(now)
        headers = self.family(verdict, EPOCH + now)
        headers["Date"] = format_datetime(datetime.fromtimestamp(int(EPOCH + now), UTC), usegmt=True)
        await anyio.sleep(self.random.uniform(*self.latency) / 2)
        return self.library.Response(200 if verdict.admitted else 429, headers=headers, request=request)
