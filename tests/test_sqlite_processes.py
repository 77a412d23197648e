"""Real processes on one SQLite database: exact counts, fair turns, and what a kill at any instruction leaves behind."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PRELUDE = """
import asyncio, itertools, json, mmap, os, random, signal, sys, time
from struct import pack_into, unpack_from
from pyrate_limiter import Ask, Limiter, Rate
from pyrate_limiter.buckets import SQLiteBucket
from pyrate_limiter.buckets.sqlite.connection import Database
PATH = sys.argv[1]
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills, forks and pipes here are those of POSIX")


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "limits.db"
    with closing(sqlite3.connect(tmp_path / "limits.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture
def start(path):
    """Start a process that runs a script, with pipes to it; all of them are ended with the test."""
    processes = []

    def starter(script, *arguments, at=path):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + script, str(at), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield starter
    for process in processes:
        process.kill()
        process.communicate()


def say(processes, word):
    for process in processes:
        process.stdin.write(f"{word}\n")
        process.stdin.flush()


def heard(process):
    return json.loads(process.stdout.readline())


def said_by(process):
    """Return all that a process printed, once it has ended well."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(output)


# Counts.

ROUNDS = """
async def take(bucket, key):
    # Some together, and then again: between two such batches other processes take theirs.
    batches = [await asyncio.gather(*[bucket.take(key=key) for _ in range(2)]) for _ in range(10)]
    return sum(decision.allowed for batch in batches for decision in batch)
async def main():
    plain, locked = (SQLiteBucket(Rate(20, 60_000), PATH, f"t{lock}", use_file_lock=lock) for lock in (False, True))
    free = SQLiteBucket(Rate(10**6, 60_000), PATH)
    await free.take()
    print("true", flush=True)
    for line in sys.stdin:
        print(json.dumps([await take(bucket, line) for bucket in (plain, locked, free)]), flush=True)
asyncio.run(main())
"""


def test_eight_processes_get_exactly_the_limit_and_are_refused_for_nothing_else(start):
    processes = [start(ROUNDS) for _ in range(8)]
    assert all(heard(process) for process in processes)
    for key in range(8):
        say(processes, key)
        counts = [heard(process) for process in processes]
        assert [sum(column) for column in zip(*counts, strict=True)] == [20, 20, 160]


WAITERS = """
async def main():
    buckets = [SQLiteBucket(Rate(20, 500), PATH, f"table {lock}", use_file_lock=lock) for lock in (False, True)]
    for bucket in buckets:
        await bucket.peek()
    print("true", flush=True)
    sys.stdin.readline()
    stamps = []
    for bucket in buckets:
        stamps.append(asyncio.gather(*[bucket.acquire() for _ in range(50)]))
    print(json.dumps([[decision.at for decision in await some] for some in stamps]))
asyncio.run(main())
"""


def test_waiters_of_four_processes_are_all_served_and_never_more_than_the_limit(start):
    processes = [start(WAITERS) for _ in range(4)]
    assert all(heard(process) for process in processes)
    say(processes, "go")
    results = [said_by(process) for process in processes]
    for i in range(2):
        stamps = sorted(at for result in results for at in result[i])
        assert len(stamps) == 200
        assert all(later - earlier >= 500_000 for earlier, later in zip(stamps, stamps[20:], strict=False))
        assert stamps[-1] - stamps[0] < 8e6


BESIDE = """
from types import SimpleNamespace
from pyrate_limiter.buckets.sqlite import connection, drivers, turns
limiter = Limiter(SQLiteBucket(Rate(10**6, 600_000), PATH, use_file_lock=True))
calls, naps = [], []
def nap(seconds):
    naps[-1] += seconds
    time.sleep(seconds)
turns.time = connection.time = SimpleNamespace(sleep=nap, monotonic=time.monotonic)
class Watched(Database):
    def commit(self):
        naps.append(0)
        super().commit()
drivers.Database = Watched
def note(began):
    calls.append(time.monotonic() - began)
async def main():
    await limiter.take()
    print("true", flush=True)
    end = float(sys.stdin.readline())
    while (began := time.monotonic()) < end:
        await limiter.take()
        note(began)
def sync():
    limiter.sync.take()
    print("true", flush=True)
    end = float(sys.stdin.readline())
    while (began := time.monotonic()) < end:
        limiter.sync.take()
        note(began)
asyncio.run(main()) if sys.argv[2] == "async" else sync()
calls.sort()
print(json.dumps([len(calls), calls[len(calls) * 99 // 100], max(naps), sum(map(bool, naps))]))
"""


@pytest.mark.alone
def test_an_async_process_and_a_sync_one_share_a_file_locked_database(start):
    processes = [start(BESIDE, kind) for kind in ("async", "sync")]
    assert all(heard(process) for process in processes)
    say(processes, time.monotonic() + 1.5)
    calls, call_waits, lock_waits, times_waited = zip(*map(said_by, processes), strict=True)
    assert min(calls) >= sum(calls) / 10
    assert max(call_waits) < 0.1
    # By the naps between two looks at the lock: for how long a busy machine lets nobody run is not for us to judge.
    assert max(lock_waits) < 0.1
    assert sum(times_waited)


# Kills.

AT_EACH_LINE = """
bucket = SQLiteBucket(Rate(10**6, 600_000), PATH, use_file_lock=True)
fresh, first, step = sys.argv[2] == "fresh", int(sys.argv[3]), int(sys.argv[4])
# Deciding is the same whatever the database was like.
part = os.path.join("buckets", "sqlite") if fresh else "pyrate_limiter"
def opened(bucket):
    database = Database(bucket._plan)
    database.open()
    return database
def ask(database):
    call = database.submit([Ask("a", 1), Ask("b", 1)])
    database.commit()
    return [10**6 - answer.remaining for answer in call.outcome()]
def child(bucket, line):
    database = opened(bucket)
    if not fresh:
        ask(database)
    moments = itertools.count(1)
    def live():
        if next(moments) == line:
            os.kill(os.getpid(), signal.SIGKILL)
    def trace(frame, event, argument):
        if part not in frame.f_code.co_filename:
            return None
        if event == "line":
            live()
        return trace
    # One line may run a statement many times over, as it does for the rows of a batch.
    database.set_trace_callback(lambda statement: live())
    sys.settrace(trace)
    ask(database)
    os._exit(0)
counts, slowest = [], 0
survivor = None if fresh else opened(bucket)
before = None if fresh else ask(survivor)
for line in itertools.count(first, step):
    if fresh:
        bucket = SQLiteBucket(Rate(10**6, 600_000), f"{PATH}.{line}", use_file_lock=True)
        before = [0, 0]
    pid = os.fork()
    if not pid:
        child(bucket, line)
    status = os.waitpid(pid, 0)[1]
    began = time.monotonic()
    database = survivor or opened(bucket)
    after = ask(database)
    slowest = max(slowest, time.monotonic() - began)
    counts.append([now - then for now, then in zip(after, before)])
    before = after
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    if fresh:
        database.close()
        os.remove(f"{PATH}.{line}")
    if not status:
        break
print(json.dumps([counts, slowest]))
"""


@pytest.fixture
def quick_folder():
    """A folder in memory where there is one: a kill leaves there what it leaves on a disk, and sooner."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def test_a_kill_at_any_line_leaves_the_old_state_or_the_new(start, path, quick_folder):
    path.touch()
    counts, slowest = said_by(start(AT_EACH_LINE, "seasoned", "1", "1", at=quick_folder / "limits.db"))
    assert {tuple(count) for count in counts} == {(2, 2), (3, 3)}
    assert len(counts) > 100
    assert slowest < 1


def test_a_kill_at_any_line_of_the_first_batch_of_all_leaves_nothing_or_all_of_it(start, path, quick_folder):
    path.touch()
    results = map(said_by, [start(AT_EACH_LINE, "fresh", f"{i + 1}", "2", at=quick_folder / f"{i}") for i in range(2)])
    counts, slowest = zip(*results, strict=True)
    assert {tuple(count) for some in counts for count in some} == {(1, 1), (2, 2)}
    assert min(map(len, counts)) > 100
    assert max(slowest) < 1


UNDER_LOAD = """
shared = mmap.mmap(-1, 4096)
def count(slot):
    pack_into("<q", shared, 8 * slot, unpack_from("<q", shared, 8 * slot)[0] + 1)
async def work(bucket, slot):
    while (await bucket.take()).allowed:
        count(slot)
async def load(slot):
    bucket = SQLiteBucket(Rate(10**6, 600_000), PATH, use_file_lock=True)
    await asyncio.gather(*[work(bucket, slot) for _ in range(10)])
def fork(slot):
    pid = os.fork()
    if not pid:
        asyncio.run(load(slot))
    return pid
def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
chance, slowest = random.Random(1), 0
pids = [fork(slot) for slot in range(3)]
for slot in range(3, 53):
    time.sleep(chance.random() * 0.03)
    victim = chance.randrange(3)
    kill(pids.pop(victim))
    counts, killed = unpack_from("<64q", shared), time.monotonic()
    while unpack_from("<64q", shared) == counts:
        time.sleep(0.0005)
    slowest = max(slowest, time.monotonic() - killed)
    pids.append(fork(slot))
for pid in pids:
    kill(pid)
database = Database(SQLiteBucket(Rate(10**6, 600_000), PATH)._plan)
database.open()
call = database.submit([Ask("", 0)])
database.commit()
print(json.dumps([sum(unpack_from("<64q", shared)), 10**6 - call.outcome()[0].remaining, slowest]))
"""


def test_fifty_kills_under_load_create_no_permit_and_stop_nobody(path, start):
    returned, stored, slowest = said_by(start(UNDER_LOAD))
    assert returned <= stored <= returned + 53 * 10
    assert slowest < 1
