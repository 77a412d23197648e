"""The server of the page: where it listens, what it says, and how it ends."""

from __future__ import annotations

import socket
from contextlib import suppress

import anyio
import click
import uvicorn

from .app import create_app, greet
from .exhibit import Exhibit

PORT = 8000


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens: on this port, or for None on the usual one or else a free one.

    Raises:
        OSError: it cannot.
    """
    if port is None:
        with suppress(OSError):
            return listen(host, PORT)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port or 0), family=family, backlog=100)


def serve(listener: socket.socket, *, opens: bool) -> bool:
    """Serve the page until Ctrl-C, and say what came; return False: it never comes to an end by itself."""
    exhibit = Exhibit(greet)
    server = _Server(exhibit, opens=opens)
    with suppress(KeyboardInterrupt):
        anyio.run(server.serve, [listener])
    counts = exhibit.journal.counts
    click.echo(
        f"{counts['arrived']:,} requests: {counts['admitted']:,} admitted at once, {counts['waited']:,} after a wait,"
        f" {counts['refused']:,} refused"
    )
    return False


class _Server(uvicorn.Server):
    """Says where it listens, and lets go at the end whoever would keep it: streams, and requests that wait."""

    def __init__(self, exhibit: Exhibit, *, opens: bool) -> None:
        super().__init__(uvicorn.Config(create_app(exhibit), lifespan="on", log_level="warning", ws="none"))
        self._exhibit, self._opens = exhibit, opens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            address = _address(listener)
            click.echo(f"See it at {address} (Ctrl-C ends it)")
            if self._opens:
                click.launch(address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._exhibit.aclose()
        await super().shutdown(sockets)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
