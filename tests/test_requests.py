"""The adapter for requests, over real sockets."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from pyrate_limiter import Duration, Limiter, LimiterDelayException, Rate
from pyrate_limiter.integrations.requests import RateLimitedAdapter

from .wire import Wire, serving


@pytest.fixture
def wire():
    with serving(Wire()) as app:
        yield app


def session(*args, **options):
    made = requests.Session()
    made.mount("http://", RateLimitedAdapter(*args, **options))
    return made


def test_threads_share_what_they_learn(wire):
    with session(retries=8) as http, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: http.get(wire.url + "/limited", timeout=5).status_code, range(60)))
    assert answers == [200] * 60
    assert len(wire.requests) == 60 + wire.refused


def test_each_request_on_the_wire_is_limited_once(wire):
    limiter = Limiter(Rate(100, Duration.HOUR))
    wire.refuse_next = 1
    with session(limiter, retries=1) as http:
        answer = http.post(wire.url + "/old", data=b"body")
    assert (answer.status_code, answer.content) == (200, b"body")
    assert len(wire.requests) == 3
    assert limiter.sync.peek().remaining == 97


def test_a_challenge_is_a_request_too(wire):
    limiter = Limiter(Rate(100, Duration.HOUR))
    with session(limiter) as http:
        answer = http.get(wire.url + "/secret", auth=requests.auth.HTTPDigestAuth("ada", "secret"))
    assert (answer.status_code, len(wire.requests), limiter.sync.peek().remaining) == (200, 2, 98)


def test_a_body_that_cannot_be_read_again_is_not_replayed(wire):
    wire.refuse_next = 1
    with session(retries=3) as http:
        assert http.post(wire.url + "/echo", data=(chunk for chunk in [b"a", b"b"])).status_code == 429
        assert wire.requests == [("POST", "/echo", b"ab")]
        assert http.post(wire.url + "/echo", data="text").content == b"text"


def test_connections_of_refusals_are_released(wire):
    closed = []

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, *args, **options):
            answer = super().send(*args, **options)
            answer.close = lambda close=answer.close: closed.append(answer.status_code) or close()
            return answer

    wire.refuse_next = 3
    with session(wrapped=Adapter(), retries=3) as http:
        assert http.get(wire.url + "/echo").status_code == 200
    assert closed == [429] * 3


def test_answers_are_streamed_through(wire):
    with session() as http, http.get(wire.url + "/stream", stream=True) as answer:
        assert b"".join(answer.iter_content(1)) == b"012"


def test_who_cannot_wait_so_long_is_told_or_answered():
    limiter = Limiter(Rate(1, Duration.HOUR))
    limiter.sync.take()
    with session(limiter, max_wait=1) as http, pytest.raises(LimiterDelayException):
        http.get("http://nowhere.invalid/")
    with session(limiter, max_wait=1, respond=True) as http:
        answer = http.get("http://nowhere.invalid/")
    assert (answer.status_code, answer.reason) == (429, "Too Many Requests")
    assert 3590 <= int(answer.headers["Retry-After"]) <= 3600
    assert "not sent" in answer.text


def test_the_key_is_the_host_or_a_function_of_the_request(wire):
    limiter = Limiter(Rate(10, Duration.HOUR), keyed=True)
    with session(limiter) as http:
        http.get(wire.url.replace("//", "//user:secret@") + "/echo")
    assert limiter.sync.peek(wire.url.removeprefix("http://")).remaining == 9
    with session(limiter, key=lambda request: request.headers["tenant"], weight=lambda request: 3) as http:
        http.get(wire.url + "/echo", headers={"tenant": "a"})
    assert limiter.sync.peek("a").remaining == 7


def test_other_adapters_can_be_wrapped_and_are_closed():
    class Closable(requests.adapters.HTTPAdapter):
        closed = False

        def close(self):
            self.closed = True

    inner = Closable()
    RateLimitedAdapter(wrapped=inner).close()
    assert inner.closed
