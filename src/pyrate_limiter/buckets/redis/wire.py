"""A connection to one server, on which a reply takes the shortest way to whoever waits for it.

redis-py opens the connection and logs in, with all that a URL can say of that. Then its streams are left aside: what
they do for commands of all kinds takes longer than this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis
from redis import exceptions
from redis.asyncio.connection import DefaultParser


class Wire(asyncio.Protocol):
    """Sends one command at a time.

    Its timer is not set for each command, which would take a tenth as long as the command: it rings at the time limit
    of some command of the past, and then for the one under way.

    Args:
        transport: of a connection that is open and logged in, with nothing under way.

    Attributes:
        until: when the wait for the next reply ends, by the loop's clock; it is never put back.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.until = 0.0
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=exceptions.InvalidResponse, replyError=DefaultParser.parse_error)
        self._heard: Callable[[Any], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether a command may be sent: not while the reply to another one is still to come."""
        return self._heard is None and not self._transport.is_closing()

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Send a command, and return what is to be awaited for its reply.

        Raises:
            TimeoutError: it did not come in time.
            ConnectionError: the connection has ended, as redis-py says it.
            RedisError: what the server said in place of a reply.
        """
        reply = self._loop.create_future()
        self.send(command, partial(_settle, reply))
        return reply

    def send(self, command: bytes, heard: Callable[[Any], None]) -> None:
        """Send a command, and call `heard` with its reply, or with the error in place of one."""
        self._heard = heard
        if self._timer is None:
            self._set_timer()
        self._transport.write(command)

    def end(self) -> None:
        """End the connection at once."""
        if not self._transport.is_closing():  # Python 3.11.2 cannot abort an encrypted one twice
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            reply = self._reader.gets()
        except exceptions.InvalidResponse as error:
            self.end()
            self._tell(error)
            return
        if reply is False:
            return
        if self._heard is None or self._reader.has_data():  # more than was asked for: what answers to what?
            self.end()
        else:
            self._tell(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell(exceptions.ConnectionError(str(exc or "the server closed the connection")))
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(self.until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._heard is None:
            return
        if self._loop.time() < self.until:
            self._set_timer()
        else:
            self.end()
            self._tell(TimeoutError())

    def _tell(self, reply: Any) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(reply)


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return  # whoever asked has left
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)
