"""How the SQLite bucket's connections end: with their loops, with the interpreter, in forked children."""

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import anyio
import pytest

from pyrate_limiter import Ask, Limiter, Rate, StoreError
from pyrate_limiter.buckets import SQLiteBucket
from pyrate_limiter.buckets.sqlite.connection import Database
from pyrate_limiter.buckets.sqlite.lifetimes import keeper

PLENTY = Rate(10**6, 600_000)
PRELUDE = """
import asyncio, atexit, os, signal, sqlite3, sys, threading, time, warnings
import anyio
from pyrate_limiter import Limiter, Rate
from pyrate_limiter.buckets import SQLiteBucket
PATH = sys.argv[1]
bucket = SQLiteBucket(Rate(10**6, 600_000), PATH)
def leave_in_the_middle(until):
    global loop, task
    loop = asyncio.new_event_loop()
    task = loop.create_task(bucket.take())
    loop.run_until_complete(until())
    # What asyncio has to say of that is not what is tested.
    warnings.simplefilter("ignore")
    loop.call_exception_handler = lambda context: None
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "limits.db"


def run(script, path, status=0):
    """Run a script in a process of its own, in which every warning is an error, and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout.split()


def companions(path):
    return sorted(file.name for file in path.parent.iterdir())


@pytest.fixture
def locked(path):
    """Somebody else's transaction on the database."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        yield other


# The interpreter.

EXITS = {
    "asyncio": ("asyncio.run(bucket.take())", 0),
    "trio": ("anyio.run(bucket.take, backend='trio')", 0),
    "SystemExit": (
        """
async def main():
    await bucket.take()
    sys.exit(3)
asyncio.run(main())
""",
        3,
    ),
    "SystemExit on trio": (
        """
async def main():
    await bucket.take()
    sys.exit(3)
anyio.run(main, backend="trio")
""",
        3,
    ),
    "a loop that is closed without a word": (
        """
loop = asyncio.new_event_loop()
loop.run_until_complete(bucket.take())
loop.close()
""",
        0,
    ),
    "a bucket that goes before its loop": (
        """
async def main():
    await SQLiteBucket(Rate(1, 1000), PATH).take()
asyncio.run(main())
""",
        0,
    ),
    "a bucket that goes before its loop on trio": (
        """
async def main():
    await SQLiteBucket(Rate(1, 1000), PATH).take()
anyio.run(main, backend="trio")
""",
        0,
    ),
    "sync calls": ("assert Limiter(bucket).try_acquire('a')", 0),
    "sync calls, and closing takes its time": (
        """
from pyrate_limiter.buckets.sqlite.connection import Database
def slowly(database, shut=Database.shut):
    time.sleep(0.2)
    shut(database)
Database.shut = slowly
assert Limiter(bucket).try_acquire('a')
""",
        0,
    ),
    "a loop that is left while it waits for the database": (
        """
other = sqlite3.connect(PATH, isolation_level=None)
atexit.register(other.close)
other.execute("PRAGMA journal_mode = WAL")
other.execute("BEGIN IMMEDIATE")
leave_in_the_middle(lambda: asyncio.sleep(0.05))
""",
        0,
    ),
    "a loop that is left while a database is being opened": (
        """
from pyrate_limiter.buckets.sqlite.connection import Database
begun = threading.Event()
def slowly(database, usual=Database.open):
    begun.set()
    time.sleep(0.1)
    usual(database)
Database.open = slowly
async def until_begun():
    while not begun.is_set():
        await asyncio.sleep(0.001)
leave_in_the_middle(until_begun)
""",
        0,
    ),
    "callers that wait": (
        """
bucket = SQLiteBucket(Rate(1, 3_600_000), PATH)
async def main():
    waiting = [asyncio.create_task(bucket.acquire()) for _ in range(3)]
    await asyncio.sleep(0.05)
