"""A connection to one server, on which a reply takes the shortest way to whoever waits for it.

redis-py opens the connection and logs in, with all that a URL can say of that. Then its streams are left aside: what
they do for commands of all kinds takes longer than this one.
"""

from __future__ import annotations

import asyncio
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
        self._reply: asyncio.Future[Any] = self._loop.create_future()
        self._reply.set_result(None)
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether a command may be sent: not where a reply is still to come for which nobody waits any more."""
        return not (self._transport.is_closing() or self._reply.cancelled())

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Send a command, and return what is to be awaited for its reply.

        Raises:
            TimeoutError: it did not come in time.
            ConnectionError: the connection has ended, as redis-py says it.
            RedisError: what the server said in place of a reply.
        """
        self._reply = self._loop.create_future()
        if self._timer is None:
            self._set_timer()
        self._transport.write(command)
        return self._reply

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
            self._fail(error)
            return
        if reply is False:
            return
        if self._reply.done() or self._reader.has_data():  # more than was asked for: what answers to what?
            self.end()
        elif isinstance(reply, Exception):
            self._reply.set_exception(reply)
        else:
            self._reply.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exceptions.ConnectionError(str(exc or "the server closed the connection")))
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(self.until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._reply.done():
            return
        if self._loop.time() < self.until:
            self._set_timer()
        else:
            self.end()
            self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)
