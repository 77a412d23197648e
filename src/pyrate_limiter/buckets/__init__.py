"""The stores. One that needs a driver is imported when it is first asked for: a driver takes longer than the rest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .memory import InMemoryBucket
from .multiprocess import MultiprocessBucket, TableFull

if TYPE_CHECKING:
    from .sqlite import SQLiteBucket

_WITH_DRIVERS = {"SQLiteBucket": ".sqlite"}

__all__ = ["InMemoryBucket", "MultiprocessBucket", "SQLiteBucket", "TableFull"]


def __getattr__(name: str) -> object:
    if name not in _WITH_DRIVERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_DRIVERS[name], __name__), name)
