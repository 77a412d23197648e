"""Limits of aiohttp's servers, asked by its client on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, StoreError
from pyrate_limiter.integrations.aiohttp import RateLimitServerMiddleware
from pyrate_limiter.integrations.fields import QUOTA_EXCEEDED
from pyrate_limiter.integrations.keys import api_key, forwarded, header
from pyrate_limiter.integrations.limits import Limit
from pyrate_limiter.testing import ScriptedStore

from .asgi import items, keyed, until


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiohttp's


class Server:
    """An app with a few routes, and a client of it.

    Attributes:
        calls: the paths that reached a handler.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.app = web.Application()
        self.app.add_routes(
            [
                web.route("*", "/", self.plain),
                web.get("/stream", self.stream),
                web.get("/missing", self.missing),
                web.get("/socket", self.socket),
            ]
        )
        self.session: aiohttp.ClientSession

    async def plain(self, request: web.Request) -> web.Response:
        self.calls.append(request.path_qs)
        return web.Response(text=f"hello {len(await request.read())}")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await response.write(b"two")
        return response

    async def missing(self, request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.close()
        return socket

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        runner = web.AppRunner(self.app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as self.session:
                yield self
        finally:
            await runner.cleanup()

    async def get(self, path: str = "/", method: str = "GET", **options: Any) -> tuple[int, Any, str]:
        async with self.session.request(method, path, **options) as response:
            return response.status, response.headers, await response.text()

    async def statuses(self, *paths: str, **options: Any) -> list[int]:
        return [(await self.get(path, **options))[0] for path in paths]


@asynccontextmanager
async def limited(limiter: Any, **options: Any) -> AsyncIterator[Server]:
    server = Server()
    RateLimitServerMiddleware(limiter, **options).install(server.app)
    async with server.running():
        yield server


async def test_what_does_not_fit_is_refused_and_told():
    async with limited(keyed(2, Duration.MINUTE)) as server:
        responses = [await server.get() for _ in range(3)]
    assert [status for status, _, _ in responses] == [200, 200, 429]
    assert [items(headers["RateLimit"])["default"]["r"] for _, headers, _ in responses] == [1, 0, 0]
    assert server.calls == ["/", "/"]
    _, headers, body = responses[-1]
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Retry-After"] == "30"
    assert json.loads(body)["type"] == QUOTA_EXCEEDED


@pytest.mark.parametrize("path", ["/", "/stream", "/missing", "/nowhere"])
async def test_every_response_says_what_is_left_once(path):
    async with limited(keyed(3, Duration.MINUTE), legacy_headers=True) as server:
        _, headers, _ = await server.get(path)
    assert headers.getall("RateLimit") == ['"default";r=2;t=20']
    assert headers.getall("RateLimit-Policy") == ['"default";q=3;w=60']
    assert headers.getall("X-RateLimit-Remaining") == ["2"]


async def test_as_a_plain_middleware_it_tells_all_but_streams():
    server = Server()
    server.app.middlewares.append(RateLimitServerMiddleware("9/minute"))
    async with server.running():
        told = {path: "RateLimit" in (await server.get(path))[1] for path in ("/", "/missing", "/stream")}
    assert told == {"/": True, "/missing": True, "/stream": False}


async def test_several_limits_are_for_their_paths_and_methods():
    limits = [Limit("*", "5/minute"), Limit("/", "1/hour", methods=["POST"], policy_name="writes")]
    async with limited(limits) as server:
        assert await server.statuses("/", "/", "/", method="POST") == [200, 429, 429]
        assert await server.statuses("/", "/", "/", "/", "/") == [200, 200, 200, 200, 429]


async def test_one_after_another_writes_the_fields_once():
    server = Server()
    for name in ("outer", "inner"):
        RateLimitServerMiddleware(keyed(2, Duration.MINUTE), policy_name=name).install(server.app)
    async with server.running():
        (value,) = (await server.get())[1].getall("RateLimit")
    assert list(items(value)) == ["outer", "inner"]


async def test_a_handshake_is_limited():
    async with limited("1/minute") as server:
        async with server.session.ws_connect("/socket") as socket:
            assert await socket.receive_str() == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await server.session.ws_connect("/socket")
    assert refused.value.status == 429


@pytest.mark.parametrize("key", [header("X-Tenant"), api_key("x-tenant"), lambda request: request.headers["x-tenant"]])
async def test_clients_are_told_apart_by_a_key(key):
    async with limited("1/minute", key=key) as server:
        found = [(await server.get(headers={"X-Tenant": tenant}))[0] for tenant in ("é☃", "b", "é☃")]
    assert found == [200, 200, 429]


async def test_bytes_that_are_no_text_are_a_key_like_any_other():
    async with limited("1/minute", key=lambda request: request.headers.get("x-tenant")) as server:
        host, port = server.session._base_url.host, server.session._base_url.port  # type: ignore[union-attr]
        heads = [await raw(host, port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Tenant: \xff\xfe\r\n\r\n") for _ in range(2)]
    assert [head.split()[1] for head in heads] == [b"200", b"429"]


async def raw(host: Any, port: Any, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def test_a_forwarded_address_counts_when_a_trusted_proxy_says_it():
    async with limited("1/minute", key=forwarded(["127.0.0.0/8"])) as server:
        found = [
            (await server.get(headers={"X-Forwarded-For": addresses}))[0]
            for addresses in ("198.51.100.1", "198.51.100.2", "1.1.1.1, 198.51.100.1")
        ]
    assert found == [200, 200, 429]


async def test_a_store_that_fails_is_answered_by_503():
    def fail(_: int) -> None:
        raise StoreError("down")

    store = ScriptedStore(Rate(5, Duration.SECOND), delay=0)
    store.fail = fail
    async with limited(Limiter(store, keyed=True)) as server:
        assert await server.statuses("/") == [503]
    assert server.calls == []


async def test_an_exception_in_the_key_function_is_an_error():
    def broken(request: Any) -> str:
        raise ZeroDivisionError

    async with limited("1/minute", key=broken) as server:
        assert await server.statuses("/") == [500]
    assert server.calls == []


async def test_a_request_is_held_until_it_fits_with_its_body():
    async with limited("1/100ms", wait=10) as server:
        bodies = [await server.get("/", "POST", data=b"x" * size) for size in (1, 300_000)]
    assert [body for _, _, body in bodies] == ["hello 1", "hello 300000"]


async def test_a_client_that_leaves_is_let_go(caplog):
    bucket = InMemoryBucket(Rate(1, Duration.HOUR))
    async with limited(Limiter(bucket, keyed=True), wait=7200) as server:
        await server.get()
        leaving = asyncio.create_task(server.get("/?leaves"))
        await until(lambda: bucket.statistics().waiting == 1)
        leaving.cancel()
        await until(lambda: bucket.statistics().waiting == 0)
    assert server.calls == ["/"]
    assert caplog.records == []
