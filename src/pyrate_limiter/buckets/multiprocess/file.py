"""A mapped file and its lock.

The lock is `flock` on a descriptor of its own: the kernel drops it with its holder. (The mapping holds a duplicate of
the descriptor that it was made from, and a forked child would keep a dead parent's lock through it.)
"""

from __future__ import annotations

import os
import sys
import time
from mmap import mmap

from ...clocks import monotonic
from ...errors import StoreError
from .folder import Folder, mapped
from .header import DEAD, HOLDER, PROCESS, Header, Host, here

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock

    _NOW_OR_NEVER = LOCK_EX | LOCK_NB

PATIENCE = 5.0
"""Seconds for which one process may hold the lock before others say so."""
_TRIES = 2
"""More of them cost CPU and bring nothing: whoever naps instead lets the holder go on."""
_GAP = 1.0
_ATTEMPTS = 100
_COUNT = (1 << PROCESS) - 1


class File:
    """An open storage. It is let go of when it is collected.

    Attributes:
        memory: the mapping.
        words: the same, as words of eight bytes.
        descriptor: what is locked.
    """

    def __init__(self, folder: Folder, name: str, digest: bytes, size: int, host: Host) -> None:
        self.descriptor = -1
        self.path = folder.path / name
        mapping = folder.open(name)
        try:
            self._check(Header.read(mapping), digest, host)
            if os.fstat(mapping).st_size != size:
                raise StoreError(f"{self.path} was cut or stretched: remove it when no process uses it any more")
            self.memory = mmap(mapping, 0)
            self.words = memoryview(self.memory).cast("q")
            self.descriptor = folder.open(name)
            self.replaced = not os.path.samestat(os.fstat(mapping), os.fstat(self.descriptor))
        finally:
            os.close(mapping)
        self._process, self._stamp = os.getpid() << PROCESS, 0
        self._seen = (0, 0.0, 0.0)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    @property
    def gone(self) -> bool:
        """Whether somebody deleted the file, without a word, under all who use it."""
        return not os.fstat(self.descriptor).st_nlink

    def lock(self) -> bool:
        """Take the lock if that can be done in a few microseconds, and return whether it was.

        Raises:
            StoreError: another process has held it for seconds; its number is in the message.
        """
        for _ in range(_TRIES):
            try:
                flock(self.descriptor, _NOW_OR_NEVER)
            except BlockingIOError:
                continue
            self.words[HOLDER] = self._stamp = self._process | (self._stamp + 1) & _COUNT
            return True
        self._complain()
        return False

    def _check(self, header: Header | None, digest: bytes, host: Host) -> None:
        if header is None:
            raise StoreError(f"{self.path} is not a file of this package: remove it, or use another name")
        if header.host.namespace != host.namespace and not header.dead:
            raise StoreError(f"{self.path} belongs to another time namespace, whose clock is another: use another name")
        if header.digest != digest and not header.dead:
            raise StoreError(
                f"{self.path} counts for other rates, another algorithm or max_keys, or another version of this"
                " package: use the same, use another name, or remove it when no process uses it any more"
            )

    def _complain(self) -> None:
        """Raise if the lock has been held since several seconds: by one holder, and seen so all the time."""
        holder, now = self.words[HOLDER], time.monotonic()
        seen, first, last = self._seen
        if holder != seen or now - last > _GAP:
            first = now
        self._seen = (holder, first, now)
        if now - first >= PATIENCE:
            raise StoreError(
                f"process {holder >> PROCESS} has held the lock of {self.path} for {now - first:.0f} s:"
                " if it is stopped, let it go on or kill it"
            )


def open_file(name: str, digest: bytes, size: int, memory: int) -> File:
    """Return an open storage, made if there is none.

    Args:
        name: of the file.
        digest: stands for the rates, the algorithm and the layout.
        size: in bytes.
        memory: how long a state counts, in microseconds.

    Raises:
        StoreError: it cannot be made or opened, or is something else.
    """
    host = here()

    def in_the_way(header: Header | None) -> bool:
        ours = header is not None and header.digest == digest and not header.dead and header.host.same_boot(host)
        return header is not None and not ours and header.says_nothing(monotonic(), host)

    with Folder() as folder, mapped(f"{folder.path / name} cannot be opened"):
        for _ in range(_ATTEMPTS):
            folder.remove(name, in_the_way)
            try:
                file = File(folder, name, digest, size, host)
            except FileNotFoundError:
                _make(folder, name, size, Header(digest, host, memory, 0, monotonic()))
            else:
                if not file.replaced and not file.words[DEAD]:
                    return file
        raise StoreError(f"{folder.path / name} was removed {_ATTEMPTS} times while it was being opened")


def _make(folder: Folder, name: str, size: int, header: Header) -> None:
    folder.sweep()
    with mapped(f"{folder.path} has no room for {size} bytes: lower max_keys, or give the host more shared memory"):
        folder.make(name, size, header)
