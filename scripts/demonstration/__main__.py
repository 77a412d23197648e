"""See what a limiter does: a server that refuses what is too fast, called without one and then with one."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack, nullcontext

from calling import Calls
from crew import working
from display import Run, live, table
from limits import BACKENDS, MARGIN, Limit
from rich.console import Console
from rich.progress import Progress
from wire import running_server

TASKS = 20
INTERRUPTED = 130


def main() -> int:
    """Run both, and return the exit code."""
    options = parsed()
    console = Console()
    runs = [Run("without limiter", options.requests), Run("with limiter", options.requests)]
    code = 0
    try:
        with ExitStack() as stack:
            given = nullcontext(options.url) if options.url else BACKENDS[options.backend].place()
            place = stack.enter_context(given)
            url = stack.enter_context(running_server(options.rate))
            bars = stack.enter_context(live(console))
            for run, limit in zip(runs, [None, Limit(options.backend, options.rate, place)], strict=True):
                follow(run, shared_out(url, run, options.workers), limit, bars)
    except KeyboardInterrupt:
        code = INTERRUPTED
    processes = f" in {options.workers} processes" if options.workers > 1 else ""
    title = f"Calls from {TASKS} tasks{processes} to a server that takes {options.rate} a second"
    console.print(table(title, runs, "interrupted" if code else explanation(options)))
    return code


def follow(run: Run, calls: list[Calls], limit: Limit | None, bars: Progress) -> None:
    """Let the calls be made, and count what becomes of them."""
    bar = bars.add_task(run.title, total=run.requests, refused=0, seconds=0.0)
    with working(calls, limit) as outcomes:
        start = time.monotonic()
        for taken in outcomes:
            run.taken += taken
            run.refused += not taken
            run.seconds = time.monotonic() - start
            bars.update(bar, completed=run.made, refused=run.refused, seconds=run.seconds)


def shared_out(url: str, run: Run, workers: int) -> list[Calls]:
    """Return what each process is to do."""
    return [
        Calls(url, run.title, len(range(i, run.requests, workers)), len(range(i, TASKS, workers)))
        for i in range(workers)
    ]


def explanation(options: argparse.Namespace) -> str:
    """Return what the numbers do not say."""
    interval = 1000 + MARGIN
    return (
        f"The limiter ({options.backend}) lets a call go every {interval / options.rate:.4g} ms, {options.rate} in"
        f" {interval / 1000:g} s: that is {MARGIN} ms more than the server's second, since the way to a server does"
        " not always take equally long."
    )


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--rate", type=positive, default=20, help="calls that the server takes in a second (20)")
    parser.add_argument("--requests", type=positive, default=200, help="calls to make in each of both runs (200)")
    parser.add_argument("--backend", choices=BACKENDS, default="memory", help="where the limit is kept (memory)")
    parser.add_argument("--workers", type=positive, default=1, help=f"processes that make them, up to {TASKS} (1)")
    parser.add_argument("--url", help="of the Redis or PostgreSQL server; one is started if this is not given")
    options = parser.parse_args()
    if options.workers > TASKS:
        parser.error(f"the calls come from {TASKS} tasks: no more than {TASKS} workers")
    if options.workers > 1 and not BACKENDS[options.backend].shared:
        parser.error(f"{options.backend} is not shared by processes: give a --backend that is, such as sqlite")
    if options.url and not BACKENDS[options.backend].served:
        parser.error(f"{options.backend} has no URL: give a --backend that has, such as redis")
    return options


def positive(text: str) -> int:
    """Return an int above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
