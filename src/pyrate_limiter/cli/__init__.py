"""The command line: see a limit before you set it. It needs the extra ``[cli]``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the program's arguments name; the entry point of ``pyrate-limiter``."""
    try:
        from .commands import commands  # noqa: PLC0415 - so that whoever lacks the extra is told
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        sys.exit("pyrate-limiter needs click and rich: pip install 'pyrate-limiter-anyio[cli]'")
    commands(prog_name="pyrate-limiter")
