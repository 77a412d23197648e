"""Small programs that tests run in interpreters of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def run_program(code: str, *arguments: str, seconds: float = 60, folder: Path | None = None) -> str:
    """Return what a program prints, with warnings as errors; raise if it fails, complains or does not end."""
    script = (folder or Path.cwd()) / "program.py" if folder else None
    command = [sys.executable, "-W", "error"]
    if script is None:
        command += ["-c", textwrap.dedent(code)]
    else:
        script.write_text(textwrap.dedent(code))  # spawned children import the main module from its file
        command.append(str(script))
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment,
        cwd=folder,
        check=False,
    )
    if done.returncode or done.stderr:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout
