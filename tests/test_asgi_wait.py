"""Requests that are held until they fit, on virtual time."""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
import pytest

from pyrate_limiter import Decision, Duration, InMemoryBucket, Limiter, LimiterDelayException, Rate, StoreError
from pyrate_limiter.integrations.asgi import READ_AHEAD, Limit, RateLimitMiddleware
from pyrate_limiter.testing import LoopClock, ScriptedStore

from .asgi import ADDRESS, App, Response, call, handshake, scope
from .virtual import virtual_backends

anyio_backend = virtual_backends


class Client:
    """A client that sends its messages at moments of its own, and then stays silent.

    Attributes:
        read: how many messages the server has read.
    """

    def __init__(self, *messages: tuple[float, Any]) -> None:
        self._messages = deque(messages)
        self.read = 0

    async def receive(self) -> Any:
        if not self._messages:
            await anyio.sleep_forever()
        at, message = self._messages[0]
        await anyio.sleep(max(0, at - anyio.current_time()))
        self._messages.popleft()  # not before: what is cancelled has read nothing
        self.read += 1
        return message


def body(data: bytes = b"", *, more: bool = False) -> Any:
    return {"type": "http.request", "body": data, "more_body": more}


GONE: Any = {"type": "http.disconnect"}


def limiter(limit: int = 1, interval: int = Duration.MINUTE, **options: Any) -> Limiter[bool]:
    return Limiter(InMemoryBucket(Rate(limit, interval), clock=LoopClock()), keyed=True, buffer_ms=0, **options)


async def test_a_request_is_held_until_it_fits():
    limited = RateLimitMiddleware(App(), limiter(), wait=100)
    await call(limited)
    response = await call(limited)
    assert response.status == 200
    assert anyio.current_time() == pytest.approx(60, abs=0.01)
    assert response.items("ratelimit") == {"default": {"r": 0, "t": 60}}


async def test_what_would_be_held_for_too_long_is_refused_at_once():
    limited = RateLimitMiddleware(App(), limiter(), wait=59)
    await call(limited)
    response = await call(limited)
    assert anyio.current_time() == 0
    assert response.status == 429
    assert response.value("retry-after") == "60"


async def test_the_wait_of_those_in_front_counts():
    limited = RateLimitMiddleware(App(), limiter(), wait=100)
    await call(limited)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, limited)
        await anyio.wait_all_tasks_blocked()
        response = await call(limited)
        assert anyio.current_time() < 1
        assert response.value("retry-after") == "120"


async def test_too_many_that_wait_are_refused():
    limited = RateLimitMiddleware(App(), limiter(max_waiters=1), wait=1000)
    await call(limited)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, limited)
        await anyio.wait_all_tasks_blocked()
        assert (await call(limited)).status == 429


async def test_a_client_that_goes_away_is_let_go_and_spends_nothing():
    app = App()
    limited = RateLimitMiddleware(app, limiter(), wait=100)
    await call(limited)
    response = await call(limited, receive=Client((0, body()), (10, GONE)).receive)
    assert anyio.current_time() == pytest.approx(10)
    assert response.messages == []
    assert len(app.calls) == 1
    assert (await call(limited)).status == 200
    assert anyio.current_time() == pytest.approx(60, abs=0.01)


async def test_a_client_that_goes_away_gives_back_what_other_limits_gave():
    first = limiter(3)
    limited = RateLimitMiddleware(App(), [Limit("*", first), Limit("/x", limiter(), wait=100, policy_name="x")])
    await call(limited, scope("/x"))
    await call(limited, scope("/x"), Client((5, GONE)).receive)
    assert [(await call(limited)).status for _ in range(3)] == [200, 200, 429]


async def test_the_app_receives_all_that_was_read_meanwhile():
    messages = [body(b"one", more=True), body(b"two", more=True), body(b"three")]
    app = App(reads=4)
    spent = limiter()
    await spent.take(ADDRESS)
    limited = RateLimitMiddleware(app, spent, wait=100)
    client = Client((0, messages[0]), (20, messages[1]), (70, messages[2]), (80, GONE))
    await call(limited, receive=client.receive)
    assert app.received == [*messages, GONE]


async def test_a_long_body_is_not_kept_in_memory():
    chunk = body(b"x" * 10_000, more=True)
    client = Client(*((0, chunk) for _ in range(100)))
    app = App(reads=100)
    spent = limiter()
    await spent.take(ADDRESS)
    limited = RateLimitMiddleware(app, spent, wait=100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, limited, scope(), client.receive)
        await anyio.wait_all_tasks_blocked()
        assert client.read * 10_000 < READ_AHEAD + 10_000
    assert app.received == [chunk] * 100


async def test_a_handshake_is_held_too():
    limited = RateLimitMiddleware(App(), limiter(), wait=100)
    await call(limited, handshake())
    response = await call(limited, handshake(), Client((0, {"type": "websocket.connect"})).receive)
    assert response.messages[0]["type"] == "websocket.accept"
    response = await call(limited, handshake(), Client((70, {"type": "websocket.disconnect"})).receive)
    assert response.messages == []
    assert anyio.current_time() == pytest.approx(70)


async def test_a_cancelled_request_spends_nothing():
    limited = RateLimitMiddleware(App(), limiter(), wait=100)
    await call(limited)
    response = Response()
    with anyio.move_on_after(5):
        await limited(scope(), Client().receive, response.send)
    assert response.messages == []
    assert (await call(limited)).status == 200
    assert anyio.current_time() == pytest.approx(60, abs=0.01)


async def test_a_store_that_fails_while_a_request_is_held_is_answered_by_503():
    store = ScriptedStore(Rate(1, Duration.MINUTE), delay=0, clock=LoopClock())
    limited = RateLimitMiddleware(App(), Limiter(store, keyed=True), wait=100)
    await call(limited)

    def fail(number: int) -> None:
        if anyio.current_time() > 1:
            raise StoreError("gone")

    store.fail = fail
    assert (await call(limited)).status == 503


async def test_shadow_holds_nothing():
    limited = RateLimitMiddleware(App(), limiter(), wait=100, shadow=True)
    assert [(await call(limited)).status for _ in range(2)] == [200, 200]
    assert anyio.current_time() == 0


async def test_what_would_be_held_for_too_long_asks_the_store_once():
    store = ScriptedStore(Rate(1, Duration.MINUTE), delay=0, clock=LoopClock())
    limited = RateLimitMiddleware(App(), Limiter(store, keyed=True), wait=50)
    assert [(await call(limited)).status for _ in range(2)] == [200, 429]
    assert len(store.calls) == 2


async def test_a_wait_in_vain_tells_the_wait_that_is_left():
    class Unlucky(Limiter[bool]):
        async def acquire(self, *args: Any, **options: Any) -> Decision:
            decision = await self.take(*args)
            raise LimiterDelayException.of(decision._replace(retry_after=77.7), 100)

    bucket = InMemoryBucket(Rate(1, Duration.MINUTE), clock=LoopClock())
    limited = RateLimitMiddleware(App(), Unlucky(bucket, keyed=True), wait=100)
    await call(limited)
    assert (await call(limited)).value("retry-after") == "78"
