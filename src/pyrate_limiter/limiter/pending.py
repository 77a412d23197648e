"""The coroutine that `try_acquire` returns where it is to be awaited."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, NoReturn


class PendingBool(Coroutine[Any, Any, bool]):
    """A coroutine of a bool, which is not itself to be taken for one.

    It works wherever a coroutine does: `await`, `create_task`, `TaskGroup`, `start_soon`. Python warns, as of any
    coroutine, when it was never awaited.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, bool]) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._coroutine.__await__()

    def __bool__(self) -> NoReturn:
        self._coroutine.close()
        raise TypeError("this limiter is awaited: write `if await limiter.try_acquire(...)`, with the await")
