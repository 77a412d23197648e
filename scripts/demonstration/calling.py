"""The client: tasks that call the server through httpx, with or without a limiter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import httpx
from wire import CLIENT, TOO_MANY

from pyrate_limiter import Limiter
from pyrate_limiter.integrations.httpx import RateLimitedTransport

Report = Callable[[bool], None]


class Calls(NamedTuple):
    """What one process is to do.

    Attributes:
        url: of the server.
        client: the name to call under.
        requests: how many calls to make.
        tasks: from how many tasks.
    """

    url: str
    client: str
    requests: int
    tasks: int


async def make_calls(calls: Calls, limiter: Limiter[bool] | None, started: Callable[[], None], report: Report) -> None:
    """Make all calls, from all tasks, and report each.

    Args:
        calls: what to do.
        limiter: what is asked before each call, or None.
        started: called when the connections are open.
        report: called after each call with whether the server took it.
    """
    numbers = iter(range(calls.requests))
    wire = httpx.AsyncHTTPTransport()
    transport = wire if limiter is None else RateLimitedTransport(limiter, wrapped=wire)

    async def task() -> None:
        for _ in numbers:
            response = await client.get("/")
            report(response.status_code != TOO_MANY)

    async with httpx.AsyncClient(base_url=calls.url, headers={CLIENT: calls.client}, transport=transport) as client:
        await asyncio.gather(*(greet(wire, calls.url) for _ in range(calls.tasks)))
        started()
        await asyncio.gather(*(task() for _ in range(calls.tasks)))


async def greet(wire: httpx.AsyncHTTPTransport, url: str) -> None:
    """Open a connection, so that no call that counts has to."""
    response = await wire.handle_async_request(httpx.Request("GET", f"{url}/hello"))
    await response.aread()
