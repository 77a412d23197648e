"""The contract of a bucket, kept by PostgresBucket: with SQL functions, and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pyrate_limiter.buckets.postgres import PostgresBucket
from pyrate_limiter.rates import Rate
from pyrate_limiter.testing.contract import BucketContract

from .postgres import database, patient, query


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> Iterator[str]:
    with database(postgres_dsn) as own:
        yield own


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "statements"])
class TestContract(BucketContract):
    test_the_clock_is_read_while_nobody_else_decides = None  # the server's is: the one for tests is read here

    @pytest.fixture(autouse=True)
    def empty(self, dsn: str, functions: bool) -> None:
        self.dsn, self.functions = dsn, functions
        if query(dsn, "SELECT to_regclass('pyrate_limiter')") != [None]:
            query(dsn, "TRUNCATE pyrate_limiter, pyrate_limiter_pages")

    def make_bucket(self, rates: Sequence[Rate], **options: Any) -> PostgresBucket:
        return patient(rates, self.dsn, functions=self.functions, **options)
