"""The bucket in PostgreSQL: for any number of hosts that share a database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ...algorithms import Algorithm, SlidingWindowLog
from ...bucket import AbstractBucket, BucketStatistics
from ...clocks import Clock
from ...decisions import Answer, Ask
from ...errors import StoreError
from ...rates import Rate
from ..outage import Fail, Outage, WhenDown
from ..shares import Share
from .connections import Connections
from .here import DecideHere
from .keys import Keys
from .layout import Layout
from .schema import Schema
from .sources import Connection, Pool
from .sweep import Sweeper
from .there import DecideThere

_LARGEST = 2**62
_MISSING = {"42P01", "42883", "XX000", "25006"}
"""Errors that say that the table or the function is gone, or that the session remembers one that is: the next call
makes them anew, on a new connection. That may also lead to another server than one that only reads."""


class PostgresBucket(AbstractBucket):
    """Budgets in a table of PostgreSQL, shared by all hosts that use it; stamps are those of the server's clock.

    Each event loop keeps one connection. A batch of asks is one call of an SQL function, which locks the rows of its
    keys, reads the clock and decides; where there is no right to make functions, Python decides between two trips.
    Both are exact, and keep the same rows. A row is as long as the state; limits above 31 with the log take up to
    0.7 KB, and up to 28 KB more in rows of another table.

    The state of one bucket is found by any other with equal rates, algorithm and table. psycopg (the extra
    `postgres`) runs on asyncio only.

    Args:
        rates: one rate or several.
        dsn_or_pool: a connection string or URL, or an open `AsyncConnectionPool`, from which each event loop borrows
            one connection until the bucket is closed: let it have one more than the application needs. A pooler between
            them and the server must pool sessions.
        table: its name, perhaps with a schema before a dot; it is made on first use if it is not there.
        algorithm: how units are counted.
        when_down: what to do while the server is down or slow, and how long a decision may take.
        synchronous_commit: whether a decision waits for the disk. If not, it is faster by half, and a crash of the
            server forgets what was counted in its last 0.6 seconds or so (three times `wal_writer_delay`).
        functions: whether to use SQL functions where possible.
        clock: a function that returns microseconds in place of the server's clock, for tests.

    Attributes:
        outage: whether the server is down, how often it was, and how many decisions were not its own.

    Raises:
        ValueError: the table's name does not do, the string is no connection string, or a limit is beyond 2**62.
    """

    def __init__(
        self,
        rates: Rate | Sequence[Rate],
        dsn_or_pool: str | Pool,
        table: str = "pyrate_limiter",
        *,
        algorithm: type[Algorithm] = SlidingWindowLog,
        when_down: WhenDown = Fail(),  # noqa: B008 - it is frozen
        synchronous_commit: bool = True,
        functions: bool = True,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(rates, algorithm=algorithm)
        if any(max(rate.limit, rate.burst or 0) > _LARGEST for rate in self.rates):
            raise ValueError(f"PostgresBucket counts up to 2**62, which is {_LARGEST}: give a smaller limit or burst")
        self._arguments = (self.rates, dsn_or_pool, table, algorithm, when_down, synchronous_commit, functions, clock)
        store = _name_of(dsn_or_pool)
        self._schema = Schema(table)
        settings = {
            "lock_timeout": f"{min(max(1, int(when_down.budget * 1000)), 2**31 - 1)}ms",
            "synchronous_commit": "on" if synchronous_commit else "off",
        }
        self._connections = Connections(dsn_or_pool, settings, store, self._prepare)
        self.outage = Outage(when_down, self.rates, algorithm, store)
        self._layout = Layout(self.rule)
        keys = Keys(algorithm, self.rates)
        self._here = DecideHere(self._schema, keys, self.rule, self._layout, clock)
        self._there = DecideThere(self._schema, keys, self._layout, clock)
        self._decide: DecideHere | DecideThere = self._here
        self._sweeper = Sweeper(self._schema, clock)
        self._kind = self._layout.kind if functions else None
        self._made = False
        self._share = Share(self.rates)
        self.share = self._share.least

    @staticmethod
    def ddl(table: str = "pyrate_limiter") -> str:
        """Return the statements that make the tables and functions, for those whose programs may not.

        Their role must be granted SELECT, INSERT, UPDATE and DELETE on both tables.
        """
        return Schema(table).ddl()

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        _require_asyncio()
        return await self.outage.call(self._ask_store, asks)

    async def _ask_store(self, asks: Sequence[Ask], budget: float) -> list[Answer]:
        left = time.monotonic()
        try:
            # What decides may be known only when there is a connection.
            answers = await self._connections.run(lambda *session: self._decide(asks, *session), budget)
        except StoreError as error:
            if getattr(error.__cause__, "sqlstate", None) in _MISSING:
                self._made = False
                await self._connections.renew()
            raise
        self.share = self._share.after(time.monotonic() - left)
        if self._sweeper.due:
            self._connections.in_background(self._sweeper.sweep, budget)
        return answers

    async def _prepare(self, connection: Connection) -> None:
        """Look for the tables and the function, the first time, and make what is missing."""
        if not self._made:
            there = await self._schema.is_there(connection, self._kind)
            usable = self._kind is not None if there else await self._schema.make(connection, self._kind)
            self._decide = self._there if usable else self._here
            self._made = True
        if self._decide is self._there:
            await self._there.warm(connection)

    def statistics(self) -> BucketStatistics:
        return self.outage.told_by(super().statistics())

    async def _disconnect(self) -> None:
        if _on_asyncio():
            await self._connections.close()

    def _forked(self) -> None:
        super()._forked()
        self._connections.forked()
        self.outage.forked()

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._arguments[1], str):
            raise TypeError("a PostgresBucket with a pool belongs to one process and cannot be pickled: give a DSN")
        return _again, self._arguments


def _again(rates: Sequence[Rate], dsn: str, table: str, *options: Any) -> PostgresBucket:
    names = ("algorithm", "when_down", "synchronous_commit", "functions", "clock")
    return PostgresBucket(rates, dsn, table, **dict(zip(names, options, strict=True)))


def _require_asyncio() -> None:
    if not _on_asyncio():
        raise StoreError(
            "psycopg runs on asyncio only, not on trio: there, use RedisBucket with a coredis client, or SQLiteBucket"
        )


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _name_of(source: str | Pool) -> str:
    """Return the server's name for people, without a password."""
    dsn = source if isinstance(source, str) else getattr(source, "conninfo", "")
    try:
        parts = conninfo_to_dict(dsn if isinstance(dsn, str) else "")  # a pool's may be a function
    except ProgrammingError as error:
        raise ValueError(f"dsn_or_pool is no connection string of PostgreSQL: {error}") from None
    host, port = parts.get("host") or parts.get("hostaddr") or "localhost", parts.get("port") or 5432
    return f"PostgreSQL at {host}:{port}"
