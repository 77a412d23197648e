"""The bucket in an SQLite database: its decisions, its rows, and what it says of a damaged one."""

import asyncio
import gc
import itertools
import os
import pickle
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from pyrate_limiter.algorithms import (
    GCRA,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
    bind,
    decide,
)
from pyrate_limiter.buckets import SQLiteBucket
from pyrate_limiter.buckets.sqlite import boottime, connection
from pyrate_limiter.buckets.sqlite.connection import Database
from pyrate_limiter.buckets.sqlite.places import File
from pyrate_limiter.clocks import wall
from pyrate_limiter.decisions import FOREVER, RESET, Ask
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Duration, Rate
from pyrate_limiter.testing import ManualClock

from .programs import run_program

ALGORITHMS = [SlidingWindowLog, GCRA, TokenBucket, LeakyBucket, FixedWindow, SlidingWindowCounter]
FIVE = Rate(5, Duration.MINUTE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "limits.db"


def opened(bucket):
    """Return the bucket's connection, without a loop or a thread."""
    database = Database(bucket._plan)
    database.open()
    return closing(database)


def ask(database, *asks):
    call = database.submit(asks)
    database.commit()
    return call.outcome()


def query(path, sql, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(sql, values).fetchall()


# Decisions.


def random_asks(rng, keys, answers):
    for _ in range(rng.choice([1, 1, 2, 5, 70])):
        key, kind = rng.choice(keys), rng.random()
        if kind < 0.75:
            yield Ask(key, rng.choice([1, 1, 1, 2, 3]), rng.choice([0, 0, 10**6, FOREVER]))
        elif kind < 0.85:
            yield Ask(key, 0)
        elif kind < 0.98:
            yield Ask(key, -rng.choice([1, 2, 3]), at=rng.choice(answers).at if answers else 0)
        else:
            yield Ask(key, RESET)


@pytest.mark.parametrize("rates", [[Rate(7, 3000)], [Rate(5, 2000), Rate(9, 7000)]], ids=["one rate", "two rates"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_it_decides_as_memory_does_whatever_is_asked_and_whoever_opens_the_file(path, algorithm, rates):
    rng, clock = random.Random(f"{algorithm.__name__} {rates}"), ManualClock()
    rule, states, answers, keys = bind(algorithm, rates), {}, [], [f"key {i}" for i in range(50)]
    bucket = SQLiteBucket(rates, path, algorithm=algorithm, clock=clock)
    for _ in range(8):
        with opened(bucket) as database:
            for _ in range(15):
                clock.advance(rng.choice([0, 0, 0.000001, 0.01, 0.4, -0.3, 2, 9]))
                asks = list(random_asks(rng, keys, answers))
                expected = decide(rule, states, asks, clock())
                assert ask(database, *asks) == expected
                answers += [answer for answer in expected if not answer.wait]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_it_decides_as_memory_does_when_the_clock_jumps(path, algorithm):
    rng, clock, keys = random.Random(algorithm.__name__), ManualClock(10**14), ["a", "b", "c"]
    rule, states, rates = bind(algorithm, [Rate(7, Duration.WEEK)]), {}, [Rate(7, Duration.WEEK)]
    with opened(SQLiteBucket(rates, path, algorithm=algorithm, clock=clock)) as database:
        for _ in range(300):
            clock.advance(rng.choice([0, 1, 60, 3600, -3600]))
            asks = list(random_asks(rng, keys, []))
            assert ask(database, *asks) == decide(rule, states, asks, clock())


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_locks_nobody_out_and_admits_one_window_more(path, algorithm, jump):
    clock = ManualClock(10**14)
    with opened(SQLiteBucket(Rate(10, Duration.MINUTE), path, algorithm=algorithm, clock=clock)) as database:
        ask(database, *[Ask("", 1)] * 10)
        clock.advance(jump)
        admitted = sum(not answer.wait for answer in ask(database, *[Ask("", 1)] * 30))
        assert admitted <= (10 if jump > 0 else 0)
        clock.advance(61 if algorithm is not SlidingWindowCounter else 121)
        assert ask(database, Ask("", 1))[0].wait == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_it_decides_as_memory_does_whatever_other_connections_write_meanwhile(path, algorithm):
    rng, clock, keys = random.Random(algorithm.__name__), ManualClock(), [f"key {i}" for i in range(5)]
    rule, states, rates = bind(algorithm, [Rate(7, 3000)]), {}, [Rate(7, 3000)]
    bucket = SQLiteBucket(rates, path, algorithm=algorithm, clock=clock)
    with opened(bucket) as one, opened(bucket) as two, closing(sqlite3.connect(path, isolation_level=None)) as db:
        for _ in range(200):
            clock.advance(rng.choice([0, 0, 0.01, 0.4]))
            asks = list(random_asks(rng, keys, []))
            assert ask(rng.choice([one, one, two]), *asks) == decide(rule, states, asks, clock())
            if rng.random() < 0.1:
                forgotten = rng.choice(keys)
                states.pop(forgotten, None)
                db.execute("DELETE FROM pyrate_limiter WHERE key = ?", (forgotten,))


def test_what_nobody_else_has_written_meanwhile_is_not_read_again(path):
    with opened(SQLiteBucket(Rate(1000, Duration.MINUTE), path)) as database:
        keys = [f"key {i}" for i in range(50)]
        ask(database, *[Ask(key, 1) for key in keys])
        statements = []
        database.set_trace_callback(statements.append)
        assert {answer.remaining for answer in ask(database, *[Ask(key, 1) for key in keys])} == {998}
        assert not [statement for statement in statements if "SELECT key, state" in statement]
        query(path, "UPDATE pyrate_limiter SET expires = expires + 1")
        ask(database, Ask(keys[0], 1))
        assert len([statement for statement in statements if "SELECT key, state" in statement]) == 1


def test_no_more_than_some_states_are_kept_in_memory(path):
    with opened(SQLiteBucket(FIVE, path)) as database:
        for i in range(20):
            ask(database, *[Ask(f"{i} {j}", 1) for j in range(100)])
            assert len(database._states._known) <= 400
        assert ask(database, Ask("0 0", 1))[0].remaining == 3


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_what_a_transaction_that_failed_has_decided_is_forgotten(path, algorithm, monkeypatch):
    with opened(SQLiteBucket(FIVE, path, algorithm=algorithm, clock=ManualClock())) as database:
        ask(database, Ask("a", 1))
        with monkeypatch.context() as patch, pytest.raises(StoreError, match="no room"):
            patch.setattr(database._sweep, "step", raiser(sqlite3.OperationalError("no room")))
            ask(database, Ask("a", 1), Ask("b", 1))
        looks = ask(database, Ask("a", 0), Ask("b", 0))
        ask(database, Ask("a", RESET), Ask("a", 1))
        assert looks == ask(database, Ask("a", 0), Ask("b", 0))


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_fork_waits_while_a_database_is_being_opened(path, monkeypatch, where):
    bucket, seen = SQLiteBucket(FIVE, path if where == "file" else None, use_file_lock=where == "file"), []
    database = Database(bucket._plan)

    def watched(usual):
        def watching(*arguments):
            seen.append(database.gate.locked())
            return usual(*arguments)

        return watching

    for owner, name in ((type(bucket._place), "prepare"), (connection, "Turns")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    with closing(database):
        database.open()
        ask(database, Ask("a", 1))
    assert seen == ([True, True] if where == "file" else [True])


def raiser(error):
    def failing(*_):
        raise error

    return failing


def test_whatever_fails_is_told_to_those_whose_batch_it_was_and_to_nobody_else(path):
    clock = iter([10**9, "no number", 10**9]).__next__
    with opened(SQLiteBucket(FIVE, path, clock=clock)) as database:
        calls = [database.submit([Ask("a", 1)]) for _ in range(3)]
        for _ in calls:
            database.commit()
        assert calls[0].outcome()[0].remaining == 4
        with pytest.raises(TypeError, match="not supported"):
            calls[1].outcome()
        assert calls[2].outcome()[0].remaining == 3
        assert database.sound


def test_a_full_window_stays_full_when_another_opens_the_file(path):
    for expected in ([True] * 5 + [False] * 2, [False]):
        with opened(SQLiteBucket(FIVE, path)) as database:
            assert [not answer.wait for answer in ask(database, *[Ask("a", 1)] * len(expected))] == expected


def test_a_refusal_is_not_written(path):
    with opened(SQLiteBucket(FIVE, path, clock=ManualClock())) as database:
        ask(database, *[Ask("a", 1)] * 5)
        changes = database.total_changes
        assert ask(database, Ask("a", 1))[0].wait > 0
        assert database.total_changes == changes


def test_the_clock_is_read_after_the_lock_is_held(path):
    seen = []

    def clock():
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                seen.append(str(error))
        return 10**9

    with opened(SQLiteBucket(FIVE, path, clock=clock)) as database:
        ask(database, Ask("a", 1))
    assert seen == ["database is locked"]


def test_processes_of_one_boot_share_a_clock_that_begins_at_the_wall_clock(path):
    with opened(SQLiteBucket(FIVE, path)) as first:
        earlier = ask(first, Ask("a", 1))[0].at
        query(path, "UPDATE pyrate_limiter_meta SET value = value + 1000000000 WHERE name LIKE 'clock %'")
        with opened(SQLiteBucket(FIVE, path)) as second:
            assert 1e9 <= ask(second, Ask("a", 0))[0].at - earlier < 1.1e9
            assert 0 < ask(first, Ask("a", 0))[0].at - earlier < 1e8


def test_another_boot_goes_on_by_the_wall_clock(path, monkeypatch):
    with opened(SQLiteBucket(FIVE, path)) as first:
        earlier = ask(first, Ask("a", 1))[0].at
    monkeypatch.setattr(boottime, "boot", lambda: "another")
    monkeypatch.setattr(boottime, "since_boot", lambda: 5)
    with opened(SQLiteBucket(FIVE, path)) as second:
        answer = ask(second, Ask("a", 1))[0]
    assert 0 < answer.at - earlier < 10e6
    assert answer.remaining == 3


def test_a_time_namespace_counts_as_another_boot(monkeypatch, tmp_path):
    os.symlink("time:[1]", tmp_path / "1")
    os.symlink("time:[2]", tmp_path / "2")
    (tmp_path / "boot").write_text("b00t\n")
    monkeypatch.setattr(boottime, "_BOOT", tmp_path / "boot")
    names = []
    for namespace in ("1", "2", "none"):
        monkeypatch.setattr(boottime, "_NAMESPACE", tmp_path / namespace)
        names.append(boottime.boot())
    assert names == ["b00t time:[1]", "b00t time:[2]", "b00t"]


def test_it_goes_on_while_the_host_is_suspended(monkeypatch):
    monkeypatch.setattr(boottime.time, "clock_gettime_ns", {time.CLOCK_BOOTTIME: 5_000_000}.get)
    assert boottime.since_boot() == 5000


def test_without_a_clock_since_boot_it_is_the_wall_clock(path, monkeypatch):
    monkeypatch.setattr(boottime, "_BOOT", path)
    with opened(SQLiteBucket(FIVE, path.with_name("other.db"))) as database:
        before = wall()
        assert before <= ask(database, Ask("a", 1))[0].at <= wall()


def test_a_lock_is_looked_at_all_the_time_and_less_often_once_it_has_lasted(path, monkeypatch):
    naps = []
    monkeypatch.setattr(connection, "time", SimpleNamespace(sleep=naps.append, monotonic=lambda: sum(naps)))
    monkeypatch.setattr(connection, "_LONGEST", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, opened(SQLiteBucket(FIVE, path)) as database:
        ask(database, Ask("a", 1))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            ask(database, Ask("a", 1))
    assert sum(naps) == pytest.approx(0.1, abs=0.002)
    assert set(naps[:990]) == {0.00005}
    assert set(naps[1010:]) == {0.001}


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is held by flock")
def test_a_turn_that_does_not_come_is_done_without(path):
    import fcntl

    with opened(SQLiteBucket(FIVE, path, use_file_lock=True)) as database, open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(5):
            began = time.monotonic()
            assert ask(database, Ask("a", 1))[0].wait == 0
            assert 0.04 < time.monotonic() - began < 1


# Rows.


def test_keys_of_any_characters_stay_apart(path):
    keys = [
        "",
        "\0",
        "a",
        "a\0",
        "a\0b",
        "A",
        "ä",
        "a\u0308",
        "é",
        "'",
        '"',
        "a'--",
        "🙂",
        "a" * 5000,
        " a",
        "a ",
        "1",
        "01",
    ]
    bucket = SQLiteBucket(Rate(1, Duration.MINUTE), path)
    with opened(bucket) as database:
        assert [answer.wait for answer in ask(database, *[Ask(key, 1) for key in keys])] == [0] * len(keys)
    with opened(bucket) as database:  # it has read nothing yet
        assert all(ask(database, Ask(key, 1))[0].wait for key in keys)
    with opened(bucket) as database:
        assert all(answer.wait for answer in ask(database, *[Ask(key, 1) for key in keys]))


@pytest.mark.parametrize(
    "table", ["plain", "with space", 'a"; DROP TABLE b; --', "select", "naïve", "a'b", "[x]", "a.b", "%"]
)
def test_a_table_may_have_any_name(path, table):
    with opened(SQLiteBucket(FIVE, path, "b")) as other, opened(SQLiteBucket(FIVE, path, table)) as database:
        ask(other, *[Ask("a", 1)] * 5)
        assert [answer.remaining for answer in ask(database, *[Ask("a", 1)] * 5)] == [4, 3, 2, 1, 0]
        assert ask(other, Ask("a", 1))[0].wait
    assert {table, f"{table}_meta"} <= {name for (name,) in query(path, "SELECT name FROM sqlite_master")}


@pytest.mark.parametrize("table", ["", "sqlite_x", "SQLite_x", "a\0b", "\ud800"])
def test_a_name_that_no_table_can_have_is_refused_at_once(path, table):
    with pytest.raises(ValueError, match=r"table cannot be named|surrogates"):
        SQLiteBucket(FIVE, path, table)


def test_buckets_that_differ_in_rates_or_algorithm_share_a_table_and_count_apart(path):
    buckets = [SQLiteBucket(Rate(2, 60_000), path), SQLiteBucket(Rate(3, 60_000), path)]
    buckets.append(SQLiteBucket(Rate(2, 60_000), path, algorithm=GCRA))
    for bucket, fits in zip(buckets, (2, 3, 2), strict=True):
        with opened(bucket) as database:
            assert [not answer.wait for answer in ask(database, *[Ask("a", 1)] * 4)] == [True] * fits + [False] * (
                4 - fits
            )


def test_expired_rows_go_in_small_steps_and_live_ones_stay(path):
    clock, peak = ManualClock(), 0
    with opened(SQLiteBucket(Rate(1, Duration.SECOND), path, clock=clock)) as database:
        ask(database, *[Ask(f"old {i}", 1) for i in range(100)])
        for i in range(400):
            clock.advance(0.1)
            ask(database, Ask(f"new {i}", 1))
            peak = max(peak, database.execute("SELECT count(*) FROM pyrate_limiter").fetchone()[0])
        rows = {key for (key,) in database.execute("SELECT key FROM pyrate_limiter")}
    assert peak <= 140
    assert len(rows) < 40
    assert {f"new {i}" for i in range(391, 400)} <= rows


def test_many_new_keys_at_once_are_swept_as_fast_as_they_come(path):
    clock = ManualClock()
    with opened(SQLiteBucket(Rate(1, Duration.SECOND), path, clock=clock)) as database:
        for i in range(60):
            clock.advance(0.5)
            ask(database, *[Ask(f"{i} {j}", 1) for j in range(100)])
        assert database.execute("SELECT count(*) FROM pyrate_limiter").fetchone()[0] < 1000


def test_processes_that_live_for_one_call_sweep_too_also_behind_rows_that_stay(path):
    clock = ManualClock()
    random.seed(1)
    with opened(SQLiteBucket(Rate(1, Duration.WEEK), path, clock=clock)) as database:
        ask(database, *[Ask(str(i), 1) for i in range(50)])
    for i in range(50):
        clock.advance(3)
        with opened(SQLiteBucket(Rate(1, Duration.SECOND), path, clock=clock)) as database:
            ask(database, Ask(str(i), 1))
    assert query(path, "SELECT count(*) FROM pyrate_limiter")[0][0] < 50 + 30


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_what_expires_beyond_the_integers_of_sqlite_is_kept_as_well(path, algorithm):
    bucket = SQLiteBucket(Rate(1, 10**16), path, algorithm=algorithm)
    with opened(bucket) as database:
        assert ask(database, Ask("a", 1))[0].wait == 0
    with opened(bucket) as database:
        assert ask(database, Ask("a", 1))[0].wait > 0


def test_the_log_of_a_high_limit_stays_short(path):
    clock = ManualClock()
    with opened(SQLiteBucket(Rate(10**9, Duration.SECOND), path, clock=clock)) as database:
        for _ in range(2500):
            clock.now += 700
            ask(database, Ask("a", 1))
        assert database.execute("SELECT length(state) FROM pyrate_limiter").fetchone()[0] < 17_000


# What can be wrong with a database.


@contextmanager
def as_nobody():
    """Lose root's right to write everything, if this is root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def refused(bucket, *words):
    with pytest.raises(StoreError) as caught, opened(bucket) as database:
        ask(database, Ask("a", 1))
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_a_crash_of_the_process_loses_nothing_and_a_commit_does_not_wait_for_the_disk(path):
    with opened(SQLiteBucket(FIVE, path)) as database:
        ask(database, Ask("a", 1))
        normal = 1
        assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        assert database.execute("PRAGMA synchronous").fetchall() == [(normal,)]


def test_the_log_is_cut_when_a_long_read_has_made_it_grow(path):
    log, keys = Path(f"{path}-wal"), [f"{i} {'x' * 2000}" for i in range(100)]
    with opened(SQLiteBucket(FIVE, path)) as database, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        ask(database, Ask("a", 1))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM pyrate_limiter").fetchall()
        while log.stat().st_size <= 5 << 20:
            ask(database, *[Ask(key, 1) for key in keys], *[Ask(key, RESET) for key in keys])
        reader.execute("COMMIT")
        ask(database, Ask("a", 1))
        ask(database, Ask("a", 1))
        assert log.stat().st_size <= 4 << 20


def test_missing_folders_are_made(tmp_path):
    with opened(SQLiteBucket(FIVE, tmp_path / "a" / "b" / "c.db")) as database:
        assert ask(database, Ask("a", 1))[0].wait == 0


def test_a_folder_is_no_database(tmp_path):
    assert refused(SQLiteBucket(FIVE, tmp_path), str(tmp_path), "unable to open", "give the path of a file").__cause__


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    refused(SQLiteBucket(FIVE, tmp_path / "file" / "limits.db"), str(tmp_path / "file"))


@pytest.mark.parametrize("content", [b"short", b"A file that is no database.\n" * 500])
def test_another_kind_of_file_is_refused_and_left_as_it_was(path, content):
    path.write_bytes(content)
    refused(SQLiteBucket(FIVE, path, use_file_lock=True), str(path), "not a database", "left as it is")
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("table", ["users", "users_meta"])
def test_somebody_elses_table_is_refused_and_the_file_left_as_it_was(path, table):
    query(path, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")
    before = path.read_bytes()
    refused(SQLiteBucket(FIVE, path, "users"), str(path), repr(table), "id, name", "another table name")
    assert path.read_bytes() == before
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_a_layout_of_another_version_is_refused_and_left_as_it_was(path):
    with opened(SQLiteBucket(FIVE, path)) as database:
        ask(database, Ask("a", 1))
    query(path, "UPDATE pyrate_limiter_meta SET value = 99 WHERE name = 'version'")
    query(path, "PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    refused(SQLiteBucket(FIVE, path), "version 99")
    assert path.read_bytes() == before


def test_an_applications_database_is_shared_with_it(path):
    query(path, "CREATE TABLE users (name TEXT)")
    query(path, "INSERT INTO users VALUES ('x')")
    with opened(SQLiteBucket(FIVE, path)) as database:
        assert ask(database, Ask("a", 1))[0].wait == 0
    assert query(path, "SELECT * FROM users") == [("x",)]


@pytest.fixture
def public_folder():
    """A folder that nobody may enter: the one of pytest is private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_file_that_may_only_be_read_is_refused_and_left_as_it_was(public_folder):
    path = public_folder / "limits.db"
    with opened(SQLiteBucket(FIVE, path)) as database:
        ask(database, Ask("a", 1))
    query(path, "PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    with as_nobody():
        refused(SQLiteBucket(FIVE, path), str(path), "readonly", "let this process write")
        refused(SQLiteBucket(FIVE, public_folder / "new.db"), str(public_folder / "new.db"), "unable to open")
        refused(SQLiteBucket(FIVE, public_folder / "new" / "new.db"), str(public_folder / "new"))
    assert path.read_bytes() == before
    with opened(SQLiteBucket(FIVE, path)) as database:
        assert ask(database, Ask("a", 0))[0].remaining == 4


def fill(database):
    for i in range(1000):
        ask(database, *[Ask(f"{i} {j}", 1) for j in range(50)])


def test_a_full_disk_is_an_error_and_passes_when_there_is_room(path):
    with opened(SQLiteBucket(FIVE, path)) as database:
        ask(database, Ask("a", 1))
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="full; free some space") as caught:
            fill(database)
        assert str(path) in str(caught.value)
        assert database.sound
        assert not database.in_transaction
        assert ask(database, Ask("a", 1))[0].remaining == 3
        database.execute(f"PRAGMA max_page_count = {100 * pages}")
        assert ask(database, *[Ask(f"x {j}", 1) for j in range(50)])[0].wait == 0


FAILING_WRITES = """
import asyncio, resource, sys
from pyrate_limiter import Rate, SQLiteBucket, StoreError
def let_files_grow_to(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
async def main():
    bucket = SQLiteBucket(Rate(5, 60_000), sys.argv[1])
    await bucket.take()
    let_files_grow_to(4096)
    for _ in range(2):
        try:
            await bucket.take()
        except StoreError as error:
            print(error)
    let_files_grow_to(resource.RLIM_INFINITY)
    print((await bucket.take()).remaining)
    await bucket.aclose()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_write_that_fails_is_an_error_and_passes_with_its_cause(path):
    first, second, remaining = run_program(FAILING_WRITES, str(path)).splitlines()
    assert first == second
    assert first.startswith(f"the SQLite database {str(path)!r} cannot be used: disk I/O error; look for a full")
    assert remaining == "3"


async def test_a_file_removed_in_use_is_an_error_and_the_next_call_makes_a_new_one(path):
    bucket = SQLiteBucket(FIVE, path)
    assert (await bucket.take(5, key="a")).allowed
    path.unlink()
    with pytest.raises(StoreError, match="removed while in use"):
        await bucket.take(key="a")
    assert not bucket._drivers  # so that it does not hinder others, if nobody calls here any more
    assert (await bucket.take(key="a")).remaining == 4
    await bucket.aclose()


async def test_a_file_replaced_in_use_is_an_error_and_the_next_call_counts_in_the_new_one(path, tmp_path):
    bucket, other = SQLiteBucket(FIVE, path), SQLiteBucket(FIVE, tmp_path / "other.db")
    assert (await other.take(3, key="a")).allowed
    await other.aclose()
    assert (await bucket.take(key="a")).allowed
    for companion in ("-wal", "-shm"):
        os.remove(f"{path}{companion}")
    (tmp_path / "other.db").rename(path)
    with pytest.raises(StoreError, match="replaced while in use"):
        await bucket.take(key="a")
    assert (await bucket.take(key="a")).remaining == 1
    await bucket.aclose()


def test_a_file_of_another_disk_is_another_file_whatever_its_number(path, monkeypatch):
    files = iter([SimpleNamespace(st_dev=disk, st_ino=7) for disk in (1, 2)])
    monkeypatch.setattr(os, "stat", lambda _: next(files))
    place = File(str(path))
    assert place.identity() != place.identity()


@pytest.mark.parametrize("look", [1, 2])
def test_a_file_replaced_while_it_is_being_opened_is_not_counted_in(path, tmp_path, monkeypatch, look):
    bucket, other, looks = SQLiteBucket(FIVE, path), SQLiteBucket(FIVE, tmp_path / "other.db"), itertools.count(1)
    for one, weight in ((bucket, 1), (other, 3)):
        with opened(one) as database:
            ask(database, Ask("a", weight))

    def identity(place):
        if next(looks) == look:
            (tmp_path / "other.db").rename(path)
        return usual(place)

    usual = File.identity
    monkeypatch.setattr(File, "identity", identity)
    with opened(bucket) as database:
        if look == 1:  # before it was opened
            assert ask(database, Ask("a", 0))[0].remaining == 2
        else:
            with pytest.raises(StoreError, match="replaced while in use"):
                ask(database, Ask("a", 0))


@pytest.mark.parametrize("removed", [["-wal"], ["-shm"], ["-wal", "-shm"]])
async def test_files_beside_it_that_are_removed_in_use_are_an_error_and_the_next_call_counts_on(
    path, monkeypatch, removed
):
    monkeypatch.setattr(connection, "_LOOK", 0)
    bucket = SQLiteBucket(FIVE, path)
    assert (await bucket.take(3, key="a")).allowed
    for companion in removed:
        os.remove(f"{path}{companion}")
    with pytest.raises(StoreError, match="-wal or -shm was removed while in use"):
        await bucket.take(key="a")
    assert (await bucket.take(key="a")).remaining == 1
    await bucket.aclose()


async def test_a_table_dropped_in_use_is_an_error_and_the_next_call_makes_a_new_one(path):
    bucket = SQLiteBucket(FIVE, path)
    assert (await bucket.take(key="a")).allowed
    query(path, "DROP TABLE pyrate_limiter")
    with pytest.raises(StoreError, match="no such table"):
        await bucket.take(key="a")
    assert (await bucket.take(key="a")).remaining == 4
    await bucket.aclose()


@pytest.mark.parametrize(
    "damage",
    ["x'00'", "x''", "'text'", "1", "substr(state, 1, 12) || x'ff' || substr(state, 14)", "x'02' || substr(state, 2)"],
)
async def test_a_state_that_was_changed_is_an_error_of_its_key_alone(path, damage):
    bucket = SQLiteBucket(FIVE, path)
    for key in ("good", "bad"):
        assert (await bucket.take(5, key=key)).allowed
    query(path, f"UPDATE pyrate_limiter SET state = CAST({damage} AS BLOB) WHERE key = 'bad'")
    with pytest.raises(StoreError, match=r"state of 'bad' .* is corrupt; delete that row"):
        await bucket.take(key="bad")
    assert not (await bucket.take(key="good")).allowed
    query(path, "DELETE FROM pyrate_limiter WHERE key = 'bad'")
    assert (await bucket.take(key="bad")).allowed
    await bucket.aclose()


async def test_pages_that_were_overwritten_are_an_error_and_no_admission(path):
    bucket = SQLiteBucket(Rate(1, Duration.HOUR), path)
    keys = [f"key {i}" for i in range(200)]
    for key in keys:
        assert (await bucket.take(key=key)).allowed
    await bucket._disconnect()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    for key in keys[:3]:
        with pytest.raises(StoreError, match=r"malformed.*restore the file"):
            await bucket.take(key=key)
    path.write_bytes(content)
    assert not (await bucket.take(key=keys[0])).allowed
    await bucket.aclose()


# Construction.


def test_nothing_is_done_before_the_first_call(tmp_path):
    SQLiteBucket(FIVE, tmp_path / "a" / "limits.db", use_file_lock=True)
    SQLiteBucket.temporary(FIVE)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_path_that_cannot_be_is_refused_at_once(name):
    with pytest.raises(ValueError, match="there is no file"):
        SQLiteBucket(FIVE, name)


def test_a_relative_path_is_that_of_the_time_of_construction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bucket = SQLiteBucket(FIVE, "limits.db")
    monkeypatch.chdir("/")
    with opened(bucket):
        assert (tmp_path / "limits.db").exists()


def test_a_bucket_travels_to_other_processes_by_its_path(path):
    bucket = SQLiteBucket([FIVE], path, "a table", algorithm=GCRA, use_file_lock=True)
    copy = pickle.loads(pickle.dumps(bucket))
    assert (copy.rates, copy.algorithm, copy.table, copy._plan.use_file_lock) == ((FIVE,), GCRA, "a table", True)
    with opened(bucket) as first, opened(copy) as second:
        ask(first, *[Ask("a", 1)] * 5)
        assert ask(second, Ask("a", 1))[0].wait


def test_a_bucket_in_memory_does_not_travel():
    with pytest.raises(TypeError, match="give it the path of a file"):
        pickle.dumps(SQLiteBucket(FIVE))


@pytest.mark.parametrize("name", [None, ":memory:"])
def test_a_bucket_in_memory_outlives_the_event_loops_that_use_it(name):
    bucket = SQLiteBucket(FIVE, name)
    for backend, expected in (("asyncio", 3), ("asyncio", 1), ("trio", -1)):
        decision = anyio.run(bucket.take, 2, backend=backend)
        assert decision.remaining == max(1, expected) if decision else expected < 0
    assert anyio.run(SQLiteBucket(FIVE, name).take, 2).remaining == 3


def test_a_temporary_file_is_private_and_goes_with_its_bucket():
    bucket = SQLiteBucket.temporary(FIVE)
    folder = Path(os.fspath(bucket._place)).parent
    assert anyio.run(bucket.take).allowed
    assert folder.stat().st_mode & 0o777 == 0o700
    copy = pickle.loads(pickle.dumps(bucket))
    assert anyio.run(copy.take).remaining == 3
    anyio.run(copy.aclose)
    assert folder.exists()
    anyio.run(bucket.aclose)
    assert not folder.exists()


def test_a_copy_counts_in_the_same_temporary_file_wherever_its_process_has_such_files(tmp_path, monkeypatch):
    bucket = SQLiteBucket.temporary(FIVE)
    assert anyio.run(bucket.take, 5).allowed
    sent = pickle.dumps(bucket)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    copy = pickle.loads(sent)
    assert not anyio.run(copy.take).allowed
    monkeypatch.undo()
    anyio.run(bucket.aclose)


def test_a_temporary_file_stays_while_another_loop_has_it_open():
    async def use_and_close():
        assert (await bucket.take()).allowed
        await bucket.aclose()

    bucket, loop = SQLiteBucket.temporary(FIVE), asyncio.new_event_loop()
    loop.run_until_complete(bucket.take())
    asyncio.run(use_and_close())
    assert os.path.exists(bucket._place)
    loop.run_until_complete(bucket.aclose())
    assert not os.path.exists(bucket._place)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_a_temporary_file_goes_when_nobody_has_the_bucket_any_more():
    bucket = SQLiteBucket.temporary(FIVE)
    folder = Path(os.fspath(bucket._place)).parent
    anyio.run(bucket.take)
    del bucket
    gc.collect()
    assert not folder.exists()


def test_the_threads_of_others_are_not_waited_for_on_trio(tmp_path: Path) -> None:
    async def main() -> bool:
        bucket = SQLiteBucket(Rate(1, Duration.HOUR), tmp_path / "limits.db")
        others = anyio.to_thread.current_default_thread_limiter()
        others.total_tokens = 1
        with anyio.fail_after(10):
            async with others:  # as if the only thread were busy
                decision = await bucket.take()
        await bucket.aclose()
        return decision.allowed

    assert anyio.run(main, backend="trio")
