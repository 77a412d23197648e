"""Runs the examples of a page: `python documented.py PAGE` runs its blocks in order, as one session.

Blocks that are marked `py` show code for another library: `python documented.py PAGE py` runs those, where it is
installed.

A block may await at its top level. What it prints is compared with its lines that begin with ``# ->``, if it has any.
Whole programs, which start an event loop or processes of their own, are left to the test that runs each as a file.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAM = re.compile(r"\b(asyncio|trio|anyio)\.run\(|__name__ ==")
_SAYS = "# ->"
SERVERS = {"REDIS_URL": "redis_url", "POSTGRES_URL": "postgres_dsn"}
"""Names that blocks may use for the URL of a server, and the fixtures that know it."""


class Block(NamedTuple):
    """A fenced block of a page: the line of its fence, its language, and what is in it."""

    line: int
    language: str
    code: str

    @property
    def is_program(self) -> bool:
        return bool(_PROGRAM.search(self.code))

    def check(self, printed: str) -> None:
        """Raise AssertionError unless the block printed what it says, if it says anything."""
        said = [line.removeprefix(_SAYS).strip() for line in self.code.splitlines() if line.startswith(_SAYS)]
        if said and (lines := [line.rstrip() for line in printed.splitlines()]) != said:
            raise AssertionError(f"the block at line {self.line} printed {lines}, but says {said}")


def blocks(page: Path, language: str) -> Iterator[Block]:
    """Yield the blocks of a page that are in this language."""
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        if fence[1] == language:
            yield Block(text.count("\n", 0, fence.start()) + 1, fence[1], fence[2])


class Session(NamedTuple):
    """A command of a page, by the line of its block, and what the page says that it prints, if it says so."""

    line: int
    command: str
    printed: str


def sessions(page: Path) -> Iterator[Session]:
    """Yield the commands of a page. A block of text directly after one with a single command is what it prints."""
    text = page.read_text()
    fences = [*_FENCE.finditer(text)]
    for fence, after in zip_longest(fences, fences[1:]):
        commands = fence[2].splitlines() if fence[1] == "sh" else []
        follows = after is not None and after[1] == "text" and not text[fence.end() : after.start()].strip()
        printed = after[2] if after and follows and len(commands) == 1 else ""
        yield from (Session(text.count("\n", 0, fence.start()) + 1, command, printed) for command in commands)


def run(page: Path, language: str = "python") -> None:
    """Run the blocks of a page that are in this language, all on one event loop."""
    logging.getLogger("pyrate_limiter").addHandler(logging.NullHandler())
    servers = {name: os.environ[name] for name in SERVERS if name in os.environ}
    names: dict[str, Any] = {"__name__": "documented", **servers}
    with asyncio.Runner() as runner:
        for block in blocks(page, language):
            if not block.is_program:
                block.check(_run_block(runner, page, block, names))


def _run_block(runner: asyncio.Runner, page: Path, block: Block, names: dict[str, Any]) -> str:
    code = compile("\n" * block.line + block.code, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = StringIO()
    with redirect_stdout(printed):
        if code.co_flags & inspect.CO_COROUTINE:
            runner.run(eval(code, names))
        else:
            exec(code, names)
    return printed.getvalue()


if __name__ == "__main__":
    run(Path(sys.argv[1]), *sys.argv[2:])
