"""Permits as context managers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..decisions import Decision
    from .calls import Calls


class Slot:
    """A permit that is acquired on the way in, by `with` or `async with`; it gives nothing back on the way out.

    A rate is spent by starting, not by holding: there is nothing to release. It can be used any number of times,
    and each time acquires anew.
    """

    __slots__ = ("_limiter", "_name", "_timeout", "_weight")

    def __init__(self, limiter: Calls[object], name: str, weight: int, timeout: float) -> None:
        self._limiter = limiter
        self._name = name
        self._weight = weight
        self._timeout = timeout

    async def __aenter__(self) -> Decision:
        return await self._limiter.acquire(self._name, self._weight, timeout=self._timeout)

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    def __enter__(self) -> Decision:
        return self._limiter.sync.acquire(self._name, self._weight, timeout=self._timeout)

    def __exit__(self, *exc_info: object) -> None:
        pass
