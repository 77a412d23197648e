"""The two tables of a bucket: whether they are ours, how they are made, and the clock that is written down there."""
# ruff: noqa: S608 (the tables' names are quoted, and all else is bound)

from __future__ import annotations

import sqlite3

from ...clocks import Clock, wall
from . import boottime

VERSION = 1
"""Of the layout of the tables and of what is in them."""
_ROWS = [("rule", "INTEGER", 1), ("key", "TEXT", 2), ("expires", "INTEGER", 0), ("state", "BLOB", 0)]
_META = [("name", "TEXT", 1), ("value", "INTEGER", 0)]


class UnusableError(Exception):
    """What is in the database is not what a bucket left there."""


class Schema:
    """The tables of one bucket: one for the states, and `<name>_meta` for the version and the clock.

    `expires` stands before the state, so that it is read without reading through a long one.

    Args:
        name: any text without a NUL; it is quoted.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._meta = f"{name}_meta"

    def check(self, db: sqlite3.Connection) -> None:
        """Raise UnusableError if what has these names is not ours; change nothing."""
        if self._has(db, self._meta, _META):
            version = self._noted(db, "version")
            if version not in (None, VERSION):
                raise UnusableError(
                    f"its table {self.name!r} is of version {version}, not {VERSION}; give another table name"
                )
        self._has(db, self.name, _ROWS)

    def create(self, db: sqlite3.Connection) -> None:
        """Make the tables that are missing."""
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted(self.name)} (rule INTEGER NOT NULL, key TEXT NOT NULL,"
            " expires INTEGER NOT NULL, state BLOB NOT NULL, PRIMARY KEY (rule, key))"
        )
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted(self._meta)} (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL)"
        )
        self._note(db, "version", VERSION)

    def clock(self, db: sqlite3.Connection) -> Clock:
        """Return the clock of all who use these tables: nobody can set it while the host is up."""
        boot = boottime.boot()
        if boot is None:
            return wall
        since_boot = boottime.since_boot
        name = f"clock {boot}"
        self._note(db, name, wall() - since_boot())
        offset = self._noted(db, name) or 0
        return lambda: since_boot() + offset

    def _has(self, db: sqlite3.Connection, name: str, columns: list[tuple[str, str, int]]) -> bool:
        """Return whether there is this table; raise if there is another one of its name."""
        info = db.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
        found = [(column[1], column[2], column[5]) for column in info]
        if found and found != columns:
            names = ", ".join(column[1] for column in info)
            raise UnusableError(f"its table {name!r} is not a bucket's (columns: {names}); give another table name")
        return bool(found)

    def _note(self, db: sqlite3.Connection, name: str, value: int) -> None:
        """Write a value down, unless there is one of that name."""
        db.execute(f"INSERT OR IGNORE INTO {quoted(self._meta)} VALUES (?, ?)", (name, value))

    def _noted(self, db: sqlite3.Connection, name: str) -> int | None:
        """Return the value of that name, if there is one."""
        rows = db.execute(f"SELECT value FROM {quoted(self._meta)} WHERE name = ?", (name,)).fetchall()
        return rows[0][0] if rows else None


def quoted(name: str) -> str:
    """Return a name as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'
