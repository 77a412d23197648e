"""SQLite: decisions per second, beside pyrate-limiter 4.5 with its file lock.

    python benchmarks/sqlite.py [--peer PYTHON] [--rounds 5] [--seconds 1]

PYTHON is the interpreter of an environment with pyrate-limiter 4.5 and filelock 3. Both packages have the same import
name, so each measurement is a process of its own; the order within a round is drawn anew. The limit is never reached.
Figures are medians over the rounds, and ratios are medians of the rounds' ratios.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

Take = Callable[[str], Awaitable[bool]]
LIMIT, INTERVAL = 10**9, 10_000


# Whom to measure: a function that takes one unit of a name, without waiting.


@contextmanager
def log(path: str) -> Iterator[Take]:
    yield ours(path, "SlidingWindowLog")


@contextmanager
def gcra(path: str) -> Iterator[Take]:
    yield ours(path, "GCRA")


def ours(path: str, algorithm: str) -> Take:
    import pyrate_limiter
    from pyrate_limiter.buckets import SQLiteBucket

    rate, kind = pyrate_limiter.Rate(LIMIT, INTERVAL), getattr(pyrate_limiter, algorithm)
    bucket = SQLiteBucket(rate, path, algorithm=kind, use_file_lock=True)
    limiter = pyrate_limiter.Limiter(bucket, keyed=True, async_wrapper=True)
    return partial(limiter.try_acquire, blocking=False)


@contextmanager
def peer(path: str) -> Iterator[Take]:
    from pyrate_limiter.limiter_factory import create_sqlite_limiter

    with create_sqlite_limiter(LIMIT, INTERVAL, path, use_file_lock=True) as limiter:
        yield partial(limiter.try_acquire_async, blocking=False)


# What to measure: decisions per second.


async def one_task(take: Take, seconds: float) -> float:
    return await tasks(take, seconds, ["a"])


async def a_hundred_tasks_one_key(take: Take, seconds: float) -> float:
    return await tasks(take, seconds, ["a"] * 100)


async def a_hundred_tasks_a_hundred_keys(take: Take, seconds: float) -> float:
    return await tasks(take, seconds, [f"key {i}" for i in range(100)])


async def four_processes(take: Take, seconds: float) -> float:
    """Twenty-five tasks of one of the four."""
    return await tasks(take, seconds, ["a"] * 25)


async def tasks(take: Take, seconds: float, names: list[str]) -> float:
    async def work(name: str) -> int:
        done = 0
        while time.perf_counter() < end:
            done += await take(name)
        return done

    await take(names[0])
    began = time.perf_counter()
    end = began + seconds
    done = sum(await asyncio.gather(*map(work, names)))
    return done / (time.perf_counter() - began)


CASES = [one_task, a_hundred_tasks_one_key, a_hundred_tasks_a_hundred_keys, four_processes]


def run(who: str, case: str, seconds: str, start: str, path: str) -> None:
    """Measure one case, beginning at a time that all processes of the case share, and print it."""
    with globals()[who](path) as take:
        time.sleep(max(0.0, float(start) - time.time()))
        print(json.dumps(asyncio.run(globals()[case](take, float(seconds)))))


def measured(who: str, case: str, seconds: float, python: str) -> list[float]:
    """Return what each process of a case counted."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [who, case, str(seconds), str(time.time() + 0.7), f"{folder}/limits.db"]
        command = [python, __file__, "run", *arguments]
        count = 4 if case == "four_processes" else 1
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return [json.loads(process.communicate()[0]) for process in processes]


async def open_and_close(path: str) -> float:
    """Return the milliseconds that opening, one decision and closing take; imports apart."""
    from pyrate_limiter import Rate
    from pyrate_limiter.buckets import SQLiteBucket

    began = time.perf_counter()
    bucket = SQLiteBucket(Rate(LIMIT, INTERVAL), path)
    await bucket.take()
    await bucket.aclose()
    return (time.perf_counter() - began) * 1e3


async def lateness(path: str) -> tuple[float, float]:
    """Return by how many milliseconds a ticker is late (p99): on an idle loop, and beside a hundred tasks."""
    with log(path) as take:
        idle = await latest(1)
        working = asyncio.ensure_future(tasks(take, 1.2, ["a"] * 100))
        busy = await latest(1)
        await working
    return idle, busy


async def latest(seconds: float) -> float:
    late, end = [], time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - now - 0.001)
    return sorted(late)[len(late) * 99 // 100] * 1e3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peer", help="interpreter of an environment with pyrate-limiter 4.5 and filelock 3")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1)
    given = options.parse_args()
    pythons = {"log": sys.executable, "gcra": sys.executable} | ({"peer": given.peer} if given.peer else {})
    for case in CASES:
        rounds = [compare(case.__name__, given.seconds, pythons) for _ in range(given.rounds)]
        report(case.__name__.replace("_", " "), rounds)
    with tempfile.TemporaryDirectory() as folder:
        times = [asyncio.run(open_and_close(f"{folder}/{i % 10}.db")) for i in range(50)]
        late = [asyncio.run(lateness(f"{folder}/late.db")) for _ in range(given.rounds)]
    print(f"open, decide, close: {statistics.median(times):.1f} ms (worst {max(times):.1f})")
    idle, busy = (statistics.median(column) for column in zip(*late, strict=True))
    print(f"a ticker is late by {idle:.1f} ms (p99) on an idle loop, by {busy:.1f} beside a hundred tasks")


def compare(case: str, seconds: float, pythons: dict[str, str]) -> dict[str, list[float]]:
    """Return one round of a case, in an order drawn anew."""
    order = random.sample(sorted(pythons), len(pythons))
    return {who: measured(who, case, seconds, pythons[who]) for who in order}


def report(case: str, rounds: list[dict[str, list[float]]]) -> None:
    for who in sorted(rounds[0]):
        line = f"{case}, {who}: {statistics.median(sum(r[who]) for r in rounds):,.0f}/s"
        if "peer" in rounds[0]:
            line += f", {statistics.median(sum(r[who]) / sum(r['peer']) for r in rounds):.1f} x peer"
        if len(rounds[0][who]) > 1:
            line += f", luckiest / unluckiest {statistics.median(max(r[who]) / min(r[who]) for r in rounds):.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:3] != ["run", "peer"]:
        sys.path.insert(0, os.fspath(Path(__file__).parent.parent / "src"))
    run(*sys.argv[2:]) if sys.argv[1:2] == ["run"] else main()
