"""`inspect` reads what a store holds and spends nothing; `reset` forgets one key."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from click.testing import CliRunner, Result

from pyrate_limiter import GCRA, AbstractBucket, PostgresBucket, Rate, RedisBucket, SlidingWindowLog, SQLiteBucket
from pyrate_limiter.cli import inspect
from pyrate_limiter.cli.commands import commands

pytestmark = pytest.mark.may_block  # the event loop of a command has nothing else to do
DAY = Rate(10, 86_400_000)
SPENT = {f"user {n}": n % 11 for n in range(1, 251)} | {"\x1b[31m*": 10}
OPTIONS = ("--rate", "10/day")


class Place:
    """A store with a table of its own.

    Args:
        url: where it is.
        table: the table or the prefix.
        bucket: makes a bucket there, of an algorithm.
    """

    def __init__(self, url: str, table: str, bucket: Callable[..., AbstractBucket]) -> None:
        self.url, self.table, self._bucket = url, table, bucket

    def spend(self, algorithm: Any = SlidingWindowLog) -> None:
        async def main() -> None:
            bucket = self._bucket(algorithm=algorithm)
            for key, units in SPENT.items():
                await bucket.take(units, key=key) if units else None
            await bucket.aclose()

        anyio.run(main)

    def invoke(self, command: str, *arguments: str) -> Result:
        table = ("--table", self.table)
        return CliRunner().invoke(commands, [command, self.url, *arguments, *table], env={"COLUMNS": "80"})


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    table = f"inspect[{uuid.uuid4().hex[:8]}]"
    if request.param == "sqlite":
        path = tmp_path / "limits.db"
        yield Place(f"sqlite:///{path}", table, partial(SQLiteBucket, DAY, path, table))
    elif request.param == "redis":
        url = request.getfixturevalue("redis_url")
        yield Place(url, table, partial(RedisBucket, DAY, url, prefix=table))
    else:
        url = request.getfixturevalue("postgres_dsn")
        yield Place(url, table, partial(PostgresBucket, DAY, url, table))


@pytest.mark.parametrize(("name", "algorithm"), [("log", SlidingWindowLog), ("gcra", GCRA)])
def test_it_shows_what_is_left_and_spends_nothing(place: Place, name: str, algorithm: Any):
    place.spend(algorithm)
    spent = {key: units for key, units in SPENT.items() if units}
    arguments = (*OPTIONS, "--algorithm", name, "--top", "1000", "--json")
    for _ in range(2):
        result = place.invoke("inspect", *arguments)
        assert result.exit_code == 0, result.output
        found = json.loads(result.output)
        assert (found["complete"], found["keys"]) == (True, len(spent))
        assert found["full"] == sum(units == 10 for units in spent.values())
        left = {one["key"]: one["remaining"] for one in found["top"]}
        assert left == {key.replace("\x1b", r"\x1b"): 10 - units for key, units in spent.items()}
        assert all(0 < one["reset_after"] <= 86_400 for one in found["top"])


def test_the_emptiest_come_first(place: Place):
    place.spend()
    result = place.invoke("inspect", *OPTIONS, "--top", "30")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "229 keys, 23 with nothing left"
    assert [line.split()[-4] for line in lines[2:]] == ["0"] * 23 + ["1"] * 7
    assert "\x1b" not in result.output


def test_reset_forgets_one_key(place: Place):
    place.spend()
    result = place.invoke("reset", "user 10", *OPTIONS)
    assert (result.exit_code, result.output) == (0, "user 10: reset\n")
    found = json.loads(place.invoke("inspect", *OPTIONS, "--top", "1000", "--json").output)
    left = {one["key"]: one["remaining"] for one in found["top"]}
    assert left.get("user 10", 10) == 10
    assert left["user 9"] == 1


def test_other_rates_are_another_bucket(place: Place):
    place.spend()
    result = place.invoke("inspect", "--rate", "11/day")
    assert result.exit_code == 0
    assert result.output.startswith("0 keys")
    assert "Give --rate" in result.output


def test_ctrl_c_gives_the_partial_result(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.spend()
    add, calls = inspect.Inspection._add, iter(range(120))

    def added(self: inspect.Inspection, decision: Any) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        add(self, decision)

    monkeypatch.setattr(inspect.Inspection, "_add", added)
    result = place.invoke("inspect", *OPTIONS)
    assert result.exit_code == 130
    assert result.output.startswith("120 keys, ")
    assert "interrupted" in result.output


def test_nothing_stays_beside_a_database(tmp_path: Path):
    path = tmp_path / "limits.db"
    place = Place(f"sqlite:///{path}", "limits", partial(SQLiteBucket, DAY, path, "limits"))
    place.spend()
    before = sorted(tmp_path.iterdir())
    assert place.invoke("inspect", *OPTIONS).exit_code == 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [("inspect",), ("reset", "key")])
def test_nothing_is_made_where_nothing_is(command: tuple[str, ...], tmp_path: Path):
    missing = tmp_path / "missing" / "limits.db"
    name, *key = command
    result = Place(f"sqlite:///{missing}", "limits", SQLiteBucket).invoke(name, *key, *OPTIONS)
    assert result.exit_code == 1
    assert "there is no file" in result.output
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://localhost", "there is no store 'mysql'"),
        ("redis://127.0.0.1:1", "cannot be read"),
        ("postgresql://127.0.0.1:1/x", "cannot be read"),
    ],
)
def test_a_store_that_is_not_there_is_told_in_a_sentence(url: str, says: str):
    result = Place(url, "limits", SQLiteBucket).invoke("inspect", *OPTIONS)
    assert result.exit_code == 1
    assert says in " ".join(result.output.split())
    assert isinstance(result.exception, SystemExit)


def test_a_table_that_is_missing_is_not_made(tmp_path: Path, postgres_dsn: str):
    path = tmp_path / "limits.db"
    Place("", "", partial(SQLiteBucket, DAY, path, "limits")).spend()
    for url in (f"sqlite:///{path}", postgres_dsn):
        for _ in range(2):
            result = Place(url, "another", SQLiteBucket).invoke("inspect", *OPTIONS)
            assert result.exit_code == 1
            assert "no table 'another'" in result.output


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "limits.db"
    path.write_text("these are no limits" * 100)
    result = Place(f"sqlite:///{path}", "limits", SQLiteBucket).invoke("inspect", *OPTIONS)
    assert result.exit_code == 1
    assert "not a database" in result.output
    assert path.read_text() == "these are no limits" * 100


def test_no_function_is_made_in_postgresql(postgres_dsn: str):
    def functions() -> int:
        with psycopg.connect(postgres_dsn) as connection:
            row = connection.execute("SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%inspected%'").fetchone()
        return int(row[0]) if row else 0

    bucket = partial(PostgresBucket, DAY, postgres_dsn, "inspected")
    place = Place(postgres_dsn, "inspected", bucket)
    Place(postgres_dsn, "inspected", partial(bucket, functions=False)).spend()
    assert place.invoke("inspect", *OPTIONS).exit_code == 0
    assert functions() == 0
    place.spend()
    assert functions() > 0
