"""The ASGI middleware in Litestar and in Quart, on a real server, also on trio."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
import sniffio
from hypercorn import Config
from litestar import Litestar, Request, get, post
from litestar import WebSocket as LitestarSocket
from litestar import websocket as litestar_websocket
from litestar.middleware import DefineMiddleware
from litestar.response import Stream
from quart import Quart
from quart import request as quart_request
from quart import websocket as quart_socket

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from pyrate_limiter.integrations.asgi import RateLimitMiddleware

from .asgi import items, until

Limited = Any
"""Makes an app with such a middleware around everything that it does."""


def litestar(*args: Any, **options: Any) -> Limited:
    """Return an app of Litestar's, which runs on both."""

    @get("/")
    async def hello() -> str:
        return "hello"

    @post("/length", status_code=200)
    async def length(request: Request[Any, Any, Any]) -> str:
        return str(len(await request.body()))

    @get("/stream")
    async def stream() -> Stream:
        return Stream(pieces())

    @litestar_websocket("/socket")
    async def greet(socket: LitestarSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    return RateLimitMiddleware(Litestar([hello, length, stream, greet], logging_config=None), *args, **options)


def quart(*args: Any, **options: Any) -> Limited:
    """Return an app of Quart's, as its documentation wraps one."""
    app = Quart(__name__)

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.post("/length")
    async def length() -> str:
        return str(len(await quart_request.get_data()))

    @app.get("/stream")
    async def stream() -> Any:
        return pieces()

    @app.websocket("/socket")
    async def greet() -> None:
        await quart_socket.accept()

    app.asgi_app = RateLimitMiddleware(app.asgi_app, *args, **options)  # type: ignore[method-assign]
    return app


async def pieces() -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number


@pytest.fixture(
    params=[("asyncio", litestar), ("trio", litestar), ("asyncio", quart)],
    ids=lambda pair: f"{pair[1].__name__}-{pair[0]}",
)
def setting(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def anyio_backend(setting: Any) -> Any:
    return setting[0]


@pytest.fixture
def framework(setting: Any) -> Any:
    return setting[1]


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an app on a free port of loopback, on the running event loop, and yield a client of it."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog = None
    stop = anyio.Event()
    if sniffio.current_async_library() == "trio":
        from hypercorn.trio import serve
    else:
        from hypercorn.asyncio import serve
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await serve(app, config, shutdown_trigger=stop.wait)

        tasks.start_soon(run)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                yield client
        finally:
            stop.set()


async def handshake(client: httpx.AsyncClient, path: str) -> int:
    """Ask for a WebSocket, and return the status of the answer."""
    fields = [b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"]
    fields += [b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", b"host: here"]
    async with await anyio.connect_tcp("127.0.0.1", client.base_url.port) as stream:
        await stream.send(b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (path.encode(), b"\r\n".join(fields)))
        return int((await stream.receive()).split()[1])


async def test_a_client_gets_what_it_may_and_is_told_the_rest(framework):
    async with serving(framework("3/minute")) as client:
        found = [await client.get("/"), await client.post("/length", content=b"x" * 1000), await client.get("/stream")]
        refused = [await client.get("/"), await client.get("/nowhere")]
    assert [response.text for response in found] == ["hello", "1000", "012"]
    assert [items(response.headers["ratelimit"])["default"]["r"] for response in found] == [2, 1, 0]
    for response in refused:
        assert response.status_code == 429
        assert response.headers["content-type"] == "application/problem+json"
        assert 58 <= int(response.headers["retry-after"]) <= 60
        assert response.headers.get_list("ratelimit-policy") == ['"default";q=3;w=60']


async def test_a_handshake_is_limited(framework):
    async with serving(framework("1/minute")) as client:
        assert [await handshake(client, "/socket") for _ in range(2)] == [101, 429]


async def test_a_held_request_keeps_its_body_and_is_let_go_when_its_client_leaves(framework):
    bucket = InMemoryBucket(Rate(1, 200))
    async with serving(framework(Limiter(bucket, keyed=True), wait=60)) as client:
        bodies = [b"x" * 10, b"x" * 300_000]
        assert [(await client.post("/length", content=body)).text for body in bodies] == ["10", "300000"]
    bucket = InMemoryBucket(Rate(1, Duration.HOUR))
    async with serving(framework(Limiter(bucket, keyed=True), wait=7200)) as client:
        await client.get("/")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, "/")
            await until(lambda: bucket.statistics().waiting == 1)
            tasks.cancel_scope.cancel()
        await until(lambda: bucket.statistics().waiting == 0)


@pytest.mark.parametrize("setting", [("trio", litestar)], ids=["trio"])
async def test_as_a_middleware_of_litestars_it_is_made_for_each_route():
    @get("/a")
    async def a() -> None: ...

    @get("/b")
    async def b() -> None: ...

    async def statuses(limiter: Any) -> list[int]:
        app = Litestar([a, b], middleware=[DefineMiddleware(RateLimitMiddleware, limiter=limiter)], logging_config=None)
        async with serving(app) as client:
            return [(await client.get(path)).status_code for path in ("/a", "/a", "/b", "/nowhere")]

    assert await statuses("1/minute") == [200, 429, 200, 404]
    assert await statuses(Limiter(Rate(1, Duration.MINUTE), keyed=True)) == [200, 429, 429, 404]
