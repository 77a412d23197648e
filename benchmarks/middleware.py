"""What a limit adds to a request of an ASGI app.

Ours with all fields on every answer, against a peer that is called by hand and says three fields.
"""

from __future__ import annotations

from typing import Any

from harness import Body, case, main, measure
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from results import FLOOR, Report

from pyrate_limiter import GCRA, Duration, InMemoryBucket, Limiter, Rate, SlidingWindowLog
from pyrate_limiter.integrations.asgi import Limit, RateLimitMiddleware

PLENTY = 10**6
"""Units per minute: never used up here."""
BARE, BY_HAND, REFUSED = "bare app", "limits, by hand", ", refused"
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/items/1",
    "client": ("203.0.113.7", 50000),
    "headers": [(b"host", b"example.org"), (b"accept", b"*/*")],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


class PassThrough:
    """What no middleware can be faster than."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class ByHand:
    """The moving window of `limits` and three fields, as one would write it."""

    def __init__(self, app: Any, per_minute: int) -> None:
        self.app = app
        self.window = MovingWindowRateLimiter(MemoryStorage())
        self.item = RateLimitItemPerMinute(per_minute)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        key = scope["client"][0]
        allowed = self.window.hit(self.item, key)
        reset, remaining = self.window.get_window_stats(self.item, key)
        fields = [
            (b"x-ratelimit-limit", b"%d" % self.item.amount),
            (b"x-ratelimit-remaining", b"%d" % remaining),
            (b"x-ratelimit-reset", b"%d" % reset),
        ]
        if not allowed:
            await send({"type": "http.response.start", "status": 429, "headers": fields})
            await send({"type": "http.response.body", "body": b"too many"})
            return

        async def send_with_fields(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *fields]}
            await send(message)

        await self.app(scope, receive, send_with_fields)


def ours(rate: Rate, algorithm: Any) -> RateLimitMiddleware:
    return RateLimitMiddleware(app, Limiter(InMemoryBucket(rate, algorithm=algorithm), keyed=True))


def requests(limited: Any) -> Body:
    async def send(message: Any) -> None: ...

    return case("await limited(scope, None, send)", limited=limited, scope=SCOPE, send=send)


def several() -> RateLimitMiddleware:
    limits = [Limit("/items/*", Rate(PLENTY, Duration.MINUTE)), Limit("*", Rate(PLENTY, Duration.HOUR), key=None)]
    return RateLimitMiddleware(app, limits)


async def benchmark(report: Report) -> None:
    open_, full = Rate(PLENTY, Duration.MINUTE), Rate(1, Duration.DAY)
    cases = {
        BARE: requests(app),
        f"{FLOOR}: a middleware that passes on": requests(PassThrough(app)),
        BY_HAND: requests(ByHand(app, PLENTY)),
        BY_HAND + REFUSED: requests(ByHand(app, 1)),
        "ours, log": requests(ours(open_, SlidingWindowLog)),
        "ours, GCRA": requests(ours(open_, GCRA)),
        "ours, log" + REFUSED: requests(ours(full, SlidingWindowLog)),
        "ours, two limits": requests(several()),
    }
    samples = await measure(cases)
    bare = min(samples.pop(BARE))
    added = {name: [taken - bare for taken in rounds] for name, rounds in samples.items()}
    table = report.times("Added to a request", added, BY_HAND)
    for name in ("ours, log", "ours, GCRA"):
        report.at_most(f"{name} / {BY_HAND}", table.ratio(name, BY_HAND), 1)
    report.at_most("ours, log", min(added["ours, log"]), 9, "µs")


if __name__ == "__main__":
    main(benchmark)
