"""What came of a benchmark: tables, values and bounds; printed, checked, and written as JSON for the page.

On a shared machine only what ran side by side can be compared. So a table keeps a sample of every round for each of its
rows, and compares rows by ratios: of the fastest rounds where a round is shorter than a slice of the scheduler, of the
medians of the rounds' own ratios where it is longer.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

PEERS = (
    "aiolimiter",
    "asynciolimiter",
    "httpx-limiter",
    "limits",
    "pyrate-limiter 3.9",
    "pyrate-limiter 4.5",
    "steindamm",
    "throttled-py",
    "token-bucket",
)
"""A row that begins with one of these names is about that peer."""
FLOOR = "floor"
"""A row that begins so is about the least that Python or a driver can do."""


class Table(NamedTuple):
    """Samples of several cases, one for each round.

    Attributes:
        title: what was done.
        unit: of the samples.
        samples: by the name of the case.
        against: the cases with which the others are compared.
        rates: whether more is better, and rows are compared by the median of the rounds' ratios.
    """

    title: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    against: tuple[str, ...]
    rates: bool = False

    def ratio(self, name: str, *others: str) -> float:
        """Return the ratio of a case to another, or to the best of several."""
        if not self.rates:
            return min(self.samples[name]) / min(min(self.samples[other]) for other in others)
        best = map(max, zip(*(self.samples[other] for other in others), strict=True))
        return median(mine / theirs for mine, theirs in zip(self.samples[name], best, strict=True))

    def summary(self, name: str) -> dict[str, Any]:
        """Return what is kept of a case: its best round, its median, the quartiles, and its ratios."""
        samples = self.samples[name]
        lower, middle, upper = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
        return {
            "name": name,
            "kind": kind_of(name),
            "best": (max if self.rates else min)(samples),
            "median": middle,
            "quartiles": [lower, upper],
            "ratios": {other: self.ratio(name, other) for other in self.against},
        }

    def show(self) -> None:
        """Print it."""
        columns = ("best", "median", "quartiles", *(f"/ {other}" for other in self.against))
        print(f"\n{self.title}, {self.unit}\n{'':44}" + "".join(f"{column:>20}" for column in columns))
        for name in self.samples:
            row = self.summary(name)
            spread = " - ".join(map(short, row["quartiles"]))
            cells = [short(row["best"]), short(row["median"]), spread, *map("{:.2f}".format, row["ratios"].values())]
            print(f"{name:44}" + "".join(f"{cell:>20}" for cell in cells))


class Bound(NamedTuple):
    """One thing that must hold: a value that is at most, or at least, so much."""

    what: str
    value: float
    bound: float
    unit: str
    at_least: bool

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        words = "at least" if self.at_least else "at most"
        measured = f"{self.what}: {short(self.value)} {self.unit}".rstrip()
        return f"{'holds' if self.holds else 'MISSED':7} {measured} ({words} {self.bound:g})"


class Report:
    """The results of one file.

    Args:
        subject: the file's name.
        about: its docstring, whose first line is the title of the page's section.
    """

    def __init__(self, subject: str, about: str) -> None:
        self.subject = subject
        self.about = about
        self.tables: list[Table] = []
        self.grids: list[dict[str, Any]] = []
        self.values: list[tuple[str, float, str]] = []
        self.bounds: list[Bound] = []

    def times(self, title: str, samples: Mapping[str, Sequence[float]], *against: str) -> Table:
        """Take in microseconds per call, of rounds shorter than a slice of the scheduler."""
        return self._add(Table(title, "µs a call", samples, against))

    def rates(self, title: str, samples: Mapping[str, Sequence[float]], *against: str) -> Table:
        """Take in calls per second, of longer rounds."""
        return self._add(Table(title, "calls a second", samples, against, rates=True))

    def _add(self, table: Table) -> Table:
        present = tuple(other for other in table.against if other in table.samples)
        self.tables.append(table := table._replace(against=present))
        table.show()
        return table

    def grid(self, title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> None:
        """Take in one figure for each of several things that were looked at; None where it does not apply."""
        self.grids.append(
            {"title": title, "columns": list(columns), "rows": {name: list(of) for name, of in rows.items()}}
        )
        print(f"\n{title:44}" + "".join(f"{column:>20}" for column in columns))
        for name, cells in rows.items():
            print(f"{name:44}" + "".join(f"{cell_of(cell):>20}" for cell in cells))

    def note(self, what: str, value: float, unit: str = "") -> float:
        """Take in a value of another kind, and return it."""
        self.values.append((what, value, unit))
        print(f"{what}: {short(value)} {unit}".rstrip())
        return value

    def at_most(self, what: str, value: float, bound: float, unit: str = "") -> None:
        """Check that a value is no greater than a bound."""
        self._check(Bound(what, value, bound, unit, at_least=False))

    def at_least(self, what: str, value: float, bound: float, unit: str = "") -> None:
        """Check that a value is no less than a bound."""
        self._check(Bound(what, value, bound, unit, at_least=True))

    def _check(self, bound: Bound) -> None:
        self.bounds.append(bound)
        print(bound)

    def write(self, folder: Path) -> None:
        """Write everything to a file of the subject's name."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.subject}.json").write_text(json.dumps(self._as_dict(), indent=1) + "\n")

    def _as_dict(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "about": self.about,
            "machine": machine(),
            "tables": [
                {"title": one.title, "unit": one.unit, "rates": one.rates, "rows": [*map(one.summary, one.samples)]}
                for one in self.tables
            ],
            "grids": self.grids,
            "values": [{"what": what, "value": value, "unit": unit} for what, value, unit in self.values],
            "bounds": [bound._asdict() | {"holds": bound.holds} for bound in self.bounds],
        }


def kind_of(name: str) -> str:
    """Return whose row this is: "ours", a "peer"'s or a "floor"."""
    return "floor" if name.startswith(FLOOR) else "peer" if name.startswith(PEERS) else "ours"


def short(value: float) -> str:
    """Return a figure as people read it, with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell_of(value: float | None) -> str:
    """Return the figure for a cell, where there may be none."""
    return "-" if value is None else short(value)


def machine() -> dict[str, Any]:
    """Return on what it ran."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "peers": {name: found for name in PEERS if (found := _version(name))},
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
