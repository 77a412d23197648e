"""How the integrations fit into their frameworks, for the type checkers; nothing runs it."""

from __future__ import annotations

from typing import Annotated, Any, assert_type

import aiohttp
import fastapi
import httpx
import httpx2
import requests
from aiohttp import web
from starlette.applications import Starlette
from starlette.middleware import Middleware

from pyrate_limiter import Decision, Duration, Limiter, Rate
from pyrate_limiter.integrations import asgi, keys
from pyrate_limiter.integrations.aiohttp import RateLimitMiddleware, RateLimitServerMiddleware
from pyrate_limiter.integrations.fastapi import RateLimit, show_limits
from pyrate_limiter.integrations.httpx import RateLimitedSyncTransport, RateLimitedTransport
from pyrate_limiter.integrations.requests import RateLimitedAdapter

limiter = Limiter(Rate(10, Duration.SECOND), keyed=True)


def clients() -> None:
    httpx.AsyncClient(transport=RateLimitedTransport(limiter, retries=2))
    httpx2.AsyncClient(transport=RateLimitedTransport(wrapped=httpx2.AsyncHTTPTransport(), max_wait=5))
    httpx.Client(transport=RateLimitedSyncTransport(key=lambda request: str(request.url)))
    httpx2.Client(transport=RateLimitedSyncTransport(limiter, obey_server=False))
    aiohttp.ClientSession(middlewares=[RateLimitMiddleware(limiter, respond=True)])
    requests.Session().mount("https://", RateLimitedAdapter(limiter))


def servers(scope: asgi.Scope) -> None:
    Starlette(middleware=[Middleware(asgi.RateLimitMiddleware, limiter="10/minute", key=keys.header("x-tenant"))])
    limits = [asgi.Limit("*", limiter), asgi.Limit("/x", "5/minute", methods=["POST"], policy_name="x")]
    asgi.RateLimitMiddleware(Starlette(), limits)
    assert_type(asgi.decisions(scope), list[Decision])
    RateLimitServerMiddleware(limiter, wait=2).install(web.Application())


def routes() -> None:
    limit = RateLimit("10/minute", key=keys.client_address)
    app = fastapi.FastAPI(dependencies=[fastapi.Depends(limit)], responses=limit.responses)
    show_limits(app)

    @app.get("/")
    async def route(decision: Annotated[Decision | None, fastapi.Depends(limit)]) -> int:
        return 0 if decision is None else decision.remaining

    assert_type(limit.responses, dict[int | str, dict[str, Any]])
