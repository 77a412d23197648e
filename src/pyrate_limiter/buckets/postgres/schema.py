"""The table, its pages and its functions: their names, their DDL, and how they are made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files

from psycopg.errors import DuplicateFunction, InsufficientPrivilege

from ...decisions import RESET
from ...errors import StoreError
from .sources import Connection

KINDS = ("even", "fixed", "counter", "log")
"""The SQL functions, one for each family of algorithms."""
_FILES = ("tables", "statements", "function", *KINDS)
_SQL = {name: (files(__package__ or "") / f"{name}.sql").read_text("utf-8") for name in _FILES}
"""Read now, and not when the first bucket is used: that may be on an event loop."""
_VERSION = 2
_LONGEST = 40
"""Bytes of a table's name: PostgreSQL cuts names at 63, and ours get endings."""
_FORBIDDEN = ("\0", "$function$")
"""No name has the one, and the other ends the text of a function, in which the names stand."""
_NAME = re.compile(r"\{(\w+)\}")
_ARGUMENTS = "bytea[], integer[], bigint[], bigint[], bigint[], bigint[], bigint, bigint"
_COLUMNS = {
    "": "key bytea, expires bigint, state bigint[]",
    "_pages": "key bytea, rate integer, slot integer, page bigint, before bigint, last_at bigint, last_count bigint,"
    " runs bigint[]",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """What a bucket's table is called, and all that belongs to it.

    Args:
        name: of the table, perhaps with a schema before a dot.

    Raises:
        ValueError: the name is empty, too long or has more than one dot.
    """

    name: str

    def __post_init__(self) -> None:
        parts = self.name.split(".")
        if (
            len(parts) > 2
            or not all(parts)
            or any(forbidden in self.name for forbidden in _FORBIDDEN)
            or len(parts[-1].encode()) > _LONGEST
        ):
            raise ValueError(
                f"table must be NAME or SCHEMA.NAME, the name at most {_LONGEST} bytes long, without NUL and"
                f" $function$, not {self.name!r}"
            )

    @property
    def table(self) -> str:
        """The table's quoted name."""
        return self._quoted("")

    @property
    def pages(self) -> str:
        """The quoted name of the table of pages."""
        return self._quoted("_pages")

    def function(self, kind: str) -> str:
        """Return the quoted name of a function."""
        return self._quoted(f"_{kind}_{_VERSION}")

    def statement(self, name: str, kind: str = "") -> bytes:
        """Return a statement of statements.sql; one that calls a function, for that kind."""
        return self._filled(_parts("statements")[name], self.function(kind), percent="%%").encode()

    def ddl(self) -> str:
        """Return all statements that make the tables and the functions."""
        return "\n\n".join([self.table_ddl(), *(self.function_ddl(kind) for kind in KINDS)]) + "\n"

    def table_ddl(self) -> str:
        """Return the statements that make the tables."""
        return self._filled(_SQL["tables"])

    def function_ddl(self, kind: str) -> str:
        """Return the statement that makes a function."""
        return self._filled(_function(kind), self.function(kind))

    async def is_there(self, connection: Connection, kind: str | None) -> bool:
        """Return whether the tables are there, and the function of that kind, which may be called.

        Raises:
            StoreError: there is another table of that name.
        """
        return await self._has_tables(connection) and (kind is None or await self._has_function(connection, kind))

    async def make(self, connection: Connection, kind: str | None) -> bool:
        """Make what is missing, and return whether the function of that kind can be called.

        Whoever comes first makes it; others wait for that, or would fail.

        Raises:
            StoreError: there is another table of that name, or none and no right to make it.
        """
        try:
            await self._make_once(connection, self.table_ddl(), self._has_tables)
        except InsufficientPrivilege as error:
            raise StoreError(
                f"there is no table {self.table}, and no right to make it ({_first_line(error)}):"
                " let somebody who may run what PostgresBucket.ddl() returns"
            ) from error
        if kind is None:
            return False
        try:
            await self._make_once(connection, self.function_ddl(kind), partial(self._has_function, kind=kind))
        except (InsufficientPrivilege, DuplicateFunction):  # it may not be made, or be called
            return False
        return True

    async def _make_once(
        self, connection: Connection, ddl: str, is_there: Callable[[Connection], Awaitable[bool]]
    ) -> None:
        if await is_there(connection):
            return
        lock = int.from_bytes(hashlib.blake2b(self.table.encode(), digest_size=8).digest(), "big", signed=True)
        try:
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            await connection.execute("SET LOCAL lock_timeout = 0")
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
            if not await is_there(connection):
                await connection.execute(ddl.encode())
        finally:
            await connection.execute("COMMIT")  # a rollback, after an error

    async def _has_tables(self, connection: Connection) -> bool:
        for ending, wanted in _COLUMNS.items():
            cursor = await connection.execute(
                "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)"
                " FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
                (self._quoted(ending),),
            )
            found = (await cursor.fetchone() or (None,))[0]
            if found is None:
                return False
            if found != wanted:
                raise StoreError(
                    f"the table {self._quoted(ending)} is not one of a PostgresBucket of this version: its columns are"
                    f" ({found}) instead of ({wanted}); give another name as table="
                )
        return True

    async def _has_function(self, connection: Connection, kind: str) -> bool:
        # Only a statement that opens a catalogue hears of what others have made since the transaction began.
        cursor = await connection.execute(
            "SELECT has_function_privilege(oid, 'EXECUTE') FROM pg_proc WHERE oid = to_regprocedure(%s)",
            (f"{self.function(kind)}({_ARGUMENTS})",),
        )
        return (await cursor.fetchone() or (False,))[0] is True

    def _quoted(self, ending: str) -> str:
        schema, dot, name = self.name.rpartition(".")
        return (f"{_quote(schema)}." if dot else "") + _quote(name + ending)

    def _filled(self, text: str, function: str = "", percent: str = "%") -> str:
        """Fill in the names; where psycopg looks for parameters, a percent sign of theirs must be doubled."""
        names = {"table": self.table, "pages": self.pages, "function": function}
        return _NAME.sub(lambda found: names[found[1]].replace("%", percent), text)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@cache
def _function(kind: str) -> str:
    """Return the statement that makes a function, for any table.

    A kind's file has parts with their names above them; the frame of the function names them in braces, and so may
    the parts.
    """
    parts = _parts(kind) | {"reset": str(RESET)}
    text = _SQL["function"]
    while (filled := _NAME.sub(lambda found: parts.get(found[1], found[0]), text)) != text:
        text = filled
    return text


@cache
def _parts(template: str) -> dict[str, str]:
    """Return the parts of a file by the names above them."""
    pieces = re.split(r"^-- (\w+)\n", _SQL[template], flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
