"""The types say what is right, and what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("typed_usage.py", "typed_web.py", "wrong_usage.py")
_MARK = re.compile(r"# wrong: ([\w-]+)$")
_ERROR = re.compile(r"(\w+\.py):(\d+): error: .*\[([\w-]+)\]$")

Errors = dict[str, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def errors() -> Errors:
    """What mypy says about the files, in one run: the lines and kinds of errors of each.

    As `scripts/lint` runs it, so that what that has just found out about the package is not found out once more.
    """
    files = [str(HERE / name) for name in FILES]
    command = [sys.executable, "-m", "mypy", "--strict"]
    done = subprocess.run([*command, *files], cwd=HERE.parent, capture_output=True, text=True, timeout=120, check=False)
    found: Errors = {name: [] for name in FILES}
    for line in done.stdout.splitlines():
        if match := _ERROR.search(line):
            found[match[1]].append((int(match[2]), match[3]))
    assert done.returncode == 1, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("name", ["typed_usage.py", "typed_web.py"])
def test_typical_uses_are_right(errors: Errors, name: str) -> None:
    assert errors[name] == []


def test_wrong_uses_are_errors_and_nothing_else_is(errors: Errors) -> None:
    lines = (HERE / "wrong_usage.py").read_text().splitlines()
    marked = [(number, match[1]) for number, line in enumerate(lines, 1) if (match := _MARK.search(line))]
    assert sorted(errors["wrong_usage.py"]) == marked
