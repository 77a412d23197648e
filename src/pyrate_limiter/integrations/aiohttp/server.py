"""Limits for servers of aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
from aiohttp import web

from ..fields import Problem, Ruling, fields
from ..holding import ClientGone, hold
from ..keys import Key, client_address
from ..limits import Budget, Cost, Exempt, Limit, as_limits, covering
from ..verdicts import judge

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_RULINGS = web.RequestKey("pyrate_limiter", list[Ruling])
CLOSED = 499
"""What nginx, too, calls a request whose client closed the connection."""
_GLANCE = 0.1
"""Seconds between two looks at whether a client is still there: aiohttp tells nobody when it goes away."""


class RateLimitServerMiddleware:
    """Limits the requests of an `aiohttp.web.Application`, WebSocket handshakes too.

    ``RateLimitServerMiddleware("100/minute").install(app)``. A refused request is answered by 429 and never reaches
    its handler; if the store fails, by 503. Every response says what is left. Among the ``middlewares=`` of an app it
    does the same, save that streams say nothing.

    Args:
        limiter: a limiter (with ``keyed=True``), or what one is made of; or several `Limit` objects, each with options
            of its own. A request must fit all that are for its path and method, or takes from none.
        key: whom a request is counted for: a function of the request, see `keys`. None: all share one budget.
        cost: the units of a request, or a function of it that returns them.
        exempt: a function of the request that says whether it is let through uncounted.
        shadow: decide, tell and log, but never refuse.
        wait: the most seconds for which a request is held until it fits, unless its client goes away.
        policy_name: what clients read; one name for each rate if there are several.
        legacy_headers: add ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset``.

    Raises:
        ValueError: the options contradict each other; the message says what to do.
    """

    __middleware_version__ = 1  # what `web.middleware` marks the middlewares of today with

    def __init__(
        self,
        limiter: Budget | Sequence[Limit],
        *,
        key: Key | None = client_address,
        cost: Cost = 1,
        exempt: Exempt | None = None,
        shadow: bool = False,
        wait: float | None = None,
        policy_name: str | Sequence[str] = "default",
        legacy_headers: bool = False,
    ) -> None:
        self._limits = as_limits(
            limiter, key=key, cost=cost, exempt=exempt, shadow=shadow, wait=wait, policy_name=policy_name
        )
        self._holds = any(limit.holds for limit in self._limits)
        self._legacy = legacy_headers

    def install(self, app: web.Application) -> None:
        """Limit an app, streams too: a middleware sees their response when its head is long gone."""
        app.middlewares.append(self)
        app.on_response_prepare.append(self._on_prepare)

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        limits = covering(self._limits, request.method, request.path)
        until_gone = partial(hold, gone=partial(_gone, request)) if self._holds else None
        try:
            rulings, problem = await judge(limits, request, until_gone)
        except ClientGone:
            return web.Response(status=CLOSED)  # nobody reads it, but it is what the access log says
        request[_RULINGS] = request.get(_RULINGS, []) + rulings
        try:
            response = await handler(request) if problem is None else _refusal(problem)
        except web.HTTPException as error:
            self._write(request, error)
            raise
        if not response.prepared:
            self._write(request, response)
        return response

    async def _on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        self._write(request, response)

    def _write(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the fields."""
        rulings = request.get(_RULINGS, [])
        for name, value in fields(rulings, legacy=self._legacy) if rulings else ():
            response.headers[name.decode()] = value.decode()


def _refusal(problem: Problem) -> web.Response:
    headers = [(name.decode(), value.decode()) for name, value in problem.headers]
    return web.Response(status=problem.status, body=problem.body, headers=headers)


async def _gone(request: web.Request) -> bool:
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110  # no event
        await anyio.sleep(_GLANCE)
    return True
