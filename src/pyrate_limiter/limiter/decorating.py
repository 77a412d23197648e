"""Permits as decorators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from .calls import Calls

F = TypeVar("F", bound=Callable[..., Any])


def decorate(
    limiter: Calls[object],
    function: F,
    name: str | Callable[..., str],
    weight: int | Callable[..., int],
) -> F:
    """Return a function that acquires before each call, and does not run when that raises.

    Raises:
        TypeError: the function is a generator, whose body runs long after its call, or a static or class method.
    """
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise TypeError(f"a {kind} becomes one last: put as_decorator() below @{kind}, next to the function")
    if isasyncgenfunction(function) or isgeneratorfunction(function):
        raise TypeError(
            f"{getattr(function, '__qualname__', function)} is a generator: a permit for its call says nothing"
            " about its steps; acquire inside it, where the work is done"
        )

    def wanted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, int]:
        return (
            name(*args, **kwargs) if callable(name) else name,
            weight(*args, **kwargs) if callable(weight) else weight,
        )

    @wraps(function)
    async def limited(*args: Any, **kwargs: Any) -> Any:
        await limiter.acquire(*wanted(args, kwargs))
        return await function(*args, **kwargs)

    @wraps(function)
    def limited_sync(*args: Any, **kwargs: Any) -> Any:
        limiter.sync.acquire(*wanted(args, kwargs))
        return function(*args, **kwargs)

    # An object may have a call that is awaited; it is its class that says so.
    awaited = iscoroutinefunction(function) or iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004
    return cast("F", limited if awaited else limited_sync)
