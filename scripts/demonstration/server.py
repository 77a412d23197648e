"""A server that takes so many requests a second from each client, exactly, and answers 429 to all others.

It is a process of its own, with a clock and a sliding log of its own: nothing of the package decides here.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict, deque
from time import monotonic

from aiohttp import web
from wire import CLIENT, HOST, TOO_MANY

WINDOW = 1.0


class PickyServer:
    """The handler: at most `rate` requests of one client in any second. What is refused is not counted."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)

    async def answer(self, request: web.Request) -> web.Response:
        """Take the request, or refuse it."""
        now, taken = monotonic(), self._taken[request.headers[CLIENT]]
        while taken and taken[0] <= now - WINDOW:
            taken.popleft()
        if len(taken) >= self._rate:
            return web.Response(status=TOO_MANY, text="too fast")
        taken.append(now)
        return web.Response(text="done")


async def greet(_: web.Request) -> web.Response:
    """Answer what is not counted: clients open their connections with it."""
    return web.Response(text="hello")


async def serve(rate: int) -> None:
    """Serve on a free port, print it, and end when the input does."""
    app = web.Application()
    app.add_routes([web.get("/", PickyServer(rate).answer), web.get("/hello", greet)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
