"""The transport of httpx around one that answers at once: what it adds to a request, and what peers add.

`httpx-limiter` runs on pyrate-limiter, whose import name is ours, so it lives in an environment of its own:
``python -m venv /tmp/peer && /tmp/peer/bin/pip install httpx-limiter pyrate-limiter``, and then
``python benchmarks/transport.py --peer /tmp/peer/bin/python``. Without it only ours is measured.
"""

from __future__ import annotations

import sys
from itertools import cycle
from pathlib import Path

import httpx
from harness import Report, case, elsewhere, main, measure

from pyrate_limiter import Duration, Limiter, Rate
from pyrate_limiter.integrations.httpx import RateLimitedTransport

PLENTY = 10**7
"""Units per second: never used up here."""
BARE = "bare"
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
import asyncio, json, time, httpx
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
    print(json.dumps({{"bare": min(pair[0] for pair in pairs), "limited": min(pair[1] for pair in pairs)}}))

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
        "a limiter, learning": RateLimitedTransport(limiter, wrapped=Bare(PLAIN)),
        "a limiter, learning, IETF fields": RateLimitedTransport(limiter, wrapped=Bare(IETF)),
        "a limiter, learning, GitHub's fields": RateLimitedTransport(limiter, wrapped=Bare(GITHUB)),
    }
    figures = await measure({name: case(SEND, transport=each, request=request) for name, each in transports.items()})
    report.add(figures, against=(BARE,))
    for name in [*transports][1:]:
        report.at_most(f"{name}, more than {BARE}", figures[name].least - figures[BARE].least, 10, "µs")
    if PEER_PYTHON is not None:
        theirs = elsewhere(PEER_PYTHON, PEER)
        added = report.note("httpx-limiter on pyrate-limiter adds", theirs["limited"] - theirs["bare"], "µs")
        ours = figures["a limiter, learning"].least - figures[BARE].least
        report.at_most("a limiter, learning / httpx-limiter", ours / added, 1)


def _peer() -> Path | None:
    """Return the Python that has the peer, taken from the command line before the harness reads it."""
    if "--peer" not in sys.argv:
        return None
    at = sys.argv.index("--peer")
    _, path = sys.argv[at : at + 2]
    del sys.argv[at : at + 2]
    return Path(path)


PEER_PYTHON = _peer()

if __name__ == "__main__":
    main("transport", benchmark)
