"""The sync face: real threads, portals, forks, interrupts and exits."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import pytest

from pyrate_limiter import (
    GCRA,
    AbstractBucket,
    Answer,
    Ask,
    Decision,
    Duration,
    FixedWindow,
    InMemoryBucket,
    Limiter,
    LimiterDelayException,
    Rate,
    SlidingWindowLog,
    blocking,
)
from pyrate_limiter.bucket.forks import forks
from pyrate_limiter.testing import ScriptedStore
from pyrate_limiter.testing.stamps import most_in_any

from .programs import run_program


def in_threads(count: int, function: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("make", [InMemoryBucket, ScriptedStore], ids=["memory", "scripted"])
def test_a_thread_without_a_loop_waits(make: Any) -> None:
    limiter = Limiter(make(Rate(2, 100)), buffer_ms=0)
    decisions = [limiter.sync.acquire() for _ in range(5)]
    assert most_in_any(100_000, decisions) == 2
    assert decisions[-1].waited > 0
    assert limiter.try_acquire() is True
    with pytest.raises(LimiterDelayException):
        limiter.sync.acquire(timeout=0)
    limiter.close()


def test_eight_threads_and_four_loops_share_one_limiter() -> None:
    limiter = Limiter(InMemoryBucket(Rate(40, 200)), buffer_ms=0)
    decisions: list[Decision] = []

    def waits_and_does_not() -> None:
        for _ in range(10):
            decisions.append(limiter.sync.acquire())
            decisions.append(limiter.sync.take())

    async def on_a_loop() -> None:
        for _ in range(2):
            decisions.extend(await asyncio.gather(*(limiter.acquire() for _ in range(5))))
            decisions.append(await limiter.take())

    loops = [threading.Thread(target=lambda: asyncio.run(on_a_loop())) for _ in range(4)]
    for loop in loops:
        loop.start()
    in_threads(8, waits_and_does_not)
    for loop in loops:
        loop.join(60)
    assert sum(decision.allowed for decision in decisions) >= 80 + 40
    assert most_in_any(200_000, decisions) <= 40
    assert not limiter._bucket._rooms


def test_first_use_from_many_threads_makes_one_portal() -> None:
    output = run_program("""
        import threading
        from pyrate_limiter import Limiter, Rate
        from pyrate_limiter.testing import ScriptedStore

        limiter = Limiter(ScriptedStore(Rate(100, 1000)))
        barrier = threading.Barrier(16)
        def use():
            barrier.wait()
            limiter.sync.acquire()
        threads = [threading.Thread(target=use) for _ in range(16)]
        for t in threads: t.start()
        for t in threads: t.join()
        print([t.name for t in threading.enumerate() if t is not threading.main_thread()])
    """)
    assert output.strip() == "['pyrate_limiter portal']"


def test_worker_threads_of_anyio_wait_on_their_own_loop() -> None:
    limiter = Limiter(ScriptedStore(Rate(5, Duration.HOUR)))
    before = threading.active_count()

    async def main() -> list[bool]:
        return [await anyio.to_thread.run_sync(lambda: limiter.sync.take().allowed) for _ in range(6)]

    for backend in ("asyncio", "trio"):
        limiter.sync.reset() if backend == "trio" else None
        assert anyio.run(main, backend=backend) == [True] * 5 + [False]
    assert threading.active_count() <= before + 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_thread_asks_on_the_loop_that_started_it(backend: str) -> None:
    store = ScriptedStore(Rate(5, Duration.HOUR))
    asked_in: list[threading.Thread] = []
    store.fail = lambda _: asked_in.append(threading.current_thread())
    limiter = Limiter(store)

    async def main() -> None:
        await anyio.to_thread.run_sync(limiter.sync.acquire)
        await anyio.to_thread.run_sync(limiter.try_acquire)

    anyio.run(main, backend=backend)
    assert asked_in == [threading.main_thread()] * 2


@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA, FixedWindow])
def test_hasty_threads_get_exactly_the_limit(algorithm: Any, hasty_threads: None) -> None:
    limiter = Limiter(InMemoryBucket(Rate(2000, Duration.WEEK), algorithm=algorithm), keyed=True)
    granted: list[object] = []

    def take_both_ways() -> None:
        for _ in range(250):
            granted.extend([limiter.sync.take("a")] if limiter.sync.peek("a") else [])
            granted.extend([1] if limiter.try_acquire("a", blocking=False) else [])

    in_threads(8, take_both_ways)
    assert len([one for one in granted if one]) == 2000
    assert limiter.sync.peek("a").remaining == 0


def test_an_interrupt_while_waiting_spends_nothing() -> None:
    limiter = Limiter(InMemoryBucket(Rate(1, 400)), buffer_ms=0)
    limiter.sync.acquire()
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        limiter.sync.acquire()
    time.sleep(0.5)
    assert limiter.sync.peek().remaining == 1
    assert limiter._bucket.statistics().waiting == 0


def test_an_interrupt_as_the_portal_starts_does_not_hang() -> None:
    output = run_program("""
        import os, signal, threading
        import anyio.from_thread
        from pyrate_limiter import InMemoryBucket, Limiter, Rate

        real = anyio.from_thread.run_eventloop
        def interrupted(*args, **options):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            threading.Event().wait(0.3)  # the interrupt comes first
            return real(*args, **options)
        anyio.from_thread.run_eventloop = interrupted

        limiter = Limiter(Rate(1, 300), buffer_ms=0)
        limiter.sync.acquire()
        threading.Timer(15, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)).start()
        try:
            limiter.sync.acquire()
        except KeyboardInterrupt:
            print("interrupted", limiter.sync.acquire().allowed, flush=True)
        os._exit(0)  # without the timer
    """)
    assert output.strip() == "interrupted True"


@pytest.mark.may_block  # that is how the loop is late to begin
def test_an_interrupt_as_the_wait_begins_leaves_nobody_behind() -> None:
    limiter = Limiter(InMemoryBucket(Rate(1, Duration.HOUR)))
    limiter.sync.acquire()
    with pytest.raises(LimiterDelayException):
        limiter.sync.acquire(timeout=0.001)  # now the portal runs
    held, interrupt = threading.Event(), threading.Event()

    def holds_the_loop() -> None:
        held.set()
        interrupt.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        threading.Event().wait(0.2)  # the interrupt comes first

    future = blocking._portal._started().start_task_soon(holds_the_loop)
    held.wait(10)
    with pytest.raises(KeyboardInterrupt):
        interrupt.set()
        limiter.sync.acquire()
    future.result(10)
    limiter.sync.peek()  # the loop has come to whatever it was told before
    end = time.monotonic() + 5
    while limiter.statistics().waiting and time.monotonic() < end:
        time.sleep(0.01)
    assert not limiter.statistics().waiting


def test_loops_in_threads_get_exactly_what_a_scripted_store_has(hasty_threads: None) -> None:
    store = ScriptedStore(Rate(2000, Duration.WEEK), algorithm=GCRA, delay=0)
    taken: list[Decision] = []

    async def worker() -> None:
        taken.extend([await store.take() for _ in range(600)])

    in_threads(4, lambda: asyncio.run(worker()))
    assert sum(decision.allowed for decision in taken) == store.granted == 2000


class InterruptsAsItGrants(ScriptedStore):
    """Interrupts the main thread when it has granted, and lets that come first."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = await super()._apply(asks)
        if self.armed and asks[0].cost > 0:
            self.armed = False
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            threading.Event().wait(0.3)
        return answers

    armed = True


