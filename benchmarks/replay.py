"""Replaying an access log: lines per second of CPU time, which the command line wants to be 100 000 with GCRA.

python benchmarks/replay.py [--lines 200000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner

from pyrate_limiter.cli.commands import commands

START = 1_750_000_000


def line(number: int) -> str:
    """Return a line of the combined format: of one of 12 500 clients, ten in a second."""
    at = datetime.fromtimestamp(START + number // 10, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    client = f"203.{number % 50}.113.{number % 250}"
    return f'{client} - - [{at}] "GET /items/{number} HTTP/1.1" 200 512 "-" "Mozilla/5.0"'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200_000)
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        log.write_text("\n".join(map(line, range(count))))
        for algorithm in ("gcra", "log"):
            began = time.process_time()
            arguments = ["replay", str(log), "--rate", "100/minute", "--algorithm", algorithm, "--json"]
            result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
            if result.exit_code:
                raise SystemExit(result.output)
            print(f"{algorithm}: {count / (time.process_time() - began):,.0f} lines per second of CPU time")


if __name__ == "__main__":
    main()
