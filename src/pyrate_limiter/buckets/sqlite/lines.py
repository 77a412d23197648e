"""Lines: what a bucket has open for one event loop, for as long as that loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from ...decisions import Answer, Ask
from ...waiting import running
from .connection import Plan
from .drivers import AsyncioDriver, Driver, TrioDriver


class Line:
    """A connection of one event loop: a batch is one way into its thread and back. `open_line` makes one."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._database = driver.database
        # An event loop that ends closes the generators that began in it, whether it is asyncio.run, a portal or trio.
        self._life = _until_closed(driver)

    @property
    def usable(self) -> bool:
        """Whether the next batch may come this way."""
        return self._database.sound and not self._database.closing

    async def begin(self) -> None:
        """Tie the line to the running loop."""
        await anext(self._life)

    async def apply(self, asks: Sequence[Ask]) -> list[Answer]:
        """Decide a batch. If the caller leaves in the middle, it is decided as a whole or not at all."""
        call = self._database.submit(asks)
        try:
            await self._driver.commit()
        except BaseException:
            call.left = True
            raise
        return call.outcome()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._life.aclose()


async def open_line(plan: Plan) -> Line:
    """Open a connection for the running loop."""
    kind = AsyncioDriver if isinstance(running(), asyncio.AbstractEventLoop) else TrioDriver
    line = Line(await kind.open(plan))
    await line.begin()
    return line


async def _until_closed(driver: Driver) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        driver.database.closing = True
        await driver.aclose()
