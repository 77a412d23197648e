"""A clock that all processes of a host agree on, and that nobody can set.

The wall clock can be set, and the clock that cannot (time since boot, suspensions included) starts anew at every
boot. So one offset between the two is written down once for each boot, and read by everybody after that. A time
namespace has a time since boot of its own, under the same boot's name: it counts as another boot.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/time"


def boot() -> str | None:
    """Return what names this boot, as this process sees it; None where the host has no such clock."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    try:
        name = _BOOT.read_text().strip()
    except OSError:
        return None
    try:
        return f"{name} {os.readlink(_NAMESPACE)}"
    except OSError:
        return name  # a kernel before 5.6: there are no time namespaces


def since_boot() -> int:
    """Return the time since boot, in microseconds; only where `boot` has a name for it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
