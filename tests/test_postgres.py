"""What PostgresBucket promises beside its decisions: tables, rights, connections, rows that go, and many at once."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pickle
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from pyrate_limiter import clocks
from pyrate_limiter.algorithms import GCRA, Algorithm, SlidingWindowLog, TokenBucket
from pyrate_limiter.buckets.outage import Admit, Fail, StoreDown
from pyrate_limiter.buckets.postgres import PostgresBucket
from pyrate_limiter.buckets.postgres import connections as connections_module
from pyrate_limiter.buckets.postgres import session as session_module
from pyrate_limiter.buckets.postgres.session import Session
from pyrate_limiter.decisions import Ask, Decision
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Duration, Rate
from pyrate_limiter.testing import ManualClock

from .hosts import HostClocks
from .postgres import OnePool, closing, database, patient, query

RATE = Rate(3, Duration.MINUTE)
both_ways = pytest.mark.parametrize("functions", [True, False], ids=["functions", "statements"])


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def dsn(postgres_dsn: str) -> Iterator[str]:
    with database(postgres_dsn) as own:
        yield own


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """A role that may use what there is in the database and make nothing."""
    name = conninfo_to_dict(dsn)["dbname"]
    query(dsn, f"CREATE ROLE {name} LOGIN")
    query(dsn, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    yield make_conninfo(dsn, user=name)
    query(dsn, f"DROP OWNED BY {name}")
    query(dsn, f"DROP ROLE {name}")


def grant(dsn: str, role: str) -> None:
    query(dsn, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {conninfo_to_dict(role)['user']}")


async def allowed(bucket: PostgresBucket, tries: int, key: str = "") -> list[bool]:
    return [bool(await bucket.take(key=key)) for _ in range(tries)]


def uses_functions(bucket: PostgresBucket) -> bool:
    return type(bucket._decide).__name__ == "DecideThere"


# Tables and rights.


@both_ways
async def test_the_first_call_makes_what_is_missing(dsn: str, functions: bool) -> None:
    async with closing(patient(RATE, dsn, "Odd \" näme's {table}: 50%, %s", functions=functions)) as bucket:
        assert await allowed(bucket, 4) == [True, True, True, False]
        assert uses_functions(bucket) == functions
        await asyncio.gather(*bucket._connections._tasks)  # the sweep
    assert query(dsn, 'SELECT count(*) FROM "Odd "" näme\'s {table}: 50%, %s"') == [1]


async def test_eight_first_uses_at_once(dsn: str) -> None:
    async with AsyncExitStack() as stack:
        buckets = [await stack.enter_async_context(closing(patient(RATE, dsn))) for _ in range(8)]
        decisions = await asyncio.gather(*(bucket.take() for bucket in buckets))
        assert sum(map(bool, decisions)) == 3
        assert all(map(uses_functions, buckets))


async def test_a_schema_before_the_table(dsn: str) -> None:
    query(dsn, "CREATE SCHEMA elsewhere")
    async with closing(patient(RATE, dsn, "elsewhere.limits")) as bucket:
        assert await allowed(bucket, 4) == [True, True, True, False]
    assert query(dsn, "SELECT count(*) FROM elsewhere.limits") == [1]


async def test_what_ddl_returns_is_enough_for_a_role_that_may_make_nothing(dsn: str, role: str) -> None:
    query(dsn, PostgresBucket.ddl("limits"))
    grant(dsn, role)
    for algorithm in (SlidingWindowLog, GCRA):
        async with closing(patient(RATE, role, "limits", algorithm=algorithm)) as bucket:
            assert await allowed(bucket, 4) == [True, True, True, False]
            assert uses_functions(bucket)


async def test_without_functions_and_the_right_to_make_them_it_decides_all_the_same(dsn: str, role: str) -> None:
    async with closing(patient(RATE, dsn, functions=False)) as bucket:
        assert await allowed(bucket, 1) == [True]
    grant(dsn, role)
    async with closing(patient(RATE, role)) as bucket:
        assert await allowed(bucket, 3) == [True, True, False]
        assert not uses_functions(bucket)
    async with closing(patient(RATE, dsn)) as bucket:
        assert await allowed(bucket, 1) == [False]
        assert uses_functions(bucket)


async def test_a_function_that_may_not_be_called_is_done_without(dsn: str, role: str) -> None:
    query(dsn, PostgresBucket.ddl())
    grant(dsn, role)
    query(dsn, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
    query(dsn, f"GRANT CREATE ON SCHEMA public TO {conninfo_to_dict(role)['user']}")  # so it tries to make its own
    async with closing(patient(RATE, role)) as bucket:
        assert await allowed(bucket, 4) == [True, True, True, False]
        assert not uses_functions(bucket)


async def test_a_function_that_vanishes_for_good_is_done_without(dsn: str, role: str) -> None:
    query(dsn, PostgresBucket.ddl())
    grant(dsn, role)
    async with closing(patient(RATE, role)) as bucket:
        await bucket.take()
        for kind in ("even", "fixed", "counter", "log"):
            query(dsn, f"DROP FUNCTION pyrate_limiter_{kind}_2")
        with pytest.raises(StoreError, match=r"does not exist|cache lookup failed"):
            await bucket.take()
        assert await allowed(bucket, 3) == [True, True, False]
        assert not uses_functions(bucket)


async def test_no_table_and_no_right_to_make_it_is_said_and_no_outage(dsn: str, role: str) -> None:
    async with closing(patient(RATE, role)) as bucket:
        with pytest.raises(StoreError, match=r'no table "pyrate_limiter".*PostgresBucket\.ddl\(\)'):
            await bucket.take()
        query(dsn, PostgresBucket.ddl())
        with pytest.raises(StoreError, match="permission denied"):
            await bucket.take()
        assert bucket.outage.outages == 0
        grant(dsn, role)
        assert await allowed(bucket, 1) == [True]


async def test_who_may_not_delete_rows_is_told_once(dsn: str, role: str, caplog: pytest.LogCaptureFixture) -> None:
    query(dsn, PostgresBucket.ddl())
    grant(dsn, role)
    query(dsn, f"REVOKE DELETE ON pyrate_limiter_pages FROM {conninfo_to_dict(role)['user']}")
    async with closing(patient(RATE, role)) as bucket:
        for _ in range(3):
            assert await bucket.take()
            await asyncio.gather(*bucket._connections._tasks)
        assert not bucket._sweeper.due
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith('rows that have expired stay in the table "pyrate_limiter": permission denied')


async def test_another_table_of_that_name_is_said(dsn: str) -> None:
    query(dsn, "CREATE TABLE pyrate_limiter (name text, score integer)")
    async with closing(patient(RATE, dsn)) as bucket:
        with pytest.raises(StoreError, match=r"name text, score integer.*give another name"):
            await bucket.take()
        assert bucket.outage.outages == 0


@pytest.mark.parametrize("pooled", [False, True], ids=["dsn", "pool"])
async def test_a_table_that_vanishes_is_said_and_made_again(dsn: str, pooled: bool) -> None:
    async with OnePool(dsn).closing() as pool, closing(patient(RATE, pool if pooled else dsn)) as bucket:
        await bucket.take()
        query(dsn, "DROP TABLE pyrate_limiter, pyrate_limiter_pages CASCADE")
        with pytest.raises(StoreError, match=r"does not exist|cache lookup failed"):
            await bucket.take()
        assert await allowed(bucket, 4) == [True, True, True, False]


@pytest.mark.parametrize("name", ["", "a.b.c", ".a", "a.", "x" * 41, "a\0", "a$function$"])
def test_a_name_that_does_not_do_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="table must be NAME"):
        patient(RATE, "dbname=x", name)


async def test_a_table_has_one_name_in_any_encoding(dsn: str) -> None:
    async with AsyncExitStack() as stack:
        for encoding, expected in (("LATIN1", 2), ("UTF8", 1)):
            bucket = patient(RATE, make_conninfo(dsn, client_encoding=encoding), "näme")
            assert (await (await stack.enter_async_context(closing(bucket))).take()).remaining == expected


# Who is turned away.


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("postgresql://me:secret@db.example:6543/limits", "db.example:6543"),
        ("hostaddr=192.0.2.1 password=secret", "192.0.2.1:5432"),
        ("", "localhost:5432"),
    ],
)
def test_a_server_has_a_name_without_a_password(dsn: str, name: str) -> None:
    assert patient(RATE, dsn).outage.store == f"PostgreSQL at {name}"
    assert patient(RATE, OnePool(dsn)).outage.store == f"PostgreSQL at {name}"


async def test_a_client_that_is_turned_away_is_told_and_that_is_no_outage(dsn: str, role: str) -> None:
    query(dsn, f"REVOKE CONNECT ON DATABASE {conninfo_to_dict(dsn)['dbname']} FROM PUBLIC")
    for wrong in (make_conninfo(dsn, dbname="nobody's"), make_conninfo(dsn, user="nobody"), role):
        async with closing(PostgresBucket(RATE, wrong, when_down=Admit(budget=20))) as bucket:
            with pytest.raises(StoreError, match=r"does not exist|permission denied"):
                await bucket.take()
            assert bucket.outage.outages == 0


@pytest.mark.parametrize(
    ("said", "down"),
    [
        ('FATAL:  password authentication failed for user "x"', False),
        ("fe_sendauth: no password supplied", False),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "x", database "y", no encryption', False),
        ('FATAL:  role "x" is not permitted to log in', False),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  sorry, too many clients already", True),
        ('FATAL:  database "x" is not currently accepting connections', True),
        ("Connection refused", True),
    ],
)
def test_what_keeps_a_client_out(said: str, down: bool) -> None:
    error = psycopg.OperationalError(f'connection to server at "::1", port 5432 failed: {said}\nand more')
    explained = patient(RATE, "dbname=x")._connections.explained(error)
    assert isinstance(explained, StoreDown) == down
    assert said in str(explained)
    assert "more" not in str(explained)


@pytest.mark.parametrize(
    ("state", "down"),
    [(state, True) for state in ("08006", "40001", "53300", "57014", "58030", "25006", "25P03", "25P04", "55P03")]
    + [(state, False) for state in ("42501", "42P01", "28P01", "3D000", "26000", "22P02")],
)
def test_which_errors_mean_that_the_server_is_down(state: str, down: bool) -> None:
    explained = patient(RATE, "dbname=x")._connections.explained(psycopg.errors.lookup(state)("said"))
    assert isinstance(explained, StoreDown) == down


def test_what_the_driver_was_asked_wrongly_is_no_outage() -> None:
    explained = patient(RATE, "dbname=x")._connections.explained(psycopg.ProgrammingError("9 placeholders"))
    assert not isinstance(explained, StoreDown)


# Keys and algorithms.


class MyOwn(SlidingWindowLog):
    """An algorithm that has no SQL function."""


async def test_an_algorithm_of_ones_own_is_decided_in_python(dsn: str) -> None:
    rates = [Rate(3, Duration.MINUTE), Rate(5, Duration.HOUR)]
    for _ in range(2):
        async with closing(patient(rates, dsn, algorithm=MyOwn)) as bucket:
            assert (await allowed(bucket, 2))[0] is True
            assert not uses_functions(bucket)
    assert query(dsn, "SELECT count(*) FROM pyrate_limiter") == [1]


async def test_buckets_with_other_rates_or_algorithms_share_nothing(dsn: str) -> None:
    async with AsyncExitStack() as stack:
        for rates, algorithm in ((RATE, GCRA), (RATE, TokenBucket), (Rate(3, 60_001), GCRA), ([RATE, RATE], GCRA)):
            bucket = await stack.enter_async_context(closing(patient(rates, dsn, algorithm=algorithm)))
            assert await allowed(bucket, 4) == [True, True, True, False]


async def test_a_long_key_is_stored_as_a_hash(dsn: str) -> None:
    async with closing(patient(Rate(1, Duration.HOUR), dsn)) as bucket:
        for key in ("ä" * 200, "ä" * 201, "ä" * 5000):
            assert await allowed(bucket, 2, key) == [True, False]
    assert max(query(dsn, "SELECT length(key) FROM pyrate_limiter")) <= 409


def test_what_no_bigint_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"up to 2\*\*62"):
        patient(Rate(2**63, 1), "dbname=x")


# Many at once.


@both_ways
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_eight_connections_count_exactly(dsn: str, functions: bool, isolation: str) -> None:
    query(dsn, f"ALTER DATABASE {conninfo_to_dict(dsn)['dbname']} SET default_transaction_isolation = '{isolation}'")
    rates = [Rate(70, Duration.HOUR), Rate(90, Duration.DAY)]
    granted: dict[str, int] = {}

    async def hammer(bucket: PostgresBucket, chance: random.Random) -> None:
        for _ in range(30):
            keys = chance.sample([f"key {i}" for i in range(10)], chance.randint(1, 10))
            for ask, answer in zip(
                asks := [Ask(key, 1) for key in keys for _ in range(2)], await bucket._apply(asks), strict=True
            ):
                granted[ask.key] = granted.get(ask.key, 0) + (not answer.wait)

    async with AsyncExitStack() as stack:
        opened = [patient(rates, dsn, functions=functions or i % 2 > 0) for i in range(8)]  # the two ways get along
        buckets = [await stack.enter_async_context(closing(bucket)) for bucket in opened]
        await asyncio.gather(*(hammer(bucket, random.Random(i)) for i, bucket in enumerate(buckets)))
    assert granted == {f"key {i}": 70 for i in range(10)}
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert query(dsn, deadlocks) == [0], "all lock in one order"


async def test_what_left_nothing_behind_is_done_again(dsn: str) -> None:
    async with closing(patient(Rate(10, Duration.HOUR), dsn)) as bucket:
        await bucket.take()
        decide, failures = bucket._decide, []

        async def fail_first(asks: Any, session: Session, seconds: float) -> Any:
            session.perhaps_done = True
            if failures:
                raise psycopg.errors.lookup(failures.pop())("said")
            return await decide(asks, session, seconds)

        bucket._decide = fail_first  # type: ignore[assignment]
        for failures in (["40001", "40P01"], ["57P01", "57P05"], ["25P03", "25P04"]):
            assert await bucket.take()
            assert not failures
        assert bucket.outage.outages == 0


@pytest.mark.parametrize("perhaps_done", [True, False])
async def test_what_was_lost_on_the_way_is_done_again_if_it_cannot_have_been_done(dsn: str, perhaps_done: bool) -> None:
    async with closing(patient(RATE, dsn)) as bucket:
        await bucket.take()
        decide = bucket._decide

        async def lose(asks: Any, session: Session, seconds: float) -> Any:
            session.perhaps_done = perhaps_done
            session.connection.pgconn.finish()
            bucket._decide = decide
            raise psycopg.OperationalError("lost")

        bucket._decide = lose  # type: ignore[assignment]
        if perhaps_done:
            with pytest.raises(StoreDown, match="lost"):
                await bucket.take()
        else:
            assert await bucket.take()


async def shown(bucket: PostgresBucket, what: str) -> Any:
    """Return what the server says to a bucket's own connection."""
    (session,) = bucket._connections._sessions.values()
    async with session.lock:  # the sweep may be about to look whether the connection is alive
        cursor = await session.connection.execute(f"SELECT {what}".encode())
        (value,) = await cursor.fetchone() or (None,)
    return value


