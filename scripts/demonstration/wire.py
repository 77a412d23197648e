"""What the client and the server know of each other, and where the server runs: without what it is made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
CLIENT = "X-Client"
"""The header that says who is calling: each client is counted apart."""
TOO_MANY = 429
SERVER = Path(__file__).with_name("server.py")


@contextmanager
def running_server(rate: int) -> Iterator[str]:
    """Run the server in a process of its own, and yield its URL."""
    # In a session of its own: Ctrl-C is for the caller, and the server ends when its input does, whatever happens.
    with subprocess.Popen(
        [sys.executable, SERVER, str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        port = process.stdout and process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the demo's server did not start: see above for what it said")
        yield f"http://{HOST}:{port}"
