"""Virtual time: an hour of sleep takes no time, and every run sees the same moments.

A module runs all its async tests that way, on asyncio and on trio, with

    from .virtual import virtual_backends

    anyio_backend = virtual_backends

For code without threads and sockets: a loop that has nothing to do but to wait jumps to its next timer, and does not
know that a thread is about to report to it, so a timeout around `anyio.to_thread.run_sync` is over at once.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest
from trio.testing import MockClock


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while there is something to do, and jumps to the next timer otherwise.

    The clock starts at 0, as trio's `MockClock` does.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Move the clock forward."""
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Asks what is ready, and lets the loop's time pass instead of waiting. Without a timer it waits for real."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout and 0)
        if timeout and not ready:
            self._loop.jump(timeout)
        return ready


@pytest.fixture(params=["asyncio", "trio"])
def virtual_backends(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Return an anyio backend with a new virtual clock."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    return "trio", {"clock": MockClock(autojump_threshold=0)}