async def test_a_connection_does_not_depend_on_what_the_database_is_set_to(dsn: str) -> None:
    wanted = {
        "default_transaction_isolation": "read committed",
        "lock_timeout": "20s",
        "idle_in_transaction_session_timeout": "1s",
        "synchronous_commit": "on",
    }
    others = {"default_transaction_isolation": "serializable", "synchronous_commit": "off", "lock_timeout": "0"}
    for name, value in others.items():
        query(dsn, f"ALTER DATABASE {conninfo_to_dict(dsn)['dbname']} SET {name} = '{value}'")
    async with closing(patient(RATE, dsn)) as bucket:
        await bucket.take()
        assert {name: await shown(bucket, f"current_setting('{name}')") for name in wanted} == wanted


@both_ways
async def test_rows_go_when_they_say_nothing_any_more(dsn: str, functions: bool) -> None:
    clock = ManualClock(10**15)
    rates = [Rate(200, Duration.SECOND), Rate(300, Duration.MINUTE)]
    async with closing(patient(rates, dsn, functions=functions, clock=clock)) as bucket:
        for i in range(150):  # enough for pages
            clock.now += 6000
            await bucket._apply([Ask(f"key {i % 2}", 1), Ask(f"looked at {i}", 0)])
        await swept(bucket)
        assert query(dsn, "SELECT count(*) FROM pyrate_limiter") == [2]
        clock.now += 62_000_000
        await bucket._apply([Ask("another", 1)])
        await swept(bucket)
        assert query(dsn, "SELECT count(*) FROM pyrate_limiter") == [1]
        assert query(dsn, "SELECT count(*) FROM pyrate_limiter_pages") == [0]


