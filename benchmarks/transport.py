"""What the transport of httpx adds to a request.

Around one that answers at once, with and without fields to learn from; and what httpx-limiter adds, which runs on
pyrate-limiter.
"""

from __future__ import annotations

from itertools import cycle

import httpx
from harness import case, elsewhere, in_turn, main, measure, peers
from results import Report

from pyrate_limiter import Duration, Limiter, Rate
from pyrate_limiter.integrations.httpx import RateLimitedTransport

PLENTY = 10**7
"""Units per second: never used up here."""
BARE, LEARNING, PEER_NAME = "no limit", "a limiter, learning", "httpx-limiter"
PLAIN = {
    "date": "Tue, 24 Nov 2026 09:00:00 GMT",
    "content-type": "application/json",
    "content-length": "2",
    "connection": "keep-alive",
    "server": "nginx",
}
IETF = PLAIN | {"ratelimit": '"default";r=4999;t=3', "ratelimit-policy": '"default";q=5000;w=60'}
GITHUB = PLAIN | {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1795000000"}
SEND = "await transport.handle_async_request(request)"
ROUND = """
    async def run(transport, calls):
        start = time.perf_counter()
        for _ in range(calls):
            await transport.handle_async_request(request)
        return (time.perf_counter() - start) / calls * 1e6
"""
PEER = f"""
import asyncio, time, httpx
from httpx_limiter import AsyncRateLimitedTransport
from httpx_limiter import Rate
from httpx_limiter.pyrate import PyrateAsyncLimiter

response = httpx.Response(200, headers={PLAIN!r})
request = httpx.Request("GET", "http://example.org/")

class Bare(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        return response

async def main():
{ROUND}
    bare = Bare()
    limiter = PyrateAsyncLimiter.create(Rate.create(magnitude={PLENTY}, duration=1))
    limited = AsyncRateLimitedTransport(limiter=limiter, transport=bare)
    pairs = [(await run(bare, 2000), await run(limited, 200)) for _ in range(60)]
    print(min(pair[1] for pair in pairs) - min(pair[0] for pair in pairs))

asyncio.run(main())
"""


class Bare(httpx.AsyncBaseTransport):
    """Answers at once, and each time that a little less is left."""

    def __init__(self, headers: dict[str, str]) -> None:
        counted = [
            {name: value.replace("4999", str(left)) for name, value in headers.items()} for left in range(4999, 999, -1)
        ]
        self.responses = cycle([httpx.Response(200, headers=each) for each in counted])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return next(self.responses)


async def benchmark(report: Report) -> None:
    request = httpx.Request("GET", "http://example.org/")
    limiter = Limiter(Rate(PLENTY, Duration.SECOND))
    transports = {
        BARE: Bare(PLAIN),
        "a limiter": RateLimitedTransport(limiter, wrapped=Bare(PLAIN), obey_server=False),
        "learning": RateLimitedTransport(wrapped=Bare(PLAIN)),
        LEARNING: RateLimitedTransport(limiter, wrapped=Bare(PLAIN)),
        f"{LEARNING}, IETF fields": RateLimitedTransport(limiter, wrapped=Bare(IETF)),
        f"{LEARNING}, GitHub's fields": RateLimitedTransport(limiter, wrapped=Bare(GITHUB)),
    }
    samples = await measure({name: case(SEND, transport=each, request=request) for name, each in transports.items()})
    bare = min(samples.pop(BARE))
    added = {name: [taken - bare for taken in rounds] for name, rounds in samples.items()}
    for name, python in peers(PEER_NAME).items():
        added[name] = in_turn({name: lambda: elsewhere(python, "-c", PEER)})[name]  # noqa: B023 - called at once
    table = report.times("Added to a request", added, PEER_NAME)
    for name in samples:
        report.at_most(f"{name}: added", min(added[name]), 10, "µs")
    if PEER_NAME in added:
        report.at_most(f"{LEARNING} / {PEER_NAME}", table.ratio(LEARNING, PEER_NAME), 1)


if __name__ == "__main__":
    main(benchmark)