@pytest.mark.may_block  # that is how the interrupt comes first
@pytest.mark.parametrize("call", ["acquire", "take", "try_acquire"])
def test_an_interrupt_at_the_moment_of_the_grant_spends_nothing(call: str) -> None:
    store = InterruptsAsItGrants(Rate(5, Duration.HOUR))
    limiter = Limiter(store)
    with pytest.raises(KeyboardInterrupt):
        limiter.try_acquire("a", 2) if call == "try_acquire" else getattr(limiter.sync, call)("a", 2)
    end = time.monotonic() + 10
    while limiter.sync.peek().remaining < 5 and time.monotonic() < end:
        time.sleep(0.01)
    assert store.granted == 0


@pytest.mark.parametrize("make", [InMemoryBucket, ScriptedStore], ids=["memory", "scripted"])
@pytest.mark.parametrize("how", ["refund", "reset"])
def test_what_a_thread_gives_back_wakes_those_who_wait_on_a_loop(make: Any, how: str) -> None:
    limiter = Limiter(make(Rate(1, Duration.HOUR)))
    first = limiter.sync.acquire()

    async def main() -> Decision:
        waits = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.05)
        give_back = limiter.sync.reset if how == "reset" else partial(limiter.sync.refund, first)
        thread = threading.Thread(target=give_back)
        thread.start()
        async with asyncio.timeout(20):
            decision = await waits
        await asyncio.to_thread(thread.join)
        return decision

    assert asyncio.run(main()).allowed


