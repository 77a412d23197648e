"""`replay` reads real logs and says what a limit would have refused, whatever else is in them."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyrate_limiter import Rate
from pyrate_limiter.algorithms import GCRA
from pyrate_limiter.cli import ladder, logs
from pyrate_limiter.cli.commands import commands
from pyrate_limiter.cli.ladder import Ladder, Refusals, Timeline
from pyrate_limiter.cli.logs import Lines, Log, shown
from pyrate_limiter.cli.replaying import Replay

SECOND = 1_000_000
NOON = 1_795_521_600  # 2026-11-24 12:00:00 UTC
PROGRAM = [sys.executable, "-W", "error", "-m", "pyrate_limiter", "replay"]
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120 Safari/537.36"


def clock(seconds: float) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(NOON + seconds))


def common(ip: str, seconds: float, path: str = "/") -> str:
    return f'{ip} - - [{clock(seconds)}] "GET {path} HTTP/1.1" 200 512'


def combined(ip: str, seconds: float, path: str = "/") -> str:
    return f'{common(ip, seconds, path)} "https://example.com/" "{AGENT}"'


def as_json(ip: str, seconds: float, path: str = "/") -> str:
    return json.dumps({"time": NOON + seconds, "remote_addr": ip, "request_uri": path, "tenant": f"t{ip[-1]}"})


def invoke(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(commands, ["replay", *arguments], input=given, env={"COLUMNS": "80"})


def replayed(*arguments: str, given: bytes | None = None) -> dict[str, Any]:
    result = invoke(*arguments, "--json", given=given)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def piped(*arguments: str, given: bytes) -> dict[str, Any]:
    done = subprocess.run([*PROGRAM, *arguments], input=given, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return dict(json.loads(done.stdout))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Thirty requests of one client within a minute, and one each of five others."""
    lines = [combined("203.0.113.9", second * 2) for second in range(30)]
    lines += [combined(f"198.51.100.{n}", 60 + n) for n in range(5)]
    path = tmp_path / "access.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_it_says_who_and_when_and_how_many(log: Path):
    result = replayed(str(log), "--rate", "10/minute", "--algorithm", "log")
    assert (result["lines"], result["requests"], result["refused"], result["complete"]) == (35, 35, 20, True)
    assert result["top"] == [{"key": "203.0.113.9", "refused": 20, "first": NOON + 20, "last": NOON + 58}]
    assert (result["first"], result["last"]) == (NOON, NOON + 64)
    assert sum(refused for _, refused in result["timeline"]["slots"]) == 20


def test_it_says_which_limit_would_do(log: Path):
    result = replayed(str(log), "--rate", "10/minute", "--algorithm", "log", "--goal", "30")
    refused = {tuple(limit["rates"]): limit["refused"] for limit in result["limits"]}
    wanted = {5: 25, 10: 20, 15: 15, 20: 10, 40: 0, 80: 0}
    assert refused == {(f"{limit}/1m",): count for limit, count in wanted.items()}
    assert result["suggestion"] == {"rates": ["20/1m"], "refused": 10, "percent": round(1000 / 35, 4)}


def test_several_rates_are_tried_together(log: Path):
    result = replayed(str(log), "--rate", "5/second", "--rate", "10/minute", "--algorithm", "log")
    assert result["refused"] == 20
    assert ["10/1s", "20/1m"] in [limit["rates"] for limit in result["limits"]]


@pytest.mark.parametrize("write", [common, combined, as_json])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_formats(write: Any, end: str, tmp_path: Path):
    path = tmp_path / "log"
    path.write_text(end.join(write("192.0.2.1", n) for n in range(20)), newline="")
    assert replayed(str(path), "--rate", "5/minute", "--algorithm", "log")["refused"] == 15


def test_gzip_and_the_standard_input(log: Path, tmp_path: Path):
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    wanted = replayed(str(log), "--rate", "10/minute")
    assert replayed(str(packed), "--rate", "10/minute") == wanted
    for path in (log, packed):
        assert piped("-", "--rate", "10/minute", "--json", given=path.read_bytes()) == wanted
    assert replayed(str(log), str(packed), "--rate", "10/minute")["late"] == 34


