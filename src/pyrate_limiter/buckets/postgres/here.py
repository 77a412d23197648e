"""Deciding in Python, between two trips to the server: for every algorithm, and without a right to make functions.

The first trip locks the rows and brings the states, the second one saves what changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.errors import DivisionByZero, SerializationFailure

from ...algorithms import Rule, State, decide
from ...clocks import Clock
from ...decisions import Answer, Ask
from .keys import Keys
from .layout import Layout, Page, Pages
from .schema import Schema
from .session import Session


class DecideHere:
    """Decides a batch by `decide`, in one transaction that holds the locks of its rows."""

    def __init__(self, schema: Schema, keys: Keys, rule: Rule, layout: Layout, clock: Clock | None) -> None:
        self._keys = keys
        self._rule = rule
        self._layout = layout
        self._clock = clock
        # Always in the order of the keys: two batches that lock in two orders wait for each other.
        self._queue = schema.statement("queue")
        self._insert, self._lock = schema.statement("insert"), schema.statement("lock")
        self._read_pages, self._clock_sql = schema.statement("read_pages"), schema.statement("clock")
        self._in_time, self._update = schema.statement("in_time"), schema.statement("update")
        self._write_pages = schema.statement("write_pages")

    async def __call__(self, asks: Sequence[Ask], session: Session, seconds: float) -> list[Answer]:
        """Decide a batch within so many seconds.

        Raises:
            psycopg.Error: nothing was done; or, once `session.perhaps_done`, perhaps.
        """
        keys = {ask.key: self._keys(ask.key) for ask in asks}
        try:
            states, now = await self._open(session, keys)
            deadline = session.deadline(seconds)
            answers = decide(self._rule, states, asks, now)
            await self._save(session, states, deadline)
        except BaseException:
            if not session.connection.closed:
                await session.connection.rollback()
            raise
        return answers

    async def _open(self, session: Session, keys: Mapping[str, bytes]) -> tuple[_States, int]:
        connection, wanted = session.connection, sorted(keys.values())
        paged: Any = None
        async with connection.pipeline():
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            await connection.execute(self._queue, (wanted[0],))
            await connection.execute(self._insert, (wanted,))
            locked = await connection.execute(self._lock, (wanted,))
            if any(self._layout.slots):
                paged = await connection.execute(self._read_pages, (wanted,))
            clock = await connection.execute(self._clock_sql)
        rows = dict(await locked.fetchall())
        if len(rows) < len(wanted):
            raise SerializationFailure("a row was swept before it could be locked")
        (now,) = await clock.fetchone() or (0,)
        session.set_clock(now)
        pages = _by_key(await paged.fetchall()) if paged else {}
        return _States(self._layout, keys, rows, pages), self._clock() if self._clock else now

    async def _save(self, session: Session, states: _States, deadline: int) -> None:
        connection = session.connection
        rows, pages = states.written(self._rule)
        session.perhaps_done = True
        try:
            async with connection.pipeline():
                # If the server sleeps now and wakes when nobody waits any more, this fails, and all that follows.
                await connection.execute(self._in_time, (deadline,))
                if rows:
                    await connection.execute(self._update, _columns(rows))
                if pages:
                    await connection.execute(self._write_pages, _columns(pages))
                await connection.execute("COMMIT")
        except DivisionByZero as error:
            raise SerializationFailure("the server came to it too late") from error


class _States:
    """The states of the keys of a batch."""

    def __init__(
        self,
        layout: Layout,
        keys: Mapping[str, bytes],
        rows: Mapping[bytes, list[int]],
        pages: Mapping[bytes, Mapping[int, Pages]],
    ) -> None:
        self._layout, self._keys, self._rows, self._pages = layout, keys, rows, pages
        self._states: dict[str, State] = {}
        self._changed: set[str] = set()

    def get(self, name: str) -> State | None:
        if name not in self._states:
            key = self._keys[name]
            if not self._rows[key]:
                return None
            self._states[name] = self._layout.read(self._rows[key], self._pages.get(key, {}))
        return self._states[name]

    def __setitem__(self, name: str, state: State) -> None:
        self._states[name] = state
        self._changed.add(name)

    def written(self, rule: Rule) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Return the rows and the pages to be written, in the order of the statements' columns."""
        rows: list[tuple[Any, ...]] = []
        pages: list[tuple[Any, ...]] = []
        for name in self._changed:
            key, state = self._keys[name], self._states[name]
            row, new = self._layout.write(state, self._rows[key], self._pages.get(key, {}))
            rows.append((key, rule.idle_at(state), _array(row)))
            for rate, numbered in new.items():
                slots = self._layout.slots[rate]
                pages += [(key, rate, n % slots, n, page.before, _array(page.runs)) for n, page in numbered.items()]
        return rows, pages


def _by_key(rows: Sequence[tuple[bytes, int, int, int, list[int]]]) -> dict[bytes, dict[int, Pages]]:
    pages: dict[bytes, dict[int, Pages]] = {}
    for key, rate, number, before, runs in rows:
        pages.setdefault(key, {}).setdefault(rate, {})[number] = Page(before, runs)
    return pages


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _array(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
