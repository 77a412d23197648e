"""What every test may ask for: the event loops it runs on, and servers that really answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from .servers import PostgresServer, RedisCluster, RedisServer


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run each async test on all event loops. A module for less than that has a fixture of the same name."""
    return request.param


@pytest.fixture(autouse=True)
def never_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which our code blocks a running asyncio loop, unless it is marked with `may_block`."""
    if request.node.get_closest_marker("may_block"):
        yield
        return
    with blockbuster_ctx("pyrate_limiter"):
        yield


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis or Valkey server that the tests share: keep to keys of your own."""
    if given := os.environ.get("TEST_REDIS_URL"):
        yield given
        return
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of three nodes that the tests share: keep to keys of your own."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster_url(redis_cluster: RedisCluster) -> str:
    """A node of that cluster, from which clients find the others."""
    return redis_cluster.url


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A PostgreSQL server that the tests share: keep to a schema of your own."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    with PostgresServer() as server:
        yield server.url


@pytest.fixture
def private_redis() -> Iterator[RedisServer]:
    """A Redis or Valkey server to stop, pause and restart."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server to stop, pause and restart."""
    with PostgresServer() as server:
        yield server