asyncio.run(main())
""",
        0,
    ),
}


@pytest.mark.parametrize(("script", "status"), EXITS.values(), ids=EXITS)
def test_a_process_that_closes_nothing_ends_cleanly(path, script, status):
    run(script, path, status)
    assert companions(path) == ["limits.db"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_ends_while_the_database_is_locked(path, locked, backend):
    async def main():
        with anyio.move_on_after(0.05):
            await SQLiteBucket(PLENTY, path).take()

    began = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_ends_while_the_database_is_being_opened(path, monkeypatch, backend):
    begun, opened = threading.Event(), threading.Event()

    def slowly(database):
        begun.set()
        time.sleep(0.1)
        usual(database)
        opened.set()

    usual = Database.open
    monkeypatch.setattr(Database, "open", slowly)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(SQLiteBucket(PLENTY, path).take)
            while not begun.is_set():  # noqa: ASYNC110 - it is a thread that begins
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()

    before = set(keeper._open)  # such as the portal's, for buckets of other tests
    anyio.run(main, backend=backend)
    assert opened.wait(10)
    gc.collect()
    assert keeper._open <= before


def test_a_temporary_file_is_removed_at_exit(path):
    script = """
bucket = SQLiteBucket.temporary(Rate(1, 1000))
asyncio.run(bucket.take())
print(os.path.dirname(os.fspath(bucket._place)))
assert os.path.exists(bucket._place)
"""
    assert not os.path.exists(run(script, path)[0])


def test_threads_that_outlive_the_main_thread_keep_their_connection(path):
    script = """
def work():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bucket.take())
    began.set()
    threading.main_thread().join()
    for _ in range(10):
        time.sleep(0.01)
        loop.run_until_complete(bucket.take())
    loop.close()
    print("done")
began = threading.Event()
threading.Thread(target=work).start()
began.wait()
"""
    assert run(script, path) == ["done"]


@pytest.mark.parametrize(("backend", "times"), [("asyncio", 200), ("trio", 20)])
def test_many_loops_leave_nothing_behind(path, backend, times):
    script = f"""
limiter = Limiter(bucket, async_wrapper=True)
before = len(os.listdir("/dev/fd"))
for _ in range({times}):
    assert anyio.run(limiter.try_acquire, "a", backend={backend!r})
until = time.monotonic() + 10
while threading.active_count() > 2 and time.monotonic() < until:
    time.sleep(0.001)  # the last one has said that it is done, and is about to end
