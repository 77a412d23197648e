"""The command line as a whole: its help, its colours, and what it says where something is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from pyrate_limiter.cli import main
from pyrate_limiter.cli.commands import commands

from .programs import SOURCE, run_program

NAMES = ["", *commands.commands]


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_one_screen(name: str):
    result = CliRunner().invoke(commands, [*filter(None, [name]), "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_the_program_that_is_installed_is_this_one():
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"pyrate-limiter": f"{main.__module__}:{main.__name__}"}


@pytest.mark.parametrize("library", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(library: str):
    code = f"""
        import sys
        sys.modules[{library!r}] = None
        from pyrate_limiter.cli import main
        try:
            main()
        except SystemExit as end:
            print(end)
    """
    assert run_program(code) == "pyrate-limiter needs click and rich: pip install 'pyrate-limiter-anyio[cli]'\n"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour(no_color: str, coloured: bool):
    command = [sys.executable, "-m", "pyrate_limiter", "simulate", "--rate", "5/second", "--seconds", "2"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "FORCE_COLOR": "1", "NO_COLOR": no_color, "TERM": "xterm"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", done.stdout)) is coloured
