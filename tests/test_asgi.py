"""Limits of an ASGI app: what passes, what does not, and what clients are told."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrate_limiter import (
    GCRA,
    BucketFactory,
    Duration,
    FixedWindow,
    InMemoryBucket,
    Limiter,
    Rate,
    SlidingWindowCounter,
    SlidingWindowLog,
    StoreError,
)
from pyrate_limiter.integrations.asgi import Limit, RateLimitMiddleware, decisions
from pyrate_limiter.integrations.fields import QUOTA_EXCEEDED, REDUCED_CAPACITY
from pyrate_limiter.testing import ManualClock, ScriptedStore

from .asgi import ADDRESS, App, Response, at_once, call, handshake, keyed, never, scope, statuses

algorithms = st.sampled_from([GCRA, FixedWindow, SlidingWindowCounter, SlidingWindowLog])
steps = st.lists(st.integers(0, 3000), max_size=20)


def failing(message: str = "the store is down") -> Limiter[bool]:
    store = ScriptedStore(Rate(5, Duration.SECOND), delay=0)

    def fail(_: int) -> None:
        raise StoreError(message)

    store.fail = fail
    return Limiter(store, keyed=True)


async def test_what_fits_passes_and_what_does_not_never_reaches_the_app():
    app = App()
    limited = RateLimitMiddleware(app, "2/minute")
    assert await statuses(limited, 4) == [200, 200, 429, 429]
    assert len(app.calls) == 2


async def test_an_admitted_response_says_what_is_left_and_passes_as_it_is():
    response = await call(RateLimitMiddleware(App(), keyed(10, Duration.SECOND * 5)))
    start, *rest = response.messages
    assert start["headers"] == [
        (b"x-app", b"1"),
        (b"ratelimit-policy", b'"default";q=10;w=5'),
        (b"ratelimit", b'"default";r=9;t=1'),
    ]
    assert rest == [
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.body", "body": b"two"},
    ]


async def test_a_refusal_is_a_problem_that_says_when_to_come_back():
    limited = RateLimitMiddleware(App(), keyed(1, Duration.MINUTE), policy_name="burst")
    await call(limited)
    response = await call(limited)
    assert response.status == 429
    assert response.value("content-type") == "application/problem+json"
    assert response.value("content-length") == str(len(response.body))
    assert response.value("cache-control") == "no-store"
    assert response.value("retry-after") == "60"
    assert response.items("ratelimit-policy") == {"burst": {"q": 1, "w": 60}}
    assert response.items("ratelimit") == {"burst": {"r": 0, "t": 60}}
    problem = json.loads(response.body)
    assert problem["type"] == QUOTA_EXCEEDED
    assert problem["status"] == 429
    assert problem["violated-policies"] == ["burst"]


async def test_whoever_comes_back_at_retry_after_is_admitted():
    clock = ManualClock()
    limited = RateLimitMiddleware(App(), keyed(3, 2500, clock, SlidingWindowLog))
    for step in (0.3, 0.7, 1.1, 0.1, 0.2, 3.0, 0.4):
        await call(limited)
        clock.advance(step)
        response = await call(limited)
        if response.status == 429:
            after = int(response.value("retry-after"))
            clock.advance(after - 1)
            assert (await call(limited)).status == 429 or after == 1
            clock.advance(1)
            assert (await call(limited)).status == 200


async def test_retry_after_of_an_aligned_window_is_the_time_to_its_boundary():
    clock = ManualClock(1_000_000_000 + 41_300_000)
    limited = RateLimitMiddleware(App(), keyed(1, Duration.MINUTE, clock, FixedWindow))
    await call(limited)
    assert (await call(limited)).value("retry-after") == "39"  # 1041.3 s; the next boundary is 1080


async def test_clients_are_told_apart_by_their_address():
    limited = RateLimitMiddleware(App(), "1/minute")
    assert await statuses(limited, 2) == [200, 429]
    assert await statuses(limited, 2, client="198.51.100.1") == [200, 429]


async def test_clients_without_an_address_share_a_budget_of_their_own():
    limited = RateLimitMiddleware(App(), "1/minute")
    assert await statuses(limited, 2, client=None) == [200, 429]
    assert await statuses(limited, 1) == [200]
    no_client = scope()
    del no_client["client"]
    assert (await call(limited, no_client)).status == 429


async def test_one_budget_for_all_is_there_when_it_is_asked_for():
    limited = RateLimitMiddleware(App(), Limiter(Rate(1, Duration.MINUTE)), key=None)
    assert await statuses(limited, 1) == [200]
    assert await statuses(limited, 1, client="198.51.100.1") == [429]


def test_a_limiter_that_would_ignore_the_key_is_refused():
    with pytest.raises(ValueError, match="keyed=True, or say key=None"):
        RateLimitMiddleware(App(), Limiter(Rate(1, Duration.MINUTE)))


@pytest.mark.parametrize("cost", [3, lambda scope: 3])
async def test_requests_may_cost_more_than_one_unit(cost):
    limited = RateLimitMiddleware(App(), "7/minute", cost=cost)
    assert await statuses(limited, 3) == [200, 200, 429]


async def test_the_functions_may_be_coroutine_functions():
    async def key(scope):
        return scope["path"]

    async def cost(scope):
        return 2

    async def exempt(scope):
        return scope["path"] == "/health"

    limited = RateLimitMiddleware(App(), "2/minute", key=key, cost=cost, exempt=exempt)
    assert await statuses(limited, 3, path="/health") == [200, 200, 200]
    assert await statuses(limited, 2, path="/a") == [200, 429]
    assert await statuses(limited, 2, path="/b") == [200, 429]


async def test_what_never_fits_is_refused_without_a_time():
    limited = RateLimitMiddleware(App(), keyed(5, Duration.MINUTE), cost=6)
    response = await call(limited)
    assert response.status == 429
    assert response.values("retry-after") == []
    assert response.items("ratelimit") == {"default": {"r": 5, "t": 0}}


async def test_an_exempt_request_is_not_counted_and_told_nothing():
    limited = RateLimitMiddleware(App(), "1/minute", exempt=lambda scope: scope["path"] == "/health")
    response = await call(limited, scope("/health"))
    assert response.values("ratelimit") == []
    assert await statuses(limited, 2) == [200, 429]


@pytest.mark.parametrize("function", ["key", "cost", "exempt"])
async def test_an_exception_in_a_function_is_an_error_and_not_a_pass(function):
    def broken(scope):
        raise ZeroDivisionError

    app = App()
    with pytest.raises(ZeroDivisionError):
        await call(RateLimitMiddleware(app, "1/minute", **{function: broken}))
    assert app.calls == []


async def test_a_key_that_is_no_text_is_an_error():
    with pytest.raises(TypeError, match="must return a str or None, not 7"):
        await call(RateLimitMiddleware(App(), "1/minute", key=lambda scope: 7))


async def test_all_rates_are_policies_and_the_tightest_is_told():
    bucket = InMemoryBucket([Rate(3, Duration.SECOND), Rate(4, Duration.HOUR)], clock=ManualClock())
    limited = RateLimitMiddleware(App(), Limiter(bucket, keyed=True), policy_name=("burst", "hourly"))
    response = await call(limited)
    assert response.items("ratelimit-policy") == {"burst": {"q": 3, "w": 1}, "hourly": {"q": 4, "w": 3600}}
    assert response.items("ratelimit") == {"burst": {"r": 2, "t": 1}}


async def test_legacy_headers_are_there_when_they_are_asked_for(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.2)
    limited = RateLimitMiddleware(App(), keyed(2, Duration.MINUTE), legacy_headers=True)
    response = await call(limited)
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    assert [response.value(name) for name in names] == ["2", "1", "1700000031"]


async def test_shadow_tells_and_logs_but_never_refuses(caplog):
    limited = RateLimitMiddleware(App(), keyed(1, Duration.MINUTE), shadow=True)
    with caplog.at_level(logging.WARNING, logger="pyrate_limiter"):
        assert await statuses(limited, 1) == [200]
        assert caplog.messages == []
        response = await call(limited)
    assert response.status == 200
    assert response.values("retry-after") == []
    assert response.items("ratelimit") == {"default": {"r": 0, "t": 60}}
    assert caplog.messages == [f"{ADDRESS} would be refused 1 of 1/1m"]


async def test_a_store_that_fails_is_answered_by_503(caplog):
    app = App()
    response = await call(RateLimitMiddleware(app, failing()))
    assert response.status == 503
    assert response.value("content-type") == "application/problem+json"
    assert response.value("cache-control") == "no-store"
    assert json.loads(response.body)["type"] == REDUCED_CAPACITY
    assert app.calls == []
    assert "the store is down" in caplog.text


async def test_a_store_that_fails_in_shadow_lets_pass():
    response = await call(RateLimitMiddleware(App(), failing(), shadow=True))
    assert response.status == 200
    assert response.values("ratelimit") == []


async def test_an_admitted_request_asks_the_store_once():
    store = ScriptedStore(Rate(5, Duration.SECOND), delay=0)
    response = await call(RateLimitMiddleware(App(), Limiter(store, keyed=True)))
    assert response.items("ratelimit") == {"default": {"r": 4, "t": 1}}
    assert [len(asks) for asks in store.calls] == [1]


async def test_the_app_may_read_what_was_decided():
    seen = []

    async def app(scope, receive, send):
        seen.extend(decisions(scope))
        await App()(scope, receive, send)

    request = scope()
    await call(RateLimitMiddleware(app, "5/minute"), request)
    assert [(decision.name, decision.remaining) for decision in seen] == [(ADDRESS, 4)]
    assert decisions(request) == []


async def test_all_other_messages_pass_as_they_are():
    messages = [
        {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]},
        {"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")], "trailers": True},
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.zerocopysend", "file": 3, "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"ratelimit", b"of the app")], "more_trailers": False},
    ]

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    response = await call(RateLimitMiddleware(app, "2/minute"))
    start = response.messages.pop(1)
    assert all(sent is message for sent, message in zip(response.messages, messages[:1] + messages[2:], strict=True))
    assert start["trailers"] is True
    assert messages[1]["headers"] == [(b"x-app", b"1")]  # which was the app's, and may be sent again


@pytest.mark.parametrize("legacy", [False, True])
async def test_the_fields_are_there_once_also_when_the_app_writes_some(legacy):
    theirs = [(b"RateLimit", b'"x";r=1'), (b"ratelimit-policy", b'"x";q=1'), (b"X-RateLimit-Limit", b"1")]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1"), *theirs]})

    async def names(limit):
        headers = (await call(RateLimitMiddleware(app, limit, exempt=exempt, legacy_headers=legacy))).messages[0][
            "headers"
        ]
        return sorted(name.lower() for name, _ in headers)

    exempt = None
    ours = [b"ratelimit", b"ratelimit-policy", b"x-app", b"x-ratelimit-limit"]
    if legacy:
        ours += [b"x-ratelimit-remaining", b"x-ratelimit-reset"]
    assert await names("2/minute") == ours
    exempt = lambda scope: True  # noqa: E731
    assert await names("2/minute") == [b"ratelimit", b"ratelimit-policy", b"x-app", b"x-ratelimit-limit"]


async def test_other_scopes_pass_untouched():
    async def app(scope, receive, send):
        await send(("sent", scope, receive))

    response = Response()
    lifespan = {"type": "lifespan"}
    await RateLimitMiddleware(app, "1/minute")(lifespan, never, response.send)
    assert response.messages == [("sent", lifespan, never)]
    assert response.messages[0][1] is lifespan


async def test_an_error_of_the_app_passes_and_its_permit_stays_spent():
    async def app(scope, receive, send):
        raise ZeroDivisionError

    limited = RateLimitMiddleware(app, "1/minute")
    with pytest.raises(ZeroDivisionError):
        await call(limited)
    assert await statuses(limited, 1) == [429]


async def test_one_in_another_writes_the_fields_once():
    inner = RateLimitMiddleware(App(), keyed(2, Duration.SECOND), policy_name="inner")
    limited = RateLimitMiddleware(inner, keyed(9, Duration.SECOND), policy_name="outer")
    responses = [await call(limited) for _ in range(3)]
    assert [response.status for response in responses] == [200, 200, 429]
    assert [list(response.items("ratelimit")) for response in responses] == [["outer", "inner"]] * 3


@pytest.mark.parametrize("budget", [lambda factory: factory, Limiter], ids=["factory", "limiter"])
async def test_a_factory_tells_each_of_its_tiers(budget):
    class Tiers(BucketFactory):
        def __init__(self):
            self.free = InMemoryBucket(Rate(1, Duration.MINUTE), clock=ManualClock())
            self.paid = InMemoryBucket(Rate(100, Duration.MINUTE), clock=ManualClock())

        def get(self, name, weight):
            return self.paid if name.startswith("paid") else self.free

    limited = RateLimitMiddleware(App(), budget(Tiers()), key=lambda scope: scope["path"][1:])
    policies = {path: (await call(limited, scope(path))).items("ratelimit-policy") for path in ("/paid-1", "/free-1")}
    assert policies == {
        "/paid-1": {"default": {"q": 100, "w": 60}},
        "/free-1": {"default": {"q": 1, "w": 60}},
    }
    assert await statuses(limited, 1, path="/free-1") == [429]


class TestHandshakes:
    """A WebSocket is limited where it begins."""

    async def test_what_fits_is_accepted_and_told(self):
        response = await call(RateLimitMiddleware(App(), keyed(2, Duration.SECOND)), handshake())
        assert response.messages[0]["type"] == "websocket.accept"
        assert response.items("ratelimit") == {"default": {"r": 1, "t": 1}}

    async def test_what_does_not_fit_is_answered_where_the_server_can(self):
        limited = RateLimitMiddleware(App(), "1/minute")
        await call(limited, handshake())
        response = await call(limited, handshake())
        types = [message["type"] for message in response.messages]
        assert types == ["websocket.http.response.start", "websocket.http.response.body"]
        assert response.status == 429
        assert response.value("retry-after") == "60"

    async def test_a_handshake_is_a_get(self):
        limited = RateLimitMiddleware(App(), [Limit("/", "1/minute", methods=["GET"])])
        first, second = [await call(limited, handshake()) for _ in range(2)]
        assert (first.messages[0]["type"], second.status) == ("websocket.accept", 429)

    @pytest.mark.parametrize("extensions", [{}, None])
    async def test_what_does_not_fit_is_closed_where_the_server_cannot_answer(self, extensions):
        limited = RateLimitMiddleware(App(), "1/minute")
        request = handshake(answers=False) | {"extensions": extensions}
        await call(limited, request)
        (message,) = (await call(limited, request)).messages
        assert (message["type"], message["code"]) == ("websocket.close", 1013)


class TestSeveral:
    """Several limits: each for its paths and methods, and all or nothing."""

    async def test_each_is_for_its_paths_and_methods(self):
        limited = RateLimitMiddleware(
            App(),
            [
                Limit("/api/*", "3/minute"),
                Limit("/api/*", "1/minute", methods={"post"}, policy_name="writes"),
                Limit("/files/*.csv", "2/minute"),
            ],
        )
        assert await statuses(limited, 9, path="/other") == [200] * 9
        assert await statuses(limited, 3, path="/files/a/b.csv") == [200, 200, 429]
        assert await statuses(limited, 3, path="/files/a/b.txt") == [200, 200, 200]
        assert await statuses(limited, 2, path="/api/x", method="POST") == [200, 429]
        assert await statuses(limited, 3, path="/api/y") == [200, 200, 429]

    async def test_a_head_is_no_way_around_the_limit_of_a_get(self):
        limited = RateLimitMiddleware(App(), [Limit("*", "2/minute", methods=["get"])])
        found = [(await call(limited, scope(method=method))).status for method in ("GET", "HEAD", "HEAD", "GET")]
        assert found == [200, 200, 429, 429]
        assert await statuses(limited, 3, method="OPTIONS") == [200, 200, 200]

    @pytest.mark.parametrize(
        ("pattern", "path", "covered"),
        [
            ("*", "/", True),
            ("/a", "/a", True),
            ("/a", "/a/", False),
            ("/a*", "/a/b/c", True),
            ("/a/*/c", "/a/b/b/c", True),
            ("/a/*/c", "/a/c", False),
            ("*/export", "/v1/export", True),
            ("/a.b", "/axb", False),
            ("/a*", "/a\nb", True),
        ],
    )
    def test_a_star_stands_for_anything(self, pattern, path, covered):
        assert Limit(pattern, "1/minute").covers("GET", path) is covered

    async def test_all_that_apply_are_told(self):
        limits = [Limit("*", keyed(5, Duration.SECOND)), Limit("/x", keyed(2, Duration.MINUTE), policy_name="x")]
        response = await call(RateLimitMiddleware(App(), limits), scope("/x"))
        assert response.items("ratelimit-policy") == {"5/1s": {"q": 5, "w": 1}, "x": {"q": 2, "w": 60}}
        assert response.items("ratelimit") == {"5/1s": {"r": 4, "t": 1}, "x": {"r": 1, "t": 30}}

    async def test_what_the_others_took_is_given_back(self):
        first, second = keyed(3, Duration.MINUTE), keyed(1, Duration.HOUR)
        limited = RateLimitMiddleware(App(), [Limit("*", first), Limit("/x", second)])
        responses = [await call(limited, scope("/x")) for _ in range(5)]
        assert [response.status for response in responses] == [200, 429, 429, 429, 429]
        assert responses[-1].items("ratelimit") == {"3/1m": {"r": 2, "t": 40}, "1/1h": {"r": 0, "t": 3600}}
        assert json.loads(responses[-1].body)["violated-policies"] == ["1/1h"]
        assert await statuses(limited, 3) == [200, 200, 429]

    @pytest.mark.parametrize("cost", [1, 2])
    async def test_a_refusal_knows_of_the_limits_behind_it(self, cost):
        first, second = keyed(cost, Duration.SECOND), keyed(cost, Duration.HOUR)
        limits = [Limit("*", first, cost=cost), Limit("*", second, cost=cost), Limit("*", "1/day", shadow=True)]
        limited = RateLimitMiddleware(App(), limits)
        await call(limited)
        response = await call(limited)
        assert response.value("retry-after") == "3600"
        assert json.loads(response.body)["violated-policies"] == [f"{cost}/1s", f"{cost}/1h"]

    async def test_looking_at_a_limit_takes_nothing(self):
        first, second = keyed(2, Duration.MINUTE), keyed(4, Duration.HOUR)
        limited = RateLimitMiddleware(App(), [Limit("/x", first, cost=2), Limit("*", second, cost=2)])
        assert await statuses(limited, 5, path="/x") == [200, 429, 429, 429, 429]
        assert await statuses(limited, 2, path="/y") == [200, 429]

    async def test_an_error_after_a_refusal_gives_nothing_back_twice(self):
        def broken(scope):
            raise ZeroDivisionError

        first = keyed(9, Duration.MINUTE, algorithm=SlidingWindowLog)
        limits = [Limit("*", first), Limit("/x", "1/hour"), Limit("/x", "1/day", key=broken)]
        limited = RateLimitMiddleware(App(), limits)
        await limits[1].limiter.take(ADDRESS)
        await call(limited)
        with pytest.raises(ZeroDivisionError):
            await call(limited, scope("/x"))
        assert (await first.peek(ADDRESS)).remaining == 8

    async def test_a_failing_store_gives_back_what_others_took(self):
        first = keyed(2, Duration.MINUTE)
        limited = RateLimitMiddleware(App(), [Limit("*", first), Limit("/x", failing())])
        assert await statuses(limited, 5, path="/x") == [503] * 5
        assert await statuses(limited, 3) == [200, 200, 429]

    async def test_a_refusal_stands_when_nothing_can_be_given_back(self, caplog):
        store = ScriptedStore(Rate(5, Duration.SECOND), delay=0)
        limited = RateLimitMiddleware(App(), [Limit("*", Limiter(store, keyed=True)), Limit("/x", "1/minute")])
        await call(limited, scope("/x"))

        def fail(number: int) -> None:
            if store.calls[-1][0].cost < 0:
                raise StoreError("the store is down")

        store.fail = fail
        response = await call(limited, scope("/x"))
        assert response.status == 429
        assert response.items("ratelimit")["5/1s"]["r"] == 3
        assert "could not be given back: the store is down" in caplog.text

    async def test_a_failing_function_gives_back_what_others_took(self):
        def broken(scope):
            raise ZeroDivisionError

        limited = RateLimitMiddleware(App(), [Limit("*", "2/minute"), Limit("/x", "5/hour", key=broken)])
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await call(limited, scope("/x"))
        assert await statuses(limited, 3) == [200, 200, 429]

    async def test_a_refusal_stands_when_the_store_of_another_limit_fails(self):
        limits = [Limit("*", keyed(1, Duration.MINUTE)), Limit("/x", failing())]
        limited = RateLimitMiddleware(App(), limits)
        await call(limited)
        assert (await call(limited, scope("/x"))).value("retry-after") == "60"

    async def test_one_budget_may_have_several_prices(self):
        shared = keyed(10, Duration.MINUTE)
        limited = RateLimitMiddleware(App(), [Limit("/search", shared, cost=6), Limit("/item", shared)])
        assert await statuses(limited, 1, path="/search") == [200]
        assert await statuses(limited, 5, path="/item") == [200, 200, 200, 200, 429]

    @given(st.lists(st.tuples(algorithms, st.integers(1, 4), st.integers(1, 5000)), min_size=1, max_size=3), steps)
    def test_whoever_comes_back_at_retry_after_is_admitted_by_all(self, rates, steps):
        clock = ManualClock()
        limits = [
            Limit("*", keyed(limit, interval, clock, algorithm), policy_name=str(number))
            for number, (algorithm, limit, interval) in enumerate(rates)
        ]
        limited = RateLimitMiddleware(App(), limits)
        for step in steps:
            clock.advance(step / 1000)
            response = at_once(call(limited))
            if response.status == 429:
                clock.advance(int(response.value("retry-after")))
                assert at_once(call(limited)).status == 200

    def test_no_limits_are_refused(self):
        with pytest.raises(ValueError, match="rates is empty"):
            RateLimitMiddleware(App(), [])

    def test_two_limiters_of_one_name_are_refused(self):
        with pytest.raises(ValueError, match="two limits are called '5/1s'"):
            RateLimitMiddleware(App(), [Limit("/a", "5/second"), Limit("/b", "5/second")])

    def test_options_beside_limits_are_refused(self):
        with pytest.raises(ValueError, match="give cost, shadow to them"):
            RateLimitMiddleware(App(), [Limit("*", "5/second")], cost=2, shadow=True)
