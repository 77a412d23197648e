"""Holding a request until it fits, for as long as its client is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


class ClientGone(Exception):
    """The client went away while its request was held: nobody is there to be answered."""


async def hold(call: Callable[[], Awaitable[T]], gone: Callable[[], Awaitable[bool]]) -> T:
    """Await a call, unless the client goes away first.

    Args:
        call: what to await; it is cancelled when the client goes away.
        gone: returns True once the client is gone, False if that will not be known.

    Raises:
        ClientGone: the client went away.
        Exception: what the call raised.
    """
    results: list[T] = []
    errors: list[Exception] = []

    async def watch(scope: anyio.CancelScope) -> None:
        if await gone():
            scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        try:
            results.append(await call())
        except Exception as error:  # raised below: out of here it would come in a group
            errors.append(error)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ClientGone
    return results[0]
