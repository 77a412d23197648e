"""How a command ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C has ended, as shells have it: 128 and the signal's number."""


def finish(complete: bool) -> None:
    """End the program with the code of an interrupted one, unless the work was complete."""
    if not complete:
        sys.exit(INTERRUPTED)


@contextmanager
def told() -> Iterator[None]:
    """Tell the user what the system says about a file, instead of a traceback."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(str(error)) from error
