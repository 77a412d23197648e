"""The bucket in shared memory among real processes. What they do is in `multiprocess_programs`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pyrate_limiter.buckets.multiprocess import lifetime
from pyrate_limiter.buckets.multiprocess.folder import Folder

METHODS = ["fork", "spawn", "forkserver"]


MODULE = ["-m", "tests.multiprocess_programs"]
LATE = ["-c", "import pyrate_limiter.buckets; from tests.multiprocess_programs import outlived; outlived()"]
"""Like `outlived` there, but what this package wants at exit is registered before `multiprocessing` is."""


def start(program: str, *arguments: Any, run: Sequence[str] = MODULE) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", *run, program, *map(json.dumps, arguments)]
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), *sys.path]))}
    return subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def result_of(process: subprocess.Popen[str], code: int = 0) -> Any:
    """Return what a program printed; it must end by itself, and say nothing else."""
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    if not code:
        assert not errors
    return json.loads(output)


def run(program: str, *arguments: Any) -> Any:
    return result_of(start(program, *arguments))


@pytest.fixture
def name() -> Iterator[str]:
    """A name of this test's own, whose file goes with it."""
    name = f"test of {os.getpid()}"
    yield name
    with Folder() as folder:
        folder.remove(lifetime.named(name), lambda header: True)


def most_in(span: int, stamps: Iterable[int]) -> int:
    """Return the most stamps in any half-open span."""
    stamps, first, most = sorted(stamps), 0, 0
    for index, at in enumerate(stamps):
        while at - stamps[first] >= span:
            first += 1
        most = max(most, index - first + 1)
    return most


def names_of_files() -> list[str]:
    with Folder() as folder:
        return list(folder)


def test_processes_that_wait_are_all_served_and_never_over_the_limit() -> None:
    done = run("wait", 4, 50)
    assert [len(stamps) for stamps in done["stamps"]] == [50] * 4
    assert most_in(500_000, chain(*done["stamps"])) == 20


def test_eight_processes_that_do_not_wait_take_exactly_what_is_there() -> None:
    assert run("race", 8) == [20] * 8


def test_a_limit_that_is_never_reached_refuses_nobody() -> None:
    assert run("never_full", 500) == {"admitted": 2000, "used": 2000}


@pytest.mark.parametrize(("kind", "times"), [("log", 25), ("logs", 50), ("keys", 25)])
def test_kills_under_load_lose_at_most_the_permit_under_way(kind: str, times: int) -> None:
    done = run("kills", kind, times)
    assert done["counted"] <= done["used"] <= done["counted"] + times + 4
    assert done["counted"] > 1000
    assert done["slowest"] < 1


def test_kills_at_the_limit_let_nobody_over_it() -> None:
    done = run("kills_at_the_limit", 50)
    assert most_in(100_000, done["stamps"]) == 50
    assert done["slowest"] < 1


def test_children_forked_under_load_work_and_count_right() -> None:
    done = run("forks", 20)
    assert done["children"] == 200
    assert done["admitted"] == done["used"] > 200


@pytest.mark.parametrize("method", METHODS)
def test_a_pickled_bucket_is_the_same_bucket(method: str, name: str) -> None:
    unnamed = start("pickled", method, None)
    assert run("pickled", method, name) == [6, False]
    assert result_of(unnamed) == [6, False]


@pytest.mark.parametrize(("method", "tasks"), [("fork", 0), ("spawn", 0), ("forkserver", 0), ("forkserver", 1)])
def test_buckets_that_are_made_anew_in_each_call_of_a_pool_share_one_budget(method: str, tasks: int) -> None:
    done = run("example", method, tasks)
    stamps = done["stamps"]
    assert len(stamps) == 10
    assert stamps[5] - stamps[0] > 900_000, "the sixth waits; the stamps are taken a moment after the decisions"
    assert not [name for name in names_of_files() if name.startswith(done["files"])]


@pytest.mark.parametrize(("method", "expected"), [("fork", [3, 0]), ("spawn", [3, 3]), ("forkserver", [3, 3])])
def test_a_bucket_of_a_module_is_the_children_s_own_unless_they_inherit_it(method: str, expected: list[int]) -> None:
    assert run("module_level", method) == expected


def test_unrelated_processes_share_by_name(name: str) -> None:
    several = [start("by_name", name) for _ in range(3)]
    assert sum(result_of(process) for process in several) == 6
    assert lifetime.named(name) in names_of_files(), "or a restart would admit twice"


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("shared", 0), ("exit", 7), ("waiting", 7), ("raise", 1)])
def test_a_process_that_closes_nothing_ends_and_leaves_nothing(how: str, code: int) -> None:
    assert result_of(start("leave", how), code) not in names_of_files()


@pytest.mark.parametrize("how", [MODULE, LATE], ids=["multiprocessing first", "multiprocessing later"])
def test_the_file_of_a_process_that_ends_stays_until_its_children_have(how: list[str]) -> None:
    seen, file = result_of(start("outlived", run=how))
    assert seen == 30
    assert file not in names_of_files()
