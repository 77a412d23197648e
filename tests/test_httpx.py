"""The transports for httpx and httpx2, in virtual time, in front of a server that follows a script."""

import asyncio

import anyio
import httpx
import httpx2
import pytest

from pyrate_limiter import (
    Duration,
    Limiter,
    LimiterClosed,
    LimiterDelayException,
    Rate,
    WeightTooLarge,
)
from pyrate_limiter.integrations.httpx import RateLimitedSyncTransport, RateLimitedTransport
from pyrate_limiter.testing import LoopClock

from .virtual import virtual_backends

anyio_backend = virtual_backends
JITTER = 1.03
"""A hold is prolonged by at most so much."""


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


class Script:
    """A transport that answers each request by a function of it, after a round trip."""

    def __init__(self, library, reply, *, latency=0.01):
        self.library = library
        self.reply = reply
        self.latency = latency
        self.sent = []  # (time, URL)
        self.under_way = self.most = 0
        self.closed = 0
        self.entered = self.left = False

    def times(self, host="api"):
        return [at for at, url in self.sent if url.host == host]

    async def handle_async_request(self, request):
        self.sent.append((anyio.current_time(), request.url))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            async for _ in request.stream:
                pass
            await anyio.sleep(self.latency)
            reply = self.reply(request, len(self.sent))
            if isinstance(reply, Exception):
                raise reply
            status, headers = reply
            return self.library.Response(status, headers=headers, stream=Body(self, self.library), request=request)
        finally:
            self.under_way -= 1

    async def __aenter__(self):
        self.entered = True
        return self

    async def __aexit__(self, *exc_info):
        self.left = True

    async def aclose(self):
        self.left = True


def Body(script, library):  # noqa: N802
    class Stream(library.AsyncByteStream):
        async def __aiter__(self):
            yield b"body"

        async def aclose(self):
            script.closed += 1

    return Stream()


def refuses(first, headers, status=429):
    """Refuse so many requests."""
    return lambda request, number: (status, headers) if number <= first else (200, {})


def client(library, script, limiter=None, **options):
    return library.AsyncClient(transport=RateLimitedTransport(limiter, wrapped=script, **options))


async def together(count, function, *args):
    """Run so many calls at once; return what they returned or raised."""
    results = []

    async def one():
        try:
            results.append(await function(*args))
        except Exception as error:
            results.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    return results


async def test_a_refusal_holds_back_all_who_share_the_host_until_the_stated_moment(library):
    script = Script(library, refuses(1, {"Retry-After": "5"}))
    async with client(library, script) as http:
        assert (await http.get("http://api/")).status_code == 429
        refused = anyio.current_time()
        answers = await together(10, http.get, "http://api/")
    assert {answer.status_code for answer in answers} == {200}
    assert refused + 5 <= min(script.times()[1:]) <= refused + 5 * JITTER


async def test_other_hosts_are_not_held_back(library):
    script = Script(library, refuses(1, {"Retry-After": "50"}))
    async with client(library, script) as http:
        await http.get("http://api/")
        before = anyio.current_time()
        for url in ("http://other/", "http://api:8080/"):
            assert (await http.get(url)).status_code == 200
    assert anyio.current_time() < before + 1


async def test_a_hold_is_capped(library):
    script = Script(library, refuses(1, {"Retry-After": "31536000"}))
    async with client(library, script, max_hold=3) as http:
        await http.get("http://api/")
        await http.get("http://api/")
    first, second = script.times()
    assert first + 3 <= second <= first + 3 * JITTER + 0.01


async def test_a_burst_of_refusals_counts_once(library):
    script = Script(library, refuses(20, {"Retry-After": "5"}))
    async with client(library, script, retries=1) as http:
        answers = await together(20, http.get, "http://api/")
    assert {answer.status_code for answer in answers} == {200}
    assert len(script.sent) == 40
    assert anyio.current_time() < 10


async def test_after_a_hold_few_go_first(library):
    script = Script(library, refuses(30, {"Retry-After": "5"}), latency=0.1)
    async with client(library, script, retries=1) as http:
        await together(30, http.get, "http://api/")
    again = script.times()[30:]
    assert again[1] >= again[0] + 0.1  # one alone, and then two
    assert again[3] >= again[1] + 0.1
    assert again == sorted(again)


