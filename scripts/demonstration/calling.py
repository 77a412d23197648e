"""The client: tasks that call the server, with or without a limiter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import httpx
from server import CLIENT, TOO_MANY

from pyrate_limiter import Limiter

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


async def call(client: httpx.AsyncClient, limiter: Limiter[bool] | None) -> bool:
    """Make one call and return whether the server took it."""
    if limiter is not None:
        await limiter.acquire()
    response = await client.get("/")
    return response.status_code != TOO_MANY


async def make_calls(calls: Calls, limiter: Limiter[bool] | None, started: Callable[[], None], report: Report) -> None:
    """Make all calls, from all tasks, and report each.

    Args:
        calls: what to do.
        limiter: what to wait for before each call, or None.
        started: called when the connections are open.
        report: called after each call with whether the server took it.
    """
    numbers = iter(range(calls.requests))

    async def task() -> None:
        for _ in numbers:
            report(await call(client, limiter))

    # trust_env: the way to a server on this machine leads through nobody's proxy.
    async with httpx.AsyncClient(base_url=calls.url, headers={CLIENT: calls.client}, trust_env=False) as client:
        await asyncio.gather(*(client.get("/hello") for _ in range(calls.tasks)))
        started()
        await asyncio.gather(*(task() for _ in range(calls.tasks)))
