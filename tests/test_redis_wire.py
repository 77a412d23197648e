"""The connection that RedisBucket keeps for a URL: replies, errors, time limits, and whoever leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from redis import exceptions
from redis.asyncio import Redis

from pyrate_limiter.buckets.outage import Admit, Fail, StoreDown
from pyrate_limiter.buckets.redis import RedisBucket
from pyrate_limiter.buckets.redis.clients import ServerClock
from pyrate_limiter.buckets.redis.wire import Wire
from pyrate_limiter.clocks import SECOND
from pyrate_limiter.decisions import Decision
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Duration, Rate
from pyrate_limiter.testing import ManualClock
from pyrate_limiter.waiting.courier import Courier

from .proxy import Proxy
from .servers import HOST, RedisServer

RATE = Rate(3, Duration.MINUTE)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Transport:
    """Stands for that of a connection.

    Attributes:
        sent: what was written to it.
        ended: whether it was aborted.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = False

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def is_closing(self) -> bool:
        return self.ended

    def abort(self) -> None:
        if self.ended:
            raise AttributeError("an encrypted one of Python 3.11.2 cannot be aborted twice")
        self.ended = True


@pytest.fixture
async def transport() -> Transport:
    return Transport()


@pytest.fixture
async def wire(transport: Transport) -> Wire:
    wire = Wire(transport)  # type: ignore[arg-type]
    wire.until = asyncio.get_running_loop().time() + 60
    return wire


async def test_a_reply_may_come_in_pieces(wire: Wire, transport: Transport) -> None:
    reply = wire.ask(b"PING")
    for piece in (b"*2\r", b"\n:1\r\n", b":-", b"7\r\n"):
        assert not reply.done()
        wire.data_received(piece)
    assert await reply == [1, -7]
    assert transport.sent == [b"PING"]
    assert wire.usable


async def test_an_error_of_the_server_is_raised_and_the_connection_goes_on(wire: Wire) -> None:
    reply = wire.ask(b"EVALSHA")
    wire.data_received(b"-NOSCRIPT No matching script.\r\n")
    with pytest.raises(exceptions.NoScriptError):
        await reply
    assert wire.usable


async def test_a_lost_connection_is_an_error_at_once(wire: Wire, transport: Transport) -> None:
    reply = wire.ask(b"PING")
    transport.abort()
    wire.connection_lost(None)
    with pytest.raises(exceptions.ConnectionError, match="closed the connection"):
        await reply
    assert not wire.usable


async def test_an_end_may_be_said_twice(wire: Wire, transport: Transport) -> None:
    wire.end()
    wire.end()
    assert transport.ended


async def test_a_reply_that_is_late_is_never_taken_for_the_next(wire: Wire, transport: Transport) -> None:
    wire.until = asyncio.get_running_loop().time() + 0.01
    with pytest.raises(TimeoutError):
        await wire.ask(b"PING")
    assert transport.ended
    assert not wire.usable


async def test_a_reply_to_one_who_has_left_is_nobodys(wire: Wire, transport: Transport) -> None:
    task = asyncio.ensure_future(wire.ask(b"PING"))
    task.cancel()
    await asyncio.wait([task])
    assert not wire.usable
    wire.data_received(b"+PONG\r\n")
    assert wire.usable
    assert not transport.ended


async def test_what_nobody_asked_for_ends_the_connection(wire: Wire, transport: Transport) -> None:
    wire.data_received(b"+hello\r\n")
    assert transport.ended


async def test_more_than_was_asked_for_ends_the_connection(wire: Wire, transport: Transport) -> None:
    reply = wire.ask(b"PING")
    wire.data_received(b"+PONG\r\n+PONG\r\n")
    assert transport.ended
    wire.connection_lost(None)
    with pytest.raises(exceptions.ConnectionError):
        await reply


async def test_what_is_no_redis_is_told_so(prefix: str) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        bucket = RedisBucket(RATE, f"redis://{HOST}:{server.sockets[0].getsockname()[1]}", prefix=prefix)
        with pytest.raises(StoreError, match="refused the script: Protocol error"):
            await bucket.take()
        await bucket.aclose()


