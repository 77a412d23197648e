"""Limits for any ASGI app: Starlette, FastAPI, Litestar, Quart, or none of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from .. import Decision
from .fields import LEGACY, WRITTEN, Problem, Ruling, fields
from .holding import ClientGone, hold
from .keys import Key, client_address
from .limits import Budget, Cost, Exempt, Limit, as_limits, covering
from .verdicts import judge

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

RULINGS = "pyrate_limiter.rulings"
"""Where the scope keeps what limits said; who puts it there writes the fields of all that come after."""
READ_AHEAD = 65536
"""Bytes of a body that are read, while its request is held, to find out whether the client is still there."""
TRY_AGAIN_LATER = 1013
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ENDS = frozenset({"http.disconnect", "websocket.disconnect"})


class RateLimitMiddleware:
    """Limits the requests and the WebSocket handshakes of an ASGI app.

    An admitted request goes to the app, and its response says on the way out what is left; streams pass as they are.
    A refused one is answered by 429 and never reaches the app; if the store fails, by 503.

    Args:
        app: the app.
        limiter: a limiter (with ``keyed=True``), or what one is made of, such as ``"100/minute"``; or several
            `Limit` objects, each with options of its own. A request must fit all that are for its path and method, or
            takes from none.
        key: whom a request is counted for, see `keys`. None: all requests share one budget.
        cost: the units of a request, or a function of its scope that returns them.
        exempt: a function of the scope that says whether a request is let through uncounted.
        shadow: decide, tell and log, but never refuse.
        wait: the most seconds for which a request is held until it fits, unless its client goes away.
        policy_name: what clients read; one name for each rate if there are several.
        legacy_headers: add ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset``.

    The functions may be coroutine functions. What they raise is an error of the app, never a pass.

    Raises:
        ValueError: the options contradict each other; the message says what to do.
    """

    def __init__(
        self,
        app: App,
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
        self.app = app
        self._limits = as_limits(
            limiter, key=key, cost=cost, exempt=exempt, shadow=shadow, wait=wait, policy_name=policy_name
        )
        self._cover_all = all(limit.covers_all for limit in self._limits)
        self._holds = any(limit.holds for limit in self._limits)
        self._legacy = legacy_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits_for(scope)
        if not limits:
            await self.app(scope, receive, send)
            return
        mailbox = Mailbox(receive) if self._holds else None
        try:
            rulings, problem = await judge(limits, scope, mailbox.hold if mailbox else None)
        except ClientGone:
            return
        app = self.app if problem is None else Refusal(problem)
        await respond(app, scope, mailbox or receive, send, rulings, legacy=self._legacy)

    def _limits_for(self, scope: Scope) -> Sequence[Limit]:
        if scope["type"] not in ("http", "websocket"):
            return ()
        if self._cover_all:
            return self._limits
        return covering(self._limits, scope.get("method", "GET"), scope["path"])


def decisions(connection: Scope) -> list[Decision]:
    """Return what limits have said to a request so far: to give back, say, what it did not need after all."""
    return [decision for _, decision in connection.get(RULINGS, ())]


async def respond(
    app: App, scope: Scope, receive: Receive, send: Send, rulings: list[Ruling], *, legacy: bool = False
) -> None:
    """Let an app respond, and add to the start of its response what limits said, here and further inside.

    Inside of one that does so already, note it for that one: the fields are written once, and what the app has to say
    in fields of these names gives way.
    """
    outer: list[Ruling] | None = scope.get(RULINGS)
    if outer is not None:
        outer += rulings
        await app(scope, receive, send)
        return

    ours = LEGACY if legacy else WRITTEN

    def send_with_fields(message: Message) -> Awaitable[None]:
        if rulings and message["type"] in _STARTS:
            headers = [each for each in message.get("headers", ()) if each[0].lower() not in ours]
            message = {**message, "headers": headers + fields(rulings, legacy=legacy)}
        return send(message)

    scope[RULINGS] = rulings
    try:
        await app(scope, receive, send_with_fields)
    finally:
        del scope[RULINGS]


class Refusal:
    """An ASGI app that answers a request, or a WebSocket that is not open yet, with a problem.

    Where the server cannot send an answer to a handshake, it closes the WebSocket.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = ""
        if scope["type"] == "websocket":
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": self._problem.title})
                return
            prefix = "websocket."
        status, headers = self._problem.status, self._problem.headers
        await send({"type": f"{prefix}http.response.start", "status": status, "headers": headers})
        await send({"type": f"{prefix}http.response.body", "body": self._problem.body})


class Mailbox:
    """Reads ahead from a client while its request is held, and hands on what it read: the `receive` of the app.

    Args:
        receive: the one of the server.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._size = 0

    async def __call__(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()

    async def hold(self, call: Callable[[], Awaitable[Decision]]) -> Decision:
        """Await a call for as long as the client is there, or raise `ClientGone`."""
        return await hold(call, self._gone)

    async def _gone(self) -> bool:
        """Read until the client goes away, or until enough is kept: a long body does not wait in our memory."""
        gone = any(message["type"] in _ENDS for message in self._kept)
        while not gone and self._size < READ_AHEAD:
            message = await self._receive()
            self._kept.append(message)
            self._size += len(message.get("body", b""))
            gone = message["type"] in _ENDS
        return gone


__all__ = ["Limit", "RateLimitMiddleware", "decisions"]
