"""Shared memory: four processes on one key, beside pyrate-limiter 4.5's MultiprocessBucket.

    python benchmarks/multiprocess.py [--peer PYTHON] [--rounds 5] [--seconds 1] [--processes 4] [CASE ...]

PYTHON is the interpreter of an environment with pyrate-limiter 4.5. Both packages have the same import name, so each
measurement is a program of its own; the order within a round is drawn anew. The limit is never reached, but in the case
that says so, and only what was admitted counts: the peer refuses where its lock is busy. Figures are medians over the
rounds, and ratios are medians of the rounds' ratios. The CPU is that of the workers; the peer's manager is given beside
it and not counted. Unfair is what the luckiest process got, divided by what the unluckiest got.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

LIMIT, INTERVAL, TASKS = 10**6, 1000, 25
WARM = 0.2
FEW = 100, 100
"""A limit that is reached all the time, and its interval."""
CPU_PER_CALL = 8
"""How many times less CPU a call through the limiter must take."""
UNFAIR = 2
"""How many times as much as the unluckiest the luckiest process may get at the limit."""
Worker = Callable[[float], int]
"""Takes until a moment of the monotonic clock, and returns how often it was admitted."""


# What to measure: how often a process is admitted until a moment.


def in_a_loop(take: Callable[[], bool]) -> Worker:
    def work(until: float) -> int:
        admitted = 0
        while time.monotonic() < until:
            for _ in range(20):
                admitted += take()
        return admitted

    return work


def awaited(take: Callable[[], Any]) -> Worker:
    async def task(until: float) -> int:
        admitted = 0
        while time.monotonic() < until:
            for _ in range(20):
                admitted += await take()
            await asyncio.sleep(0)
        return admitted

    async def tasks(until: float) -> int:
        return sum(await asyncio.gather(*[task(until) for _ in range(TASKS)]))

    return lambda until: asyncio.run(tasks(until))


def ours(algorithm: str = "SlidingWindowLog", rate: tuple[int, int] = (LIMIT, INTERVAL)) -> Any:
    import pyrate_limiter

    return pyrate_limiter.MultiprocessBucket(pyrate_limiter.Rate(*rate), algorithm=getattr(pyrate_limiter, algorithm))


def bucket(algorithm: str) -> Worker:
    shared = ours(algorithm)

    def take() -> bool:
        while (wait := shared._take("", 1, True)) < 0:  # busy
            time.sleep(0.00005)
        return not wait

    return in_a_loop(take)


def limiter(*, in_tasks: bool = False) -> Worker:
    import pyrate_limiter

    limiter = pyrate_limiter.Limiter(ours())
    if in_tasks:
        return awaited(partial(limiter.try_acquire_async, "api", blocking=False))
    return in_a_loop(partial(limiter.try_acquire, "api", blocking=False))


def at_the_limit() -> Worker:
    import pyrate_limiter

    limiter = pyrate_limiter.Limiter(ours(rate=FEW))

    async def task(first: float, until: float) -> int:
        admitted = 0
        while await limiter.try_acquire_async("api") and (now := time.monotonic()) < until:
            admitted += now > first
        return admitted

    async def tasks(until: float) -> int:
        first = time.monotonic() + 2 * FEW[1] / 1000  # when all have begun, and what was free for the first is used up
        return sum(await asyncio.gather(*[task(first, until) for _ in range(TASKS)]))

    return lambda until: asyncio.run(tasks(until))


def peer(face: str) -> Worker:
    from pyrate_limiter import Limiter, MultiprocessBucket, Rate, RateItem

    shared = MultiprocessBucket.init([Rate(LIMIT, INTERVAL)])
    if face == "bucket":
        return in_a_loop(lambda: shared.put(RateItem("api", time.monotonic_ns() // 10**6)))
    limiter = Limiter(shared)
    if face == "awaited":
        return awaited(partial(limiter.try_acquire_async, "api", blocking=True))
    return in_a_loop(partial(limiter.try_acquire, "api", blocking=True))


def raw() -> Worker:
    from fcntl import LOCK_EX, LOCK_UN, flock

    path = Path(tempfile.gettempdir(), f"raw-{os.getpid()}")
    path.touch()

    def work(until: float) -> int:
        with path.open() as file:

            def take() -> bool:
                flock(file, LOCK_EX)
                flock(file, LOCK_UN)
                return True

            return in_a_loop(take)(until)

    return work


CASES: dict[str, Callable[[], Worker]] = {
    "flock and nothing else": raw,
    "bucket, log": partial(bucket, "SlidingWindowLog"),
    "bucket, gcra": partial(bucket, "GCRA"),
    "bucket, peer": partial(peer, "bucket"),
    "limiter": limiter,
    "limiter, peer": partial(peer, "limiter"),
    "awaited": partial(limiter, in_tasks=True),
    "waiting at the limit": at_the_limit,
    "awaited, peer": partial(peer, "awaited"),
}
RATIOS = [
    ("bucket, log", "bucket, peer"),
    ("bucket, gcra", "bucket, peer"),
    ("limiter", "limiter, peer"),
    ("awaited", "awaited, peer"),
    ("bucket, log", "flock and nothing else"),
]


# How: some processes at once.


def measure(case: str, seconds: float, processes: int) -> dict[str, float]:
    """Return what `processes` did in so many seconds: calls a second, and microseconds of CPU for each."""
    work = CASES[case]()
    helpers = {child.pid: cpu_of(child.pid) for child in multiprocessing.active_children()}
    context = multiprocessing.get_context("fork")
    gate, pipes, workers = context.Barrier(processes), [], []

    def run(pipe: Any) -> None:
        work(time.monotonic() + WARM)  # what a process does for the first time after a fork costs far more
        gate.wait()
        before, began = time.process_time(), time.monotonic()
        admitted = work(began + seconds)
        pipe.send((admitted, time.process_time() - before, time.monotonic() - began))

    for _ in range(processes):
        here, there = context.Pipe(duplex=False)
        pipes.append(here)
        workers.append(context.Process(target=run, args=(there,)))
        workers[-1].start()
    results = [pipe.recv() for pipe in pipes]
    helped = sum(cpu_of(pid) - before for pid, before in helpers.items())
    for worker in workers:
        worker.join()
    calls, cpu, _ = map(sum, zip(*results, strict=True))
    return {
        "calls": sum(admitted / elapsed for admitted, _, elapsed in results),
        "cpu": cpu / calls * 1e6,
        "helpers": helped / calls * 1e6,
        "unfair": max(result[0] for result in results) / max(1, min(result[0] for result in results)),
    }


def cpu_of(pid: int | None) -> float:
    """Return the seconds of CPU that another process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(case: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure a case in a program of its own, with the package that it is about."""
    theirs = case.endswith("peer")
    command = [options.peer if theirs else sys.executable, __file__, "--only", case]
    command += ["--seconds", str(options.seconds), "--processes", str(options.processes)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" or not theirs}
    if not theirs:
        environment["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.seconds, options.processes)))
        return
    cases = [case for case in options.cases or CASES if options.peer or not case.endswith("peer")]
    rounds: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(options.rounds):
        for case in random.sample(cases, len(cases)):
            rounds[case].append(measured(case, options))
    report(rounds)


def report(rounds: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'':24}{'calls/s':>10}{'CPU µs':>9}{'helper µs':>11}{'unfair':>8}")
    for case, results in rounds.items():
        calls, cpu, helpers, unfair = (
            statistics.median(result[key] for result in results) for key in ("calls", "cpu", "helpers", "unfair")
        )
        too_much = " (too much)" if case == "waiting at the limit" and unfair > UNFAIR else ""
        print(f"{case:24}{calls:10,.0f}{cpu:9.2f}{helpers:11.2f}{unfair:8.2f}{too_much}")
    for case, other in RATIOS:
        if case in rounds and other in rounds:
            pairs = list(zip(rounds[case], rounds[other], strict=True))
            faster = statistics.median(one["calls"] / two["calls"] for one, two in pairs)
            less = statistics.median(two["cpu"] / one["cpu"] for one, two in pairs)
            wanted = other.endswith("peer") and less < CPU_PER_CALL
            print(f"{case} / {other}: {faster:.1f} x the calls, {less:.1f} x less CPU{' (too little)' * wanted}")


if __name__ == "__main__":
    main()
