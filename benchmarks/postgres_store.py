"""PostgreSQL: decisions per second, beside pyrate-limiter 4.5, and how late a loop becomes under that load.

    python benchmarks/postgres_store.py [--dsn DSN] [--peer PYTHON] [--rounds 5] [--seconds 1] [--no-sync]

Without a DSN a server is started, with fsync on. PYTHON is the interpreter of an environment with pyrate-limiter 4.5
and psycopg[binary,pool]. Both packages have the same import name, so each measurement is a process of its own, on
tables of its own; the order within a round is drawn anew. The limit is never reached, and the log is full.
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
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

Take = Callable[[str], Awaitable[bool]]
LIMIT, INTERVAL = 10**9, 1000


# Whom to measure: a function that takes one unit of a name, without waiting.


@contextmanager
def log(dsn: str) -> Iterator[Take]:
    yield ours(dsn, "SlidingWindowLog")


@contextmanager
def gcra(dsn: str) -> Iterator[Take]:
    yield ours(dsn, "GCRA")


@contextmanager
def statements(dsn: str) -> Iterator[Take]:
    """GCRA without the right to make functions."""
    yield ours(dsn, "GCRA", functions=False)


def ours(dsn: str, algorithm: str, **options: bool) -> Take:
    import pyrate_limiter
    from pyrate_limiter.buckets.outage import Fail
    from pyrate_limiter.buckets.postgres import PostgresBucket

    if os.environ.get("NO_SYNC"):
        options["synchronous_commit"] = False
    kind, patient = getattr(pyrate_limiter, algorithm), Fail(budget=10)
    bucket = PostgresBucket(
        pyrate_limiter.Rate(LIMIT, INTERVAL), dsn, table(), algorithm=kind, when_down=patient, **options
    )
    limiter = pyrate_limiter.Limiter(bucket, keyed=True, async_wrapper=True)
    return partial(limiter.try_acquire, blocking=False)


@contextmanager
def peer(dsn: str) -> Iterator[Take]:
    """One bucket, and so one table, for each name: so its users do it."""
    from psycopg_pool import ConnectionPool

    from pyrate_limiter import BucketFactory, Limiter, PostgresBucket, PostgresClock, Rate, RateItem

    settings = {"options": "-c synchronous_commit=off"} if os.environ.get("NO_SYNC") else {}
    with ConnectionPool(dsn, kwargs=settings, min_size=4) as pool:
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


def table() -> str:
    return f"bench_{os.getpid()}"


# What to measure: decisions per second.


async def one_task(take: Take, seconds: float) -> float:
    return await tasks(take, seconds, ["a"])


async def a_hundred_tasks_one_key(take: Take, seconds: float) -> float:
    return await tasks(take, seconds, ["a"] * 100)


async def a_hundred_tasks_a_hundred_keys(take: Take, seconds: float) -> float:
    return await tasks(take, seconds, [f"key {i}" for i in range(100)])


async def lateness(take: Take, seconds: float) -> float:
    """Milliseconds by which a ticker of 1 ms is late in 99 of 100 ticks, beyond that on an idle loop."""
    idle = await late(asyncio.create_task(asyncio.sleep(seconds)))
    return await late(asyncio.create_task(tasks(take, seconds, [f"key {i}" for i in range(100)]))) - idle


async def late(load: asyncio.Task) -> float:
    lags = []
    while not load.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - began - 0.001)
    await load
    return statistics.quantiles(lags, n=100)[98] * 1e3


async def tasks(take: Take, seconds: float, names: list[str]) -> float:
    async def work(name: str) -> int:
        done = 0
        while time.perf_counter() < end:
            done += await take(name)
        return done

    for name in dict.fromkeys(names):
        await take(name)
    began = time.perf_counter()
    end = began + seconds
    done = sum(await asyncio.gather(*map(work, names)))
    return done / (time.perf_counter() - began)


CASES = [one_task, a_hundred_tasks_one_key, a_hundred_tasks_a_hundred_keys]
TARGETS = {
    "one_task": {"log": 1.2, "gcra": 1.2},
    "a_hundred_tasks_one_key": {"log": 30, "gcra": 30},
    "a_hundred_tasks_a_hundred_keys": {"log": 12, "gcra": 20},
}
"""How many times the peer's rate it should be."""


def run(who: str, case: str, seconds: str, dsn: str) -> None:
    """Measure one case and print it."""
    with globals()[who](dsn) as take:
        print(json.dumps(asyncio.run(globals()[case](take, float(seconds)))))


def measured(who: str, case: str, seconds: float, python: str, dsn: str) -> float:
    command = [python, __file__, "run", who, case, str(seconds), dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{who}, {case}: {done.stderr[-1500:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dsn", help="of a server that runs")
    options.add_argument(
        "--peer", help="interpreter of an environment with pyrate-limiter 4.5 and psycopg[binary,pool]"
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1)
    options.add_argument("--no-sync", action="store_true", help="commit without waiting for the disk")
    given = options.parse_args()
    if given.no_sync:
        os.environ["NO_SYNC"] = "1"
    pythons = dict.fromkeys(("log", "gcra", "statements"), sys.executable)
    pythons |= {"peer": given.peer} if given.peer else {}
    with nullcontext(given.dsn) if given.dsn else server() as dsn:
        for case in CASES:
            rounds = [compare(case.__name__, given.seconds, pythons, dsn) for _ in range(given.rounds)]
            report(case.__name__, rounds)
        for who in ("log", "gcra"):
            late_by = [measured(who, "lateness", given.seconds, sys.executable, dsn) for _ in range(given.rounds)]
            print(f"a ticker beside 100 tasks on 100 keys, {who}: p99 {statistics.median(late_by):.1f} ms later (5)")


@contextmanager
def server() -> Iterator[str]:
    from tests.servers import PostgresServer

    class Durable(PostgresServer):
        def _command(self) -> list[str]:
            return [word.replace("fsync=off", "fsync=on") for word in super()._command()]

    with Durable() as own:
        yield own.url


def compare(case: str, seconds: float, pythons: dict[str, str], dsn: str) -> dict[str, float]:
    """Return one round of a case, in an order drawn anew."""
    order = random.sample(sorted(pythons), len(pythons))
    return {who: measured(who, case, seconds, pythons[who], dsn) for who in order}


def report(case: str, rounds: list[dict[str, float]]) -> None:
    for who in sorted(rounds[0]):
        line = f"{case.replace('_', ' ')}, {who}: {statistics.median(r[who] for r in rounds):,.0f}/s"
        if "peer" in rounds[0]:
            line += f", {statistics.median(r[who] / r['peer'] for r in rounds):.1f} x peer"
            if wanted := TARGETS[case].get(who):
                line += f" ({wanted} wanted)"
        print(line, flush=True)


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    sys.path[:0] = [] if "peer" in sys.argv[2:3] else [os.fspath(root / "src"), os.fspath(root)]
    run(*sys.argv[2:]) if sys.argv[1:2] == ["run"] else main()
