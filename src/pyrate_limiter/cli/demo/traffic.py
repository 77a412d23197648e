"""Requests that come from here: those that a visitor fires, and those that come by themselves."""

from __future__ import annotations

import random
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ...integrations.asgi import App, Message
from .exhibit import Exhibit


class Traffic:
    """Sends requests to an app, each as a server would hand it on, in a task of its own.

    A browser would not do: it keeps six connections to a server, so that no more than six could wait at once.

    Args:
        app: where they go.
        path: of each.
        tasks: where they run.
    """

    def __init__(self, app: App, path: str, tasks: TaskGroup) -> None:
        self._app, self._tasks = app, tasks
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "client": None,
            "server": None,
        }

    def fire(self, count: int = 1) -> None:
        """Send so many at once."""
        for _ in range(count):
            self._tasks.start_soon(self._send)

    async def flow(self, exhibit: Exhibit) -> None:
        """Send by chance as many a second as are set, while somebody looks."""
        chance = random.Random()  # noqa: S311 - arrivals, no secret
        while not exhibit.closed:
            known, per_second = exhibit.journal.changes, exhibit.settings.traffic
            if not per_second or not exhibit.readers:
                await exhibit.journal.news(known)
                continue
            await anyio.sleep(chance.expovariate(per_second))
            if exhibit.settings.traffic and exhibit.readers:
                self.fire()

    async def _send(self) -> None:
        await self._app(dict(self._scope), _nothing, _read)


async def _nothing() -> Message:
    """Receive nothing: the request has no body, and its client is still there."""
    await anyio.sleep_forever()
    return {"type": "http.disconnect"}


async def _read(message: Message) -> None:
    """Take note of nothing: what is answered is seen elsewhere."""
