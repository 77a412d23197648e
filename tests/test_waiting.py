"""The waiting room: exact, fair, cancel-safe, and sparing with calls. On virtual time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pyrate_limiter import (
    GCRA,
    AbstractBucket,
    Ask,
    BucketFullException,
    Decision,
    FixedWindow,
    InMemoryBucket,
    LeakyBucket,
    Limiter,
    LimiterClosed,
    LimiterDelayException,
    Rate,
    SlidingWindowCounter,
    SlidingWindowLog,
    StoreError,
)
from pyrate_limiter.testing import LoopClock, ScriptedStore
from pyrate_limiter.testing.stamps import most_in_any
from pyrate_limiter.waiting.courier import Courier

from .virtual import virtual_backends

anyio_backend = virtual_backends
SECOND = 1_000_000


def memory(rates: Rate | Sequence[Rate], **options: Any) -> InMemoryBucket:
    return InMemoryBucket(rates, clock=LoopClock(), **options)


def scripted(rates: Rate | Sequence[Rate], **options: Any) -> ScriptedStore:
    return ScriptedStore(rates, clock=LoopClock(), **options)


both = pytest.mark.parametrize("make", [memory, scripted])


class Callers:
    """Callers in the order in which they arrived, and what became of them."""

    def __init__(self, bucket: AbstractBucket) -> None:
        self.bucket = bucket
        self.decisions: list[Decision | None] = []
        self.errors: list[Exception] = []

    async def acquire(self, weight: int = 1, *, key: str = "", timeout: float | None = None) -> None:
        place = len(self.decisions)
        self.decisions.append(None)
        try:
            self.decisions[place] = await self.bucket.acquire(weight, key=key, timeout=timeout)
        except (LimiterDelayException, StoreError) as error:
            self.errors.append(error)

    async def all(self, weights: Sequence[int], key_of: Callable[[int], str] = lambda _: "") -> None:
        async with anyio.create_task_group() as tasks:
            for i, weight in enumerate(weights):
                tasks.start_soon(partial(self.acquire, weight, key=key_of(i)))

    @property
    def served(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision is not None]

    @property
    def stamps(self) -> list[int]:
        return [decision.at for decision in self.served]


async def test_a_loop_that_was_blocked_lets_nobody_through_too_early() -> None:
    bucket = memory(Rate(5, 500))
    callers = Callers(bucket)

    async def blocks_the_loop() -> None:
        await anyio.sleep(0.45)
        late = anyio.current_time()
        while anyio.current_time() < late + 0.4:  # time passes while nobody else runs: the five who are due wake late
            clock.skip(0.05)

    clock = _Skipper()
    bucket._clock = clock
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.all, [1] * 15)
        tasks.start_soon(blocks_the_loop)
    assert len(callers.served) == 15
    assert most_in_any(500_000, callers.served) == 5


class _Skipper:
    """The loop's clock, and what passed while the loop was blocked."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def skip(self, seconds: float) -> None:
        self._skipped += seconds
        _advance(seconds)

    def __call__(self) -> int:
        return round(anyio.current_time() * 1e6)


def _advance(seconds: float) -> None:
    """Let virtual time pass without anybody running, as a blocked loop does."""
    try:
        asyncio.get_running_loop().jump(seconds)  # type: ignore[attr-defined]
    except RuntimeError:
        import trio

        clock = trio.lowlevel.current_clock()
        clock.jump(seconds)  # type: ignore[attr-defined]


@both
async def test_mixed_weights_are_granted_in_order_of_arrival(make: Any) -> None:
    chance = random.Random(1)
    callers = Callers(make(Rate(100, 1000)))
    await callers.all([chance.randint(1, 4) for _ in range(1000)])
    assert len(callers.served) == 1000
    assert callers.stamps == sorted(callers.stamps)
    assert most_in_any(SECOND, callers.served) <= 100


@both
async def test_a_heavy_one_gets_its_turn_by_its_place(make: Any) -> None:
    bucket = make(Rate(10, 1000))
    callers = Callers(bucket)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.all, [1] * 10)
        await anyio.sleep(0.1)
        tasks.start_soon(callers.acquire, 8)
        for _ in range(50):  # a stream that alone would use the whole limit
            await anyio.sleep(0.1)
            tasks.start_soon(callers.acquire, 1)
    heavy = callers.served[10]
    assert heavy.weight == 8
    assert heavy.waited == pytest.approx(0.9, abs=0.02)
    assert callers.stamps == sorted(callers.stamps)


