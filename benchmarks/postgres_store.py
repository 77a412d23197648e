"""PostgreSQL: decisions per second through the limiter, on a server of its own with fsync on.

Beside pyrate-limiter 4.5, with one bucket and so one table for each name, as its users do it; and beside the driver
alone: one awaited statement for each decision. Each measurement is a process of its own, on tables of its own. The
limit is never reached, and the log is full.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from harness import ROOT, elsewhere, in_turn, lateness, main, options, peers, per_second
from results import FLOOR, Report

Take = Callable[[str], Awaitable[bool]]
LIMIT, INTERVAL = 10**9, 1000
SHAPES = {"1 task": ["a"], "100 tasks, 1 key": ["a"] * 100, "100 tasks, 100 keys": [f"key {i}" for i in range(100)]}
PEER, LOG, GCRA = "pyrate-limiter 4.5", "log", "GCRA"
STATEMENTS, DRIVER = "GCRA, without functions", f"{FLOOR}: the driver alone"
BOUNDS = {"1 task": (1.2, 1.2), "100 tasks, 1 key": (30, 30), "100 tasks, 100 keys": (12, 20)}
"""How many times the peer's rate it must be, with the log and with GCRA."""


# Whom to measure: a function that takes one unit of a name, without waiting.


@asynccontextmanager
async def ours(algorithm: str, functions: bool, dsn: str) -> AsyncIterator[Take]:
    import pyrate_limiter
    from pyrate_limiter.buckets.outage import Fail
    from pyrate_limiter.buckets.postgres import PostgresBucket

    rate, kind, patient = pyrate_limiter.Rate(LIMIT, INTERVAL), getattr(pyrate_limiter, algorithm), Fail(budget=10)
    bucket = PostgresBucket(rate, dsn, table(), algorithm=kind, when_down=patient, functions=functions)
    limiter = pyrate_limiter.Limiter(bucket, keyed=True, async_wrapper=True)
    yield partial(limiter.try_acquire, blocking=False)
    await bucket.aclose()


@asynccontextmanager
async def peer(dsn: str) -> AsyncIterator[Take]:
    from psycopg_pool import ConnectionPool

    from pyrate_limiter import BucketFactory, Limiter, PostgresBucket, PostgresClock, Rate, RateItem

    with ConnectionPool(dsn, min_size=4) as pool:
        prefix, clock = table(), PostgresClock(pool)

        class PerName(BucketFactory):
            def __init__(self) -> None:
                self.buckets: dict[str, PostgresBucket] = {}

            def wrap_item(self, name: str, weight: int = 1) -> RateItem:
                return RateItem(name, clock.now(), weight=weight)

            def get(self, item: RateItem) -> PostgresBucket:
                if item.name not in self.buckets:
                    name = f"{prefix}_{len(self.buckets)}"
                    self.buckets[item.name] = self.create(PostgresBucket, pool, name, [Rate(LIMIT, INTERVAL)])
                return self.buckets[item.name]

        with Limiter(PerName()) as limiter:
            yield partial(limiter.try_acquire_async, blocking=False)


@asynccontextmanager
async def driver(dsn: str) -> AsyncIterator[Take]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(f"CREATE TABLE {table()} (key text PRIMARY KEY, count bigint)")
        count = f"INSERT INTO {table()} AS floor VALUES (%s, 1) ON CONFLICT (key) DO UPDATE SET count = floor.count + 1"

        async def take(name: str) -> bool:
            await connection.execute(count, (name,))
            return True

        yield take


def table() -> str:
    return f"bench_{os.getpid()}"


WHO = {
    LOG: partial(ours, "SlidingWindowLog", True),
    GCRA: partial(ours, "GCRA", True),
    STATEMENTS: partial(ours, "GCRA", False),
    PEER: peer,
    DRIVER: driver,
}


async def run(who: str, names: str, seconds: str, dsn: str) -> None:
    """Measure, and print the decisions per second."""
    async with WHO[who](dsn) as take:
        print(await per_second(take, json.loads(names), float(seconds)))


def measured(who: str, python: str, names: list[str], dsn: str) -> float:
    return float(elsewhere(python, __file__, "run", who, json.dumps(names), str(options().seconds), dsn))


# What to measure.


async def benchmark(report: Report) -> None:
    pythons = dict.fromkeys((LOG, GCRA, STATEMENTS, DRIVER), sys.executable)
    pythons |= {name: str(python) for name, python in peers(PEER).items()}
    with server() as dsn:
        for shape, names in SHAPES.items():
            cases = {who: partial(measured, who, python, names, dsn) for who, python in pythons.items()}
            table = report.rates(f"PostgreSQL, {shape}", in_turn(cases), PEER)
            for who, bound in zip((LOG, GCRA), BOUNDS[shape], strict=True) if PEER in cases else ():
                report.at_least(f"{shape}, {who} / {PEER}", table.ratio(who, PEER), bound)
        for who in (LOG, GCRA):
            late = statistics.median([await later(who, dsn) for _ in range(5)])
            report.at_most(f"{who}: a ticker beside 100 tasks, later than on an idle loop (p99)", late, 5, "ms")


async def later(who: str, dsn: str) -> float:
    async with WHO[who](dsn) as take:
        idle = await lateness(asyncio.sleep(1))
        return await lateness(per_second(take, SHAPES["100 tasks, 100 keys"], 1)) - idle


@contextmanager
def server() -> Iterator[str]:
    sys.path[:0] = [str(ROOT)]
    from tests.servers import PostgresServer

    class Durable(PostgresServer):
        def _command(self) -> list[str]:
            return [word.replace("fsync=off", "fsync=on") for word in super()._command()]

    with Durable() as own:
        yield own.url


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[2:])) if sys.argv[1:2] == ["run"] else main(benchmark)
