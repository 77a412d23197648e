"""The page and what it talks to: an app that is served by `pyrate-limiter demo`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ...integrations.asgi import Receive, Scope, Send, decisions
from .exhibit import Exhibit
from .stream import Stream
from .traffic import Traffic

T = TypeVar("T")
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
POLICY = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
API = "/api"
"""The path that is limited."""
MOST_AT_ONCE = 100
"""Requests that can be fired at once."""
LONGEST_BODY = 1000
"""Bytes."""


def create_app(exhibit: Exhibit) -> Starlette:
    """Return the app. Its lifespan is that of its traffic; close the exhibit to let its streams end."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            app.state.traffic = traffic = Traffic(app, API, tasks)
            tasks.start_soon(traffic.flow, exhibit)
            yield
            await exhibit.aclose()
            tasks.cancel_scope.cancel()

    async def set_(request: Request) -> Response:
        settings = _valid(exhibit.settings.moved, await _body(request))
        await exhibit.set(settings)
        return JSONResponse(settings._asdict())

    async def fire(request: Request) -> Response:
        count = _valid(_count, await _body(request))
        request.app.state.traffic.fire(count)
        return JSONResponse({"count": count}, 202)

    routes = [
        Route("/", _page),
        Route(API, exhibit, methods=["GET"]),
        Route("/events", Stream(exhibit), methods=["GET"]),
        Route("/settings", set_, methods=["POST"]),
        Route("/fire", fire, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that was admitted."""
    (decision,) = decisions(scope)
    response = JSONResponse({"waited": round(decision.waited, 3), "remaining": decision.remaining})
    await response(scope, receive, send)


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY, "cache-control": "no-cache"})


async def _body(request: Request) -> Any:
    """Return what a page sent.

    Raises:
        HTTPException: it is no JSON, or too much of it.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send JSON, with content-type: application/json")  # pages of others cannot
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > LONGEST_BODY:
                raise HTTPException(413, f"send at most {LONGEST_BODY} bytes")
    return _valid(json.loads, body)


def _valid(read: Callable[[Any], T], given: Any) -> T:
    try:
        return read(given)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, str(error)) from error


def _count(given: object) -> int:
    count = given.get("count") if isinstance(given, dict) else None
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_AT_ONCE:
        raise ValueError(f'send {{"count": N}}, with N from 1 to {MOST_AT_ONCE}')
    return count