@both
async def test_a_free_key_is_decided_while_another_waits(make: Any) -> None:
    bucket = make(Rate(1, 60_000))
    await bucket.acquire(key="a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bucket.acquire(key="a"))
        await anyio.sleep(1)
        before = anyio.current_time()
        assert (await bucket.acquire(key="b")).waited == 0
        assert anyio.current_time() - before <= 0.02
        tasks.cancel_scope.cancel()


async def test_many_on_one_key_take_few_calls() -> None:
    store = scripted(Rate(1000, 1000), delay=0.005)
    await Callers(store).all([1] * 1000)
    assert len(store.calls) <= 20


async def test_many_who_wait_take_few_calls_per_window() -> None:
    chance = random.Random(2)
    store = scripted(Rate(100, 1000), delay=0.005)
    callers = Callers(store)
    weights = [chance.randint(1, 4) for _ in range(1000)]
    await callers.all(weights)
    windows = sum(weights) / 100
    assert len(store.calls) <= 3 * windows
    assert callers.stamps == sorted(callers.stamps)


async def test_many_on_many_keys_take_a_handful_of_calls() -> None:
    store = scripted(Rate(1000, 1000), delay=0.005)
    await Callers(store).all([1] * 1000, key_of=lambda i: str(i % 50))
    assert len(store.calls) <= 12


async def test_one_courier_serves_who_asks_again_at_once(
    monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    couriers: list[Courier] = []
    serve = Courier._serve

    def counted(courier: Courier) -> Any:
        couriers.append(courier)
        return serve(courier)

    monkeypatch.setattr(Courier, "_serve", counted)
    store = scripted(Rate(1000, 1000))
    for _ in range(20):
        await store.take()
    # trio lets the courier go first half of the time: then another one follows
    assert len(couriers) == 1 if anyio_backend_name == "asyncio" else len(couriers) < 20
    await anyio.sleep(0.001)
    assert not store._rooms


async def test_what_gathers_behind_a_call_leaves_together() -> None:
    store = scripted(Rate(1000, 1000), delay=0.005)
    await Callers(store).all([1] * 50)
    assert [len(asks) for asks in store.calls] in ([1, 49], [50])


@pytest.mark.parametrize("delay", [0, 0.005])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("natively", [False, True])
async def test_what_the_cancelled_were_granted_goes_back(
    seed: int, natively: bool, delay: float, anyio_backend_name: str
) -> None:
    if natively and anyio_backend_name == "trio":
        return  # trio knows no other cancellation than anyio's
    chance = random.Random(seed)
    store = scripted(Rate(20, 100), delay=delay)
    served: list[Decision] = []

    async def one() -> None:
        served.append(await store.acquire(chance.randint(1, 3)))

    await (_cancel_half_natively if natively else _cancel_half)(one, chance)
    await anyio.sleep(1)  # give-backs go with a call of their own if nothing else does
    assert store.granted == sum(decision.weight for decision in served)
    assert most_in_any(100_000, served) <= 20
    assert not store._rooms
    assert not store._owed
    assert store.statistics().waiting == 0


async def _cancel_half(one: Any, chance: random.Random) -> None:
    async def until(scope: anyio.CancelScope) -> None:
        with scope:
            await one()

    async with anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(400)]
        for scope in scopes:
            tasks.start_soon(until, scope)
        for scope in chance.sample(scopes, 200):
            await anyio.sleep(chance.choice([0, 0, 0.001, 0.0025]))
            scope.cancel()


async def _cancel_half_natively(one: Any, chance: random.Random) -> None:
    waiting = [asyncio.create_task(one()) for _ in range(400)]
    for task in chance.sample(waiting, 200):
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.0025]))
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_is_cancelled_as_the_answer_comes_gives_back() -> None:
    store = scripted(Rate(10, 60_000))
    with anyio.CancelScope() as scope:
        store.fail = lambda _: scope.cancel()  # the store has decided, and nobody has been told
        await store.acquire(4)
    assert scope.cancelled_caught
    store.fail = lambda _: None
    await anyio.sleep(1)
    assert store.granted == 0
    assert (await store.peek()).remaining == 10