class AsItGrants:
    """Calls a function when it has granted for the first time since `then` was set."""

    then: Callable[[], None] | None = None

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        answers: list[Answer] = await super()._apply(asks)  # type: ignore[misc]
        if self.then is not None and any(ask.cost > 0 and not a.wait for ask, a in zip(asks, answers, strict=True)):
            then, self.then = self.then, None
            then()
        return answers


class MemoryAsItGrants(AsItGrants, InMemoryBucket):
    pass


class StoreAsItGrants(AsItGrants, ScriptedStore):
    pass


@pytest.mark.may_block  # that is how another loop is refused before the permit goes back
@pytest.mark.parametrize("make", [MemoryAsItGrants, StoreAsItGrants], ids=["memory", "scripted"])
def test_what_the_cancelled_give_back_wakes_those_who_wait_on_another_loop(make: Any) -> None:
    bucket = make(Rate(1, Duration.HOUR))
    refused = threading.Event()
    served: list[Decision] = []

    async def waits_elsewhere() -> None:
        waits = asyncio.create_task(bucket.acquire())
        while not (room := bucket._rooms.get(asyncio.get_running_loop())) or not room.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        refused.set()
        served.append(await asyncio.wait_for(waits, 10))

    async def main() -> None:
        first = await bucket.acquire()
        waits = asyncio.create_task(bucket.acquire())
        await asyncio.sleep(0.05)
        thread = threading.Thread(target=lambda: asyncio.run(waits_elsewhere()))

        def leave() -> None:
            thread.start()
            refused.wait(10)
            waits.cancel()

        bucket.then = leave
        await bucket._apply([Ask("", -1, at=first.at)])  # of which the other loop does not hear
        bucket._rooms[asyncio.get_running_loop()].rouse("")
        with pytest.raises(asyncio.CancelledError):
            await waits
        await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert len(served) == 1


def test_interrupts_at_any_moment_never_leave_the_bucket_locked() -> None:
    bucket = InMemoryBucket(Rate(10**6, Duration.HOUR))
    limiter = Limiter(bucket)
    taken = interrupts = 0
    previous = signal.signal(signal.SIGALRM, _interrupt)
    try:
        while interrupts < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)  # once: none comes while this test counts
                while True:
                    limiter.try_acquire()
                    taken += 1
            except InterruptedError:
                interrupts += 1
                assert not bucket._lock.locked()
    finally:
        signal.signal(signal.SIGALRM, previous)
    spent = 10**6 - limiter.sync.peek().remaining
    assert taken <= spent + interrupts + 1  # an interrupt may come between the grant and the count of this test
    assert spent <= taken + interrupts + 1