print(threading.active_count() - 1, len(os.listdir("/dev/fd")) - before, len(bucket._drivers))
"""
    started, descriptors, lines = map(int, run(script, path))
    assert started <= 1
    assert descriptors <= 8
    assert lines <= 1


# Loops.


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_a_bucket_is_used_by_many_loops_at_once(path, where):
    bucket = SQLiteBucket(Rate(40, 600_000), path if where == "file" else None)
    granted = []

    def work(backend):
        async def main():
            granted.extend([(await bucket.take()).allowed for _ in range(10)])

        anyio.run(main, backend=backend)

    async with anyio.create_task_group() as tasks:
        for backend in ("asyncio", "trio") * 3:
            tasks.start_soon(anyio.to_thread.run_sync, work, backend)
    assert granted.count(True) == 40
    await bucket.aclose()


def test_a_loop_closed_without_a_word_is_tidied_up_by_the_next_one(path):
    before = set(keeper._open)
    bucket = SQLiteBucket(PLENTY, path)
    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(bucket.take())
        loop.close()
    assert len(bucket._drivers) == 1
    asyncio.run(bucket.take())
    assert keeper._open <= before
    assert loop not in keeper._loops


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_is_forgotten(path, backend):
    before = set(keeper._loops)
    anyio.run(SQLiteBucket(PLENTY, path).take, backend=backend)
    assert set(keeper._loops) <= before


def test_what_a_bucket_leaves_open_that_nobody_has_any_more_is_closed_at_the_next_opening(path):
    before = set(keeper._open)

    async def main():
        for _ in range(5):
            await SQLiteBucket(PLENTY, path).take()
            gc.collect()
            assert len(keeper._open - before) == 1

    asyncio.run(main())
    assert keeper._open <= before


async def test_a_connection_that_failed_is_closed_whoever_opens_one_meanwhile(path):
    bucket = SQLiteBucket(PLENTY, path)
    await bucket.take()
    (failed,) = bucket._drivers.values()
    path.unlink()
    with pytest.raises(StoreError, match="removed while in use"):
        await failed.apply([])
    await anyio.to_thread.run_sync(anyio.run, bucket.take)  # by another loop
    assert (await bucket.take()).allowed
    assert failed.closed
    assert failed not in keeper._open
    await bucket.aclose()


async def test_an_opening_that_fails_leaves_nothing_behind(tmp_path):
    before = set(keeper._open)
    bucket = SQLiteBucket(PLENTY, tmp_path)
    for _ in range(3):
        with pytest.raises(StoreError, match="unable to open"):
            await bucket.take()
    assert keeper._open <= before
    assert not bucket._drivers
    await bucket.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/fd")
def test_closing_leaves_no_descriptor_open(path):
    database = Database(SQLiteBucket(PLENTY, path, use_file_lock=True)._plan)
    before = len(os.listdir("/dev/fd"))
    with closing(database):
        database.open()
        database.submit([Ask("", 1)])
        database.commit()
        assert len(os.listdir("/dev/fd")) >= before + 4  # the database, its log, the log's index, the lock
    assert len(os.listdir("/dev/fd")) <= before


async def test_closing_twice_is_as_good_as_once(path):
    bucket = SQLiteBucket(PLENTY, path)
    await bucket.take()
    await bucket.aclose()
    await bucket.aclose()
    assert companions(path) == ["limits.db"]


def test_nothing_is_closed_while_it_is_in_use(path):
    database = Database(SQLiteBucket(PLENTY, path)._plan)
    database.open()
    closer = threading.Thread(target=database.close)
    with database.gate:
        closer.start()
        closer.join(0.02)
        assert database.execute("SELECT 1").fetchall() == [(1,)]
    closer.join()
    with pytest.raises(sqlite3.ProgrammingError):
        database.execute("SELECT 1")


# Waiting for the database, and leaving.


@pytest.mark.parametrize("lock", ["a log, IMMEDIATE", "no log, IMMEDIATE", "no log, EXCLUSIVE"])
async def test_a_busy_database_is_waited_for(path, locked, lock):
    mode, kind = lock.split(", ")
    if mode == "no log":  # what an application left, before a bucket came to it
        locked.execute("COMMIT")
        locked.execute("PRAGMA journal_mode = DELETE")
        locked.execute(f"BEGIN {kind}")
    bucket = SQLiteBucket(PLENTY, path)
    decisions = []

    async def take():
        decisions.append(await bucket.take())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(take)
        await anyio.sleep(0.1)
        assert not decisions
        locked.execute("COMMIT")
    assert [decision.allowed for decision in decisions] == [True] * 5
    await bucket.aclose()


async def test_what_is_locked_for_too_long_is_an_error_not_a_refusal(path, locked, monkeypatch):
    monkeypatch.setattr("pyrate_limiter.buckets.sqlite.connection._LONGEST", 0.05)
    bucket = SQLiteBucket(PLENTY, path)
    with pytest.raises(StoreError, match="locked; look for a process that holds a transaction open"):
        await bucket.take()
    (driver,) = bucket._drivers.values()
    locked.execute("COMMIT")
    assert (await bucket.take()).allowed
    assert list(bucket._drivers.values()) == [driver]  # there was nothing wrong with it
    await bucket.aclose()


async def test_a_batch_left_before_it_began_is_never_decided(path):
    bucket = SQLiteBucket(PLENTY, path)
    await bucket.take()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with anyio.move_on_after(0.05):
            await bucket._apply([Ask("", 100)])
        other.execute("ROLLBACK")
    assert (await bucket.peek()).remaining == 10**6 - 1
    await bucket.aclose()


async def test_a_connection_is_used_by_one_thread_at_a_time(path, monkeypatch):
    inside, seen = set(), []

    def watched(database):
        seen.append(set(inside))
        inside.add(threading.current_thread())
        usual(database)
        inside.clear()

    bucket, usual = SQLiteBucket(PLENTY, path), Database.commit
    await bucket.take()
    monkeypatch.setattr(Database, "commit", watched)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with anyio.move_on_after(0.03):
                await bucket._apply([Ask("", 1)])
        other.execute("ROLLBACK")
    await bucket.take()
    assert seen
    assert not any(seen)
    await bucket.aclose()


async def test_batches_left_at_any_moment_leave_the_connection_whole(path):
    bucket = SQLiteBucket(PLENTY, path)
    await bucket.take()
    returned = 0
    for i in range(100):
        with anyio.move_on_after(i * 0.00001):
            await bucket._apply([Ask("", 1)])
            returned += 1
    stored = 10**6 - 1 - (await bucket.peek()).remaining
    assert returned <= stored <= 100
    assert len(bucket._drivers) == 1
    await bucket.aclose()


# Fork.

FORK = """
import mmap, trio
from struct import pack_into, unpack_from
bucket = SQLiteBucket(Rate(10**6, 600_000), PATH, use_file_lock=True)
shared = mmap.mmap(-1, 4096)
def count(slot):
    pack_into("<q", shared, 8 * slot, unpack_from("<q", shared, 8 * slot)[0] + 1)