async def test_what_is_left_holds_back_without_a_refusal(library):
    def reply(request, number):
        return 200, {"RateLimit": f'"default";r={max(0, 5 - number)};t=10'}

    script = Script(library, reply)
    async with client(library, script) as http:
        for _ in range(6):
            assert (await http.get("http://api/")).status_code == 200
    times = script.times()
    assert times[4] < 1
    assert times[5] >= times[4] + 10


async def test_requests_of_which_none_is_left_are_not_sent_at_once(library):
    def reply(request, number):
        return 200, {"RateLimit": f'"default";r={max(0, 20 - number)};t=10'}

    script = Script(library, reply)
    async with client(library, script) as http:
        await http.get("http://api/")
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(http.get, "http://api/")
            await anyio.sleep(5)
            assert len(script.sent) == 20
            group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "headers", "held"),
    [(503, {"Retry-After": "5"}, True), (503, {}, False), (500, {"Retry-After": "5"}, False), (429, {}, True)],
)
async def test_which_answers_refuse_for_the_rate(library, status, headers, held):
    script = Script(library, refuses(1, headers, status))
    async with client(library, script) as http:
        assert (await http.get("http://api/")).status_code == status
        await http.get("http://api/")
    first, second = script.times()
    assert (second > first + 0.3) == held


async def test_other_signs_of_a_refusal_can_be_stated(library):
    script = Script(library, refuses(1, {"Retry-After": "5"}, 403))
    async with client(library, script, retries=1, is_limited=lambda answer: answer.status_code == 403) as http:
        assert (await http.get("http://api/")).status_code == 200
    assert anyio.current_time() >= 5


async def test_retries_are_bounded_and_the_last_refusal_is_returned(library):
    script = Script(library, refuses(99, {"Retry-After": "1"}))
    async with client(library, script, retries=2) as http:
        answer = await http.get("http://api/")
        assert answer.status_code == 429
        assert answer.content == b"body"
    assert len(script.sent) == 3


async def test_a_refusal_that_nobody_reads_is_closed_before_the_retry(library):
    script = Script(library, refuses(2, {"Retry-After": "1"}))
    async with client(library, script, retries=2) as http, http.stream("GET", "http://api/") as answer:
        assert answer.status_code == 200
        assert script.closed == 2
    assert script.closed == 3


async def chunks():
    yield b"one"
    yield b"two"


async def test_a_body_that_cannot_be_read_again_is_not_replayed(library):
    script = Script(library, refuses(9, {"Retry-After": "1"}))
    async with client(library, script, retries=3) as http:
        assert (await http.post("http://api/", content=chunks())).status_code == 429
        assert len(script.sent) == 1
        assert (await http.post("http://api/", content=b"bytes")).status_code == 429
    assert len(script.sent) == 5


async def test_an_overloaded_server_is_not_asked_twice_for_what_it_may_have_done(library):
    script = Script(library, refuses(9, {"Retry-After": "1"}, 503))
    async with client(library, script, retries=3) as http:
        await http.post("http://api/", content=b"order")
        assert len(script.sent) == 1
        await http.put("http://api/", content=b"order")
    assert len(script.sent) == 5


async def test_who_cannot_wait_so_long_is_told_at_once(library):
    script = Script(library, refuses(1, {"Retry-After": "60"}))
    async with client(library, script, max_wait=5) as http:
        await http.get("http://api/")
        before = anyio.current_time()
        with pytest.raises(LimiterDelayException, match=r"'api' holds requests back for 6\d") as caught:
            await http.get("http://api/")
    assert caught.value.name == "api"
    assert anyio.current_time() == before
    assert len(script.sent) == 1


async def test_who_cannot_wait_so_long_gets_a_429_if_that_is_wanted(library):
    script = Script(library, refuses(1, {"Retry-After": "60"}))
    async with client(library, script, max_wait=5, respond=True) as http:
        await http.get("http://api/")
        answer = await http.get("http://api/")
    assert answer.status_code == 429
    assert 60 <= int(answer.headers["retry-after"]) <= 62
    assert answer.request.url.host == "api"
    assert len(script.sent) == 1


async def test_a_retry_that_would_come_too_late_leaves_the_refusal_to_the_caller(library):
    script = Script(library, refuses(1, {"Retry-After": "60"}))
    async with client(library, script, max_wait=5, retries=3) as http:
        answer = await http.get("http://api/")
    assert (answer.status_code, answer.content) == (429, b"body")


