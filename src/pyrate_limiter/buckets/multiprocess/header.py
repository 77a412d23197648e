"""What every file begins with: what it counts for, which clock its stamps are of, and a few words that all share."""

from __future__ import annotations

import os
import time
from pathlib import Path
from struct import Struct
from typing import NamedTuple

DEAD, HOLDER, TOUCHED, HAND, FULL_UNTIL = 8, 9, 10, 11, 12
"""Words of a header: whether the file was removed; who has the lock; when something was last counted; and for the
keys: where to look for an idle one, and until when none is."""
HEADER = 128
"""Bytes of a header."""
PROCESS = 40
"""Above so many bits of `HOLDER` stands a process, and below them for which time it has the lock."""
_MAGIC = b"pyrate\x00\x01"
_HEADER = Struct("=8s16s16sqqqqqqqq")


class Host(NamedTuple):
    """Which clock the stamps in a file are of.

    Attributes:
        boot: identifies the boot of the host; zeros where the system does not say.
        namespace: identifies the time namespace; 0 where there is none.
        started: seconds of the wall clock at which the monotonic one was 0.
    """

    boot: bytes
    namespace: int
    started: int

    def same_boot(self, other: Host) -> bool:
        """Return whether both are of one boot; where the system does not say, by the wall clock to a minute."""
        return self.boot == other.boot and (any(self.boot) or abs(self.started - other.started) < 60)


class Header(NamedTuple):
    """The header of a file.

    Attributes:
        digest: stands for the rates, the algorithm and the layout.
        host: whose clock the stamps are of.
        memory: how long a state can count, in microseconds.
        dead: not 0 if the file was removed.
        touched: when something was last counted.
    """

    digest: bytes
    host: Host
    memory: int
    dead: int
    touched: int

    def says_nothing(self, now: int, host: Host) -> bool:
        """Return whether all that is in the file has lapsed."""
        if self.dead or not self.host.same_boot(host):
            return True
        return self.host.namespace == host.namespace and self.touched + self.memory <= now

    def packed(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(_MAGIC, self.digest, *self.host, self.memory, self.dead, 0, self.touched, 0, 0)

    @classmethod
    def read(cls, file: int) -> Header | None:
        """Return the header of an open file, or None if the file is not one of ours."""
        data = os.pread(file, _HEADER.size, 0)
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            return None
        _, digest, boot, namespace, started, memory, dead, _, touched, _, _ = _HEADER.unpack(data)
        return cls(digest, Host(boot, namespace, started), memory, dead, touched)


def here() -> Host:
    """Return the host as this process sees it."""
    try:
        boot = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    except OSError:
        boot = bytes(16)
    try:
        namespace = Path("/proc/self/ns/time").stat().st_ino
    except OSError:
        namespace = 0
    return Host(boot, namespace, round(time.time() - time.monotonic()))
