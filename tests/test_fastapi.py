"""Limits as dependencies of FastAPI's routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.middleware import Middleware
from starlette.testclient import WebSocketDenialResponse

from pyrate_limiter import Decision, Duration, Limiter, Rate, StoreError
from pyrate_limiter.integrations.asgi import RateLimitMiddleware, decisions
from pyrate_limiter.integrations.fastapi import RateLimit, RateLimited, show_limits
from pyrate_limiter.integrations.fields import QUOTA_EXCEEDED, REDUCED_CAPACITY
from pyrate_limiter.integrations.keys import header
from pyrate_limiter.testing import ManualClock, ScriptedStore

from .asgi import call, items, keyed, scope

steps = st.lists(st.integers(0, 3000), max_size=20)
pytestmark = pytest.mark.may_block  # the test client runs the app on a loop of its own, in a thread


@contextmanager
def serving(*limits: RateLimit, shown: bool = False, middleware: Any = ()) -> Iterator[TestClient]:
    """Serve an app whose every route depends on limits."""
    app = FastAPI(dependencies=[Depends(limit) for limit in limits], middleware=list(middleware))
    if shown:
        show_limits(app)

    @app.get("/")
    async def value() -> str:
        return "value"

    @app.get("/own")
    def own() -> Response:
        return PlainTextResponse("own")

    @app.get("/stream")
    async def stream() -> Response:
        return StreamingResponse(iter(["one", "two"]))

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    @app.get("/decisions")
    async def told(request: Request) -> list[int]:
        return [decision.remaining for decision in decisions(request.scope)]

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    with TestClient(app) as client:
        yield client


def test_a_route_is_limited_and_says_so():
    with serving(RateLimit(keyed(2, Duration.MINUTE))) as client:
        responses = [client.get("/") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[0].json() == "value"
    assert items(responses[0].headers["ratelimit-policy"]) == {"2/1m": {"q": 2, "w": 60}}
    assert items(responses[0].headers["ratelimit"]) == {"2/1m": {"r": 1, "t": 30}}


def test_a_refusal_is_a_problem():
    with serving(RateLimit(keyed(1, Duration.MINUTE), policy_name="burst")) as client:
        client.get("/")
        response = client.get("/")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["retry-after"] == "60"
    assert items(response.headers["ratelimit"]) == {"burst": {"r": 0, "t": 60}}
    assert response.json()["type"] == QUOTA_EXCEEDED
    assert response.json()["violated-policies"] == ["burst"]


@pytest.mark.parametrize("path", ["/", "/own", "/stream", "/missing"])
def test_every_response_says_what_is_left_when_limits_are_shown(path):
    with serving(RateLimit(keyed(2, Duration.MINUTE)), shown=True) as client:
        found = [client.get(path) for _ in range(3)]
    assert found[-1].status_code == 429
    for response, left in zip(found, (1, 0, 0), strict=True):
        assert items(response.headers["ratelimit"])["2/1m"]["r"] == left
        assert response.headers.get_list("ratelimit-policy") == ['"2/1m";q=2;w=60']


def test_a_middleware_and_a_dependency_write_the_fields_once():
    outer = Middleware(RateLimitMiddleware, limiter=keyed(9, Duration.MINUTE))
    with serving(RateLimit(keyed(2, Duration.MINUTE)), middleware=[outer]) as client:
        found = [client.get(path) for path in ("/own", "/", "/")]
    assert [response.status_code for response in found] == [200, 200, 429]
    for response in found:
        (value,) = response.headers.get_list("ratelimit")
        assert list(items(value)) == ["default", "2/1m"]


@pytest.mark.parametrize("shown", [False, True])
def test_what_earlier_limits_took_is_given_back_when_a_later_one_refuses(shown):
    first, second, third = keyed(4, Duration.MINUTE), keyed(3, Duration.MINUTE), keyed(1, Duration.HOUR)
    with serving(RateLimit(first), RateLimit(second), RateLimit(third), shown=shown) as client:
        found = [client.get("/") for _ in range(6)]
    assert [response.status_code for response in found] == [200] + [429] * 5
    assert list(items(found[0].headers["ratelimit"])) == ["4/1m", "3/1m", "1/1h"]
    assert {name: state["r"] for name, state in items(found[-1].headers["ratelimit"]).items()} == {
        "4/1m": 3,
        "3/1m": 2,
        "1/1h": 0,
    }
    assert found[-1].json()["violated-policies"] == ["1/1h"]


@pytest.mark.parametrize("included", [False, True])
def test_retry_after_is_right_for_all_limits_of_a_route(included):
    """A limit that refuses knows of those behind it, wherever they stand: of the app, a router, a dependency."""
    seconds, minutes, hours = keyed(1, Duration.SECOND), keyed(1, Duration.MINUTE), keyed(1, Duration.HOUR)
    plenty = keyed(100, Duration.DAY)
    app = FastAPI(dependencies=[Depends(RateLimit(seconds))])

    async def needs(_: Any = Depends(RateLimit(hours))) -> None: ...  # noqa: B008

    async def route() -> None: ...

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    router = APIRouter(dependencies=[Depends(RateLimit(minutes))] if included else [])
    own = [] if included else [Depends(RateLimit(minutes))]
    own += [Depends(needs), Depends(RateLimit(plenty))]
    router.add_api_route("/route", route, dependencies=own)
    router.add_api_websocket_route("/socket", socket, dependencies=own)
    app.include_router(router, prefix="/included")
    with TestClient(app) as client:
        client.get("/included/route")
        response = client.get("/included/route")
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/included/socket"):
            pass
    for answer in (response, refused.value):
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3600")
        assert answer.json()["violated-policies"] == ["1/1s", "1/1m", "1/1h"]
        assert {name: state["r"] for name, state in items(answer.headers["ratelimit"]).items()} == {
            "1/1s": 0,
            "1/1m": 0,
            "1/1h": 0,
            "100/1d": 99,
        }


def test_looking_at_the_limits_behind_takes_nothing_and_asks_only_those_that_count():
    first, second, third = (keyed(1, Duration.SECOND), keyed(9, Duration.MINUTE), keyed(1, Duration.HOUR))
    overridden = RateLimit(third)

    def of_a_user(connection: Any) -> str:
        return str(connection.state.user)  # which a dependency behind the first limit would have put there

    limits = [RateLimit(first), RateLimit(second), overridden, RateLimit("1/day", key=of_a_user)]
    app = FastAPI()
    app.dependency_overrides[overridden] = lambda: None

    @app.get("/", dependencies=[Depends(limit) for limit in limits[:3]])
    async def route() -> None: ...

    @app.get("/user", dependencies=[Depends(limits[0]), Depends(limits[3])])
    async def of_user() -> None: ...

    client = TestClient(app)
    assert client.get("/").status_code == 200
    for _ in range(3):
        response = client.get("/")
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert {name: state["r"] for name, state in items(response.headers["ratelimit"]).items()} == {
            "1/1s": 0,
            "9/1m": 8,
        }
    assert client.get("/user").headers["retry-after"] == "1"


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5000)), min_size=1, max_size=3, unique=True), steps)
@example([(1, 1000), (1, 5000)], [0, 0])
@example([(2, 1000), (3, 5000), (1, 100)], [100, 100, 100, 0, 0])
def test_whoever_comes_back_at_retry_after_is_admitted_by_all(rates, steps):
    clock = ManualClock()
    app = FastAPI(dependencies=[Depends(RateLimit(keyed(*rate, clock))) for rate in rates])

    @app.get("/")
    async def route() -> None: ...

    async def visit() -> None:
        for step in steps:
            clock.advance(step / 1000)
            response = await call(app, scope() | {"query_string": b""})
            if response.status == 429:
                clock.advance(int(response.value("retry-after")))
                assert (await call(app, scope() | {"query_string": b""})).status == 200

    anyio.run(visit)


def test_one_limit_of_several_routes_is_one_budget():
    with serving(RateLimit("2/minute")) as client:
        assert [client.get(path).status_code for path in ("/", "/own", "/")] == [200, 200, 429]


def test_a_limit_that_is_depended_on_twice_counts_once():
    limit = RateLimit("2/minute")
    with serving(limit, limit) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


def test_the_key_is_a_function_of_the_connection():
    async def of_tenant(connection: Any) -> Any:
        return connection.headers.get("x-tenant")

    for key in (header("x-tenant"), of_tenant):
        with serving(RateLimit("1/minute", key=key)) as client:
            found = [client.get("/", headers={"x-tenant": tenant}).status_code for tenant in ("a", "b", "a")]
        assert found == [200, 200, 429]


def test_exempt_cost_and_shadow():
    free = RateLimit("4/minute", cost=2, exempt=lambda connection: connection.url.path == "/own")
    with serving(free, RateLimit("1/hour", key=None, shadow=True)) as client:
        found = [client.get(path).status_code for path in ("/own", "/own", "/", "/", "/")]
    assert found == [200, 200, 200, 200, 429]


def test_a_route_may_read_what_was_decided():
    with serving(RateLimit("5/minute"), shown=True) as client:
        assert client.get("/decisions").json() == [4]


def test_a_route_may_depend_on_the_decision():
    app = FastAPI()
    limiter = Limiter(Rate(2, Duration.HOUR), keyed=True)
    limit = RateLimit(limiter, exempt=lambda connection: "free" in connection.query_params)

    @app.get("/")
    async def cached(decision: Decision | None = Depends(limit)) -> int | None:  # noqa: B008
        if decision is None:
            return None
        await limiter.refund(decision)
        return decision.remaining

    client = TestClient(app)
    assert [client.get("/").json() for _ in range(4)] == [1, 1, 1, 1]
    assert client.get("/?free").json() is None


def test_a_store_that_fails_is_answered_by_503():
    def fail(_: int) -> None:
        raise StoreError("down")

    store = ScriptedStore(Rate(5, Duration.SECOND), delay=0)
    store.fail = fail
    first = keyed(1, Duration.MINUTE)
    with serving(RateLimit(first), RateLimit(Limiter(store, keyed=True))) as client:
        found = [client.get("/") for _ in range(3)]
    assert [response.status_code for response in found] == [503, 503, 503]
    assert found[0].json()["type"] == REDUCED_CAPACITY


def test_an_exception_in_the_key_function_is_an_error():
    def broken(connection: Any) -> str:
        raise ZeroDivisionError

    first = keyed(1, Duration.MINUTE)
    with serving(RateLimit(first), RateLimit("1/minute", key=broken)) as client:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                client.get("/")


def test_a_handler_of_the_users_may_answer():
    app = FastAPI()

    @app.exception_handler(RateLimited)
    async def slow_down(request: Request, error: RateLimited) -> Response:
        return JSONResponse({"slow": "down"}, error.status_code, error.headers)

    @app.get("/", dependencies=[Depends(RateLimit("1/minute"))])
    async def route() -> None: ...

    client = TestClient(app)
    client.get("/")
    response = client.get("/")
    assert response.status_code == 429
    assert response.json() == {"slow": "down"}
    assert response.headers["retry-after"] == "60"
    assert "ratelimit" in response.headers


@pytest.mark.parametrize("shown", [False, True])
def test_a_handshake_is_limited(shown):
    with serving(RateLimit("1/minute"), shown=shown) as client:
        with client.websocket_connect("/socket"):
            pass
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/socket"):
            pass
    assert refused.value.status_code == 429
    assert refused.value.headers["retry-after"] == "60"
    assert refused.value.headers.get_list("ratelimit") == ['"1/1m";r=0;t=60']


def test_the_openapi_document_has_the_429_of_routes_that_are_limited():
    app = FastAPI()
    show_limits(app)
    limit = RateLimit("1/minute")

    async def logged_in(_: None = Depends(limit)) -> None: ...

    @app.get("/free")
    async def free() -> None: ...

    @app.get("/nested", dependencies=[Depends(logged_in)])
    async def nested() -> None: ...

    @app.post("/stated", dependencies=[Depends(limit)], responses={429: {"description": "mine"}})
    async def stated() -> None: ...

    @app.get("/hidden", dependencies=[Depends(limit)], include_in_schema=False)
    async def hidden() -> None: ...

    router = APIRouter()

    @router.get("/{number}")
    async def numbered(number: int) -> None: ...

    app.include_router(router, prefix="/limited", dependencies=[Depends(limit)])
    app.include_router(router, prefix="/unlimited")
    document = TestClient(app).get("/openapi.json").json()
    described = {
        path: operation["responses"].get("429", {}).get("description")
        for path, operations in document["paths"].items()
        for operation in operations.values()
    }
    assert described == {
        "/free": None,
        "/nested": "Too Many Requests",
        "/stated": "mine",
        "/limited/{number}": "Too Many Requests",
        "/unlimited/{number}": None,
    }
    assert app.openapi() is app.openapi()


def test_a_limit_describes_its_refusals_for_who_wants_no_more():
    app, limit = FastAPI(), RateLimit("1/minute")
    router = APIRouter(dependencies=[Depends(limit)], responses=limit.responses)

    @router.get("/")
    async def route() -> None: ...

    app.include_router(router)
    described = app.openapi()["paths"]["/"]["get"]["responses"]["429"]
    show_limits(app)
    assert described == app.openapi()["paths"]["/"]["get"]["responses"]["429"]
    assert "application/problem+json" in described["content"]
    assert {"Retry-After", "ratelimit", "ratelimit-policy"} == set(described["headers"])