async def test_who_is_far_back_in_the_line_knows_that_the_pace_is_too_slow(library):
    def reply(request, number):
        return (429, {"Retry-After": "1"}) if number % 10 == 0 else (200, {})

    script = Script(library, reply)
    async with client(library, script, max_wait=3, retries=9) as http:
        answers = await together(200, http.get, "http://api/")
    late = [answer for answer in answers if isinstance(answer, LimiterDelayException)]
    assert late
    assert anyio.current_time() < 3.5


async def test_the_limiter_is_asked_once_for_each_request_on_the_wire(library):
    def reply(request, number):
        if request.url.path == "/old":
            return 302, {"Location": "http://api/new"}
        return (429, {"Retry-After": "1"}) if number == 2 else (200, {})

    script = Script(library, reply)
    limiter = Limiter(Rate(10, Duration.HOUR), clock=LoopClock(), keyed=True)
    async with client(library, script, limiter, retries=1) as http:
        answer = await http.get("http://api/old", follow_redirects=True)
    assert answer.status_code == 200
    assert len(script.sent) == 3
    assert (await limiter.peek("api")).remaining == 7


async def test_a_challenge_is_a_request_too(library):
    class Auth(library.Auth):
        def auth_flow(self, request):
            response = yield request
            assert response.status_code == 401
            request.headers["Authorization"] = "yes"
            yield request

    script = Script(library, lambda request, _: (200 if "Authorization" in request.headers else 401, {}))
    limiter = Limiter(Rate(10, Duration.HOUR), clock=LoopClock(), keyed=True)
    async with client(library, script, limiter) as http:
        assert (await http.get("http://api/", auth=Auth())).status_code == 200
    assert (await limiter.peek("api")).remaining == 8


async def test_the_limiter_spaces_requests_behind_a_hold(library):
    script = Script(library, refuses(1, {"Retry-After": "5"}))
    limiter = Limiter(Rate(2, Duration.SECOND), clock=LoopClock(), buffer_ms=0)
    async with client(library, script, limiter) as http:
        await http.get("http://api/")
        await together(8, http.get, "http://api/")
    times = script.times()[1:]
    assert times[0] >= 5  # permits that were taken before the hold would have gone all at once
    assert all(later - earlier >= 0.999 for earlier, later in zip(times, times[2:], strict=False))


async def test_key_and_weight_are_functions_of_the_request(library):
    script = Script(library, lambda *_: (200, {}))
    limiter = Limiter(Rate(10, Duration.HOUR), clock=LoopClock(), keyed=True)
    options = {"key": lambda request: request.url.path, "weight": lambda request: int(request.headers["cost"])}
    async with client(library, script, limiter, **options) as http:
        await http.get("http://api/a", headers={"cost": "3"})
        await http.get("http://api/b", headers={"cost": "4"}, extensions={"rate_limit_key": "tenant"})
    assert [(await limiter.peek(name)).remaining for name in ("/a", "/b", "tenant")] == [7, 10, 6]


@pytest.mark.parametrize(
    ("weight", "error"), [(1, LimiterDelayException), (99, WeightTooLarge)], ids=["not in time", "never"]
)
async def test_what_the_limiter_refuses_is_raised_or_answered(library, weight, error):
    script = Script(library, lambda *_: (200, {}))
    limiter = Limiter(Rate(1, Duration.HOUR), clock=LoopClock(), max_delay=Duration.SECOND)
    await limiter.take()
    async with client(library, script, limiter, weight=weight) as http:
        with pytest.raises(error):
            await http.get("http://api/")
    async with client(library, script, limiter, weight=weight, respond=True) as http:
        answer = await http.get("http://api/")
    assert answer.status_code == 429
    assert answer.headers.get("retry-after", "3600") == "3600"
    assert not script.sent


async def test_a_closed_limiter_is_an_error_and_not_a_429(library):
    limiter = Limiter(Rate(1, Duration.HOUR), clock=LoopClock())
    await limiter.aclose()
    async with client(library, Script(library, lambda *_: (200, {})), limiter, respond=True) as http:
        with pytest.raises(LimiterClosed):
            await http.get("http://api/")


