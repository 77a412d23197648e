"""The rows of a bucket: read for a batch, written after it, and swept as work goes on."""
# ruff: noqa: S608 (the table's name is quoted, and all else is bound)

from __future__ import annotations

import hashlib
import random
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeVar
from zlib import crc32

from ...algorithms import Rule, State
from ...clocks import SECOND
from .schema import UnusableError, quoted

T = TypeVar("T")
_HEADER = struct.Struct("<BI")
_FORM = 1
"""Of the bytes of a state: this byte, a checksum (SQLite has none of its own), and what the rule packed."""
_MANY = 32
"""How many keys one statement takes. A fixed number, since every number would be a statement of its own to compile."""
_EVERY, _LOOK = 8, 16
"""After so many transactions so many rows are looked at, and two more for every new one."""
_LATEST = 2**63 - 1
_KNOWN = 256
"""How many states a connection keeps at most, beside those of the batch under way."""


class Rows:
    """The statements for the rows of one rule in one table.

    A row belongs to a key and a rule: buckets of other rates or of another algorithm may share the table, and do not
    see each other's rows.

    Args:
        table: its name.
        rule: by which states are packed.
        signature: text that tells this rule from others, today and in a later process.
    """

    def __init__(self, table: str, rule: Rule, signature: str) -> None:
        self._table, self._rule = table, rule
        self._id = int.from_bytes(hashlib.blake2b(signature.encode(), digest_size=8).digest(), "little", signed=True)
        rows, row = quoted(table), "(?, ?, ?, ?)"
        read = f"SELECT key, state FROM {rows} WHERE rule = ? AND key"
        self._read = f"{read} = ?"
        self._read_many = f"{read} IN ({', '.join('?' * _MANY)})"
        self._names = f"SELECT key FROM {rows} WHERE rule = ?"
        insert = f"INSERT INTO {rows} (rule, key, expires, state) VALUES"
        update = "ON CONFLICT (rule, key) DO UPDATE SET expires = excluded.expires, state = excluded.state"
        self._write = f"{insert} {row} {update}"
        self._write_many = f"{insert} {', '.join([row] * _MANY)} {update}"
        self._last = f"SELECT max(rowid) FROM {rows}"
        self._look = f"SELECT rowid, expires FROM {rows} WHERE rowid > ? ORDER BY rowid LIMIT ?"
        self._delete = f"DELETE FROM {rows} WHERE rowid = ?"

    def read(self, db: sqlite3.Connection, keys: list[str]) -> Iterator[tuple[str, State]]:
        """Return those of these keys that have a row, each with its state.

        Raises:
            UnusableError: one of them is not as it was written.
        """
        if len(keys) == 1:
            found = db.execute(self._read, (self._id, *keys)).fetchall()
        else:
            found = []
            for some in _by_many(keys):
                filled = some + some[-1:] * (_MANY - len(some))
                found += db.execute(self._read_many, (self._id, *filled)).fetchall()
        return ((key, self._unpack(key, state)) for key, state in found)

    def names(self, db: sqlite3.Connection) -> sqlite3.Cursor:
        """Return all keys of this rule, in rows of one column."""
        return db.execute(self._names, (self._id,))

    def write(self, db: sqlite3.Connection, states: dict[str, State]) -> None:
        """Save the states of some keys."""
        for some in _by_many([self._row(key, state) for key, state in states.items()]):
            if len(some) == _MANY:
                db.execute(self._write_many, list(chain.from_iterable(some)))
            else:
                db.executemany(self._write, some)

    def middle(self, db: sqlite3.Connection) -> int:
        """Return a rowid by chance: where a sweep may begin, for the many processes that do not live long."""
        return random.randint(0, db.execute(self._last).fetchone()[0] or 0)  # noqa: S311 nobody gains by guessing it

    def sweep(self, db: sqlite3.Connection, after: int, count: int, now: int) -> int:
        """Delete what has expired of the next `count` rows, and return the rowid after which to go on.

        Not within the second in which it expires: a clock that steps back by less is held, and forgets nothing.
        """
        found = db.execute(self._look, (after, count)).fetchall()
        db.executemany(self._delete, [(rowid,) for rowid, expires in found if expires <= now - SECOND])
        return found[-1][0] if len(found) == count else 0

    def _row(self, key: str, state: State) -> tuple[int, str, int, bytes]:
        packed = self._rule.pack(state)
        return self._id, key, min(self._rule.idle_at(state), _LATEST), _HEADER.pack(_FORM, crc32(packed)) + packed

    def _unpack(self, key: str, data: bytes) -> State:
        try:
            return self._rule.unpack(_checked(data))
        except (ValueError, TypeError, struct.error) as error:
            where = f"the state of {key!r} in its table {self._table!r}"
            raise UnusableError(f"{where} is corrupt; delete that row, or give another table name") from error


class States:
    """The states of the keys of a batch, and of the keys before it for as long as nobody else has written anything.

    So a process that has the database for itself need not read what it wrote. What an unfinished transaction has set
    must be forgotten.

    Attributes:
        changed: what the batch under way has set.
        new: how many of those keys were not known to have a row.
    """

    def __init__(self, rows: Rows) -> None:
        self.changed: dict[str, State] = {}
        self.new = 0
        self._rows = rows
        self._known: dict[str, State] = {}
        self._version = -1
        self.get = self._known.get

    def open(self, db: sqlite3.Connection, keys: Iterable[str]) -> None:
        """Begin with a batch for these keys, within its transaction.

        Raises:
            UnusableError: a state is not as it was written.
        """
        version = db.execute("PRAGMA data_version").fetchall()[0][0]
        if version != self._version or len(self._known) > _KNOWN:
            self.forget()
        self.changed, self.new, self._version = {}, 0, version
        unknown = [key for key in dict.fromkeys(keys) if key not in self._known]
        if unknown:
            self._known.update(self._rows.read(db, unknown))

    def __setitem__(self, key: str, state: State) -> None:
        if key not in self._known:
            self.new += 1
        self._known[key] = self.changed[key] = state

    def save(self, db: sqlite3.Connection) -> None:
        """Write what was set."""
        self._rows.write(db, self.changed)

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._known.clear()


class Sweep:
    """A hand that goes around the rows of a table, a few at a time, and deletes those that have expired."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._hand = -1
        self._pause = 0
        self._due = _LOOK

    def step(self, db: sqlite3.Connection, new: int, now: int) -> None:
        """Go on, if it is time, after a transaction that made so many new rows."""
        self._due += 2 * new
        self._pause -= 1
        if self._pause > 0 and self._due < _LOOK * 2:
            return
        if self._hand < 0:
            self._hand = self._rows.middle(db)
        self._hand = self._rows.sweep(db, self._hand, self._due, now)
        self._pause, self._due = _EVERY, _LOOK


def _checked(data: bytes) -> bytes:
    """Return what the rule packed; raise ValueError or struct.error if it is not as it was written."""
    packed = data[_HEADER.size :]
    if _HEADER.unpack_from(data) != (_FORM, crc32(packed)):
        raise ValueError("the checksum is wrong")
    return packed


def _by_many(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _MANY):
        yield items[start : start + _MANY]
