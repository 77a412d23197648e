"""The contract of a bucket, kept by every bucket here that needs no server. A new backend is one more parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from pyrate_limiter import AbstractBucket, InMemoryBucket, MultiprocessBucket, Rate
from pyrate_limiter.buckets import SQLiteBucket
from pyrate_limiter.testing import ScriptedStore
from pyrate_limiter.testing.contract import BucketContract, InstantBucketContract

from .callbacks import CallsBack


class Made:
    @pytest.fixture(autouse=True)
    def use(self, factory: Callable[..., AbstractBucket]) -> None:
        self.factory = factory

    def make_bucket(self, rates: Sequence[Rate], **options: Any) -> AbstractBucket:
        return self.factory(rates, **options)


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(partial(ScriptedStore, delay=0.002), id="scripted"),
        pytest.param(partial(CallsBack, delay=0.002), id="calls back"),
        pytest.param(SQLiteBucket.temporary, id="sqlite"),
    ],
)
class TestContract(Made, BucketContract):
    pass


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(InMemoryBucket, id="memory"),
        pytest.param(MultiprocessBucket, id="multiprocess"),
    ],
)
class TestInstantContract(Made, InstantBucketContract):
    pass
