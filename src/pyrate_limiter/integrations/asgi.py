"""Limits for any ASGI app: Starlette, FastAPI, Litestar, Quart, or none of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias, cast

import anyio

from .. import Decision
from .fields import Problem, Ruling, fields
from .keys import Key, client_address
from .limits import Budget, ClientGone, Cost, Exempt, Limit, judge, require_distinct_names

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
        options = {
            "key": key,
            "cost": cost,
            "exempt": exempt,
            "shadow": shadow,
            "wait": wait,
            "policy_name": policy_name,
        }
        self._limits = as_limits(limiter, options)
        self._covers_all = all(limit.covers_all for limit in self._limits)
        self._holds = any(limit.holds for limit in self._limits)
        self._legacy = legacy_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits_for(scope)
        if not limits:
            await self.app(scope, receive, send)
            return
        hold = None
        if self._holds:
            receive = mailbox = Mailbox(receive)
            hold = mailbox.hold
        try:
            rulings, problem = await judge(limits, scope, hold)
        except ClientGone:
            return
        with_fields = writing(scope, send, rulings, legacy=self._legacy)
        try:
            if problem is not None:
                await refuse(problem, scope, with_fields)
            else:
                await self.app(scope, receive, with_fields)
        finally:
            if with_fields is not send:
                del scope[RULINGS]

    def _limits_for(self, scope: Scope) -> Sequence[Limit]:
        if scope["type"] not in ("http", "websocket"):
            return ()
        if self._covers_all:
            return self._limits
        method, path = scope.get("method", "GET"), scope["path"]
        return [limit for limit in self._limits if limit.covers(method, path)]


def decisions(connection: Scope) -> list[Decision]:
    """Return what limits have said to a request so far: to give back, say, what it did not need after all."""
    return [ruling.decision for ruling in connection.get(RULINGS, ())]


def writing(scope: Scope, send: Send, rulings: list[Ruling], *, legacy: bool = False) -> Send:
    """Return a `send` that adds the fields of what limits said, now and further inside, when the response starts.

    Inside of one that does so already, note them for it and return `send` itself: they are written once.
    """
    outer: list[Ruling] | None = scope.get(RULINGS)
    if outer is not None:
        outer += rulings
        return send
    scope[RULINGS] = rulings

    def send_with_fields(message: Message) -> Awaitable[None]:
        if rulings and message["type"] in _STARTS:
            more = fields(rulings, legacy=legacy)
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        return send(message)

    return send_with_fields


async def refuse(problem: Problem, scope: Scope, send: Send) -> None:
    """Answer a request, or close a WebSocket that is not open yet: with the answer, where the server can send one."""
    prefix = ""
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "rate limit"})
            return
        prefix = "websocket."
    await send({"type": f"{prefix}http.response.start", "status": problem.status, "headers": problem.fields})
    await send({"type": f"{prefix}http.response.body", "body": problem.body})


class Mailbox:
    """Reads ahead from a client while its request is held, and hands on what it read: the `receive` of the app.

    Args:
        receive: the one of the server.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._size = 0
        self._gone = False

    async def __call__(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()

    async def hold(self, call: Callable[[], Awaitable[Decision]]) -> Decision:
        """Await a call for as long as the client is there.

        Raises:
            ClientGone: the client went away, and the call was cancelled.
            Exception: what the call raised.
        """
        outcome: Decision | Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, tasks.cancel_scope)
            try:
                outcome = await call()
            except Exception as error:  # raised below: out of here it would come in a group
                outcome = error
            tasks.cancel_scope.cancel()
        if outcome is None:
            raise ClientGone
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while self._size < READ_AHEAD and not self._gone:
            message = await self._receive()
            self._kept.append(message)
            self._size += len(message.get("body", b""))
            self._gone = message["type"] in _ENDS
        if self._gone:
            scope.cancel()


def as_limits(limiter: Budget | Sequence[Limit], options: dict[str, Any]) -> list[Limit]:
    """Return the limits that were given, or the one that is made of a limiter and options.

    Raises:
        ValueError: options were given beside limits, or two limits have the same name.
    """
    if not isinstance(limiter, Sequence) or isinstance(limiter, str) or not isinstance(limiter[0], Limit):
        return [Limit("*", cast("Budget", limiter), **options)]
    given = [name for name, value in options.items() if value != _DEFAULTS[name]]
    if given:
        raise ValueError(f"each Limit has options of its own: give {', '.join(given)} to them")
    limits = list(cast("Sequence[Limit]", limiter))
    require_distinct_names(limits)
    return limits


_DEFAULTS: dict[str, Any] = {
    "key": client_address,
    "cost": 1,
    "exempt": None,
    "shadow": False,
    "wait": None,
    "policy_name": "default",
}
