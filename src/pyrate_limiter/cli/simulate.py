"""`simulate`: the algorithms side by side, on virtual time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..algorithms import bind
from ..clocks import SECOND
from ..rates import Duration, Rate
from . import pictures, plots
from .arguments import ALGORITHM, ALGORITHMS, ARRIVALS, RATE, Arrivals
from .ending import finish, told
from .simulation import Course, run

LAYERS = (plots.ADMITTED, plots.DELAYED, plots.REFUSED)
NARROWEST = 38
"""Columns of the terminal that one plot needs."""
HEIGHT = 8


class Outcome(NamedTuple):
    """A simulation that has come to its end, or was ended."""

    courses: list[Course]
    arrivals: Arrivals
    seconds: float
    complete: bool

    @property
    def title(self) -> str:
        """What was simulated, in one line."""
        rates = " and ".join(map(str, self.courses[0].rule.rates))
        cut = "" if self.complete else ", interrupted"
        return f"{sum(self.courses[0].outcomes):,} requests, {self.arrivals.text}, against {rates}{cut}"


@click.command(short_help="Run algorithms on virtual time, side by side.")
@click.option("--rate", "rates", type=RATE, multiple=True, required=True, metavar="RATE", help="Such as 10/second.")
@click.option("--algorithm", "names", type=ALGORITHM, multiple=True, default=["log"], help="  [default: log]")
@click.option("--arrivals", type=ARRIVALS, default="poisson:20", metavar="HOW", help="poisson:N, even:N or burst:N.")
@click.option("--seconds", type=click.FloatRange(0.001, 1e9), default=10.0, help="How long.  [default: 10]")
@click.option("--max-delay", type=click.FloatRange(0, 1e9), default=0.0, help="Seconds a request waits.  [default: 0]")
@click.option("--seed", type=int, default=0, help="For arrivals by chance.  [default: 0]")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw into this file too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    rates: Sequence[Rate],
    names: Sequence[str],
    arrivals: Arrivals,
    seconds: float,
    max_delay: float,
    seed: int,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Run the real algorithms on virtual time.

    Shows over time what is admitted at once, delayed, and refused. --rate and --algorithm may be given several
    times: a request must fit all rates; algorithms stand side by side.
    """
    courses = [_course(name, rates, max_delay, seconds) for name in dict.fromkeys(names)]
    complete = run(courses, arrivals.moments(seconds, seed))
    outcome = Outcome(courses, arrivals, seconds, complete)
    if as_json:
        click.echo(json.dumps(_as_json(outcome)))
    else:
        _show(outcome, Console())
    if svg:
        with told():
            plotted = [(course.name, course.slots) for course in courses]
            pictures.write(svg, outcome.title, seconds, plotted, LAYERS)
    finish(complete)


def _course(name: str, rates: Sequence[Rate], max_delay: float, seconds: float) -> Course:
    rule = bind(ALGORITHMS[name], rates)
    return Course(name, rule, round(max_delay * SECOND), round(seconds * SECOND))


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "arrivals": outcome.arrivals.text,
        "seconds": outcome.seconds,
        "complete": outcome.complete,
        "algorithms": [course.as_json() for course in outcome.courses],
    }


def _show(outcome: Outcome, console: Console) -> None:
    console.print(Text(outcome.title, "bold"))
    beside = max(1, min(len(outcome.courses), console.width // NARROWEST))
    grid = Table.grid(padding=(1, 2, 0, 0))
    width = console.width // beside
    panels = _panels(outcome, console, width)
    for at in range(0, len(panels), beside):
        grid.add_row(*panels[at : at + beside])
    console.print(grid)
    console.print(plots.key(console, LAYERS))
    console.print(_table(outcome, console))


def _panels(outcome: Outcome, console: Console, width: int) -> list[Group]:
    courses = [plots.joined(course.slots, width - 8) for course in outcome.courses]
    top = max(1, *(sum(slot) for slots in courses for slot in slots))
    end = f"{outcome.seconds:g} s"
    return [
        Group(
            Text(course.name, "bold"),
            plots.columns(console, slots, LAYERS, HEIGHT, top),
            Text(f"{'':{len(f'{top:,}')}} 0{end:>{len(slots) - 1}}", "dim", no_wrap=True),
        )
        for course, slots in zip(outcome.courses, courses, strict=True)
    ]


def _table(outcome: Outcome, console: Console) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    table.add_column("")
    for layer in LAYERS:
        table.add_column(layer.name, justify="right")
    table.add_column("longest wait", justify="right")
    for rate in outcome.courses[0].rule.rates:
        table.add_column(f"most in {Duration.readable(rate.interval)}", justify="right")
    for course in outcome.courses:
        most = [f"{most:,} of {bound:,}" for most, bound in zip(course.peaks, course.bounds, strict=True)]
        counts = [f"{count:,}" for count in course.outcomes]
        table.add_row(course.name, *counts, f"{course.longest / SECOND:.2f} s", *most)
    return table
