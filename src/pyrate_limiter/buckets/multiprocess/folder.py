"""The private folder in shared memory: one check of it stands for all checks of what is inside.

It belongs to us and nobody else can enter it, so nobody else can read, write, replace or link what is in it. It is
opened once, without following a link, checked by its descriptor, and everything else goes through that descriptor.

A file is removed under its own lock: first the word that says so, then the name. Whoever finds that word in a file that
he has open lets go of it and opens the name anew; whoever finds it in a file that still has its name finishes the
removal. So a remover may die at any moment.
"""

from __future__ import annotations

import os
import random
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Self

from ...clocks import monotonic
from ...errors import StoreError
from .header import DEAD, HOLDER, PROCESS, Header, here

if sys.platform != "win32":
    import fcntl

PLACES = ("/dev/shm", "/tmp")  # noqa: S108 - not the user's TMPDIR: processes of one user must meet
_WORD = Struct("=q")
_DRAFT = "new-"
_LOOKS = 20


class Folder:
    """The folder of the effective user, open. Use it as a context.

    Raises:
        StoreError: it cannot be made or opened, or somebody else can enter it.
    """

    def __init__(self, *, make: bool = True) -> None:
        self.path = _place() / f"pyrate-limiter-{os.geteuid()}"
        with mapped(f"the folder {self.path} cannot be opened"):
            if make:
                with suppress(FileExistsError):
                    self.path.mkdir(0o700)
                    self.path.chmod(0o700)  # whatever the umask
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._check()
        except StoreError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    def __iter__(self) -> Iterator[str]:
        return iter(os.listdir(self._fd))

    def open(self, name: str, flags: int = 0) -> int:
        """Return a descriptor of a regular file that is ours.

        Raises:
            OSError: there is none (FileNotFoundError), or it cannot be opened.
            StoreError: it is something else.
        """
        file = os.open(name, flags | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        facts = os.fstat(file)
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
            return file
        os.close(file)
        raise StoreError(f"{self.path / name} is not a file of this user's: remove it")

    def make(self, name: str, size: int, header: Header) -> None:
        """Make a file that is complete as soon as it has its name; nothing, if somebody was faster.

        All of it is allocated, since memory that is missing later would kill the process that touches it.
        """
        draft = f"{_DRAFT}{os.urandom(16).hex()}"
        file = self.open(draft, os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # nobody sweeps what is locked
            os.fchmod(file, 0o600)
            _allocate(file, size)
            os.pwrite(file, header.packed(), 0)
            with suppress(FileExistsError, FileNotFoundError):
                os.link(draft, name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=self._fd)
            os.close(file)

    def remove(self, name: str, may_go: Callable[[Header | None], bool]) -> bool:
        """Take a file away unless it is locked, and return whether that was done.

        Args:
            name: of the file.
            may_go: asked under the file's lock; None stands for a file without a header of ours.
        """
        try:
            file = self.open(name)
        except (OSError, StoreError):
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = Header.read(file)
            if header is not None:  # or who waits for us would name somebody else
                os.pwrite(file, _WORD.pack(os.getpid() << PROCESS), 8 * HOLDER)
            if not may_go(header):
                return False
            if not name.startswith(_DRAFT):  # which may be a second name of a finished file
                os.pwrite(file, _WORD.pack(1), 8 * DEAD)
            if os.path.samestat(os.fstat(file), os.stat(name, dir_fd=self._fd, follow_symlinks=False)):
                os.unlink(name, dir_fd=self._fd)
        except OSError:  # locked, or gone already
            return False
        finally:
            os.close(file)
        return True

    def sweep(self) -> None:
        """Remove what says nothing any more, and what a dead process did not finish; look at a few files only.

        Whoever makes one looks at several, so they cannot pile up.
        """
        now, host = monotonic(), here()

        def lapsed(header: Header | None) -> bool:
            return header is not None and header.says_nothing(now, host)

        names = list(self)
        for name in random.sample(names, min(_LOOKS, len(names))):
            self.remove(name, unfinished if name.startswith(_DRAFT) else lapsed)

    def _check(self) -> None:
        facts = os.fstat(self._fd)
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            raise StoreError(
                f"the folder {self.path} must belong to user {os.geteuid()} and have mode 0700, but belongs to"
                f" {facts.st_uid} with mode {stat.S_IMODE(facts.st_mode):04o}: remove it, for somebody else can enter"
            )


def unfinished(header: Header | None) -> bool:
    """Say that a draft may go: nobody is at work on it, since its lock is free."""
    return True


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error


def _place() -> Path:
    for place in map(Path, PLACES):
        if place.is_dir() and os.access(place, os.W_OK):
            return place
    raise StoreError(f"none of {', '.join(PLACES)} can be written: use SQLiteBucket")


def _allocate(file: int, size: int) -> None:
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size)
        return
    for start in range(0, size, 1 << 16):
        os.pwrite(file, bytes(min(1 << 16, size - start)), start)