async def test_a_hundred_commands_need_one_timer(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = 0
    set_timer = wire._set_timer

    def counted() -> None:
        nonlocal timers
        timers += 1
        set_timer()

    monkeypatch.setattr(wire, "_set_timer", counted)
    for _ in range(100):
        reply = wire.ask(b"PING")
        wire.data_received(b"+PONG\r\n")
        await reply
    assert timers == 1


async def test_a_timer_of_the_past_ends_no_later_command(wire: Wire) -> None:
    loop = asyncio.get_running_loop()
    wire.until = loop.time() + 0.01
    first = wire.ask(b"PING")
    wire.data_received(b"+PONG\r\n")
    await first
    wire.until = loop.time() + 60
    second = wire.ask(b"PING")
    await asyncio.sleep(0.03)
    assert not second.done()
    wire.until = loop.time()
    wire._ring()
    with pytest.raises(TimeoutError):
        await second


# On a server.


def port_of(url: str) -> int:
    return urlsplit(url).port or 6379


@pytest.fixture
def prefix() -> str:
    """Return keys of one test's own."""
    return uuid.uuid4().hex


async def test_a_caller_who_leaves_in_the_middle_gets_nobody_anothers_reply(redis_url: str, prefix: str) -> None:
    with Proxy(port_of(redis_url)) as proxy:
        bucket = RedisBucket(RATE, f"redis://{HOST}:{proxy.port}", prefix=prefix, when_down=Fail(budget=0.2))
        assert (await bucket.take(key="a")).remaining == 2
        proxy.stall()
        with pytest.raises(StoreDown, match=r"did not answer within 0\.2 s"):
            await bucket.take(2, key="b")
        proxy.flow()
        await asyncio.sleep(1)
        assert (await bucket.take(key="a")).remaining == 1
        await bucket.aclose()


async def test_a_caller_who_leaves_leaves_the_connection_and_what_it_got(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix)
    await bucket.take(key="first")
    wire = bucket._client.here().wire
    for _ in range(5):
        task = asyncio.ensure_future(bucket.take(3))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert (await bucket.take(3)).remaining == 0
    assert bucket._client.here().wire is wire
    await bucket.aclose()


async def test_who_asks_alone_is_answered_without_a_courier(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix)
    await bucket.take()
    await asyncio.sleep(0.01)
    monkeypatch.setattr(Courier, "_serve", None)
    assert [bool(await bucket.take()) for _ in range(3)] == [True, True, False]
    monkeypatch.undo()
    await bucket.aclose()


async def test_a_script_that_the_server_has_lost_is_sent_again(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix)
    async with Redis.from_url(redis_url) as direct:
        for left in (2, 1, 0):
            await asyncio.sleep(0.01)  # so that it asks alone
            assert (await bucket.take()).remaining == left
            await direct.script_flush()
    await bucket.aclose()


async def test_a_lost_connection_is_the_first_of_two_attempts(redis_url: str, prefix: str) -> None:
    with Proxy(port_of(redis_url)) as proxy:
        bucket = RedisBucket(RATE, f"redis://{HOST}:{proxy.port}", prefix=prefix, when_down=Fail(budget=5, probe=60))
        await bucket.take()
        proxy.stall()
        task = asyncio.ensure_future(bucket.take())
        await asyncio.sleep(0.05)
        proxy.drop()
        proxy.flow()
        assert (await task).allowed
        assert bucket.outage.outages == 0
    with pytest.raises(StoreDown):
        await bucket.take()
    assert bucket.outage.outages == 1
    await bucket.aclose()


@pytest.mark.parametrize("end", ["lost", "too late"])
async def test_both_attempts_together_have_one_budget(redis_url: str, prefix: str, end: str) -> None:
    with Proxy(port_of(redis_url)) as proxy:
        bucket = RedisBucket(RATE, f"redis://{HOST}:{proxy.port}", prefix=prefix, when_down=Fail(budget=1))
        await bucket.take()
        home = bucket._client.here()
        if end == "too late":
            home.clock = ServerClock()
        proxy.stall()
        began = time.monotonic()
        task = asyncio.ensure_future(bucket.take())
        await asyncio.sleep(0.7)
        if end == "lost":
            proxy.drop()  # and nobody answers on the new connection
        else:
            home.wire.data_received(b"*2\r\n:1\r\n:-1\r\n")
        with pytest.raises(StoreDown):
            await task
        assert 0.9 < time.monotonic() - began < 1.5
        await bucket.aclose()


async def test_what_is_no_reply_of_the_script_is_an_error_too(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix)
    await bucket.take()
    wire = bucket._client.here().wire
    for _ in range(2):  # for the two ways of asking
        await asyncio.sleep(0.01)
        tell = wire._tell
        wire._tell = lambda _, tell=tell: tell(7)
        with pytest.raises(TypeError):
            await asyncio.wait_for(bucket.take(), 5)
        wire._tell = tell
    assert await bucket.take(key="another")
    await bucket.aclose()


async def test_what_came_to_nothing_for_one_who_has_left_is_told_to_nobody(redis_url: str, prefix: str) -> None:
    with Proxy(port_of(redis_url)) as proxy:
        bucket = RedisBucket(RATE, f"redis://{HOST}:{proxy.port}", prefix=prefix, when_down=Fail(budget=0.2))
        await bucket.take()
        proxy.stall()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bucket.take(), 0.05)
        await asyncio.sleep(0.3)
        proxy.flow()
        assert await bucket.take()
        assert bucket.outage.outages == 0
        await bucket.aclose()


async def alone(bucket: RedisBucket) -> Decision:
    """Take one unit in a turn of the loop in which no courier is left."""
    await asyncio.sleep(0.01)
    return await bucket.take()


