"""The live page, served by the command in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from .programs import SOURCE

SECONDS = 300
"""After which a server is killed that is still there."""


class LivePage:
    """A server of the page.

    Attributes:
        process: of the server.
        address: of the page, with the slash at its end.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout
        said = process.stdout.readline()
        found = re.fullmatch(r"See it at (http://\S+/) \(Ctrl-C ends it\)\n", said)
        assert found, said
        self.address = found[1]

    def post(self, path: str, **body: Any) -> None:
        """Do what the page does when something is moved or pressed."""
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[LivePage]:
    """Yield the page, served with such arguments; whoever did not end it by then need not."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pyrate_limiter", "demo", *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killer = Timer(SECONDS, process.kill)
    killer.start()
    try:
        with process:
            try:
                yield LivePage(process)
            finally:
                process.kill()
    finally:
        killer.cancel()
