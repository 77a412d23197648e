"""Limits of ASGI apps on real servers, asked by real clients, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from pyrate_limiter.integrations.asgi import RateLimitMiddleware
from pyrate_limiter.integrations.keys import first_of, forwarded, header, user

from .asgi import items, until


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an app on a free port of loopback, and yield its address without the scheme."""
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="on", timeout_graceful_shutdown=5, **options)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def client_of(app: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app, **options) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        yield client


async def hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse(f"hello {len(await request.body())}")


def starlette(*middleware: Middleware, **routes: Any) -> Starlette:
    paths = [Route(f"/{name}", endpoint, methods=["GET", "POST"]) for name, endpoint in routes.items()]
    return Starlette(routes=[Route("/", hello, methods=["GET", "POST"]), *paths], middleware=middleware)


@pytest.mark.parametrize("http", ["h11", "auto"])
async def test_a_client_gets_what_it_may_and_is_told_the_rest(http):
    app = starlette(Middleware(RateLimitMiddleware, limiter="2/minute", legacy_headers=True))
    async with client_of(app, http=http) as client:
        responses = [await client.post("/", content=b"x" * 1000) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [items(response.headers["ratelimit"])["default"]["r"] for response in responses] == [1, 0, 0]
    assert responses[0].text == "hello 1000"
    refused = responses[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert 58 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["violated-policies"] == ["default"]


async def test_a_head_is_refused_without_a_body():
    async with client_of(starlette(Middleware(RateLimitMiddleware, limiter="1/minute"))) as client:
        responses = [await client.head("/") for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 429]
    assert responses[-1].content == b""


async def test_a_stream_passes_piece_by_piece():
    first_seen = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await first_seen.wait()  # which is never set if the middleware holds the stream back
        yield b"last"

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(pieces())

    app = starlette(Middleware(RateLimitMiddleware, limiter="5/minute"), stream=stream)
    async with client_of(app) as client, client.stream("GET", "/stream") as response:
        received = []
        async with asyncio.timeout(5):
            async for piece in response.aiter_raw():
                received.append(piece)
                first_seen.set()
    assert b"".join(received) == b"firstlast"
    assert response.headers.get_list("ratelimit") == ['"default";r=4;t=60']


async def test_many_at_once_get_exactly_the_limit():
    async with client_of(starlette(Middleware(RateLimitMiddleware, limiter="30/minute"))) as client:
        responses = await asyncio.gather(*(client.get("/") for _ in range(100)))
    assert sum(response.status_code == 200 for response in responses) == 30


async def test_a_held_request_of_a_client_that_leaves_is_let_go():
    bucket = InMemoryBucket(Rate(1, Duration.HOUR))
    app = starlette(Middleware(RateLimitMiddleware, limiter=Limiter(bucket, keyed=True), wait=7200))
    async with client_of(app) as client:
        await client.get("/")
        leaving = asyncio.create_task(client.post("/", content=b"x" * 1000))
        await until(lambda: bucket.statistics().waiting == 1)
        leaving.cancel()
        await until(lambda: bucket.statistics().waiting == 0)


async def test_a_held_request_keeps_its_body():
    app = starlette(Middleware(RateLimitMiddleware, limiter="1/100ms", wait=10))
    async with client_of(app) as client:
        bodies = [b"x" * 10, b"x" * 300_000, b""]
        responses = [await client.post("/", content=body) for body in bodies]
    assert [response.text for response in responses] == ["hello 10", "hello 300000", "hello 0"]


async def greet(websocket: Any) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


# Older releases of uvicorn use a part of websockets that newer ones of it warn of.
@pytest.mark.filterwarnings("ignore:websockets.legacy is:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:websockets.server.WebSocketServerProtocol is:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
async def test_a_handshake_is_answered_by_429():
    app = Starlette(
        routes=[WebSocketRoute("/", greet)], middleware=[Middleware(RateLimitMiddleware, limiter="1/minute")]
    )
    async with serving(app) as address, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://{address}/") as socket:
            assert await socket.receive_str() == "hello"
            assert socket.get_extra_info("peername") is not None
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"http://{address}/")
    assert refused.value.status == 429
    assert refused.value.headers is not None
    assert 58 <= int(refused.value.headers["retry-after"]) <= 60


async def test_behind_a_trusted_proxy_the_forwarded_address_counts():
    keyed = forwarded(["127.0.0.1"])
    async with client_of(
        starlette(Middleware(RateLimitMiddleware, limiter="1/minute", key=keyed)), proxy_headers=False
    ) as client:
        found = [
            (await client.get("/", headers={"x-forwarded-for": addresses})).status_code
            for addresses in ("198.51.100.1", "198.51.100.2", "1.1.1.1, 198.51.100.1")
        ]
    assert found == [200, 200, 429]


@pytest.mark.parametrize("value", [b"\xff\xfe", b"\x80" * 5000, b'";\\,=', "é☃".encode(), b"a" * 60_000])
async def test_no_header_of_a_stranger_breaks_anything(value):
    app = starlette(Middleware(RateLimitMiddleware, limiter="1/minute", key=header("x-key")))
    async with client_of(app, http="h11", h11_max_incomplete_event_size=200_000) as client:
        found = [(await client.get("/", headers=[(b"x-key", value)])).status_code for _ in range(2)]
    assert found == [200, 429]


async def test_users_are_told_apart_inside_of_the_authentication():
    class ByHeader(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            name = conn.headers.get("x-user")
            return (AuthCredentials(), SimpleUser(name)) if name else None

    app = starlette(
        Middleware(AuthenticationMiddleware, backend=ByHeader()),
        Middleware(RateLimitMiddleware, limiter="1/minute", key=first_of(user(), header("x-tenant"))),
    )
    async with client_of(app) as client:
        found = [
            (await client.get("/", headers=headers)).status_code
            for headers in ({"x-user": "ada"}, {"x-user": "user-2"}, {"x-user": "ada"}, {}, {"x-tenant": "ada"}, {})
        ]
    assert found == [200, 200, 429, 200, 200, 429]


async def test_an_error_in_the_key_function_is_answered_by_500():
    def broken(scope: Any) -> str:
        raise ZeroDivisionError

    async with client_of(starlette(Middleware(RateLimitMiddleware, limiter="1/minute", key=broken))) as client:
        assert (await client.get("/")).status_code == 500
