"""The sweep: rows that say nothing any more go in small steps, after a batch has been answered."""

from __future__ import annotations

import logging
import time
from math import inf

from psycopg.errors import InsufficientPrivilege

from ...clocks import SECOND, Clock
from .schema import Schema
from .session import Session

logger = logging.getLogger("pyrate_limiter")

_BLOCKS = 64
"""How much of the table one step looks at: half a megabyte, about a millisecond."""
_ROWS = 500
"""The most rows that one step deletes."""
_PAUSE = 0.25
"""Seconds until the next step, after one that found nothing."""
_GRACE = SECOND
"""Microseconds that an expired row stays. Steps back of the clock below that are held at the last stamp, which must
still be there."""


class Sweeper:
    """Goes through the table, a few blocks at a time, and begins again at its end."""

    def __init__(self, schema: Schema, clock: Clock | None) -> None:
        self._clock = clock
        self._block = 0
        self._next = 0.0
        # No index finds the expired rows: it would have to be written at every decision.
        self._sql = schema.statement("sweep")
        self._table = schema.table

    @property
    def due(self) -> bool:
        """Whether it is time for a step."""
        return time.monotonic() >= self._next

    async def sweep(self, session: Session, _: float) -> None:
        """Do a step."""
        self._next = time.monotonic() + _PAUSE
        now = self._clock() if self._clock else None
        end = self._block + _BLOCKS
        window = f"({self._block},0)", f"({end},0)"
        try:
            cursor = await session.connection.execute(self._sql, (*window, now, _GRACE, _ROWS, self._table))
        except InsufficientPrivilege as error:
            self._next = inf
            logger.warning("rows that have expired stay in the table %s: %s", self._table, error)
            return
        gone, blocks = await cursor.fetchone() or (0, 0)
        if gone:
            self._next = 0.0
        if gone < _ROWS:
            self._block = end if end < blocks else 0