async def child(slot):
    for _ in range(10):
        if await bucket.take():
            count(slot)
def fork(slot):
    pid = os.fork()
    if pid:
        return pid
    try:
        anyio.run(child, slot, backend=("asyncio", "trio")[slot % 2])
        os._exit(0)
    finally:
        os._exit(1)
async def load():
    while not done:
        if await bucket.take():
            count(0)
async def wait(pid):
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        await asyncio.sleep(0.002)
    return found[1]
async def main():
    global done
    tasks = [asyncio.create_task(load()) for _ in range(10)]
    await asyncio.sleep(0.02)
    statuses = []
    for slot in range(1, 13):
        statuses.append(await asyncio.wait_for(wait(fork(slot)), 20))
    done = True
    await asyncio.gather(*tasks)
    counts = unpack_from("<13q", shared)
    print(*statuses, *counts[1:], sum(counts) - (10**6 - (await bucket.peek()).remaining))
done = False
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_children_forked_under_load_work_and_count_right(path):
    assert run(FORK, path) == ["0"] * 12 + ["10"] * 12 + ["0"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


FORKED_EXIT = """
assert Limiter(bucket).try_acquire("a")
asyncio.run(bucket.take())
if pid := os.fork():
    print(os.waitpid(pid, 0)[1])
else:
    signal.alarm(10)  # rather than to hang
    assert not bucket._drivers
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bucket.take())
    loop.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_that_closes_nothing_ends_cleanly(path):
    assert run(FORKED_EXIT, path) == ["0"]


INHERITED = """
async def parent():
    await bucket.take()
    ready, go = os.pipe(), os.pipe()
    if not (pid := os.fork()):
        status = 1
        try:
            asyncio.run(child(ready[1], go[0]))
            status = 0
        finally:
            os._exit(status)
    os.read(ready[0], 1)
    await bucket.aclose()  # not the last one who has the file open, so it must leave the log where it is
    os.write(go[1], b".")
    print(os.waitpid(pid, 0)[1])
async def child(ready, go):
    for _ in range(3):
        await bucket.take()
    os.write(ready, b".")
    os.read(go, 1)
    assert os.path.exists(PATH + "-wal")
    for _ in range(3):
        await bucket.take()
asyncio.run(parent())
print(asyncio.run(SQLiteBucket(Rate(10**6, 600_000), PATH).peek()).remaining)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_locks_of_its_own(path):
    assert run(INHERITED, path) == ["0", str(10**6 - 7)]


# The loop stays on time.


async def test_a_hundred_tasks_block_no_loop(path):
    limiter = Limiter(SQLiteBucket(PLENTY, path, use_file_lock=True), async_wrapper=True)

    async def work(i):
        for _ in range(10):
            assert await limiter.try_acquire(f"name {i}")

    async with anyio.create_task_group() as tasks:
        for i in range(100):
            tasks.start_soon(work, i)
    await limiter._bucket.aclose()


async def test_a_hundred_tasks_leave_the_loop_time_for_others(path):
    bucket = SQLiteBucket(PLENTY, path)

    async def work():
        for _ in range(50):
            assert (await bucket.take()).allowed

    spent = []
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(work)
        for _ in range(50):
            before = time.thread_time()
            await anyio.sleep(0.001)
            spent.append(time.thread_time() - before)
    # By the thread's own time, since that of the wall belongs to the rest of the machine as well.
    assert sorted(spent)[len(spent) * 95 // 100] < 0.005
    await bucket.aclose()