@pytest.mark.parametrize("told", [False, True])
async def test_who_is_cancelled_natively_as_the_answer_comes_gives_back(told: bool, anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        return  # trio knows no other cancellation than anyio's
    store = scripted(Rate(10, 60_000))
    task = asyncio.create_task(store.acquire(4))
    # At once: nobody has been told. Soon: the caller has been told, and has not run since.
    store.fail = lambda _: asyncio.get_running_loop().call_soon(task.cancel) if told else task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.fail = lambda _: None
    await asyncio.sleep(1)
    assert store.granted == 0
    assert (await store.peek()).remaining == 10


async def test_the_courier_speaks_in_nobodys_name() -> None:
    speaker, heard = ContextVar("speaker", default="nobody"), []
    store = scripted(Rate(1, 1000))
    store.fail = lambda _: heard.append(speaker.get())
    speaker.set("the first")
    await store.acquire()
    await store.acquire()
    assert set(heard) == {"nobody"}


async def test_a_cancelled_waiter_makes_room_at_once() -> None:
    bucket = memory(Rate(10, 60_000))
    await bucket.acquire(8)
    async with anyio.create_task_group() as tasks:
        heavy = anyio.CancelScope()

        async def leaves() -> None:
            with heavy:
                await bucket.acquire(5)

        tasks.start_soon(leaves)
        await anyio.sleep(1)
        with anyio.move_on_after(0.1) as too_early:
            await bucket.acquire(2)
        assert too_early.cancelled_caught
        heavy.cancel()
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(0.1):
            await bucket.acquire(2)


@both
@pytest.mark.parametrize("how", ["refund", "reset"])
async def test_what_is_given_back_lets_the_next_move_up_at_once(make: Any, how: str) -> None:
    bucket = make(Rate(2, 60_000))
    first = await bucket.acquire(2)
    callers = Callers(bucket)
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.all, [1, 1])
        await anyio.sleep(1)
        assert bucket.statistics().waiting == 2
        await (bucket.reset() if how == "reset" else bucket.refund(first))
    assert anyio.current_time() - start < 1.1
    assert bucket.statistics().waiting == 0


async def test_an_error_reaches_exactly_the_callers_of_its_call() -> None:
    store = scripted(Rate(1000, 1000), delay=0.01)
    broken = StoreError("the line is dead")

    def fail(number: int) -> None:
        if number == 2:
            raise broken

    store.fail = fail
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.acquire)
        await anyio.sleep(0.002)  # under way alone
        for _ in range(5):
            tasks.start_soon(callers.acquire)  # these go together, and fail
        await anyio.sleep(0.012)
        for _ in range(3):
            tasks.start_soon(callers.acquire)  # these gather behind the call that fails
    assert [len(asks) for asks in store.calls] == [1, 5, 3]
    assert len(callers.errors) == 5
    assert [decision is not None for decision in callers.decisions] == [True, *[False] * 5, *[True] * 3]
    assert (await store.take()).allowed


async def test_a_timeout_that_ends_during_a_call_leaves_it_behind() -> None:
    store = scripted(Rate(10, 60_000), delay=2)
    before = anyio.current_time()
    with pytest.raises(LimiterDelayException):
        await store.acquire(4, timeout=0.5)
    assert anyio.current_time() - before == pytest.approx(0.5, abs=0.01)
    await anyio.sleep(10)
    assert (await store.peek()).remaining == 10


@both
async def test_a_place_too_far_back_is_refused_at_once(make: Any) -> None:
    callers = Callers(make(Rate(100, 1000)))
    ends: list[float] = []

    async def one() -> None:
        await callers.acquire(timeout=2)
        ends.append(anyio.current_time())

    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(2000):
            tasks.start_soon(one)
    # The store stamps the first hundred a moment after they came, so there the third hundred would be too late.
    served = 300 if make is memory else 200
    assert len(callers.served) == served
    assert sum(end - start < 0.6 for end in ends) == 2000 - (served - 100)  # all who do not wait know it at once
    assert most_in_any(SECOND, callers.served) == 100


@pytest.mark.parametrize(
    "algorithm", [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter], ids=lambda a: a.__name__
)
async def test_the_wait_it_says_is_never_too_short(algorithm: Any) -> None:
    chance = random.Random(3)
    bucket = memory([Rate(10, 1000), Rate(25, 5000)], algorithm=algorithm)
    callers = Callers(bucket)
    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            weight = chance.randint(1, 4)
            said = await bucket.take(weight)
            if not said:
                before = len(callers.decisions)
                tasks.start_soon(_compare, callers, weight, said.retry_after)
                await anyio.sleep(0.001)
                assert len(callers.decisions) == before + 1
            await anyio.sleep(chance.choice([0, 0.01, 0.3]))


