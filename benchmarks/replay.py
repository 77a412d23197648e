"""Replaying an access log: lines per second of CPU time.

The whole command, from the file to the answer: a log of the combined format, 12 500 clients, ten requests a second.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from click.testing import CliRunner
from harness import in_turn, main
from results import Report

from pyrate_limiter.cli.commands import commands

START = 1_750_000_000
LINES = 200_000
ALGORITHMS = ("gcra", "log")


def line(number: int) -> str:
    """Return a line of the combined format: of one of 12 500 clients, ten in a second."""
    at = datetime.fromtimestamp(START + number // 10, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    client = f"203.{number % 50}.113.{number % 250}"
    return f'{client} - - [{at}] "GET /items/{number} HTTP/1.1" 200 512 "-" "Mozilla/5.0"'


def replay(log: Path, algorithm: str) -> float:
    began = time.process_time()
    arguments = ["replay", str(log), "--rate", "100/minute", "--algorithm", algorithm, "--json"]
    result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    if result.exit_code:
        raise RuntimeError(result.output)
    return LINES / (time.process_time() - began)


async def benchmark(report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        log.write_text("\n".join(map(line, range(LINES))))
        seen = in_turn({algorithm: partial(replay, log, algorithm) for algorithm in ALGORITHMS})
    for algorithm, rates in seen.items():
        report.note(f"{algorithm}: lines", max(rates), "a second of CPU")
    report.at_least("gcra: lines a second of CPU", max(seen["gcra"]), 100_000)


if __name__ == "__main__":
    main(benchmark)