def test_keys(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("\n".join(combined(f"192.0.2.{n % 2}", n, f"/{n % 5}") for n in range(20)))
    refused = [
        replayed(str(path), "--rate", "1/hour", "--algorithm", "log", *keys)["refused"]
        for keys in ((), ("--key", "path"), ("--key", "ip", "--key", "path"), ("--key", "agent"), ("--key", "all"))
    ]
    assert refused == [18, 15, 10, 19, 19]
    assert replayed(str(path), "--rate", "1/hour", "--key", "agent")["top"][0]["key"] == AGENT
    assert replayed(str(path), "--rate", "1/hour", "--key", "all")["top"][0]["key"] == "all"


def test_fields_of_json_lines(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("\n".join(as_json(f"192.0.2.{n % 4}", n) for n in range(20)))
    result = replayed(str(path), "--rate", "1/hour", "--algorithm", "log", "--key", "tenant", "--top", "9")
    assert {key["key"] for key in result["top"]} == {"t0", "t1", "t2", "t3"}


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Read logs in another time zone than that of their times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "XYZ+5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON * 1000,
        f"{NOON}.000",
        "2026-11-24T12:00:00Z",
        "2026-11-24T13:00:00+01:00",
        "2026-11-24 12:00:00",
        clock(0),
        "24/Nov/2026:07:30:00 -0430",
    ],
)
def test_times(moment: object, elsewhere: None):
    assert Lines(["ip"]).read(json.dumps({"ip": "x", "time": moment}).encode()) == (NOON * SECOND, "x")


MALFORMED = [
    "no log at all",
    "{}",
    '{"ip": "x", "time": "yesterday"}',
    '{"ip": "x", "time": NaN}',
    '{"ip": "x", "time": Infinity}',
    '{"ip": "x", "time": -5}',
    '{"ip": "x", "time": 1e300}',
    '{"ip": "x", "time": null}',
    '{"time": 1795521600}',
    "{" * 100_000,
    '{"ip": ' + "[" * 100_000,
    common("x", 0).replace("24/Nov", "31/Nov"),
    common("x", 0).replace("12:00:00", "25:00:00"),
    common("x", 0).replace(" 200 ", " two "),
    common("x", 0)[:40],
]


def test_malformed_lines_are_counted_and_shown(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("\n".join([common("192.0.2.1", 0), "", *MALFORMED, common("192.0.2.1", 1)]))
    result = replayed(str(path), "--rate", "1/hour")
    assert (result["requests"], result["refused"], result["malformed"]) == (2, 1, len(MALFORMED))
    assert [example["line"] for example in result["malformed_examples"]] == [3, 4, 5]
    shown_ = invoke(str(path), "--rate", "1/hour").output
    assert f"{len(MALFORMED)} of {len(MALFORMED) + 2} lines are malformed" in shown_
    assert "no log at all" in shown_


def test_odd_requests_are_no_malformed_lines():
    lines = [
        r'192.0.2.1 - - [24/Nov/2026:12:00:00 +0000] "\x16\x03\x01" 400 166 "-" "-"',
        r'192.0.2.1 - - [24/Nov/2026:12:00:00 +0000] "-" 408 - "-" "-"',
        r'192.0.2.1 - - [24/Nov/2026:12:00:00 +0000] "GET /\"quoted\" HTTP/1.1" 200 5 "-" "a \"b\" c"',
        r'192.0.2.1 - a user [24/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x" 0.003 extra',
        r'2001:db8::1 - - [24/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 5',
    ]
    read = Lines(["ip"]).read
    assert [read(line.encode())[0] for line in lines] == [NOON * SECOND] * len(lines)
    assert Lines(["user"]).read(lines[3].encode())[1] == b"a user"
    assert Lines(["agent"]).read(lines[2].encode())[1] == rb"a \"b\" c"


def test_a_hostile_line_takes_no_time():
    line = f'192.0.2.1 - - [{clock(0)}] "GET /'.encode() + b'\\"' * 200_000
    began = time.process_time()
    for keys in (["ip"], ["agent"]):
        with pytest.raises(ValueError, match="no format"):
            Lines(keys).read(line)
    assert time.process_time() - began < 1


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[31mred\n" + "\n".join(common("\x1b]0;x\x07[bold]\u202e", 0) for _ in range(9)).encode())
    output = invoke(str(path), "--rate", "1/hour").output
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert r"\x1b]0;x\x07[bold]" in output
    assert shown(b"\xff") == r"\xff"


def test_a_line_without_end_is_one_malformed_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "CHUNK", 1000)
    monkeypatch.setattr(logs, "LONGEST", 5000)
    path = tmp_path / "log"
    path.write_text("\n".join([common("192.0.2.1", 0), "x" * 50_000, common("192.0.2.1", 1)]))
    result = replayed(str(path), "--rate", "1/hour")
    assert (result["requests"], result["malformed"]) == (2, 1)


