"""A server on loopback, in a thread of its own, that counts what really came over the wire."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

WINDOW = 0.5


class Wire:
    """An ASGI app: ``/limited`` admits so many requests in any half second, the others answer as they are called.

    ``/secret`` is open to all who know that they must say something.
    """

    def __init__(self, limit: int = 20) -> None:
        self.limit = limit
        self.log: deque[float] = deque()
        self.requests: list[tuple[str, str, bytes]] = []  # method, path, body
        self.refused = 0
        self.refuse_next = 0
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        self.requests.append((scope["method"], path, body))
        if self.refuse_next:
            self.refuse_next -= 1
            await respond(send, 429, {"retry-after": "0.05"}, b"slow down" * 1000)
        elif path == "/limited":
            await self.limited(send)
        elif path == "/secret" and not any(name == b"authorization" for name, _ in scope["headers"]):
            challenge = {"www-authenticate": 'Digest realm="here", nonce="abc", qop="auth", algorithm=MD5'}
            await respond(send, 401, challenge, b"who are you?")
        elif path == "/old":
            await respond(send, 307, {"location": self.url + "/echo"}, b"moved")
        elif path == "/stream":
            await stream(send)
        else:
            await respond(send, 200, {}, body)

    async def limited(self, send: Any) -> None:
        now = time.monotonic()
        while self.log and self.log[0] <= now - WINDOW:
            self.log.popleft()
        if len(self.log) < self.limit:
            self.log.append(now)
            await respond(send, 200, {}, b"ok")
        else:
            self.refused += 1
            await respond(send, 429, {"retry-after": f"{self.log[0] + WINDOW - now:.3f}"}, b"slow down")


async def respond(send: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def stream(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(3):
        await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def serving(app: Wire) -> Iterator[Wire]:
    """Serve the app until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(10)
