"""Turns: a lock file by which processes that share a database go one after the other.

SQLite keeps the counts exact without it, but whoever asks most often gets most. So the lock is polled, only for a
while, and then done without: a process that is stopped while it holds the lock delays the others, and no more.
"""

from __future__ import annotations

import os
import sys
import time

NAP = 0.00005
"""Seconds between two looks at a lock: long enough for its holder to get on, and a small part of a transaction."""
_BOUND = 0.05

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Turns:
    """The lock file, open; a context manager that is one turn.

    Args:
        path: of the lock file, made if it is missing; None for no turns.
    """

    def __init__(self, path: str | None) -> None:
        self._descriptor = -1 if path is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._mine = False

    def __enter__(self) -> None:
        if self._descriptor >= 0:
            self._mine = self._wait()

    def __exit__(self, *_: object) -> None:
        if self._mine:
            self._mine = False
            _unlock(self._descriptor)

    def _wait(self) -> bool:
        until = time.monotonic() + _BOUND
        while not _lock(self._descriptor):
            if time.monotonic() > until:
                return False
            time.sleep(NAP)
        return True

    def close(self) -> None:
        """Close the lock file; a turn that a forked child inherited stays its parent's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
