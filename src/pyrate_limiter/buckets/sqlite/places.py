"""Where a database is: in a file, in a temporary file of ours, or in memory."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import uuid
from typing import NoReturn, TypeAlias

from ...errors import StoreError

Identity: TypeAlias = tuple[int, int] | None
"""What tells a file from another one that took its name: device and inode; None if there is none."""

_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_READONLY: "let this process write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "give the path of a file, in a folder that this process may write",
    sqlite3.SQLITE_NOTADB: "give the path of another file: this one is left as it is",
    sqlite3.SQLITE_CORRUPT: "restore the file, or remove it and start with an empty one",
    sqlite3.SQLITE_BUSY: "look for a process that holds a transaction open, or is stopped",
    sqlite3.SQLITE_IOERR: "look for a full or failing disk, or for a process that still has a removed file open",
}


class File:
    """A file, whose folder is made if it is missing.

    Args:
        path: absolute, so that a later change of the working folder does not matter.

    Attributes:
        uri: whether SQLite opens it by a URI.
        transient: whether it goes with the bucket.
    """

    uri = False
    transient = False

    def __init__(self, path: str) -> None:
        self._path = path

    def __str__(self) -> str:
        return repr(self._path)

    def __fspath__(self) -> str:
        return self._path

    @property
    def lock_file(self) -> str | None:
        """The path of the file by which processes take turns."""
        return f"{os.fspath(self)}.lock"

    def prepare(self) -> str:
        """Make what SQLite needs for opening, and return what it opens."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        return self._path

    def identity(self) -> Identity:
        """Return which file this is now; by its name: closing any descriptor of it would drop SQLite's locks."""
        return _identity(self)

    def companions(self) -> list[Identity]:
        """Return which files the log and its index are now: those who have different ones do not see each other."""
        return [_identity(f"{os.fspath(self)}{suffix}") for suffix in ("-wal", "-shm")]

    def remove(self) -> None:
        """Leave the file where it is: it outlives the bucket."""


class Temporary(File):
    """A file in a private folder that goes with the bucket for which it was made.

    The folder's name is drawn at construction and its place found at first use: looking for the host's folder of
    temporary files touches the disk. Copies, in this process or in another one, remove nothing.
    """

    transient = True

    def __init__(self, name: str = "", owner: int = 0) -> None:
        super().__init__(name or f"pyrate-limiter-{uuid.uuid4().hex}")
        self._owner = owner if name else os.getpid()

    def __str__(self) -> str:
        return repr(os.fspath(self))

    def __fspath__(self) -> str:
        return os.path.join(self._folder, "limits.db")

    def __reduce__(self) -> tuple[type[Temporary], tuple[str]]:
        # Where it is, since another process may have its temporary files elsewhere.
        return Temporary, (self._folder,)

    @property
    def _folder(self) -> str:
        return os.path.join(tempfile.gettempdir(), self._path)

    def prepare(self) -> str:
        """Make the folder, for this user alone."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        return os.fspath(self)

    def remove(self) -> None:
        """Remove the folder and all that is in it, in the process that made it."""
        if self._owner == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)


class Memory:
    """A database in the memory of this process, for all of its threads and event loops."""

    uri = True
    transient = True
    lock_file = None

    def __init__(self) -> None:
        self._uri = f"file:pyrate-limiter-{uuid.uuid4().hex}?mode=memory&cache=shared"
        self._anchors: list[sqlite3.Connection] = []

    def __str__(self) -> str:
        return "in memory"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SQLiteBucket in memory cannot go to another process: give it the path of a file")

    def prepare(self) -> str:
        """Keep a connection open, since the database lives as long as one is, and return what SQLite opens."""
        if not self._anchors:  # two threads that come first together keep one each
            self._anchors.append(sqlite3.connect(self._uri, uri=True, check_same_thread=False))
        return self._uri

    def identity(self) -> Identity:
        """Return None: nobody can replace it."""
        return None

    def companions(self) -> list[Identity]:
        """Return that there are none."""
        return []

    def remove(self) -> None:
        """Let it go."""
        while self._anchors:
            self._anchors.pop().close()


Place: TypeAlias = File | Memory


def as_place(path: str | os.PathLike[str] | None) -> Place:
    """Return the place that a path names: None and ``:memory:`` name one in memory.

    Raises:
        ValueError: there can be no such path.
    """
    if path is None or path == ":memory:":
        return Memory()
    if isinstance(path, File):
        return path
    name = os.fspath(path)
    if not name or "\0" in name:
        raise ValueError(f"there is no file {name!r}: give the path of a database, or None for one in memory")
    # Not abspath: it is watched by tools that look for blocking calls, and buckets are made on event loops too.
    return File(os.path.normpath(os.path.join(os.fsdecode(os.getcwdb()), name)))


def _identity(path: str | os.PathLike[str]) -> Identity:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def store_error(place: Place, cause: Exception) -> StoreError:
    """Return the error of ours for one of SQLite's or the system's: it names the database, the cause and the cure."""
    advice = _ADVICE.get(primary_code(cause))
    error = StoreError(f"the SQLite database {place} cannot be used: {cause}" + (f"; {advice}" if advice else ""))
    error.__cause__ = cause
    return error


def primary_code(error: BaseException) -> int:
    """Return SQLite's primary result code of an error, or 0 for one that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