async def test_what_is_known_of_the_servers_clock_is_mended_by_whoever_asks_alone(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix)
    await bucket.take()
    home = bucket._client.here()
    right = home.clock.moment(0)
    for seconds in (10, -10):  # too late a deadline, and one that is over when it arrives
        home.clock = ServerClock()
        home.clock.learn(round(right) + seconds * SECOND, 0, 0)
        assert await alone(bucket)
        assert home.clock.moment(0) == pytest.approx(right, abs=SECOND)
    await bucket.aclose()


async def test_while_a_server_cannot_serve_nobody_asks_it_alone(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix, when_down=Admit(probe=60))
    await bucket.take()
    bucket.outage._open(StoreDown("it is loading its data"), [])
    assert (await alone(bucket)).degraded
    await bucket.aclose()


async def test_whoever_asks_alone_is_told_the_time_of_a_test(redis_url: str, prefix: str) -> None:
    clock = ManualClock(1_000 * SECOND)
    bucket = RedisBucket(RATE, redis_url, prefix=prefix, clock=clock)
    stamps = []
    for _ in range(3):
        stamps.append((await alone(bucket)).at)
        clock.advance(1)
    assert stamps == [1_000 * SECOND, 1_001 * SECOND, 1_002 * SECOND]
    await bucket.aclose()


async def test_a_server_far_away_gives_more_at_once_to_those_who_come_after_one_alone(
    redis_url: str, prefix: str
) -> None:
    with Proxy(port_of(redis_url), delay=0.02) as proxy:
        bucket = RedisBucket(Rate(6400, 1000), f"redis://{HOST}:{proxy.port}", prefix=prefix)
        await bucket.take()
        bucket.share = bucket._share.least
        await alone(bucket)
        assert bucket.share >= 2 * 6400 * 0.04
        await bucket.aclose()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(authority: trustme.CA, redis_url: str) -> Iterator[Proxy]:
    """Return a way to the server that is encrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    with Proxy(port_of(redis_url), encryption=context) as proxy:
        yield proxy


async def test_a_connection_may_be_encrypted(
    secured: Proxy, authority: trustme.CA, prefix: str, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = f"rediss://{HOST}:{secured.port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
    bucket = RedisBucket(RATE, url, prefix=prefix)
    assert [bool(await bucket.take()) for _ in range(4)] == [True, True, True, False]
    secured.drop()
    assert not await bucket.take()
    await bucket.aclose()


async def test_a_server_that_nobody_can_prove_is_refused(secured: Proxy, prefix: str) -> None:
    bucket = RedisBucket(RATE, f"rediss://{HOST}:{secured.port}", prefix=prefix)
    with pytest.raises(StoreError, match="certificate"):
        await bucket.take()
    await bucket.aclose()


async def test_a_url_says_who_asks_and_in_which_database(private_redis: RedisServer, prefix: str) -> None:
    with private_redis.client() as direct:
        direct.acl_setuser("limiter", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
        url = private_redis.url.replace("//", "//limiter:secret@").removesuffix("/0") + "/3"
        bucket = RedisBucket(RATE, url, prefix=prefix)
        await bucket.take()
        assert direct.info("keyspace")["db3"]["keys"] == 1
        await bucket.aclose()


async def test_only_replies_are_said_to_us(private_redis: RedisServer, prefix: str) -> None:
    bucket = RedisBucket(RATE, f"{private_redis.url}?protocol=3", prefix=prefix)
    await bucket.take()
    with private_redis.client() as direct:
        protocols = {client["resp"] for client in direct.client_list() if client["cmd"] == "evalsha"}
    assert protocols == {"2"}
    await bucket.aclose()


async def test_another_server_in_its_place_may_have_another_clock(redis_url: str, prefix: str) -> None:
    with Proxy(port_of(redis_url)) as proxy:
        bucket = RedisBucket(RATE, f"redis://{HOST}:{proxy.port}", prefix=prefix)
        await bucket.take()
        clock = bucket._client.here().clock
        assert clock.moment(0) != clock.moment(1)
    with pytest.raises(StoreDown):
        await bucket.take()
    clock = bucket._client.here().clock
    assert clock.moment(0) == clock.moment(1)
    await bucket.aclose()


async def test_a_server_is_tried_twice_for_a_call_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0
    open_connection = asyncio.open_connection

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        return await open_connection(*arguments, **options)

    monkeypatch.setattr(asyncio, "open_connection", counted)
    bucket = RedisBucket(RATE, f"redis://{HOST}:1")
    with pytest.raises(StoreDown):
        await bucket.take()
    assert tries == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
async def test_a_forked_child_takes_nothing_from_its_parents_loop(redis_url: str, prefix: str) -> None:
    bucket = RedisBucket(RATE, redis_url, prefix=prefix, when_down=Fail(budget=2))
    await bucket.take()

    async def let_go() -> None:
        bucket._client._places.clear()  # type: ignore[attr-defined] # as if nobody had them any more
        gc.collect()

    child = os.fork()
    if not child:
        try:
            asyncio.events._set_running_loop(None)
            asyncio.run(let_go())
        finally:
            os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    assert await bucket.take()
    await bucket.aclose()