async def swept(bucket: PostgresBucket) -> None:
    """Go through the whole table once."""
    for _ in range(3):
        bucket._sweeper._next = 0.0
        await bucket._apply([Ask("another", 0)])
        while bucket._connections._tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    bucket._sweeper._block = 0


async def test_expired_rows_go_in_small_steps_and_past_those_that_are_locked(dsn: str) -> None:
    now = 10**15
    async with closing(patient(RATE, dsn, clock=ManualClock(now))) as bucket:
        await bucket.take()
        await asyncio.gather(*bucket._connections._tasks)
        expired = "INSERT INTO pyrate_limiter SELECT int4send(i), %s, '{}' FROM generate_series(1, 1200) AS i"
        query(dsn, expired, now - 1_000_001)
        query(dsn, "INSERT INTO pyrate_limiter VALUES ('young', %s, '{}')", now - 1_000_000)
        left = [1202]
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute("SELECT FROM pyrate_limiter WHERE key = int4send(7) FOR UPDATE")
            while bucket._sweeper.due or len(left) == 1:
                await bucket._connections.run(bucket._sweeper.sweep, 5)
                left += query(dsn, "SELECT count(*) FROM pyrate_limiter")
    steps = [before - after for before, after in itertools.pairwise(left)]
    assert steps[0] == max(steps) == 500
    assert left[-1] == 3


