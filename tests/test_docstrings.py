"""A contract stands once, in the docstring of the method that no base class declares; what overrides it is silent."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module

import pytest

MODULES = [
    "rates",
    "decisions",
    "errors",
    "clocks",
    "listening",
    "bucket.statistics",
    "algorithms.rule",
    "algorithms.decide",
    "algorithms.gcra",
    "algorithms.sliding_log",
    "algorithms.windows",
    "routing",
    "blocking",
    "bucket.abstract",
    "bucket.instant",
    "buckets.memory",
    "buckets.outage",
    "buckets.policies",
    "buckets.sqlite.bucket",
    "buckets.multiprocess.bucket",
    "buckets.redis.bucket",
    "buckets.postgres.bucket",
    "limiter.limiter",
    "limiter.slot",
    "testing.clocks",
    "testing.scripted",
    "integrations.asgi",
    "integrations.fastapi",
    "integrations.keys",
    "integrations.limits",
    "integrations.aiohttp.server",
]


def undocumented(module: str) -> Iterator[str]:
    loaded = import_module(f"pyrate_limiter.{module}")
    for name, kind in inspect.getmembers(loaded, inspect.isclass):
        if kind.__module__ == loaded.__name__:
            yield from (f"{name}.{own}" for own in first_declared(kind) if not inspect.getdoc(getattr(kind, own)))


def first_declared(kind: type) -> list[str]:
    """Return the public methods and properties of a class that none of its bases has."""
    inherited = {name for base in kind.__mro__[1:] for name in vars(base)}
    return [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and name not in inherited and (callable(value) or isinstance(value, property))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_contract_is_written_down(module: str) -> None:
    assert list(undocumented(module)) == []