async def _compare(callers: Callers, weight: int, said: float) -> None:
    start = anyio.current_time()
    await callers.acquire(weight)
    assert anyio.current_time() - start <= said + 1e-5


async def test_a_refused_newcomer_learns_the_time_behind_those_who_wait() -> None:
    bucket = memory(Rate(10, 1000), algorithm=GCRA)
    await bucket.acquire(10)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(bucket.acquire)
        await anyio.sleep(0.01)
        assert (await bucket.take()).retry_after == pytest.approx(0.59, abs=0.001)


@both
async def test_waiters_finish_when_an_ideal_line_would(make: Any) -> None:
    start = anyio.current_time()
    callers = Callers(make(Rate(50, 1000)))
    await callers.all([1] * 500)
    assert anyio.current_time() - start == pytest.approx(9, rel=0.02)


async def test_buffers_lengthen_sleeps_and_not_the_limit() -> None:
    limiter = Limiter(memory(Rate(1, 1000)), buffer_ms=200, max_delay=3000)
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(limiter.acquire)
    assert anyio.current_time() - start == pytest.approx(3.6, abs=0.01)


async def test_max_waiters_refuses_the_next_at_once() -> None:
    for make in (memory, scripted):
        limiter = Limiter(make(Rate(1, 60_000)), max_waiters=2)
        await limiter.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire)
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(1)
            with pytest.raises(BucketFullException, match="max_waiters=2 wait already"):
                await limiter.acquire()
            tasks.cancel_scope.cancel()


async def test_a_sleep_in_vain_ends_the_call_that_does_not_retry() -> None:
    store = scripted(Rate(1, 1000))
    once = Limiter(store, buffer_ms=100, retry_until_max_delay=False)
    await once.acquire()
    async with anyio.create_task_group() as tasks:

        async def somebody_faster() -> None:
            await anyio.sleep(1.05)
            await store._apply([Ask("", 1)])

        tasks.start_soon(somebody_faster)
        with pytest.raises(BucketFullException, match="somebody else was faster"):
            await once.acquire()


async def test_ten_thousand_waiters_in_memory_take_three_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = memory(Rate(5000, 1000))
    calls = []
    step = bucket._step
    monkeypatch.setattr(bucket, "_step", lambda asks: calls.append(len(asks)) or step(asks))
    callers = Callers(bucket)
    spent = time.process_time()
    await callers.all([1] * 10_000)
    assert time.process_time() - spent < 60
    assert len([n for n in calls if n > 1]) <= 3
    assert callers.stamps == sorted(callers.stamps)


async def test_who_comes_while_the_first_is_being_refused_stands_behind_it_and_waits() -> None:
    store = scripted(Rate(1, 1000), delay=0.01)
    await store.acquire()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.acquire)
        await anyio.sleep(0.005)  # the first is being asked for
        for others in ({}, {"timeout": 0.5}, {"key": "free"}):
            tasks.start_soon(partial(callers.acquire, **others))
            await anyio.sleep(0.001)
        await anyio.sleep(0.004)
        assert len(callers.errors) == 1
        assert store.statistics().waiting == 2
    assert [decision and round(decision.waited) for decision in callers.decisions] == [1, 2, None, 0]


async def test_those_in_line_and_newcomers_have_calls_that_are_full_by_turns() -> None:
    store = scripted(Rate(20, 1000), delay=0.01)
    store.batch = 2
    await store.acquire(20, key="line")
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.all, [1] * 12, lambda _: "line")
        await anyio.sleep(0.98)
        before = len(store.calls)
        tasks.start_soon(callers.all, [1] * 20, str)
    in_line = ["line" in {ask.key for ask in call} for call in store.calls[before:]]
    due = in_line.index(True)
    assert 1 <= due <= 5
    assert in_line[due : due + 8] == [True, False] * 4


@pytest.mark.parametrize("most", [0, 1])
@both
async def test_who_was_not_let_wait_leaves_nothing_behind(make: Any, most: int) -> None:
    bucket = make(Rate(1, 1000))
    limiter = Limiter(bucket, max_waiters=most)
    await limiter.acquire()
    async with anyio.create_task_group() as tasks:
        for _ in range(most):
            tasks.start_soon(limiter.acquire)
        await anyio.sleep(0.1)
        with pytest.raises(BucketFullException):
            await limiter.acquire()
    await anyio.sleep(0.001)
    assert not bucket._rooms