async def test_a_limiter_alone_learns_nothing(library):
    script = Script(library, refuses(1, {"Retry-After": "50"}))
    limiter = Limiter(Rate(10, Duration.HOUR), clock=LoopClock())
    async with client(library, script, limiter, obey_server=False) as http:
        assert (await http.get("http://api/")).status_code == 429
        assert (await http.get("http://api/")).status_code == 200
    assert anyio.current_time() < 1


async def test_a_waiter_who_leaves_holds_up_nobody(library):
    script = Script(library, refuses(1, {"Retry-After": "5"}))
    async with client(library, script) as http:
        await http.get("http://api/")
        with anyio.move_on_after(1) as impatient:
            await http.get("http://api/")
        assert impatient.cancelled_caught
        assert (await http.get("http://api/")).status_code == 200
    assert len(script.sent) == 2


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_question_without_an_answer_holds_up_nobody(library, how):
    def reply(request, number):
        if number == 1:
            return 429, {"Retry-After": "5"}
        return library.ConnectError("no route") if number == 2 and how == "failed" else (200, {})

    script = Script(library, reply, latency=1)
    async with client(library, script) as http:
        await http.get("http://api/")
        async with anyio.create_task_group() as group:
            asking = anyio.CancelScope()

            async def ask():
                with asking:
                    with pytest.raises(library.ConnectError):
                        await http.get("http://api/")
                    return

            group.start_soon(ask)
            await anyio.sleep(5.5)
            assert len(script.sent) == 2
            if how == "cancelled":
                asking.cancel()
            assert (await http.get("http://api/")).status_code == 200


async def test_what_the_wrapped_transport_raises_passes(library):
    script = Script(library, lambda *_: library.ReadTimeout("slow"))
    async with client(library, script) as http:
        with pytest.raises(library.ReadTimeout):
            await http.get("http://api/")


async def test_the_wrapped_transport_is_entered_and_left(library):
    script = Script(library, lambda *_: (200, {}))
    async with client(library, script):
        assert script.entered
    assert script.left


async def test_servers_are_forgotten_before_they_are_too_many(library):
    from pyrate_limiter.integrations.learning import conduct

    script = Script(library, lambda *_: (200, {}), latency=0)
    transport = RateLimitedTransport(wrapped=script)
    for number in range(conduct.HOSTS + 10):
        await transport.handle_async_request(library.Request("GET", f"http://api{number}/"))
    assert len(transport._sender._conduct._gates) <= conduct.HOSTS


@pytest.mark.parametrize("kind", [RateLimitedTransport, RateLimitedSyncTransport])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obey_server": False}, "give a limiter"),
        ({"limiter": Limiter(Rate(1, 1)), "obey_server": False, "retries": 1}, "obey_server=True"),
        ({"max_hold": 0}, "max_hold"),
        ({"retries": -1}, "retries"),
        ({"max_wait": -1}, "max_wait"),
    ],
)
def test_options_that_contradict_each_other_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_the_sync_transport_waits_in_threads():
    def reply(request):
        count.append(request)
        return httpx.Response(429, headers={"Retry-After": "0.05"}) if len(count) == 1 else httpx.Response(200)

    count = []
    transport = RateLimitedSyncTransport(wrapped=httpx.MockTransport(reply), retries=1)
    with httpx.Client(transport=transport) as http:
        assert http.get("http://api/").status_code == 200
    assert len(count) == 2


def test_asyncios_own_cancellation_holds_up_nobody():
    async def main():
        script = Script(httpx, refuses(1, {"Retry-After": "0.1"}), latency=0)
        async with client(httpx, script) as http:
            await http.get("http://api/")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await http.get("http://api/")
            return await http.get("http://api/")

    assert asyncio.run(main()).status_code == 200


def test_a_client_that_outlives_a_loop_keeps_what_it_learned():
    transport = RateLimitedTransport(wrapped=Script(httpx, refuses(1, {"Retry-After": "0.2"}), latency=0))

    async def main():
        request = httpx.Request("GET", "http://api/")
        before = anyio.current_time()
        answer = await transport.handle_async_request(request)
        return answer.status_code, anyio.current_time() - before

    assert asyncio.run(main())[0] == 429
    status, waited = asyncio.run(main())
    assert status == 200
    assert waited > 0.1
