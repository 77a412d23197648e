"""The middleware for aiohttp's client sessions, over real sockets."""

import asyncio

import aiohttp
import pytest

from pyrate_limiter import Duration, Limiter, LimiterDelayException, Rate
from pyrate_limiter.integrations.aiohttp import RateLimitMiddleware

from .wire import Wire, serving


@pytest.fixture
def anyio_backend():
    return "asyncio"  # aiohttp knows no other


@pytest.fixture
def wire():
    with serving(Wire()) as app:
        yield app


def session(*args, **options):
    return aiohttp.ClientSession(middlewares=[RateLimitMiddleware(*args, **options)])


async def test_a_hundred_at_once_find_the_limit_and_none_is_refused_to_the_caller(wire):
    wire.limit = 40

    async def one(http):
        async with http.get(wire.url + "/limited") as answer:
            return answer.status

    async with session(retries=8) as http:
        assert await asyncio.gather(*[one(http) for _ in range(100)]) == [200] * 100
    assert len(wire.requests) == 100 + wire.refused


async def test_each_request_on_the_wire_is_limited_once(wire):
    limiter = Limiter(Rate(100, Duration.HOUR))
    wire.refuse_next = 1
    async with session(limiter, retries=1) as http, http.post(wire.url + "/old", data=b"body") as answer:
        assert (answer.status, await answer.read()) == (200, b"body")
    assert len(wire.requests) == 3
    assert (await limiter.peek()).remaining == 97


async def test_a_challenge_is_a_request_too(wire):
    limiter = Limiter(Rate(100, Duration.HOUR))
    middlewares = [aiohttp.DigestAuthMiddleware("ada", "secret"), RateLimitMiddleware(limiter)]
    async with aiohttp.ClientSession(middlewares=middlewares) as http, http.get(wire.url + "/secret") as answer:
        assert answer.status == 200
    assert (len(wire.requests), (await limiter.peek()).remaining) == (2, 98)


async def test_a_body_that_cannot_be_read_again_is_not_replayed(wire):
    async def chunks():
        yield b"a"
        yield b"b"

    wire.refuse_next = 1
    async with session(retries=3) as http:
        async with http.post(wire.url + "/echo", data=chunks()) as answer:
            assert answer.status == 429
        assert wire.requests == [("POST", "/echo", b"ab")]
        async with http.post(wire.url + "/echo", json={"a": 1}) as answer:
            assert await answer.json(content_type=None) == {"a": 1}


async def test_connections_of_refusals_are_released(wire):
    wire.refuse_next = 3
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, middlewares=[RateLimitMiddleware(retries=3)]) as http:
        for _ in range(5):
            async with http.get(wire.url + "/echo") as answer:
                assert answer.status == 200


async def test_answers_are_streamed_through(wire):
    async with session() as http, http.get(wire.url + "/stream") as answer:
        assert b"".join([chunk async for chunk in answer.content.iter_any()]) == b"012"


async def test_a_request_that_is_given_up_while_it_waits_holds_up_nobody(wire):
    async with session() as http:
        wire.refuse_next = 1
        await (await http.get(wire.url + "/echo")).read()
        with pytest.raises(asyncio.TimeoutError):
            await http.get(wire.url + "/echo", timeout=aiohttp.ClientTimeout(total=0.01))
        assert (await http.get(wire.url + "/echo")).status == 200
    assert len(wire.requests) == 2


async def test_who_cannot_wait_so_long_is_told(wire):
    limiter = Limiter(Rate(1, Duration.HOUR))
    await limiter.take()
    async with session(limiter, max_wait=1) as http:
        with pytest.raises(LimiterDelayException):
            await http.get(wire.url)
    assert not wire.requests


async def test_who_cannot_wait_so_long_gets_a_429_if_that_is_wanted(wire):
    limiter = Limiter(Rate(1, Duration.HOUR))
    await limiter.take()
    ended = []

    async def end(session, context, params):
        ended.append(params.response.status)

    traces = aiohttp.TraceConfig()
    traces.on_request_end.append(end)
    limited = RateLimitMiddleware(limiter, max_wait=1, respond=True)
    async with aiohttp.ClientSession(middlewares=[limited], trace_configs=[traces]) as http:
        async with http.post(wire.url + "/echo#there", data=b"body") as answer:
            assert (answer.status, answer.ok, await answer.read(), await answer.text()) == (429, False, b"", "")
        assert 3590 <= int(answer.headers["Retry-After"]) <= 3600
        assert (b"retry-after", answer.headers["Retry-After"].encode()) in answer.raw_headers
        assert (answer.method, str(answer.url), answer.url.raw_path) == ("POST", wire.url + "/echo", "/echo")
        assert str(answer.real_url) == wire.url + "/echo#there"
        assert "not sent" in answer.reason
        assert [chunk async for chunk in answer.content.iter_any()] == []
        await answer.release()
        with pytest.raises(aiohttp.ClientResponseError, match="429, message=.not sent"):
            await http.get(wire.url, raise_for_status=True)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(wire.url)
        assert refused.value.status == 429
    assert ended == [429, 429]
    assert not wire.requests


async def test_a_429_of_our_own_behind_a_redirect_has_its_history(wire):
    limiter = Limiter(Rate(1, Duration.HOUR))
    async with session(limiter, max_wait=1, respond=True) as http, http.get(wire.url + "/old") as answer:
        assert (answer.status, [each.status for each in answer.history]) == (429, [307])
        assert answer.url.path == "/echo"


async def test_all_that_a_response_offers_is_there_in_a_429_of_our_own(wire):
    limiter = Limiter(Rate(1, Duration.HOUR))
    await limiter.take()
    async with session(limiter, max_wait=1, respond=True) as http:
        answer = await http.get(wire.url)
    deprecated = {"url_obj", "output_size", "upload_complete"}
    for name in set(dir(aiohttp.ClientResponse)) - deprecated:
        if not name.startswith("_"):
            getattr(answer, name)
    assert isinstance(answer, aiohttp.ClientResponse)
    assert (answer.closed, answer.connection, answer.host) == (True, None, "127.0.0.1")
    assert (await answer.json(), dict(answer.links), dict(answer.cookies), answer.charset) == (None, {}, {}, None)
    assert "[429 not sent" in repr(answer)


async def test_the_key_is_the_host_or_a_function_of_the_request(wire):
    limiter = Limiter(Rate(10, Duration.HOUR), keyed=True)
    async with session(limiter) as http:
        await http.get(wire.url + "/echo")
    assert (await limiter.peek(wire.url.removeprefix("http://"))).remaining == 9
    async with session(limiter, key=lambda request: request.headers["tenant"], weight=lambda request: 3) as http:
        await http.get(wire.url + "/echo", headers={"tenant": "a"})
    assert (await limiter.peek("a")).remaining == 7


async def test_other_signs_of_a_refusal_can_be_stated(wire):
    wire.refuse_next = 1
    async with session(retries=1, is_limited=lambda answer: answer.status == 200) as http:
        answer = await http.get(wire.url + "/echo")
    assert answer.status == 429
    assert len(wire.requests) == 1