async def test_a_table_in_constant_use_does_not_grow(dsn: str) -> None:
    async with closing(patient(Rate(20, 100), dsn, synchronous_commit=False)) as bucket:
        size = 0
        for i in range(1000):
            await bucket._apply([Ask(f"key {j}", 1) for j in range(100)])
            if i == 200:
                size = query(dsn, "SELECT pg_total_relation_size('pyrate_limiter')")[0]
    assert query(dsn, "SELECT pg_total_relation_size('pyrate_limiter')")[0] <= size * 1.2
    assert query(dsn, "SELECT pg_total_relation_size('pyrate_limiter_pages')")[0] <= 16384


@both_ways
async def test_eight_connections_at_the_same_rows_let_no_table_grow(dsn: str, functions: bool) -> None:
    asks = [Ask(f"key {i}", 1) for i in range(100)]
    async with AsyncExitStack() as stack:
        made = [patient(Rate(1000, 1000), dsn, functions=functions, synchronous_commit=False) for _ in range(8)]
        buckets = [await stack.enter_async_context(closing(bucket)) for bucket in made]
        await buckets[0]._apply(asks)
        query(dsn, "ALTER TABLE pyrate_limiter SET (autovacuum_enabled = off)")

        async def hammer(bucket: PostgresBucket) -> None:
            for _ in range(15):
                await bucket._apply(asks)

        await asyncio.gather(*(hammer(bucket) for bucket in buckets))
    assert query(dsn, "SELECT pg_relation_size('pyrate_limiter') / 8192")[0] < 200  # pages: one for each row, and some


