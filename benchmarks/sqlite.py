"""SQLite: decisions per second through the limiter, with the file lock.

Beside pyrate-limiter 4.5 with its file lock, and beside the driver alone: one awaited transaction for each decision.
Each measurement is a process of its own on a file of its own. The limit is never reached.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from harness import at_once, elsewhere, in_turn, lateness, main, options, peers, per_second
from results import FLOOR, Report

Take = Callable[[str], Awaitable[bool]]
LIMIT, INTERVAL = 10**9, 10_000
SHAPES = {"1 task": ["a"], "100 tasks, 1 key": ["a"] * 100, "100 tasks, 100 keys": [f"key {i}" for i in range(100)]}
PROCESSES, TASKS = 4, ["a"] * 25
PEER, LOG, GCRA, DRIVER = "pyrate-limiter 4.5", "log", "GCRA", f"{FLOOR}: the driver alone"
BOUNDS = {"1 task": (1.2, 1.3), "100 tasks, 1 key": (20, 20), "100 tasks, 100 keys": (8, 15)}
"""How many times the peer's rate it must be, with the log and with GCRA."""


# Whom to measure: a function that takes one unit of a name, without waiting.


def ours(path: str, algorithm: str) -> Take:
    import pyrate_limiter
    from pyrate_limiter.buckets import SQLiteBucket

    rate, kind = pyrate_limiter.Rate(LIMIT, INTERVAL), getattr(pyrate_limiter, algorithm)
    bucket = SQLiteBucket(rate, path, algorithm=kind, use_file_lock=True)
    return partial(pyrate_limiter.Limiter(bucket, keyed=True, async_wrapper=True).try_acquire, blocking=False)


@asynccontextmanager
async def log(path: str) -> AsyncIterator[Take]:
    yield ours(path, "SlidingWindowLog")


@asynccontextmanager
async def gcra(path: str) -> AsyncIterator[Take]:
    yield ours(path, "GCRA")


@asynccontextmanager
async def peer(path: str) -> AsyncIterator[Take]:
    from pyrate_limiter.limiter_factory import create_sqlite_limiter

    with create_sqlite_limiter(LIMIT, INTERVAL, path, use_file_lock=True) as limiter:
        yield partial(limiter.try_acquire_async, blocking=False)


@asynccontextmanager
async def driver(path: str) -> AsyncIterator[Take]:
    import aiosqlite

    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = NORMAL")
        await connection.execute("CREATE TABLE floor (key TEXT PRIMARY KEY, count INTEGER)")
        count = "INSERT INTO floor VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1"

        async def take(name: str) -> bool:
            await connection.execute(count, (name,))
            return True

        yield take


WHO = {LOG: log, GCRA: gcra, PEER: peer, DRIVER: driver}


async def run(who: str, names: str, seconds: str, start: str, path: str) -> None:
    """Measure, beginning at a time that all processes share, and print the decisions per second."""
    async with WHO[who](path) as take:
        await asyncio.sleep(max(0.0, float(start) - time.time()))
        print(await per_second(take, json.loads(names), float(seconds)))


def measured(who: str, python: str, names: list[str], processes: int = 1) -> list[float]:
    """Return the decisions per second of each process."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.time() + 0.7
        arguments = [__file__, "run", who, json.dumps(names), str(options().seconds), str(start), f"{folder}/limits.db"]
        return at_once(processes, lambda: float(elsewhere(python, *arguments)))


# What to measure.


async def benchmark(report: Report) -> None:
    pythons = dict.fromkeys((LOG, GCRA, DRIVER), sys.executable)
    pythons |= {name: str(python) for name, python in peers(PEER).items()}
    for shape, names in SHAPES.items():
        one_process(report, shape, names, pythons)
    four_processes(report, pythons)
    await latency(report)


def one_process(report: Report, shape: str, names: list[str], pythons: dict[str, str]) -> None:
    results = in_turn({who: partial(measured, who, python, names) for who, python in pythons.items()})
    table = report.rates(f"SQLite, {shape}", {who: [one for (one,) in seen] for who, seen in results.items()}, PEER)
    for who, bound in zip((LOG, GCRA), BOUNDS[shape], strict=True) if PEER in results else ():
        report.at_least(f"{shape}, {who} / {PEER}", table.ratio(who, PEER), bound)


def four_processes(report: Report, pythons: dict[str, str]) -> None:
    shape = f"{PROCESSES} processes of {len(TASKS)} tasks"
    limited = {who: python for who, python in pythons.items() if who != DRIVER}
    results = in_turn({who: partial(measured, who, python, TASKS, PROCESSES) for who, python in limited.items()})
    table = report.rates(f"SQLite, {shape}", {who: [*map(sum, seen)] for who, seen in results.items()}, PEER)
    for who in (LOG, GCRA) if PEER in results else ():
        report.at_least(f"{shape}, {who} / {PEER}", table.ratio(who, PEER), 20)
    for who, seen in results.items():
        unfair = statistics.median(max(rates) / min(rates) for rates in seen)
        what = f"{shape}, {who}: luckiest / unluckiest"
        report.note(what, unfair) if who == PEER else report.at_most(what, unfair, 2)


async def latency(report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder:
        times = [await open_and_close(f"{folder}/{i % 10}.db") for i in range(50)]
        late = [await later(f"{folder}/late.db") for _ in range(5)]
    report.at_most("open, decide once, close", statistics.median(times), 20, "ms")
    report.at_most("a ticker beside 100 tasks, later than on an idle loop (p99)", statistics.median(late), 5, "ms")


async def open_and_close(path: str) -> float:
    """Return the milliseconds that opening, one decision and closing take; imports apart."""
    from pyrate_limiter import Rate
    from pyrate_limiter.buckets import SQLiteBucket

    began = time.perf_counter()
    bucket = SQLiteBucket(Rate(LIMIT, INTERVAL), path)
    await bucket.take()
    await bucket.aclose()
    return (time.perf_counter() - began) * 1e3


async def later(path: str) -> float:
    async with log(path) as take:
        idle = await lateness(asyncio.sleep(1))
        return await lateness(per_second(take, SHAPES["100 tasks, 1 key"], 1)) - idle


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[2:])) if sys.argv[1:2] == ["run"] else main(benchmark)
