"""Limits as dependencies of FastAPI's routes.

Annotations are objects here, not text: older releases of FastAPI do not resolve the text of an instance's `__call__`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

try:
    from fastapi import FastAPI, HTTPException, Response, routing
    from fastapi.dependencies.models import Dependant
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError as error:
    raise ImportError("these limits need FastAPI: pip install 'pyrate-limiter-anyio[fastapi]'") from error

from .. import Decision
from .asgi import RULINGS, App, Receive, Refusal, Scope, Send, respond
from .fields import MEDIA_TYPE, NAMES, TOO_MANY, Problem, Ruling, exceeded, fields
from .keys import Key, client_address
from .limits import Budget, Cost, Exempt, Limit
from .verdicts import give_back, judge

Asked: TypeAlias = list[tuple[Limit, Decision]]

_ASKED = "pyrate_limiter.asked"
_ALONE = "pyrate_limiter.alone"


class RateLimited(HTTPException):
    """A request was refused, or could not be decided.

    Attributes:
        problem: the answer.
    """

    def __init__(self, problem: Problem) -> None:
        headers = {name.decode(): value.decode() for name, value in problem.fields}
        super().__init__(problem.status, problem.title, headers)
        self.problem = problem


class RateLimit:
    """Limits the routes that depend on it: ``dependencies=[Depends(RateLimit("100/minute"))]``.

    A route may have several, of its own and of its routers: when one refuses, what those before it took is given back,
    and those behind it are looked at, so that Retry-After is right for all of them.
    A refused request is answered by 429, or by 503 if the store fails, and the route does not run; an exception
    handler of yours for `RateLimited` may answer otherwise. `show_limits` puts the fields on every response and the
    429 into the OpenAPI document; for the document alone, ``responses=limit.responses`` does for a route or a router.

    Args:
        limiter: a limiter (with ``keyed=True``), or what one is made of. One `RateLimit` used by several routes is one
            budget for all of them.
        key: whom a request is counted for: a function of the connection, see `keys`. None: all share one budget.
        cost: the units of a request, or a function of the connection that returns them.
        exempt: a function of the connection that says whether it is let through uncounted.
        shadow: decide, tell and log, but never refuse.
        policy_name: what clients read; one name for each rate if there are several. None: what each rate says of
            itself, such as ``100/1m``.

    Raises:
        ValueError: the limiter shares one budget among all names, so that the key would say nothing.
    """

    def __init__(
        self,
        limiter: Budget,
        *,
        key: Key | None = client_address,
        cost: Cost = 1,
        exempt: Exempt | None = None,
        shadow: bool = False,
        policy_name: str | Sequence[str] | None = None,
    ) -> None:
        self._limit = Limit("*", limiter, key=key, cost=cost, exempt=exempt, shadow=shadow, policy_name=policy_name)

    async def __call__(self, connection: HTTPConnection, response: Response) -> Decision | None:
        """Take, and return the decision, which is None where nothing was counted; or raise `RateLimited`."""
        scope = connection.scope
        asked: Asked = scope.setdefault(_ASKED, [])
        written: list[Ruling] | None = scope.get(RULINGS)
        rulings: list[Ruling] = scope.setdefault(_ALONE, []) if written is None else written
        try:
            decided, problem = await judge([self._limit], connection)
        except Exception:
            await give_back(asked)
            raise
        if problem is not None:
            rulings[len(rulings) - len(asked) :] = await give_back(asked)
            if decided:
                decided += await self._behind(connection)
                problem = exceeded([ruling for ruling in decided if not ruling[1].allowed])
        rulings += decided
        more = fields(rulings) if written is None and rulings else []
        if problem is not None:
            scope["starlette.exception_handlers"][0].setdefault(RateLimited, answer)
            raise RateLimited(problem._replace(fields=problem.fields + more))
        asked += [(self._limit, decision) for _, decision in decided]
        response.headers.update({name.decode(): value.decode() for name, value in more})
        return decided[0][1] if decided else None

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """What the OpenAPI document says of a refusal: for ``responses=`` of a route, a router or an app."""
        return {TOO_MANY: _documented()}

    async def _behind(self, connection: HTTPConnection) -> list[Ruling]:
        """Return what the limits would say that FastAPI would have asked after this one."""
        limits = [*dict.fromkeys(_limits(_running(connection.scope), _overrides(connection.scope)))]
        found = []
        for behind in limits[limits.index(self) + 1 :] if self in limits else ():
            with suppress(Exception):  # its key may need what a dependency of its own would have provided
                decision = await behind._limit.look(connection)
                if decision is not None:
                    found.append((behind._limit.policies, decision))
        return found


def show_limits(app: FastAPI) -> None:
    """Put the fields of its limits on all responses of an app, and the 429 into its OpenAPI document.

    Without it, the fields are on refusals and on what FastAPI makes of a returned value; they are lost where a route
    returns a `Response` of its own or raises.
    """
    app.add_middleware(_FieldWriter)
    document = app.openapi

    def openapi() -> dict[str, Any]:
        found = document()
        for path, method in _limited(app):
            operation = found["paths"].get(path, {}).get(method.lower())
            if operation is not None:
                operation["responses"].setdefault(str(TOO_MANY), _documented())
        return found

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


async def answer(connection: HTTPConnection, error: RateLimited) -> App:  # Starlette runs sync ones in a thread
    """Return the response to a refused request: an exception handler."""
    return Refusal(error.problem)


class _FieldWriter:
    """Writes the fields of what limits say further inside."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(self.app, scope, receive, send, [])


def _limited(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the path and the method of each route that depends on a limit."""
    flat: Any = getattr(
        routing, "iter_route_contexts", iter
    )  # older releases keep what is included as routes of the app
    for route in flat(app.routes):
        if any(_limits(getattr(route, "dependant", None), {})):
            yield from ((route.path_format, method) for method in getattr(route, "methods", None) or ())


def _limits(dependant: Dependant | None, overrides: Mapping[Any, Any]) -> Iterator[RateLimit]:
    """Yield the limits of a route, in the order in which they are asked."""
    for dependency in dependant.dependencies if dependant is not None else ():
        yield from _limits(dependency, overrides)
        call = overrides.get(dependency.call, dependency.call)
        if isinstance(call, RateLimit):
            yield call


def _running(scope: Scope) -> Dependant | None:
    """Return what the route that runs depends on; of one that was included, newer releases keep that in the scope."""
    included = scope.get("fastapi", {}).get("effective_route_context")
    routes = (included, getattr(included, "starlette_route", None), scope.get("route"))
    return next(filter(None, (getattr(route, "dependant", None) for route in routes)), None)


def _overrides(scope: Scope) -> Mapping[Any, Any]:
    overrides: Mapping[Any, Any] = getattr(scope.get("app"), "dependency_overrides", {})
    return overrides


def _documented() -> dict[str, Any]:
    text = {"type": "string"}
    members: dict[str, Any] = {
        "type": {"type": "string", "format": "uri"},
        "title": text,
        "status": {"type": "integer"},
        "detail": text,
        "violated-policies": {"type": "array", "items": text},
    }
    seconds = {"description": "Seconds until the request would be admitted", "schema": {"type": "integer"}}
    return {
        "description": "Too Many Requests",
        "headers": {
            "Retry-After": seconds,
            NAMES.policy: {"description": "The limits", "schema": text},
            NAMES.state: {"description": "What is left of them", "schema": text},
        },
        "content": {MEDIA_TYPE: {"schema": {"type": "object", "title": "Problem", "properties": members}}},
    }


__all__ = ["RateLimit", "RateLimited", "show_limits"]
