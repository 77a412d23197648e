"""`inspect` and `reset`: what a store holds for each key, and how to forget it."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..decisions import Decision
from ..errors import StoreError
from ..rates import Rate
from .arguments import ALGORITHM, ALGORITHMS, RATE
from .ending import finish
from .logs import shown
from .stores import Store, open_store

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--rate", "rates", type=RATE, multiple=True, required=True, metavar="RATE", help="Of the limiter."),
    click.option("--algorithm", "name", type=ALGORITHM, default="log", help="Of the limiter.  [default: log]"),
    click.option("--table", default="pyrate_limiter", help="In Redis, the prefix.  [default: pyrate_limiter]"),
)


def of_a_bucket(command: F) -> F:
    """Give a command the options that tell which bucket of a store is meant."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Inspection:
    """What is known of the keys of a bucket so far.

    Args:
        top: of how many keys to remember the decision: of those that have least left.

    Attributes:
        keys: how many there are.
        full: how many of them have nothing left.
        complete: whether all were seen.
    """

    def __init__(self, top: int) -> None:
        self.keys = self.full = 0
        self.complete = False
        self._top = top
        self._least: list[tuple[float, str, Decision]] = []

    async def run(self, store: Store) -> None:
        """Look at every key, and take nothing."""
        seen: set[str] = set()
        async for names in store.names():
            new = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(new)
            decisions = await asyncio.gather(*(store.bucket.peek(key=name) for name in new))
            for decision in decisions:
                self._add(decision)
        self.complete = True

    def least(self) -> list[Decision]:
        """Return the keys with least left, the emptiest first."""
        return [decision for _, _, decision in sorted(self._least, key=lambda entry: (-entry[0], entry[1]))]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with times in seconds."""
        return {
            "complete": self.complete,
            "keys": self.keys,
            "full": self.full,
            "top": [
                {"key": shown(one.name), "remaining": one.remaining, "limit": one.limit, "reset_after": one.reset_after}
                for one in self.least()
            ],
        }

    def _add(self, decision: Decision) -> None:
        self.keys += 1
        self.full += not decision.allowed
        heapq.heappush(self._least, (-decision.remaining / decision.limit, decision.name, decision))
        if len(self._least) > self._top:
            heapq.heappop(self._least)


@click.command(short_help="Show what a store holds, without spending.")
@click.argument("url")
@of_a_bucket
@click.option("--top", type=click.IntRange(1), default=10, metavar="N", help="Keys to show.  [default: 10]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(url: str, rates: Sequence[Rate], name: str, table: str, top: int, as_json: bool) -> None:
    """Show what a store holds: how many keys, and what is left of those that have least.

    URL is sqlite:///limits.db, redis://localhost or postgresql://localhost/mydb. Nothing is spent. A store counts
    by rates and algorithm: give those of the limiter.
    """
    found = Inspection(top)
    _run(url, rates, name, table, found.run)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        _show(found, Console())
    finish(found.complete)


@click.command(short_help="Forget what a store counts for a key.")
@click.argument("url")
@click.argument("key")
@of_a_bucket
def reset(url: str, key: str, rates: Sequence[Rate], name: str, table: str) -> None:
    """Forget what a store counts for KEY.

    URL and the options are those of inspect. The key of a limiter that is not keyed is ''.
    """
    done = _run(url, rates, name, table, lambda store: store.bucket.reset(key=key))
    if done:
        click.echo(f"{shown(key)}: reset")
    finish(done)


def _run(
    url: str,
    rates: Sequence[Rate],
    name: str,
    table: str,
    work: Callable[[Store], Coroutine[Any, Any, None]],
) -> bool:
    """Do some work with a store, on asyncio, which all drivers know; return False if Ctrl-C ended it."""

    async def main() -> None:
        store = open_store(url, rates, ALGORITHMS[name], table)
        await store.require()
        try:
            await work(store)
        finally:
            await store.bucket.aclose()

    with _told():
        try:
            anyio.run(main)
        except KeyboardInterrupt:
            return False
    return True


@contextmanager
def _told() -> Iterator[None]:
    """Tell the user what a store or a driver says, instead of a traceback."""
    try:
        yield
    except (StoreError, ValueError, TypeError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def _show(found: Inspection, console: Console) -> None:
    cut = "" if found.complete else ", interrupted"
    console.print(Text(f"{found.keys:,} keys, {found.full:,} with nothing left{cut}", "bold"))
    if not found.keys:
        console.print("Give --rate, --algorithm and --table as the program has them: a store counts by these.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    table.add_column("key", overflow="fold")
    for heading in ("left", "of", "as new in"):
        table.add_column(heading, justify="right")
    for one in found.least():
        name = Text(shown(one.name)[:200])
        table.add_row(name, f"{one.remaining:,}", f"{one.limit:,}", f"{one.reset_after:.1f} s")
    console.print(table)
