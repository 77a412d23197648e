"""What every benchmark here shares: interleaved short rounds, ratios in one run, bounds, and results as JSON.

On a shared machine only the fastest round says something about the code, and only rounds that are shorter than a
slice of the scheduler ever run undisturbed. So each case runs for a millisecond or two at a time, many times, in turn
with all the others: what disturbs one disturbs all. Cases are compared as ratios within one run, never with figures
from another day.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROUND = 0.0015
"""Seconds that a round takes: shorter than the scheduler's slice."""
ROUNDS = 150
Body = Callable[[int], Awaitable[None]]
"""Runs what is measured so many times, on a running event loop."""


class Figure(NamedTuple):
    """What one case took per call, in microseconds.

    Attributes:
        least: in the fastest round.
        middle: in the median round.
        calls: how many calls a round made.
    """

    least: float
    middle: float
    calls: int


class Bound(NamedTuple):
    """One thing that must hold."""

    what: str
    value: float
    at_most: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.value <= self.at_most


class Report:
    """The results of one file: printed, checked, written as JSON."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.figures: dict[str, Figure] = {}
        self.values: dict[str, tuple[float, str]] = {}
        self.bounds: list[Bound] = []

    def add(self, figures: Mapping[str, Figure], against: Sequence[str] = ()) -> None:
        """Print figures as a table, with their ratios to some of the cases."""
        self.figures |= figures
        print(f"\n{'µs per call':52}{'least':>9}{'median':>9}" + "".join(f"{'/ ' + name:>24}" for name in against))
        for name, figure in figures.items():
            ratios = "".join(f"{figure.least / figures[other].least:24.2f}" for other in against)
            print(f"{name:52}{figure.least:9.3f}{figure.middle:9.3f}{ratios}")

    def ratio(self, name: str, other: str) -> float:
        """Return how many times as long one case takes as another, by their fastest rounds."""
        return self.figures[name].least / self.figures[other].least

    def note(self, what: str, value: float, unit: str = "") -> float:
        """Print a value of another kind than time per call, and return it."""
        self.values[what] = (value, unit)
        print(f"{what}: {value:.4g} {unit}".rstrip())
        return value

    def at_most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """Check a bound and print what came of it."""
        bound = Bound(what, value, limit, unit)
        self.bounds.append(bound)
        verdict = "holds" if bound.holds else "MISSED"
        print(f"{verdict:7} {what}: {value:.4g} {unit} (at most {limit:g})".replace("  (", " ("))

    def finish(self) -> None:
        """Write JSON if `--json FOLDER` was given; exit with 1 if a bound was missed and `--check` was given."""
        options = _arguments()
        if options.json is not None:
            options.json.mkdir(parents=True, exist_ok=True)
            (options.json / f"{self.subject}.json").write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        if options.check and not all(bound.holds for bound in self.bounds):
            sys.exit(1)

    def as_dict(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "subject": self.subject,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "figures": {name: figure._asdict() for name, figure in self.figures.items()},
            "values": {what: {"value": value, "unit": unit} for what, (value, unit) in self.values.items()},
            "bounds": [bound._asdict() | {"holds": bound.holds} for bound in self.bounds],
        }


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


async def measure(
    cases: Mapping[str, Body], *, rounds: int | None = None, round_time: float = ROUND
) -> dict[str, Figure]:
    """Run all cases in turn, a short round each, many times.

    Args:
        cases: by name.
        rounds: of each case.
        round_time: seconds; at least one call is made.
    """
    calls = {name: await _calls_in(body, round_time) for name, body in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds or _arguments().rounds):
        for name, body in cases.items():
            times[name].append(await _time(body, calls[name]) / calls[name] * 1e6)
    return {name: Figure(min(taken), median(taken), calls[name]) for name, taken in times.items()}


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


def elsewhere(python: str | Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in a fresh process, perhaps of another environment, where peers live whose names clash with ours.

    It prints a line of JSON, which is returned.
    """
    isolated = [] if str(python) == sys.executable else ["-I"]  # nothing of ours is to be found there
    command = [str(python), *isolated, "-c", script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(subject: str, benchmark: Callable[[Report], Awaitable[None]]) -> None:
    """Run a file's benchmark on an asyncio loop, print, check and write what came of it."""
    report = Report(subject)
    asyncio.run(_run(report, benchmark))
    report.finish()


async def _run(report: Report, benchmark: Callable[[Report], Awaitable[None]]) -> None:
    await benchmark(report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each case")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="where to write the results")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    return parser.parse_args()
