"""`replay`: what a limit would have done to the requests of an access log."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..clocks import SECOND
from ..rates import Rate
from . import plots
from .arguments import ALGORITHM, ALGORITHMS, RATE
from .ending import finish, told
from .logs import Lines, Log, shown
from .replaying import Replay

LAYERS = (plots.ADMITTED, plots.REFUSED)
HEIGHT = 6
FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.command(short_help="Say what a limit would have refused of an access log.")
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("--rate", "rates", type=RATE, multiple=True, required=True, metavar="RATE", help="Such as 100/minute.")
@click.option("--key", "keys", multiple=True, default=["ip"], metavar="FIELD", help="Whose limit.  [default: ip]")
@click.option("--algorithm", "name", type=ALGORITHM, default="gcra", help="  [default: gcra]")
@click.option(
    "--goal", type=click.FloatRange(0, 100), default=1.0, metavar="PERCENT", help="May be refused. [default: 1]"
)
@click.option("--time", default="time", metavar="FIELD", help="Of the time in JSON lines.  [default: time]")
@click.option("--top", type=click.IntRange(0), default=5, metavar="N", help="Keys to show.  [default: 5]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(
    files: Sequence[str],
    rates: Sequence[Rate],
    keys: Sequence[str],
    name: str,
    goal: float,
    time: str,
    top: int,
    as_json: bool,
) -> None:
    """Say who would have been refused, when, and which limit would do.

    Reads the common and combined formats of nginx and Apache, and JSON lines, also packed by gzip; - is the
    standard input. Fields: ip, user, method, path, status, referer, agent; in JSON lines any. Several --key make
    one; --key all is one limit for all.
    """
    lines = Lines([] if "all" in keys else keys, time)
    replayed = Replay(lines, ALGORITHMS[name], rates, goal)
    with told():
        _run(replayed, files)
    if as_json:
        click.echo(json.dumps(replayed.as_json(top)))
    else:
        _show(replayed, name, top, Console())
    if replayed.complete and (replayed.problem or not replayed.requests):
        raise click.ClickException(replayed.problem or "no line could be read: see above for the first ones")
    finish(replayed.complete)


def _run(replayed: Replay, files: Sequence[str]) -> None:
    """Replay the files one after the other, until the end or Ctrl-C, with a progress bar for whoever watches."""
    console = Console(stderr=True)
    bar = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[lines]:,} lines"), TimeRemainingColumn())
    total = None if "-" in files else sum(os.path.getsize(file) for file in files)
    done = 0
    try:
        with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=total, lines=0)
            for file in files:
                with closing(Log(file)) as log:
                    for position in replayed.run(log):
                        progress.update(task, completed=done + position, lines=replayed.read)
                    done += log.position
        replayed.complete = True
    except KeyboardInterrupt:
        replayed.complete = False


def _show(replayed: Replay, name: str, top: int, console: Console) -> None:
    asked = replayed.asked()
    if replayed.requests:
        console.print(
            Text(
                f"{asked.name}, {name}: {asked.refused:,} of {replayed.requests:,} requests refused"
                f" ({asked.percent:.2f} %)",
                "bold",
            )
        )
        _show_time(replayed, console)
        _show_keys(replayed, top, console)
        _show_limits(replayed, console)
    for note in _notes(replayed):
        console.print(Text(note, "yellow"), soft_wrap=True)


def _show_time(replayed: Replay, console: Console) -> None:
    slots = plots.joined(replayed.timeline.used, console.width - 10)
    highest = max(1, *(sum(slot) for slot in slots))
    console.print(plots.columns(console, slots, LAYERS, HEIGHT, highest))
    span = f"{_utc(replayed.first)} to {_utc(replayed.latest)} UTC"
    console.print(Text("  ").join([Text(span), plots.key(console, LAYERS)]))


def _show_keys(replayed: Replay, top: int, console: Console) -> None:
    most = replayed.refusals.most(top)
    if not most:
        return
    more = "more than " if replayed.refusals.partial else ""
    table = _table(f"refused most, of {more}{len(replayed.refusals):,}", "refused", "first", "last")
    table.columns[0].overflow = "fold"
    for key, refused, first, last in most:
        table.add_row(Text(shown(key)[:200]), f"{refused:,}", _utc(first), _utc(last))
    console.print()
    console.print(table)


def _show_limits(replayed: Replay, console: Console) -> None:
    table = _table("limit", "would refuse", "%")
    asked, best = replayed.asked(), replayed.suggestion()
    for rung in replayed.rungs():
        table.add_row(rung.name, f"{rung.refused:,}", f"{rung.percent:.2f}", style="bold" if rung == asked else "")
    console.print()
    console.print(table)
    if best:
        console.print(f"\nSuggestion: {best.name}, the lowest of these that refuses at most {replayed.goal:g} %.")
    else:
        console.print(f"\nNone of these refuses at most {replayed.goal:g} %: try a higher --rate, or a higher --goal.")


def _notes(replayed: Replay) -> list[str]:
    """Return what the user must know to trust the figures."""
    notes = []
    if not replayed.complete:
        notes.append(f"Interrupted after {replayed.read:,} lines: this is what they say.")
    if replayed.malformed:
        notes.append(f"{replayed.malformed:,} of {replayed.read:,} lines are malformed and were left out, such as:")
        notes += [f"  {file}:{line}: {why}: {text}" for file, line, why, text in replayed.examples]
    if replayed.late:
        notes.append(
            f"{replayed.late:,} lines are older than one before them and count at its moment; oldest file first."
        )
    if replayed.ladder.forgotten:
        notes.append(
            f"{replayed.ladder.forgotten:,} keys were forgotten for want of room: a few refusals may be missing."
        )
    return notes


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index in {1, 2} and heading not in {"first", "last"} else "left")
    return table


def _utc(at: int) -> str:
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m-%d %H:%M:%S}"
