"""The transports over real sockets: what the server saw, and what became of the connections."""

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import httpx2
import pytest

from pyrate_limiter import Duration, Limiter, Rate
from pyrate_limiter.integrations.httpx import RateLimitedSyncTransport, RateLimitedTransport

from .wire import Wire, serving


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def wire():
    with serving(Wire()) as app:
        yield app


def client(library, limiter=None, *, connections=100, **options):
    wrapped = library.AsyncHTTPTransport(limits=library.Limits(max_connections=connections))
    return library.AsyncClient(transport=RateLimitedTransport(limiter, wrapped=wrapped, **options), timeout=5)


async def test_a_hundred_at_once_find_the_limit_and_none_is_refused_to_the_caller(library, wire):
    wire.limit = 40
    statuses = []

    async def one(http):
        statuses.append((await http.get(wire.url + "/limited")).status_code)

    async with client(library, retries=8) as http, anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(one, http)
    assert statuses == [200] * 100
    assert len(wire.requests) == 100 + wire.refused


async def test_each_request_on_the_wire_is_limited_once(library, wire):
    limiter = Limiter(Rate(1000, Duration.HOUR))

    async def one(http):
        answer = await http.post(wire.url + "/old", content=b"body", follow_redirects=True)
        assert (answer.status_code, answer.content) == (200, b"body")

    wire.refuse_next = 5
    async with client(library, limiter, retries=8) as http, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one, http)
    assert len(wire.requests) == 45
    assert (await limiter.peek()).remaining == 1000 - 45


async def test_a_challenge_is_a_request_too(library, wire):
    limiter = Limiter(Rate(100, Duration.HOUR))
    async with client(library, limiter) as http:
        answer = await http.get(wire.url + "/secret", auth=library.DigestAuth("ada", "secret"))
    assert (answer.status_code, len(wire.requests), (await limiter.peek()).remaining) == (200, 2, 98)


async def test_connections_of_refusals_are_released(library, wire):
    wire.refuse_next = 3
    async with client(library, retries=3, connections=1) as http:
        for _ in range(5):
            assert (await http.get(wire.url + "/echo")).status_code == 200
    assert len(wire.requests) == 8


async def test_answers_are_streamed_through(library, wire):
    async with client(library) as http, http.stream("GET", wire.url + "/stream") as answer:
        assert b"".join([chunk async for chunk in answer.aiter_bytes()]) == b"012"


async def test_bodies_are_streamed_up_and_never_replayed(library, wire):
    read = 0

    async def body():
        nonlocal read
        for _ in range(3):
            read += 1
            yield b"x" * 10

    wire.refuse_next = 1
    async with client(library, retries=3) as http:
        answer = await http.post(wire.url + "/echo", content=body())
        assert answer.status_code == 429
        assert wire.requests == [("POST", "/echo", b"x" * 30)]
        assert (await http.post(wire.url + "/echo", content=body())).status_code == 200
    assert read == 6


async def test_cancelled_requests_give_their_connections_back(library, wire):
    async with client(library, connections=2) as http:
        wire.refuse_next = 1
        await http.get(wire.url + "/echo")
        for _ in range(5):
            with anyio.move_on_after(0.001):
                await http.get(wire.url + "/echo")
        assert (await http.get(wire.url + "/echo")).status_code == 200


async def test_without_a_wrapped_transport_it_makes_one_of_the_same_library(library, wire):
    async with library.AsyncClient(transport=RateLimitedTransport()) as http:
        assert (await http.get(wire.url + "/echo")).status_code == 200


async def test_many_that_come_first_make_one_transport_and_not_on_the_loop(library, wire, monkeypatch):
    made = []

    class Made(library.AsyncHTTPTransport):
        def __init__(self):
            super().__init__()
            made.append(threading.current_thread())

    monkeypatch.setattr(library, "AsyncHTTPTransport", Made)
    async with library.AsyncClient(transport=RateLimitedTransport()) as http, anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(http.get, wire.url + "/echo")
    assert len(made) == 1
    assert made[0] is not threading.main_thread()


def test_threads_share_what_they_learn(library, wire):
    transport = RateLimitedSyncTransport(retries=8)
    with library.Client(transport=transport, timeout=5) as http, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: http.get(wire.url + "/limited").status_code, range(60)))
    assert answers == [200] * 60
    assert wire.refused <= 30
