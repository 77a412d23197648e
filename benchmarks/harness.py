"""How every benchmark here measures: short interleaved rounds, peers in environments of their own, the command line.

On a shared machine only the fastest round says something about the code, and only rounds that are shorter than a
slice of the scheduler ever run undisturbed. So each case runs for a millisecond or two at a time, many times, in turn
with all the others: what disturbs one disturbs all. What needs a process of its own runs in turn as well, longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeVar

from results import Report

ROUND = 0.0015
"""Seconds that a short round takes: less than the scheduler's slice."""
ROUNDS, LONG_ROUNDS = 150, 5
ROOT = Path(__file__).parent.parent
T = TypeVar("T")
Body = Callable[[int], Awaitable[None]]
"""Runs what is measured so many times, on a running event loop."""


def case(statement: str, **names: Any) -> Body:
    """Return a body that repeats one statement, perhaps with `await`, in a function whose locals are `names`.

    The text is compiled into the loop, as `timeit` does it, so that nothing is measured but the statement.
    """
    source = f"async def body(_calls, {', '.join(f'{name}={name}' for name in names)}):\n"
    source += f" for _ in _repeat(None, _calls):\n  {statement}\n"
    namespace = names | {"_repeat": repeat}
    exec(compile(source, f"<{statement}>", "exec"), namespace)
    body: Body = namespace["body"]
    return body


async def measure(cases: Mapping[str, Body], *, round_time: float = ROUND) -> dict[str, list[float]]:
    """Run all cases in turn, a short round each, many times.

    Args:
        cases: by name.
        round_time: seconds; at least one call is made.

    Returns:
        The microseconds per call of each round, by name.
    """
    calls = {name: await _calls_in(body, round_time) for name, body in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options().rounds or ROUNDS):
        for name, body in cases.items():
            times[name].append(await _time(body, calls[name]) / calls[name] * 1e6)
    return times


async def _calls_in(body: Body, seconds: float) -> int:
    await body(1)
    taken = min([await _time(body, 10) for _ in range(5)])
    return max(1, round(10 * seconds / taken))


async def _time(body: Body, calls: int) -> float:
    start = time.perf_counter()
    await body(calls)
    return time.perf_counter() - start


async def once(body: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Run something long once, and return the seconds that passed and those that this process's CPU worked."""
    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    await body()
    return time.perf_counter() - start, time.process_time() - cpu


def in_turn(cases: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """Run all cases in an order that is drawn anew, many times, and return what they returned."""
    results: dict[str, list[Any]] = {name: [] for name in cases}
    for _ in range(options().rounds or LONG_ROUNDS):
        for name in random.sample(sorted(cases), len(cases)):
            results[name].append(cases[name]())
    return results


def elsewhere(python: str | Path, *arguments: str) -> Any:
    """Run a script in a fresh process, perhaps of an environment where peers live whose import names clash with ours.

    It gets to see our sources only under this interpreter, and prints a line of JSON at its end, which is returned.
    """
    ours = str(python) == sys.executable
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"PYTHONPATH": str(ROOT / "src")} if ours else {}
    command = [str(python), *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def at_once(count: int, body: Callable[[], T]) -> list[T]:
    """Run the same so many times at once, in threads: for what is only waited for, such as other processes."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(body) for _ in range(count)]]


async def per_second(take: Callable[[str], Awaitable[Any]], names: Sequence[str], seconds: float) -> float:
    """Return how many calls a second are answered with yes, by a task for each of the names."""

    async def work(name: str) -> int:
        done = 0
        while time.perf_counter() < end:
            done += bool(await take(name))
        return done

    for name in dict.fromkeys(names):
        await take(name)
    began = time.perf_counter()
    end = began + seconds
    done = sum(await asyncio.gather(*map(work, names)))
    return done / (time.perf_counter() - began)


async def lateness(load: Awaitable[Any]) -> float:
    """Return by how many milliseconds a ticker of 1 ms is late in 99 of 100 ticks, beside some load."""
    late, task = [], asyncio.ensure_future(load)
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    await task
    return quantiles(late, n=100)[98] * 1e3


def peers(*names: str) -> dict[str, Path]:
    """Return the interpreters of the environments that these peers have; say it of those that have none."""
    folder = Path(os.environ.get("PYRATE_PEERS", ROOT / ".peers"))
    found = {name: folder / name.replace(" ", "-") / "bin" / "python" for name in names}
    for name, python in found.items():
        if not python.exists():
            print(f"{name} is left out: {folder} has no environment for it (scripts/bench makes one)")
    return {name: python for name, python in found.items() if python.exists()}


def main(benchmark: Callable[[Report], Awaitable[None]]) -> None:
    """Run a file's benchmark on an asyncio loop, print, check and write what came of it."""
    module = sys.modules["__main__"]
    report = Report(Path(str(module.__file__)).stem, module.__doc__ or "")
    asyncio.run(_run(report, benchmark))
    if options().json is not None:
        report.write(options().json)
    if options().check and not all(bound.holds for bound in report.bounds):
        sys.exit(1)


async def _run(report: Report, benchmark: Callable[[Report], Awaitable[None]]) -> None:
    await benchmark(report)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, help=f"of each case: {ROUNDS} short ones or {LONG_ROUNDS} long ones")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a long round takes")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="where to write the results")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    return parser.parse_args()
