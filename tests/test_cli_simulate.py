"""`simulate` shows what the algorithms do, and says what was not done when it is ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from pyrate_limiter import InMemoryBucket, Limiter, Rate
from pyrate_limiter.algorithms import bind
from pyrate_limiter.cli.arguments import ALGORITHMS, Arrivals
from pyrate_limiter.cli.commands import commands
from pyrate_limiter.cli.simulation import Course, run
from pyrate_limiter.testing import ManualClock

SECOND = 1_000_000
RATES = (Rate(10, 1000), Rate(15, 4000))


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(commands, ["simulate", *arguments], env={"COLUMNS": "80", **environment})


def simulated(*arguments: str) -> list[dict[str, Any]]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.output)["algorithms"])


@pytest.mark.parametrize(
    ("algorithm", "admitted", "most"),
    [("log", 20, 10), ("fixed", 20, 10), ("gcra", 29, 19), ("token", 29, 19), ("leaky", 20, 10), ("counter", 19, 10)],
)
def test_twice_the_limit_for_two_seconds(algorithm: str, admitted: int, most: int):
    (course,) = simulated("--rate", "10/second", "--algorithm", algorithm, "--arrivals", "even:20", "--seconds", "2")
    assert (course["admitted"], course["delayed"], course["refused"]) == (admitted, 0, 40 - admitted)
    assert course["windows"] == [{"rate": "10/1s", "most": most, "bound": course["windows"][0]["bound"]}]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_decides_as_a_limiter_does(name: str):
    clock = ManualClock(0)
    limiter = Limiter(InMemoryBucket(RATES, algorithm=ALGORITHMS[name], clock=clock))
    course = Course(name, bind(ALGORITHMS[name], RATES), 0, 20 * SECOND)
    admitted = 0
    for clock.now in Arrivals("poisson:20").moments(20, seed=3):
        admitted += bool(limiter.sync.take())
        course.meet(clock.now)
        assert course.outcomes[:2] == (admitted, 0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_window_holds_more_than_the_bound(name: str):
    course = Course(name, bind(ALGORITHMS[name], RATES), SECOND, 60 * SECOND)
    run([course], Arrivals("poisson:30").moments(60, seed=5))
    assert all(most <= bound for most, bound in zip(course.peaks, course.bounds, strict=True))
    assert all(course.outcomes)
    assert SECOND // 2 < course.longest <= SECOND


def test_those_who_wait_long_enough_are_all_admitted():
    (course,) = simulated("--rate", "10/second", "--arrivals", "burst:20", "--seconds", "1", "--max-delay", "5")
    assert (course["admitted"], course["delayed"], course["refused"]) == (10, 10, 0)
    assert course["mean_delay"] == course["longest_delay"] == 1.0


def test_algorithms_stand_side_by_side_on_80_columns_without_colour():
    result = invoke("--rate", "10/second", "--rate", "100/minute", "--algorithm", "gcra", "--algorithm", "log")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.output
    assert any(line.split() == ["gcra", "log"] for line in lines)
    assert [line.split()[0] for line in lines[-2:]] == ["gcra", "log"]


def test_a_terminal_without_unicode_gets_plain_characters(monkeypatch: pytest.MonkeyPatch):
    result = CliRunner(charset="ascii").invoke(commands, ["simulate", "--rate", "10/second"])
    assert result.exit_code == 0, result.output
    assert "# admitted  + delayed  . refused" in result.output
    assert result.output.isascii()


def test_the_same_seed_gives_the_same_requests():
    arguments = ("--rate", "10/second", "--arrivals", "poisson:15")
    assert simulated(*arguments, "--seed", "4") == simulated(*arguments, "--seed", "4")
    assert simulated(*arguments, "--seed", "4") != simulated(*arguments, "--seed", "5")


def test_the_picture_shows_what_the_plot_shows(tmp_path: Path):
    picture = tmp_path / "picture.svg"
    result = invoke("--rate", "5/second", "--algorithm", "log", "--algorithm", "leaky", "--svg", str(picture))
    assert result.exit_code == 0, result.output
    texts = [element.text for element in ET.parse(picture).iter() if element.tag.endswith("text")]
    assert {"log", "leaky", "admitted", "delayed", "refused", "10 s"} <= set(texts)
    assert [*tmp_path.iterdir()] == [picture]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rate", "10"), "cannot read the rate '10'"),
        (("--rate", "1/second", "--arrivals", "sometimes:3"), "cannot read the arrivals 'sometimes:3'"),
        (("--rate", "1/second", "--arrivals", "poisson:0"), "cannot read the arrivals"),
        (("--rate", "1/second", "--svg", "/nowhere/at/all.svg"), "No such file or directory"),
        ((), "Missing option '--rate'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(arguments: tuple[str, ...], says: str):
    result = invoke(*arguments)
    assert result.exit_code != 0
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_ctrl_c_gives_the_partial_result(monkeypatch: pytest.MonkeyPatch):
    meet, calls = Course.meet, iter(range(50))

    def met(course: Course, now: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        meet(course, now)

    monkeypatch.setattr(Course, "meet", met)
    result = invoke("--rate", "10/second", "--seconds", "1e6")
    assert result.exit_code == 130
    assert result.output.startswith("50 requests, poisson:20, against 10/1s, interrupted")
