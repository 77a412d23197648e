"""Hosts whose clocks differ."""

from __future__ import annotations

import time
from types import ModuleType

import pytest

from pyrate_limiter import clocks


class HostClocks:
    """Stands for the module `time` in some modules, and in that of our clocks: on a host that is ahead of others.

    Attributes:
        ahead: by so many seconds; below zero if it is behind.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        self.ahead = 0
        for module in (clocks, *modules):
            monkeypatch.setattr(module, "time", self)

    def time(self) -> float:
        return time.time() + self.ahead

    def time_ns(self) -> int:
        return time.time_ns() + self.ahead * 10**9

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + self.ahead * 10**9
