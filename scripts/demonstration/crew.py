"""The processes that make the calls: one, or several that share a limit."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from calling import Calls, make_calls
from limits import Limit

READY = "ready"
DONE = "done"


@contextmanager
def working(calls: list[Calls], limit: Limit | None) -> Iterator[Iterator[bool]]:
    """Start a process for each of `calls`, wait until all are ready, and yield what the server said to each call."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = []
        for one in calls:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, one, limit), daemon=True)
            process.start()
            theirs.close()
            stack.callback(_end, process, ours)
            workers.append(ours)
        for worker in workers:
            _expect(worker.recv(), READY)
        for worker in workers:
            worker.send(READY)
        yield _outcomes(workers)


def work(parent: Connection, calls: Calls, limit: Limit | None) -> None:
    """Make the calls of one process, when the parent says so, and send it what the server said."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends this process

    def start_together() -> None:
        parent.send(READY)
        parent.recv()

    limiter = limit.limiter() if limit else None
    asyncio.run(make_calls(calls, limiter, start_together, partial(parent.send)))
    parent.send(DONE)


def _outcomes(workers: list[Connection]) -> Iterator[bool]:
    at_work: list[Connection] = list(workers)
    while at_work:
        for worker in wait(at_work):
            said = worker.recv()
            if said == DONE:
                at_work.remove(worker)
            else:
                yield said


def _expect(said: object, wanted: object) -> None:
    if said != wanted:
        raise RuntimeError(f"a worker said {said!r} instead of {wanted!r}")


def _end(process: SpawnProcess, connection: Connection) -> None:
    process.terminate()
    process.join()
    connection.close()
