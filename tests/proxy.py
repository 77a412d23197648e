"""A TCP proxy with bad manners: it delays, stalls and drops what goes between a client and a server on loopback."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

from .servers import HOST

_Piece = tuple[float, bytes]
"""When it may go on, by the loop's clock, and what it is: nothing at the end."""


class Proxy:
    """Stands in front of a loopback port, in a thread and an event loop of its own.

    So it works the same for asyncio, trio, threads and other processes, and goes on while a test's loop is blocked.

    Attributes:
        port: where clients connect.
        encryption: how clients have to come, or None.
        delay: seconds that each piece of data takes each way; may be changed at any time.
        pieces: how many pieces of data came from clients: one for each call of a client that waits for its answers.
    """

    def __init__(self, target: int, delay: float = 0.0, encryption: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.encryption = encryption
        self.delay = delay
        self.pieces = 0
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        started: Future[int] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve(started)], name="proxy")
        self._thread.start()
        self.port = started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()

    def drop(self) -> None:
        """Break all connections, as a network or a load balancer would. New ones are welcome."""
        self._in_loop(self._cancel_all)

    def stall(self) -> None:
        """Let nothing through any more, either way; connections stay open, and new ones are accepted."""
        self._in_loop(self._flowing.clear)

    def flow(self) -> None:
        """Let through what has been held back, and all that follows."""
        self._in_loop(self._flowing.set)

    def _in_loop(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    async def _serve(self, started: Future[int]) -> None:
        self._loop, self._closed, self._flowing = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._flowing.set()
        async with asyncio.TaskGroup() as group:

            def connected(*streams: Any) -> None:
                connection = group.create_task(self._connect(*streams))
                self._connections.add(connection)
                connection.add_done_callback(self._connections.discard)

            server = await asyncio.start_server(connected, HOST, 0, ssl=self.encryption)
            started.set_result(server.sockets[0].getsockname()[1])
            await self._closed.wait()
            server.close()
            self._cancel_all()

    def _cancel_all(self) -> None:
        for connection in self._connections:
            connection.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            there, back = await asyncio.open_connection(HOST, self.target)
            writers.append(back)
            async with asyncio.TaskGroup() as ways:
                self._carry(ways, reader, back, counted=1)
                self._carry(ways, there, writer, counted=0)
            for each in writers:
                each.close()
                await each.wait_closed()
        except* OSError:
            pass  # one side is gone: so will be the other
        finally:
            for each in writers:
                with suppress(AttributeError):  # Python 3.11.2 cannot abort an encrypted one that is closed
                    each.transport.abort()

    def _carry(
        self, ways: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: int
    ) -> None:
        under_way: asyncio.Queue[_Piece] = asyncio.Queue()
        ways.create_task(self._receive(reader, under_way, counted))
        ways.create_task(self._send(under_way, writer))

    async def _receive(self, reader: asyncio.StreamReader, under_way: asyncio.Queue[_Piece], counted: int) -> None:
        data = b"-"
        while data:
            data = await reader.read(65536)
            self.pieces += counted if data else 0
            under_way.put_nowait((self._loop.time() + self.delay, data))

    async def _send(self, under_way: asyncio.Queue[_Piece], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flowing.wait()
            if not data:
                return writer.write_eof() if writer.can_write_eof() else writer.close()
            writer.write(data)
            await writer.drain()