def _interrupt(*_: object) -> None:
    raise InterruptedError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_children_forked_under_load_work() -> None:
    output = run_program("""
        import os, threading, warnings
        from pyrate_limiter import Limiter, Rate
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
        limiter = Limiter(Rate(10**9, 3_600_000))
        slow = Limiter(Rate(1000, 20), buffer_ms=0)
        slow.sync.acquire(weight=1000)
        while not slow.sync.acquire(weight=1000).waited: pass  # now the portal runs, too
        stop = threading.Event()
        def hammer():
            while not stop.is_set():
                limiter.try_acquire()
        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for t in threads: t.start()
        ends = []
        for _ in range(40):
            pid = os.fork()
            if not pid:
                good = [limiter.try_acquire(), limiter.sync.acquire(), slow.sync.acquire(weight=1000)]
                while not slow.sync.acquire(weight=1000).waited: pass
                os._exit(0 if all(good) else 1)
            ends.append(os.waitpid(pid, 0)[1])
        stop.set()
        for t in threads: t.join()
        print(ends.count(0))
    """)
    assert output.strip() == "40"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("used", [True, False], ids=["that makes calls", "that makes none"])
def test_a_forked_child_exits_as_any_process_does(used: bool) -> None:
    output = run_program(
        f"""
        import os, signal, sys, warnings
        from pyrate_limiter import Limiter, Rate, SQLiteBucket
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
        limiter = Limiter(SQLiteBucket(Rate(1000, 60_000)))
        assert limiter.try_acquire()
        if pid := os.fork():
            print(os.waitpid(pid, 0)[1])
        else:
            signal.alarm(10)  # rather than to hang
            assert not {used} or limiter.try_acquire()
            sys.exit()
        """
    )
    assert output == "0\n"


def test_a_fork_passes_over_a_bucket_that_another_thread_is_making() -> None:
    before, half = InMemoryBucket(Rate(1, 1)), InMemoryBucket.__new__(InMemoryBucket)
    AbstractBucket.__init__(half, Rate(1, 1))  # and no further
    after = InMemoryBucket(Rate(1, 1))
    for told in (forks._parent, forks._child):
        forks._before()
        held = [bucket._lock.locked() for bucket in (before, after)]
        told()
        assert held == [True, True]
        assert not before._lock.locked()
        assert not after._lock.locked()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forks_while_threads_make_limiters() -> None:
    output = run_program("""
        import os, sys, threading, warnings
        from pyrate_limiter import Limiter, Rate
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
        sys.setswitchinterval(1e-6)
        kept = [Limiter(Rate(10**9, 1000)) for _ in range(100)]
        stop = threading.Event()
        def make():
            while not stop.is_set():
                Limiter(Rate(1, 1000))
        threads = [threading.Thread(target=make) for _ in range(2)]
        for t in threads: t.start()
        ends = []
        for _ in range(20):
            pid = os.fork()
            if not pid:
                os._exit(0 if all(limiter.try_acquire() for limiter in kept) else 1)
            ends.append(os.waitpid(pid, 0)[1])
        stop.set()
        for t in threads: t.join()
        print(ends.count(0), all(limiter.try_acquire() for limiter in kept))
    """)
    assert output.strip() == "20 True"


def test_a_thousand_loops_leave_no_thread_behind() -> None:
    output = run_program("""
        import asyncio, threading
        from pyrate_limiter import Limiter, Rate
        limiter = Limiter(Rate(10, 1), buffer_ms=0)
        for _ in range(1000):
            asyncio.run(limiter.acquire(weight=10))
        print(threading.active_count(), len(limiter._bucket._rooms))
    """)
    assert output.strip() == "1 0"


