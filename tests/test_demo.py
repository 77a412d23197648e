"""The demo shows what it is meant to show, on a terminal and without one, and ends when it is told to."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, beside an environment script that names the interpreter of this test."""
    folder = tmp_path_factory.mktemp("scripts")
    shutil.copy(SCRIPTS / "demo", folder)
    (folder / "demonstration").symlink_to(SCRIPTS / "demonstration")
    environment = folder / "environment"
    environment.write_text(f"#!/bin/sh\necho {Path(sys.executable).parent}\n")
    environment.chmod(0o755)
    return folder / "demo"


def run(demo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent / "src"), "COLUMNS": "80"}
    return subprocess.run([demo, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)


def rows(printed: str) -> dict[str, list[str]]:
    """Return the cells of the table, by the titles of its rows."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if line[:1] == "│"]
    return {title: numbers for title, *numbers in cells}


@pytest.mark.parametrize(
    "backend", [["memory"], ["sqlite", "--workers", "2"], ["redis", "--workers", "2"]], ids=" ".join
)
def test_the_server_refuses_none_with_a_limiter(demo: Path, backend: list[str]) -> None:
    done = run(demo, "--rate", "20", "--requests", "30", "--backend", *backend)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    table = rows(done.stdout)
    _, calls, taken, refused, pace = table["with limiter"]
    assert (calls, taken, refused) == ("30", "30", "0")
    assert 0 < float(pace) < 20
    _, calls, taken, refused, _ = table["without limiter"]
    assert (calls, int(taken) + int(refused)) == ("30", 30)
    assert int(refused) > 0 or float(table["without limiter"][0].split()[0]) > 1.0
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_an_interrupt_ends_it_at_once_with_what_there_is(demo: Path) -> None:
    ours, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent / "src"), "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [demo, "--rate", "5"], env=environment, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    killer = Timer(60, process.kill)
    killer.start()
    shown = b""
    interrupted = False
    while piece := read(ours):
        shown += piece
        if not interrupted and re.search(rb"with limiter.* [1-9]\d* calls", shown.rpartition(b"without limiter")[2]):
            os.killpg(process.pid, signal.SIGINT)
            interrupted = True
    assert process.wait() == 130, shown.decode()
    killer.cancel()
    os.close(ours)
    assert b"Traceback" not in shown
    _, calls, taken, refused, _ = rows(shown.decode().replace("\r", ""))["with limiter"]
    assert "interrupted" in shown.decode()
    assert 0 < int(calls) < 200
    assert (taken, re.sub(r"\x1b\[[\d;]*m", "", refused)) == (calls, "0")


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how a terminal says that nobody writes any more
        return b""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "2"], "memory is not shared"),
        (["--backend", "sqlite", "--workers", "21"], "no more than 20 workers"),
        (["--url", "redis://localhost"], "memory has no URL"),
        (["--rate", "0"], "a whole number above 0"),
    ],
)
def test_what_makes_no_sense_is_told(demo: Path, arguments: list[str], says: str) -> None:
    done = run(demo, *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_help_says_what_can_be_given(demo: Path) -> None:
    done = run(demo, "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--rate", "--requests", "--backend", "--workers"))
