"""Shared memory: four processes on one key.

Beside pyrate-limiter 4.5's MultiprocessBucket, and beside a file lock that is taken and given back. Each measurement is
a program of its own. The limit is never reached, but in the case that says so, and only what was admitted counts: the
peer refuses where its lock is busy. The CPU is that of the workers; what the peer's manager needs comes on top of it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from harness import elsewhere, in_turn, main, options, peers
from results import FLOOR, Report

LIMIT, INTERVAL, TASKS, PROCESSES = 10**6, 1000, 25, 4
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


PEER, FLOCK, AT_THE_LIMIT = "pyrate-limiter 4.5", f"{FLOOR}: flock", "waiting at the limit"
CASES: dict[str, Callable[[], Worker]] = {
    FLOCK: raw,
    "bucket, log": partial(bucket, "SlidingWindowLog"),
    "bucket, GCRA": partial(bucket, "GCRA"),
    f"{PEER}, bucket": partial(peer, "bucket"),
    "limiter, sync": limiter,
    f"{PEER}, limiter, sync": partial(peer, "limiter"),
    "limiter, awaited": partial(limiter, in_tasks=True),
    f"{PEER}, limiter, awaited": partial(peer, "awaited"),
    AT_THE_LIMIT: at_the_limit,
}
BOUNDS = {
    "bucket, log": ("bucket", None),
    "bucket, GCRA": ("bucket", None),
    "limiter, sync": ("limiter, sync", 12),
    "limiter, awaited": ("limiter, awaited", 7),
}
"""The case of the peer, and how many times its calls a second ours must make."""


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


def measured(case: str, python: str) -> dict[str, float]:
    """Measure a case in a program of its own, with the package that it is about."""
    found: dict[str, float] = elsewhere(python, __file__, "run", case, str(options().seconds))
    return found


# What to measure.


async def benchmark(report: Report) -> None:
    theirs = {name: str(python) for name, python in peers(PEER).items()}
    cases = [case for case in CASES if PEER in theirs or not case.startswith(PEER)]
    pythons = {case: theirs[PEER] if case.startswith(PEER) else sys.executable for case in cases}
    seen = in_turn({case: partial(measured, case, python) for case, python in pythons.items()})
    unfair = median(one["unfair"] for one in seen.pop(AT_THE_LIMIT))
    where = f"Shared memory, {PROCESSES} processes"
    calls = report.rates(where, {case: [one["calls"] for one in found] for case, found in seen.items()}, FLOCK)
    cpu = report.times(f"{where}, CPU", {case: [one["cpu"] for one in found] for case, found in seen.items()}, FLOCK)
    for case, (rival, faster) in BOUNDS.items() if theirs else ():
        report.at_least(f"CPU of {PEER} / {case}", cpu.ratio(f"{PEER}, {rival}", case), CPU_PER_CALL)
        if faster is not None:
            report.at_least(f"calls of {case} / {PEER}", calls.ratio(case, f"{PEER}, {rival}"), faster)
    report.at_most(f"{AT_THE_LIMIT}: luckiest / unluckiest", unfair, UNFAIR)
    for case in [case for case in seen if case.startswith(PEER)]:
        report.note(f"{case}: CPU of its manager", median(one["helpers"] for one in seen[case]), "µs a call")


def run(case: str, seconds: str) -> None:
    print(json.dumps(measure(case, float(seconds), PROCESSES)))


if __name__ == "__main__":
    run(*sys.argv[2:]) if sys.argv[1:2] == ["run"] else main(benchmark)