@pytest.mark.parametrize("ends", ["pass", "raise SystemExit(0)", "sys.exit(0)"])
def test_an_unclosed_limiter_does_not_keep_the_interpreter(ends: str) -> None:
    start = time.monotonic()
    run_program(f"""
        import asyncio, sys, threading
        from pyrate_limiter import Limiter, Rate
        from pyrate_limiter.testing import ScriptedStore
        limiter = Limiter(ScriptedStore(Rate(1, 3_600_000)))
        limiter.sync.acquire()
        asyncio.run(limiter.take())
        threading.Thread(target=limiter.sync.acquire, daemon=True).start()
        {ends}
    """)
    assert time.monotonic() - start < 30


def test_a_loop_that_ends_with_waiters_leaves_nothing() -> None:
    output = run_program("""
        import asyncio
        from pyrate_limiter import Limiter, Rate
        from pyrate_limiter.testing import ScriptedStore
        stores = [ScriptedStore(Rate(1, 3_600_000)), ScriptedStore(Rate(1, 3_600_000), delay=5)]
        async def main():
            for limiter in [Limiter(store) for store in stores] + [Limiter(Rate(1, 3_600_000))]:
                limiter.keep = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
                limiters.append(limiter)
            await asyncio.sleep(0.1)
        limiters = []
        asyncio.run(main())
        print([(len(limiter._bucket._rooms), limiter._bucket.statistics().waiting) for limiter in limiters])
    """)
    assert output.strip() == "[(0, 0), (0, 0), (0, 0)]"


def test_a_loop_that_was_closed_under_waiters_is_forgotten() -> None:
    output = run_program("""
        import asyncio, logging
        from pyrate_limiter import Limiter, Rate
        logging.disable(logging.CRITICAL)  # asyncio complains of the tasks
        limiter = Limiter(Rate(1, 3_600_000))
        limiter.sync.take()
        async def wait():
            kept.append(asyncio.create_task(limiter.acquire()))
            await asyncio.sleep(0.01)
        kept = []
        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait())
        loop.close()
        asyncio.run(wait())
        print(limiter._bucket.statistics().waiting, len(limiter._bucket._rooms))
    """)
    assert output.strip() == "0 0"


@pytest.mark.parametrize("method", ["spawn", "forkserver", *(["fork"] if hasattr(os, "fork") else [])])
def test_the_global_limiter_in_a_process_pool(method: str, tmp_path: Any) -> None:
    output = run_program(
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from pyrate_limiter import LIMITER, Duration, InMemoryBucket, Rate, init_global_limiter

        def worker_init():
            init_global_limiter(InMemoryBucket([Rate(10, Duration.SECOND)]))

        def worker_task(limiter, number):
            if limiter is not LIMITER:
                return "another object"
            if LIMITER and LIMITER.try_acquire(f"user_{{number}}"):
                return "processed"
            return "limited"

        if __name__ == "__main__":
            assert not LIMITER
            context = multiprocessing.get_context("{method}")
            with ProcessPoolExecutor(max_workers=2, initializer=worker_init, mp_context=context) as executor:
                futures = [executor.submit(worker_task, LIMITER, i) for i in range(20)]
                print(sorted({{future.result() for future in futures}}))
        """,
        folder=tmp_path,
    )
    assert output.strip() == "['processed']"


def test_a_second_initialisation_replaces_the_first() -> None:
    output = run_program("""
        from pyrate_limiter import LIMITER, InMemoryBucket, Rate, init_global_limiter
        init_global_limiter(InMemoryBucket(Rate(1, 60_000)))
        LIMITER.try_acquire()
        init_global_limiter(InMemoryBucket(Rate(2, 60_000)), raise_when_fail=True)
        print(LIMITER.try_acquire(weight=2), LIMITER.sync.peek().remaining)
        LIMITER.close()
        print(bool(LIMITER))
    """)
    assert output.split() == ["True", "0", "True"]


def test_it_does_not_import_what_it_does_not_need() -> None:
    output = run_program("""
        import sys
        import pyrate_limiter
        print(sorted({"trio", "aiosqlite", "redis", "psycopg", "httpx", "uvloop"} & set(sys.modules)))
    """)
    assert output.strip() == "[]"
