"""The bucket in an SQLite database: for the processes of one host, and for what has to survive them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

from anyio import to_thread

from ...algorithms import Algorithm, SlidingWindowLog
from ...bucket import AbstractBucket
from ...clocks import Clock
from ...decisions import Answer, Ask
from ...rates import Rate
from ...waiting import running
from ..shares import Share
from .connection import Plan
from .drivers import Driver, open_driver
from .lifetimes import keeper
from .places import Place, Temporary, as_place
from .rows import Rows
from .schema import Schema


class SQLiteBucket(AbstractBucket):
    """Budgets in an SQLite database, shared by all who open the same file: tasks, threads, processes.

    Nothing is opened before the first call. Each event loop has a connection of its own, which closes with it. A batch
    of asks is one transaction; a database that is busy is waited for. Rows that have expired go as work goes on.

    A row belongs to a key, the algorithm and the rates: buckets that differ in those may share a table and count apart.

    A row takes about 60 bytes and twice its key, with `GCRA` or a window; with the log 16 more for each run, of which
    there are at most the limit or about 1000. Each connection also keeps the states of at most some hundred keys in
    memory, to read nothing twice while nobody else writes.

    Who replaces the file while it is in use must remove the files beside it (``-wal``, ``-shm``) as well: SQLite takes
    them for those of the new one.

    Args:
        rates: one rate or several.
        path: of the file, which is made if it is missing, with its folder; None is a database in memory, for all
            loops and threads of this process, which lives as long as the bucket.
        table: the name of the table, any text; `<table>_meta` beside it is for the clock.
        algorithm: how they are counted.
        use_file_lock: processes take turns by a lock file beside the database, so that none gets far more than its
            share. The counts are exact without it.
        clock: a function that returns microseconds, for tests. The host's time since boot, tied to the wall clock
            once for each boot, if not given: nobody can set it.

    Raises:
        ValueError: there can be no such path or table.
    """

    def __init__(
        self,
        rates: Rate | Sequence[Rate],
        path: str | os.PathLike[str] | None = None,
        table: str = "pyrate_limiter",
        *,
        algorithm: type[Algorithm] = SlidingWindowLog,
        use_file_lock: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(rates, algorithm=algorithm)
        self.share = Share(self.rates).least
        self.table = valid_table(table)
        self._place = as_place(path)
        rows = Rows(table, self.rule, signature(algorithm, self.rates))
        self._plan = Plan(self._place, Schema(table), rows, self.rule, use_file_lock, clock)
        self._drivers: dict[Any, Driver] = {}
        self._finalizer = weakref.finalize(self, _let_go, self._drivers, self._place)

    @classmethod
    def temporary(
        cls,
        rates: Rate | Sequence[Rate],
        table: str = "pyrate_limiter",
        *,
        algorithm: type[Algorithm] = SlidingWindowLog,
        use_file_lock: bool = False,
        clock: Clock | None = None,
    ) -> SQLiteBucket:
        """Return a bucket in a temporary file, which goes when the bucket is closed or the process exits.

        Copies of it that are sent to other processes share the file, and do not remove it.
        """
        return cls(rates, Temporary(), table, algorithm=algorithm, use_file_lock=use_file_lock, clock=clock)

    def __reduce__(self) -> tuple[Any, ...]:
        plan = self._plan
        make = partial(type(self), algorithm=self.algorithm, use_file_lock=plan.use_file_lock, clock=plan.clock)
        return make, (self.rates, self._place, self.table)

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        driver = self._drivers.get(running())
        if driver is None or not driver.usable:
            driver = await self._open()
        try:
            return await driver.apply(asks)
        finally:
            if not driver.usable:
                await self._disconnect()

    async def _open(self) -> Driver:
        await self._disconnect()  # from one that failed when its batch had been left already
        driver = await open_driver(self._plan)
        for token, other in list(self._drivers.items()):
            if other.closed:
                self._drivers.pop(token, None)
        self._drivers[running()] = driver
        return driver

    async def _disconnect(self) -> None:
        driver = self._drivers.pop(running(), None)
        if driver is not None:
            await driver.aclose()

    async def aclose(self) -> None:
        await super().aclose()
        if self._place.transient and all(driver.closed for driver in list(self._drivers.values())):
            await to_thread.run_sync(self._finalizer)

    def _forked(self) -> None:
        super()._forked()
        self._drivers.clear()


def _let_go(drivers: dict[Any, Driver], place: Place) -> None:
    """Leave behind what a bucket had that is closed, or that nobody has any more."""
    keeper.drop(drivers.values())
    place.remove()


def signature(algorithm: type[Algorithm], rates: Sequence[Rate]) -> str:
    """Return what tells the states of these rates from others, in this process and in later ones."""
    return " ".join([algorithm.__name__, *(f"{rate.limit}/{rate.interval}/{rate.burst}" for rate in rates)])


def valid_table(name: str) -> str:
    """Return a name that SQLite takes for a table.

    Raises:
        ValueError: it takes no such name.
    """
    if not name or "\0" in name or name.lower().startswith("sqlite_"):
        raise ValueError(
            f"a table cannot be named {name!r}: give it some text, without a NUL, that does not begin sqlite_"
        )
    name.encode()
    return name