# Connections.


async def test_a_connection_that_was_ended_while_idle_is_renewed_without_a_word(dsn: str) -> None:
    async with closing(patient(Rate(1000, Duration.HOUR), dsn)) as bucket:
        for i in range(1, 6):
            assert (await bucket.take()).remaining == 1000 - i
            query(dsn, "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


async def test_one_bucket_has_one_connection_in_a_loop(dsn: str) -> None:
    async with closing(patient(Rate(1000, Duration.HOUR), dsn)) as bucket:
        await bucket.take()
        backend = backend_of(bucket)
        await asyncio.gather(*(bucket.take(key=str(i)) for i in range(300)))
        assert connections(dsn) == 1
        assert backend_of(bucket) == backend, "it is kept"
    assert connections(dsn) == 0


def connections(dsn: str) -> int:
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return int(query(dsn, others)[0])


def test_a_loop_that_ends_closes_its_connection(dsn: str) -> None:
    bucket = patient(Rate(30, Duration.HOUR), dsn)
    before = len(os.listdir("/proc/self/fd"))
    for i in range(1, 21):
        assert asyncio.run(taken(bucket)).remaining == 30 - i
    assert len(os.listdir("/proc/self/fd")) <= before + 8


def test_two_threads_may_tidy_up_after_the_same_loop(dsn: str) -> None:
    class Ended(asyncio.SelectorEventLoop):
        def is_closed(self) -> bool:
            sessions.pop(self, None)  # as another thread does, at this very moment
            return True

    bucket = patient(RATE, dsn)
    sessions, loop = bucket._connections._sessions, Ended()
    sessions[loop] = Session(loop)
    assert asyncio.run(taken(bucket))
    del Ended.is_closed
    loop.close()


def test_a_bucket_that_is_dropped_says_nothing(dsn: str) -> None:
    async def drop() -> None:
        for _ in range(3):
            await taken(patient(RATE, dsn))
            gc.collect()

    asyncio.run(drop())
    gc.collect()


async def taken(bucket: PostgresBucket) -> Any:
    return await bucket.take()


def test_a_forked_child_has_a_connection_of_its_own(dsn: str) -> None:
    bucket = patient(Rate(10, Duration.HOUR), dsn)

    async def parent() -> list[int]:
        before = (await bucket.take()).remaining
        backend = backend_of(bucket)
        await asyncio.gather(*bucket._connections._tasks)  # the sweep has the session in its hands
        child = os.fork()
        if child == 0:
            remaining = -1
            try:
                asyncio._set_running_loop(None)
                bucket._connections._sessions.clear()  # as if nobody had them any more: what goes may say good-bye
                gc.collect()
                remaining = asyncio.new_event_loop().run_until_complete(taken(bucket)).remaining
            finally:
                os._exit(remaining)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        after = (await bucket.take()).remaining
        assert backend_of(bucket) == backend, "the child ended the parent's session"
        return [before, os.waitstatus_to_exitcode(status), after]

    assert asyncio.run(parent()) == [9, 8, 7]


def backend_of(bucket: PostgresBucket) -> int:
    (session,) = bucket._connections._sessions.values()
    return session.connection.info.backend_pid


def test_a_forked_child_does_not_wait_for_the_breakers_lock() -> None:
    bucket = patient(RATE, "dbname=x")
    bucket.outage._lock.acquire()  # as another thread of the parent had it
    bucket._forked()
    assert not bucket.outage._lock.locked()


async def test_a_connection_that_is_had_too_late_is_left_to_the_next(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host, set_up = HostClocks(monkeypatch, connections_module), connections_module.set_up
    async with closing(PostgresBucket(RATE, dsn, when_down=Fail(budget=20, probe=0.001))) as bucket:
        prepare = bucket._connections._prepare

        async def set_up_slowly(*arguments: Any) -> int:
            host.ahead += 5
            return await set_up(*arguments)

        async def prepare_slowly(connection: Any) -> None:
            host.ahead += 10
            await prepare(connection)

        monkeypatch.setattr(connections_module, "set_up", set_up_slowly)
        bucket._connections._prepare = prepare_slowly
        with pytest.raises(StoreDown, match="reached too late"):  # in 5 seconds, while a trip takes as much
            await bucket.take()
        backend = backend_of(bucket)
        await asyncio.sleep(0.002)
        assert (await bucket.take()).remaining == 2
        assert backend_of(bucket) == backend


def test_a_bucket_with_a_dsn_can_be_pickled(dsn: str) -> None:
    bucket = patient(RATE, dsn, "limits", algorithm=GCRA, synchronous_commit=False, functions=False)
    asyncio.run(taken(bucket))
    other = pickle.loads(pickle.dumps(bucket))
    assert other._arguments == bucket._arguments
    assert asyncio.run(taken(other)).remaining == 1
    with pytest.raises(TypeError, match="give a DSN"):
        pickle.dumps(patient(RATE, OnePool(dsn)))


async def test_a_connection_of_a_pool_goes_back_as_it_came(dsn: str) -> None:
    async with OnePool(dsn).closing() as pool:
        mine = await pool.getconn()
        await mine.execute("SET lock_timeout = '7s'")
        await mine.commit()
        await pool.putconn(mine)
        async with closing(patient(RATE, pool)) as bucket:
            assert await allowed(bucket, 4) == [True, True, True, False]
            assert pool.lent == 1
            query(dsn, "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            assert await allowed(bucket, 1) == [False]
            assert pool.lent == 1
        mine = await pool.getconn()
        await mine.execute("SET lock_timeout = '7s'")
        await mine.commit()
        await pool.putconn(mine)
        async with closing(patient(RATE, pool)) as bucket:
            await bucket.take()
        assert pool.lent == 0
        assert await pool.getconn() is mine
        assert not mine.autocommit
        cursor = await mine.execute("SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')")
        assert await cursor.fetchone() == ("7s", "on")
        await pool.putconn(mine)


@both_ways
@pytest.mark.parametrize(
    "manners",
    [
        {"row_factory": dict_row},
        {"cursor_factory": psycopg.AsyncRawCursor},
        {"cursor_factory": psycopg.AsyncClientCursor, "autocommit": True},
        {"prepare_threshold": None},
        {"options": "-c search_path=elsewhere -c default_transaction_isolation=serializable"},
    ],
    ids=lambda manners: next(iter(manners)),
)
async def test_a_pool_may_have_manners_of_its_own(dsn: str, functions: bool, manners: dict[str, Any]) -> None:
    query(dsn, "CREATE SCHEMA elsewhere")
    async with OnePool(dsn, **manners).closing() as pool:
        async with closing(patient(RATE, pool, functions=functions)) as bucket:
            assert await allowed(bucket, 4) == [True, True, True, False]
        mine = await pool.getconn()
        assert {name: getattr(mine, name) for name in manners if name != "options"}.items() <= manners.items()
        await pool.putconn(mine)
    made_in = query(dsn, "SELECT schemaname FROM pg_tables WHERE tablename = 'pyrate_limiter'")
    assert made_in == ["elsewhere" if "options" in manners else "public"]


async def test_a_connection_that_could_not_be_taken_over_does_not_go_back_half_changed(dsn: str) -> None:
    async with OnePool(dsn).closing() as pool:
        mine = await pool.getconn()
        await mine.execute("BEGIN")  # so that its manners cannot be changed
        await pool.putconn(mine)
        async with closing(patient(RATE, pool)) as bucket:
            with pytest.raises(StoreError):
                await bucket.take()
            assert mine.closed
            assert pool.lent == 0


@pytest.mark.parametrize("pooled", [False, True], ids=["dsn", "pool"])
async def test_a_connection_to_a_server_that_only_reads_is_not_kept(dsn: str, pooled: bool) -> None:
    query(dsn, PostgresBucket.ddl())
    (name,) = query(dsn, "SELECT current_database()")
    query(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with OnePool(dsn).closing() as pool:
        policy = Fail(budget=20, probe=0.001)
        async with closing(PostgresBucket(RATE, pool if pooled else dsn, when_down=policy)) as bucket:
            with pytest.raises(StoreDown, match="read-only"):
                await bucket.take()
            query(make_conninfo(dsn, dbname="postgres"), f"ALTER DATABASE {name} RESET ALL")
            await asyncio.sleep(0.002)
            assert await allowed(bucket, 4) == [True, True, True, False]
        assert pool.lent == 0


def test_on_trio_it_says_what_to_use_instead(dsn: str) -> None:
    async def main() -> None:
        bucket = patient(RATE, dsn)
        with pytest.raises(StoreError, match="asyncio only"):
            await bucket.take()
        await bucket.aclose()

    trio.run(main)


async def once_in_time(call: Callable[[], Awaitable[Decision]]) -> Decision:
    """Return what the server answers in time: a busy machine may need a second call."""
    while True:
        with suppress(StoreDown):
            return await call()
        await asyncio.sleep(0.01)


async def test_a_row_that_stays_locked_is_a_slow_store_and_no_refusal(dsn: str) -> None:
    async with closing(PostgresBucket(RATE, dsn, when_down=Fail(budget=0.2, probe=0.01))) as bucket:
        await once_in_time(bucket.take)
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute("SELECT FROM pyrate_limiter FOR UPDATE")
            with pytest.raises(StoreDown, match=r"lock timeout|did not answer within 200 ms"):
                await bucket.take()


async def test_a_lock_that_is_not_to_be_had_in_time_is_a_slow_store(dsn: str) -> None:
    async with closing(patient(RATE, dsn)) as bucket:
        bucket._connections.settings["lock_timeout"] = "50ms"
        await bucket.take()
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute("SELECT FROM pyrate_limiter FOR UPDATE")
            with pytest.raises(StoreDown, match="lock timeout"):
                await bucket.take()


@both_ways
async def test_the_clock_is_read_after_the_row_is_locked(dsn: str, functions: bool) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with closing(patient(RATE, dsn, functions=functions)) as bucket:
        await bucket.take()
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute("SELECT FROM pyrate_limiter FOR UPDATE")
            taking = asyncio.create_task(bucket.take())
            while query(dsn, waiting) == [0]:
                assert not taking.done()
                await asyncio.sleep(0.001)
            (held_at,) = query(dsn, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            await other.commit()
        assert (await taking).at >= held_at


@both_ways
async def test_a_clock_that_seems_to_be_late_is_read_again(dsn: str, functions: bool) -> None:
    async with closing(patient(RATE, dsn, functions=functions)) as bucket:
        await bucket.take()
        for session in bucket._connections._sessions.values():
            session.set_clock(0)  # as if the server's clock had been put forward
        assert (await bucket.take()).remaining == 1


@both_ways
async def test_what_the_server_comes_to_too_late_spends_nothing(
    dsn: str, functions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with closing(PostgresBucket(RATE, dsn, functions=functions, when_down=Fail(probe=0.01))) as bucket:
        await once_in_time(bucket.peek)
        with monkeypatch.context() as patched:
            patched.setattr(Session, "deadline", lambda self, seconds: 0)
            with pytest.raises(StoreDown, match=r"too late|did not answer"):
                await bucket.take()
        assert (await once_in_time(bucket.peek)).remaining == 3


@both_ways
async def test_a_clock_that_is_set_back_is_said(
    dsn: str, functions: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "_warned", float("-inf"))
    clock = ManualClock(10**15)
    async with closing(patient(RATE, dsn, functions=functions, clock=clock)) as bucket:
        await bucket.take()
        clock.now -= 10_000_000
        assert (await bucket.take()).at == 10**15 - 10_000_000
    (said,) = [record.getMessage() for record in caplog.records]
    assert "10.0 s" in said


@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA])
async def test_stamps_are_the_servers(dsn: str, algorithm: type[Algorithm]) -> None:
    clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    async with closing(patient(RATE, dsn, algorithm=algorithm)) as bucket:
        (before,) = query(dsn, clock)
        decision = await bucket.take()
        assert before <= decision.at <= query(dsn, clock)[0]


@both_ways
async def test_the_clocks_of_clients_do_not_matter(dsn: str, functions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostClocks(monkeypatch, connections_module, session_module)
    behind, right, ahead = (patient(Rate(20, 20_000), dsn, functions=functions) for _ in range(3))
    async with closing(behind), closing(right), closing(ahead):
        granted = 0
        for _ in range(20):
            for host.ahead, bucket in ((-30, behind), (0, right), (30, ahead)):
                granted += bool(await bucket.take())
    assert granted == 20


async def test_a_commit_that_does_not_wait_is_a_choice(dsn: str) -> None:
    for choice, setting in ((True, "on"), (False, "off")):
        async with closing(patient(RATE, dsn, synchronous_commit=choice)) as bucket:
            await bucket.take()
            assert await shown(bucket, "current_setting('synchronous_commit')") == setting