def test_a_damaged_file_gives_what_could_be_read(tmp_path: Path):
    packed = gzip.compress("\n".join(combined(f"192.0.2.{n % 256}", n) for n in range(20_000)).encode())
    path = tmp_path / "cut.gz"
    path.write_bytes(packed[: len(packed) // 2])
    result = invoke(str(path), "--rate", "1/hour")
    assert result.exit_code == 1
    assert "requests refused" in result.output
    assert "ended before the end-of-stream marker" in result.output


def test_nothing_to_read_is_an_error(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("what\never\n")
    result = invoke(str(path), "--rate", "1/hour")
    assert result.exit_code == 1
    assert "no line could be read" in result.output
    assert invoke(str(tmp_path / "missing"), "--rate", "1/hour").exit_code == 2


def test_it_fits_80_columns_without_colour(log: Path):
    output = invoke(str(log), "--rate", "10/minute").output
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) <= 80


def test_ctrl_c_gives_the_partial_result(log: Path, monkeypatch: pytest.MonkeyPatch):
    chunks = Log.chunks

    def interrupted(self: Log) -> Any:
        yield from chunks(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Log, "chunks", interrupted)
    result = invoke(str(log), "--rate", "10/minute")
    assert result.exit_code == 130
    assert "Interrupted after 35 lines" in result.output


def test_ctrl_c_ends_a_program_that_waits_for_more():
    command = [*PROGRAM, "-", "--rate", "10/minute"]
    lines = "".join(common("192.0.2.1", n // 100) + "\n" for n in range(20_000)).encode()
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as program:
        assert program.stdin is not None
        program.stdin.write(lines)  # far more than a pipe holds: once it is written, it is being read
        program.send_signal(signal.SIGINT)
        printed, told = program.communicate(timeout=10)
    assert program.returncode == 130
    assert b"lines: this is what they say" in printed
    assert told == b""


def test_memory_is_constant(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ladder, "MOST_KEYS", 500)
    monkeypatch.setattr(ladder, "MOST_NAMED", 100)
    replay = Replay(Lines(["ip"]), GCRA, [Rate(1, 86_400_000)], 1)

    def feed(start: int) -> int:
        lines = [common(f"192.0.2.{n // 2}", start).encode() for n in range(start, start + 5000)]
        replay._feed(lines, "log", 0)
        del lines
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    first = feed(0)
    last = max(feed(n * 5000) for n in range(1, 4))
    tracemalloc.stop()
    assert last < 1.5 * first
    assert replay.refusals.partial
    assert replay.ladder.forgotten > 0
    assert replay.asked().refused == 10_000


def test_idle_keys_go_first():
    tried = Ladder(GCRA, [Rate(1, 1000)])
    for n in range(5000):
        assert not tried.meet(n, n * SECOND)
    assert tried.forgotten == 0
    assert len(tried._states) <= 1001


def test_the_most_refused_keys_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ladder, "MOST_NAMED", 10)
    refusals = Refusals()
    for n in range(1000):
        refusals.add("often", n)
        refusals.add(n, n)
    assert refusals.most(1) == [("often", 1000, 0, 999)]
    assert len(refusals) <= 10


def test_the_timeline_widens():
    timeline = Timeline()
    for n in range(1000):
        timeline.add(5 * SECOND + n * SECOND, n % 10 == 0)
    assert timeline.as_json() == {"start": 5, "width": 16, "slots": timeline.used}
    assert len(timeline.used) == 63
    assert [sum(part) for part in zip(*timeline.used, strict=True)] == [900, 100]
