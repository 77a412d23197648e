"""The rows of a bucket: read for a batch, written after it, and swept as work goes on."""
# ruff: noqa: S608 (the table's name is quoted, and all else is bound)

from __future__ import annotations

import hashlib
import random
import sqlite3
import struct
from collections.abc import Iterable, Iterator
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


class States(dict[str, State]):
    """The states of a batch's keys; it remembers which were set.

    Attributes:
        changed: the keys that were set, and whether they are new.
    """

    __slots__ = ("changed",)

    def __init__(self, states: Iterable[tuple[str, State]]) -> None:
        super().__init__(states)
        self.changed: dict[str, bool] = {}

    def __setitem__(self, key: str, state: State) -> None:
        if key not in self.changed:
            self.changed[key] = key not in self
        super().__setitem__(key, state)


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

    def read(self, db: sqlite3.Connection, keys: Iterable[str]) -> States:
        """Return the states of these keys.

        Raises:
            UnusableError: one of them is not as it was written.
        """
        wanted = list(dict.fromkeys(keys))
        if len(wanted) == 1:
            found = db.execute(self._read, (self._id, wanted[0])).fetchall()
        else:
            found = []
            for some in _by_many(wanted):
                filled = some + some[-1:] * (_MANY - len(some))
                found += db.execute(self._read_many, (self._id, *filled)).fetchall()
        return States((key, self._unpack(key, state)) for key, state in found)

    def names(self, db: sqlite3.Connection) -> sqlite3.Cursor:
        """Return all keys of this rule, in rows of one column."""
        return db.execute(self._names, (self._id,))

    def write(self, db: sqlite3.Connection, states: States) -> None:
        """Save the states that were set."""
        for some in _by_many([self._row(key, states[key]) for key in states.changed]):
            if len(some) == _MANY:
                db.execute(self._write_many, [value for row in some for value in row])
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