@both
async def test_what_makes_no_sense_leaves_nothing_behind(make: Any) -> None:
    bucket = make(Rate(1, 1000))
    for key, weight in (("\ud800", 1), ("", 2), ("", -1)):
        with pytest.raises(ValueError, match="encode|never|0 or more"):
            await bucket.acquire(weight, key=key)
    assert not bucket._rooms


async def test_nobody_overtakes_one_who_found_the_lock_held() -> None:
    bucket = memory(Rate(1, 60_000))
    step, bucket._step = bucket._step, lambda asks: None  # type: ignore[method-assign]
    callers = Callers(bucket)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(callers.acquire, timeout=0))
        await anyio.sleep(0.01)
        bucket._step = step  # type: ignore[method-assign]
        tasks.start_soon(partial(callers.acquire, timeout=0))
    assert [decision is not None for decision in callers.decisions] == [True, False]


async def test_all_who_close_wait_until_nothing_is_under_way() -> None:
    store = scripted(Rate(1, 1000), delay=0.1)
    closed: list[float] = []

    async def close() -> None:
        await store.aclose()
        closed.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_refused, store)
        await anyio.sleep(0.01)
        start = anyio.current_time()
        tasks.start_soon(close)
        tasks.start_soon(close)
    assert [end - start for end in closed] == pytest.approx([0.19, 0.19], abs=0.001)  # what was granted goes back


async def _refused(store: AbstractBucket) -> None:
    with pytest.raises(LimiterClosed):
        await store.take()


@pytest.mark.parametrize("after", [None, 0, 0.001, 0.004])
async def test_takes_of_a_courier_that_was_cancelled_are_asked_for_again(
    after: float | None, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "trio":
        return  # nobody can cancel a system task but the run's end
    store = scripted(Rate(3, 1000), delay=0.005)
    waiting = [asyncio.ensure_future(store.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    if after is not None:
        await asyncio.sleep(after)
    couriers = [task for task in asyncio.all_tasks() if "courier" in task.get_name()]
    assert len(couriers) == 1
    couriers[0].cancel()
    done, _ = await asyncio.wait(waiting, timeout=5)
    assert len(done) == 3
    assert all(task.result().allowed for task in done)


async def test_a_courier_that_was_cancelled_is_replaced(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        return  # nobody can cancel a system task but the run's end
    bucket = memory(Rate(1, 1000))
    await bucket.acquire()
    waiting = asyncio.create_task(bucket.acquire())
    await asyncio.sleep(0.1)
    for task in asyncio.all_tasks():
        if "courier" in task.get_name():
            task.cancel()
    await asyncio.wait_for(waiting, 2)


# Processes that share a store.


async def test_a_key_at_its_limit_takes_share_by_share_with_pauses_for_others():
    bucket = scripted(Rate(8, 1000), delay=0)
    bucket.share, bucket.pause = 2, 0.01
    callers = Callers(bucket)
    await callers.all([1] * 16)
    first = callers.stamps[0]
    assert [at - first for at in callers.stamps[:8]] == [0] * 8
    assert [at - first - SECOND for at in callers.stamps[8:]] == [0, 0, 10_000, 10_000, 20_000, 20_000, 30_000, 30_000]


async def test_in_a_pause_others_are_asked_for_and_who_leaves_is_gone():
    bucket = scripted(Rate(2, 1000), delay=0)
    bucket.share, bucket.pause = 1, 0.2
    callers, leaving = Callers(bucket), Callers(bucket)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.all, [1] * 3)
        await anyio.sleep(0.01)
        tasks.start_soon(partial(leaving.acquire, timeout=1.15))
        await anyio.sleep(1.09)  # the third was served at 1.0, and the next may be asked for at 1.2
        assert len(callers.served) == 3
        before = len(bucket.calls)
        tasks.start_soon(partial(callers.acquire, key="another"))
        await anyio.sleep(0.01)
        assert len(callers.served) == 4
        assert [[ask.key for ask in asks] for asks in bucket.calls[before:]] == [["another"]]
        await anyio.sleep(0.06)
        assert len(leaving.errors) == 1
        await anyio.sleep(0.1)
    assert not bucket._rooms
