"""The stream of events that the page reads."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import Any

import anyio

from ...integrations.asgi import Receive, Scope, Send
from ...integrations.holding import ClientGone, hold
from .exhibit import Exhibit

PAUSE = 0.04
"""Seconds between two events: what happens meanwhile comes together, so a reader gets 25 of them a second at most."""
GLANCE = 0.1
"""Seconds after which to look again while the budget is not whole: what is left grows by itself."""
HEARTBEAT = 15.0
"""Seconds after which something is sent although nothing happens, so that no proxy takes the stream for dead."""
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


class Stream:
    """Server-sent events: what there is to be seen of an exhibit, until the client goes or the exhibit closes.

    An ASGI app. Each event is a frame in JSON. The next one is made when the last one is sent, so a client that does
    not read has nothing queued for it.
    """

    def __init__(self, exhibit: Exhibit) -> None:
        self._exhibit = exhibit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        self._exhibit.readers += 1
        self._exhibit.journal.wake()
        try:
            with suppress(ClientGone):
                await hold(partial(self._tell, send), partial(_gone, receive))
        finally:
            self._exhibit.readers -= 1

    async def _tell(self, send: Send) -> None:
        read, journal = 0, self._exhibit.journal
        while not self._exhibit.closed:
            known, frame = journal.changes, await self._exhibit.frame(read)
            read = frame["read"]
            await send({"type": "http.response.body", "body": _event(frame), "more_body": True})
            await anyio.sleep(PAUSE)
            with anyio.move_on_after(HEARTBEAT if frame["whole"] else GLANCE):
                await journal.news(known)
        await send({"type": "http.response.body", "body": b""})


def _event(frame: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(frame, separators=(",", ":")).encode()


async def _gone(receive: Receive) -> bool:
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
