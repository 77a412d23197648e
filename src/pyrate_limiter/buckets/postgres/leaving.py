"""Leaving a connection in the middle of a query.

psycopg answers a cancellation by asking the server to stop, over a second connection, and waits until it has: a server
that hangs never does. Here the connection is cut instead, and the query fails by that, at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import Any, TypeVar

from psycopg import AsyncConnection, Error, OperationalError

T = TypeVar("T")


@coroutine
def free_to_leave(connection: AsyncConnection[Any], work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Do a piece of work on a connection; should it be cancelled, close the connection and come back at once.

    Raises:
        psycopg.Error: it failed.
    """
    left: asyncio.CancelledError | None = None
    try:
        awaited = work.send(None)
        while True:
            try:
                yield awaited
            except asyncio.CancelledError as cancelled:
                left = cancelled
                _hang_up(connection)
                awaited = work.throw(OperationalError("left in the middle of a query"))
            else:
                awaited = work.send(None)
    except StopIteration as end:
        if left is None:
            result: T = end.value
            return result
    except Error:
        if left is None:
            raise
    connection.pgconn.finish()
    raise left


def _hang_up(connection: AsyncConnection[Any]) -> None:
    """Let the user of a connection see its end.

    The descriptor stays open until it has: another socket could get its number while the loop still watches it.
    """
    if connection.closed:
        return
    line = socket.socket(fileno=connection.fileno())
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.detach()
