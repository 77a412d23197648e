"""An ASGI app called as a server calls it, without a server: on any event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import anyio
import http_sf

from pyrate_limiter import GCRA, InMemoryBucket, Limiter, Rate
from pyrate_limiter.testing import ManualClock

Headers = Iterable[tuple[bytes, bytes]]
ADDRESS = "203.0.113.7"


def keyed(limit: int, interval: int, clock: Any = None, algorithm: Any = GCRA) -> Limiter[bool]:
    """Return a limiter that tells its callers apart, on a clock to move."""
    bucket = InMemoryBucket(Rate(limit, interval), algorithm=algorithm, clock=clock or ManualClock())
    return Limiter(bucket, keyed=True)


def scope(path: str = "/", method: str = "GET", *, client: str | None = ADDRESS, headers: Headers = ()) -> Any:
    """Return the scope of a request."""
    peer = None if client is None else (client, 50000)
    return {"type": "http", "method": method, "path": path, "client": peer, "headers": list(headers)}


def handshake(path: str = "/", *, answers: bool = True) -> Any:
    """Return the scope of a WebSocket's handshake, on a server that can or cannot send an answer to it."""
    extensions = {"websocket.http.response": {}} if answers else {}
    return {"type": "websocket", "path": path, "client": (ADDRESS, 50000), "headers": [], "extensions": extensions}


class App:
    """An app that counts its calls and answers in two pieces.

    Attributes:
        calls: the scopes it was called with.
        received: the messages it read, if it reads.
    """

    def __init__(self, *, reads: int = 0) -> None:
        self.calls: list[Any] = []
        self.received: list[Any] = []
        self._reads = reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(scope)
        for _ in range(self._reads):
            self.received.append(await receive())
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})


class Response:
    """What an app sent.

    Attributes:
        messages: as they were sent.
    """

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    def values(self, name: str) -> list[str]:
        """Return the values of a field."""
        headers = self.messages[0].get("headers", ())
        return [value.decode() for found, value in headers if found == name.encode()]

    def value(self, name: str) -> str:
        """Return the one value of a field."""
        (value,) = self.values(name)
        return value

    def items(self, name: str) -> dict[str, dict[str, int]]:
        """Return a field that is a list of strings with parameters."""
        return items(self.value(name))


def items(value: str) -> dict[str, dict[str, int]]:
    """Parse a list of strings with parameters by RFC 9651."""
    return {text: dict(parameters) for text, parameters in http_sf.parse(value.encode(), tltype="list")}


async def never() -> Any:
    """Receive nothing: the client sent all it had, and is still there."""
    await anyio.sleep_forever()


async def call(app: Any, request: Any = None, receive: Any = never) -> Response:
    """Call an app with a request, and return what it sent."""
    response = Response()
    await app(scope() if request is None else request, receive, response.send)
    return response


def at_once(coroutine: Coroutine[Any, Any, Response]) -> Response:
    """Run a coroutine that has nothing to wait for, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


async def statuses(app: Any, count: int, **options: Any) -> list[int]:
    """Call an app several times, and return the statuses of its responses."""
    return [(await call(app, scope(**options))).status for _ in range(count)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that a server does has happened; it is no event that a test could wait for."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)
