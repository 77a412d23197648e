"""The stores. One that needs a driver is imported when it is first asked for: a driver takes longer than the rest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .memory import InMemoryBucket
from .multiprocess import MultiprocessBucket, TableFull
from .outage import StoreDown
from .policies import Admit, Fail, LocalShare, Refuse, WhenDown

if TYPE_CHECKING:
    from .postgres import PostgresBucket
    from .redis import RedisBucket
    from .sqlite import SQLiteBucket

_WITH_DRIVERS = {"PostgresBucket": ".postgres", "RedisBucket": ".redis", "SQLiteBucket": ".sqlite"}

__all__ = [
    "Admit",
    "Fail",
    "InMemoryBucket",
    "LocalShare",
    "MultiprocessBucket",
    "PostgresBucket",
    "RedisBucket",
    "Refuse",
    "SQLiteBucket",
    "StoreDown",
    "TableFull",
    "WhenDown",
]


def __getattr__(name: str) -> object:
    if name not in _WITH_DRIVERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_DRIVERS[name], __name__), name)
