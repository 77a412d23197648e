"""PostgresBucket while the server is paused, restarted, out of reach or far away, and its connections are cut."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pyrate_limiter.algorithms import GCRA, Algorithm, SlidingWindowLog
from pyrate_limiter.buckets.outage import Admit, Fail, LocalShare, Refuse, StoreDown
from pyrate_limiter.buckets.postgres import PostgresBucket
from pyrate_limiter.buckets.postgres.leaving import free_to_leave
from pyrate_limiter.buckets.postgres.session import Session
from pyrate_limiter.decisions import Ask
from pyrate_limiter.rates import Duration, Rate
from pyrate_limiter.testing.stamps import most_in_any

from .postgres import SHARED, OnePool, closing, database, patient, query, work
from .proxy import Proxy
from .servers import PostgresServer

BUDGET = 0.25
SPARE = 0.05
MANY = Rate(1000, Duration.HOUR)
both_ways = pytest.mark.parametrize("functions", [True, False], ids=["functions", "statements"])


ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")
UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop")
both_loops = pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], indirect=True)
each_loop_and_each_way = pytest.mark.parametrize(
    ("anyio_backend", "functions"),
    [
        pytest.param(*ASYNCIO.values, True, id="asyncio-functions"),
        pytest.param(*UVLOOP.values, False, id="asyncio+uvloop-statements"),
    ],
    indirect=["anyio_backend"],
)


@pytest.fixture(scope="module", params=[UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as own:
        yield own


@pytest.fixture
def dsn(server: PostgresServer) -> Iterator[str]:
    with database(server.url) as own:
        yield own
        server.resume()


@each_loop_and_each_way
async def test_a_paused_server_costs_the_budget_once_and_spends_nothing_when_it_wakes(
    server: PostgresServer, dsn: str, functions: bool
) -> None:
    policy = Fail(budget=BUDGET, probe=0.3)
    async with closing(PostgresBucket(MANY, dsn, functions=functions, when_down=policy)) as bucket:
        left = await left_when_ready(bucket)
        outages = bucket.outage.outages
        await asyncio.to_thread(server.pause)
        try:
            started, lasted = time.monotonic(), []
            async with ticking() as lags:
                while time.monotonic() < started + 2:
                    lasted += await asyncio.gather(*(refused(bucket) for _ in range(20)))
                    await asyncio.sleep(0.02)
        finally:
            server.resume()
        assert max(lasted) < BUDGET + SPARE + max(lags)
        assert sum(one > 0.1 for one in lasted) <= 20 * 9, "only those in a probe wait"
        resumed = time.monotonic()
        while not await succeeds(bucket):
            assert time.monotonic() < resumed + 2 * (policy.probe + BUDGET)
            await asyncio.sleep(0.01)
        assert (await bucket.peek()).remaining == left - 1
        assert bucket.outage.outages == outages + 1


async def left_when_ready(bucket: PostgresBucket) -> int:
    """Return what is left, once the server answers in time: a busy machine may need a second call."""
    while True:
        with suppress(StoreDown):
            decision = await bucket.peek()
            if not decision.degraded:
                return decision.remaining
        await asyncio.sleep(0.02)


async def refused(bucket: PostgresBucket) -> float:
    """Return how long it took until the call failed."""
    started = time.monotonic()
    with pytest.raises(StoreDown, match="PostgreSQL at 127"):
        await bucket.take()
    return time.monotonic() - started


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """Collect by how much this machine lets the event loop oversleep."""
    lags = [0.0]

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            lags.append(time.monotonic() - began - 0.001)

    ticker = asyncio.create_task(tick())
    try:
        yield lags
    finally:
        ticker.cancel()


async def succeeds(bucket: PostgresBucket) -> bool:
    try:
        await bucket.take()
    except StoreDown:
        return False
    return True


@pytest.mark.parametrize("policy", [Refuse, Admit, lambda **times: LocalShare(0.002, **times)])
async def test_while_it_is_paused_the_policy_decides(server: PostgresServer, dsn: str, policy: Any) -> None:
    when_down = policy(budget=0.1, probe=0.1)
    async with closing(PostgresBucket(MANY, dsn, when_down=when_down)) as bucket:
        left = await left_when_ready(bucket)
        await asyncio.to_thread(server.pause)
        try:
            decisions = [await bucket.take() for _ in range(5)]
        finally:
            server.resume()
        assert all(decision.degraded for decision in decisions)
        admitted = sum(decision.allowed for decision in decisions)
        assert admitted == {Refuse: 0, Admit: 5}.get(policy, 2)
        while (decision := await bucket.take()).degraded:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert decision.remaining == left - 1


@both_loops
@both_ways
async def test_a_call_that_is_cancelled_does_not_wait_for_a_paused_server(
    server: PostgresServer, dsn: str, functions: bool
) -> None:
    async with closing(patient(MANY, dsn, functions=functions)) as bucket:
        await bucket.take()
        await asyncio.to_thread(server.pause)
        call = asyncio.create_task(bucket._apply([Ask("", 1)]))
        await asyncio.sleep(0.05)
        call.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await call
        took = time.monotonic() - began
        server.resume()
        assert took < 1, "psycopg waits for five seconds"
        assert (await bucket.take()).remaining in (998, 997)


@both_loops
async def test_a_pipeline_that_is_cancelled_inside_does_not_wait_for_a_paused_server(
    server: PostgresServer, dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:

        async def work() -> None:
            async with connection.pipeline():  # which waits for its answers on the way out
                await connection.execute("SELECT 1")
                await asyncio.Event().wait()

        async def leave() -> None:
            await free_to_leave(connection, work())

        await asyncio.to_thread(server.pause)
        call = asyncio.create_task(leave())
        await asyncio.sleep(0.05)
        call.cancel()
        began = time.monotonic()
        done, _ = await asyncio.wait({call}, timeout=3)
        took = time.monotonic() - began
        server.resume()
        assert done, "it waits for the server"
        assert call.cancelled()
        assert took < 1
        assert connection.closed


async def test_a_connection_that_was_left_is_closed_whatever_its_user_made_of_that(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:

        async def work() -> None:
            with suppress(psycopg.OperationalError):
                await asyncio.Event().wait()

        async def leave() -> None:
            await free_to_leave(connection, work())

        call = asyncio.create_task(leave())
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert connection.closed


async def test_a_pool_whose_server_is_paused_costs_the_budget(server: PostgresServer, dsn: str) -> None:
    async with OnePool(dsn).closing() as pool:
        await pool.putconn(await pool.getconn())
        await asyncio.to_thread(server.pause)
        async with closing(PostgresBucket(MANY, pool, when_down=Fail(budget=BUDGET))) as bucket:
            assert await refused(bucket) < 1
            server.resume()
        assert pool.lent == 0


async def test_what_was_borrowed_of_a_paused_server_goes_back_in_time(server: PostgresServer, dsn: str) -> None:
    async with OnePool(dsn).closing() as pool, closing(PostgresBucket(MANY, pool, when_down=Fail(budget=20))) as bucket:
        await bucket.take()
        await asyncio.to_thread(server.pause)
        try:
            await asyncio.wait_for(bucket.aclose(), 5)
        finally:
            server.resume()
        assert pool.lent == 0


async def test_what_is_done_in_the_background_is_waited_for_no_longer_than_a_moment(dsn: str) -> None:
    began = asyncio.Event()

    async def hang(session: Session, _: float) -> None:
        began.set()
        await session.connection.execute("SELECT pg_sleep(60)")

    async with OnePool(dsn).closing() as pool, closing(patient(MANY, pool)) as bucket:
        await bucket.take()
        bucket._connections.in_background(hang, 60)
        await began.wait()
        await asyncio.wait_for(bucket.aclose(), 10)
        assert pool.lent == 0


async def test_what_was_borrowed_and_is_broken_goes_back_without_a_word(dsn: str) -> None:
    async with OnePool(dsn).closing() as pool, closing(patient(MANY, pool)) as bucket:
        await bucket.take()
        query(dsn, "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await bucket.aclose()
        assert pool.lent == 0


@both_ways
async def test_a_restart_in_the_middle(server: PostgresServer, dsn: str, functions: bool) -> None:
    granted, failed = 0, 0
    policy = Fail(budget=2, probe=0.05)
    async with closing(PostgresBucket(MANY, dsn, functions=functions, when_down=policy)) as bucket:
        restart = None
        while restart is None or not restart.done() or not await succeeds(bucket):
            got = await asyncio.gather(*(succeeds(bucket) for _ in range(5)))
            granted, failed = granted + sum(got), failed + 5 - sum(got)
            if granted >= 50 and restart is None:
                restart = asyncio.create_task(asyncio.to_thread(server.restart))
            await asyncio.sleep(0.005)
        spent = 1000 - (await bucket.peek()).remaining
    assert granted + 1 <= spent <= granted + 1 + failed
    assert failed


@each_loop_and_each_way
async def test_connections_that_are_cut_all_the_time_admit_nothing_twice(dsn: str, functions: bool) -> None:
    granted, failed, in_peace = 0, 0, 0
    policy = Fail(budget=2, probe=0.001)
    async with closing(PostgresBucket(MANY, dsn, functions=functions, when_down=policy)) as bucket:
        for i in range(60):
            tasks = [asyncio.create_task(succeeds(bucket)) for _ in range(3)]
            if i % 3 == 0:
                await asyncio.to_thread(terminate, dsn)
            got = await asyncio.gather(*tasks)
            in_peace += sum(got) if i % 3 else 0
            while not got[-1]:  # the server is found again by the first who asks after the probe's time
                await asyncio.sleep(0.002)
                got.append(await succeeds(bucket))
            granted, failed = granted + sum(got), failed + len(got) - sum(got)
        spent = 1000 - (await bucket.peek()).remaining
    assert granted <= spent <= granted + failed
    assert in_peace == 120


def terminate(dsn: str) -> None:
    query(
        dsn,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@both_ways
async def test_a_connection_that_takes_longer_than_a_decision_may_is_had_all_the_same(
    server: PostgresServer, dsn: str, functions: bool
) -> None:
    query(dsn, PostgresBucket.ddl())
    with Proxy(server.port, delay=0.02) as proxy:
        policy = Fail(budget=0.07 if functions else 0.12, probe=0.01)  # a decision takes 0.04 or 0.08
        far = make_conninfo(dsn, port=proxy.port)
        async with closing(PostgresBucket(MANY, far, functions=functions, when_down=policy)) as bucket:
            async with asyncio.timeout(20):
                assert await left_when_ready(bucket) == 1000


async def test_a_first_call_waits_no_longer_than_any_other(dsn: str) -> None:
    async with closing(PostgresBucket(MANY, dsn, when_down=Fail(budget=BUDGET, probe=0.01))) as bucket:
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute(PostgresBucket.ddl().encode())  # who makes the same must wait whether it stays
            async with ticking() as lags:
                assert await refused(bucket) < BUDGET + SPARE + max(lags)
            (session,) = bucket._connections._sessions.values()
            opening = session.opening
            await asyncio.sleep(BUDGET)
            assert session.opening is opening is not None, "it waits as long as it takes"
            await other.rollback()
        assert await left_when_ready(bucket) == 1000


async def test_who_closes_a_bucket_leaves_a_connection_that_is_being_opened(server: PostgresServer, dsn: str) -> None:
    await asyncio.to_thread(server.pause)
    bucket = PostgresBucket(MANY, dsn, when_down=Fail(budget=0.05))
    await refused(bucket)
    (session,) = bucket._connections._sessions.values()
    assert session.opening
    await asyncio.wait_for(bucket.aclose(), 3)  # an opening gives up after five
    assert session.opening is None


async def test_nobody_listens(server: PostgresServer, dsn: str) -> None:
    async with closing(PostgresBucket(MANY, make_conninfo(dsn, port=1))) as bucket:
        assert await refused(bucket) < BUDGET
        assert await refused(bucket) < 0.01


@both_ways
async def test_a_connection_that_a_proxy_drops_while_idle_is_renewed(
    server: PostgresServer, dsn: str, functions: bool
) -> None:
    with Proxy(server.port, delay=0.002) as proxy:
        async with closing(patient(MANY, make_conninfo(dsn, port=proxy.port), functions=functions)) as bucket:
            for left in range(999, 995, -1):
                assert (await bucket.take()).remaining == left
                await asyncio.to_thread(proxy.drop)
                await asyncio.sleep(0.05)


@both_ways
async def test_a_proxy_that_stalls(server: PostgresServer, dsn: str, functions: bool) -> None:
    with Proxy(server.port, delay=0.002) as proxy:
        policy = Fail(budget=0.3, probe=0.05)
        far = make_conninfo(dsn, port=proxy.port)
        async with closing(PostgresBucket(MANY, far, functions=functions, when_down=policy)) as bucket:
            left = await left_when_ready(bucket)
            await asyncio.to_thread(proxy.stall)
            async with ticking() as lags:
                took = await refused(bucket)
            assert took < 0.3 + SPARE + max(lags)
            await asyncio.sleep(0.1)
            (session,) = bucket._connections._sessions.values()
            assert not session.lock.locked(), "what was given up goes on"
            await asyncio.to_thread(proxy.flow)
            while not await succeeds(bucket):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert left - 2 <= (await bucket.peek()).remaining <= left - 1


async def test_a_thousand_callers_far_away_share_a_few_calls(server: PostgresServer, dsn: str) -> None:
    with Proxy(server.port, delay=0.005) as proxy:
        far = make_conninfo(dsn, port=proxy.port)
        async with closing(patient(Rate(600, Duration.HOUR), far)) as bucket:
            await bucket.peek()
            bucket._sweeper._next = float("inf")
            before, served = proxy.pieces, []

            async def acquire(place: int) -> None:
                await bucket.acquire()
                served.append(place)

            tasks = [asyncio.create_task(acquire(place)) for place in range(1000)]
            while len(served) < 600:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await bucket.peek()
            assert served == list(range(600))
            assert proxy.pieces - before <= 20
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.alone
async def test_one_process_far_from_its_server_reaches_the_limit(server: PostgresServer, dsn: str) -> None:
    with Proxy(server.port, delay=0.01) as proxy:
        async with closing(patient(Rate(100, 200), make_conninfo(dsn, port=proxy.port))) as bucket:
            await bucket.peek()
            stamps = sorted([d.at for d in await asyncio.gather(*(bucket.acquire() for _ in range(400)))])
    # Four windows' worth in three intervals, and for each wait a trip and what the machine adds.
    assert stamps[-1] - stamps[0] < 3 * 200_000 + 300_000


@pytest.mark.alone
@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA])
def test_four_processes_share_fairly_and_never_pass_the_limit(dsn: str, algorithm: type[Algorithm]) -> None:
    query(dsn, PostgresBucket.ddl())
    context = multiprocessing.get_context("spawn")
    results, start = context.Queue(), context.Barrier(4)
    processes = [context.Process(target=work, args=(dsn, algorithm, 4, start, results)) for _ in range(4)]
    for process in processes:
        process.start()
    reports = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(10)
    bound = PostgresBucket(SHARED, dsn, algorithm=algorithm).rule.at_most(500_000)
    assert most_in_any(500_000, [decision for decisions, _ in reports for decision in decisions]) <= bound
    assert min(count for _, served in reports for count in served) > 0
    shares = [len(decisions) for decisions, _ in reports]
    assert max(shares) <= 2 * min(shares), shares
