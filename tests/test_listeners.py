"""Listeners hear of every decision and every wait once, cost nothing when there are none, and harm nobody."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pyrate_limiter import (
    AbstractBucket,
    Answer,
    Ask,
    BucketFactory,
    BucketFullException,
    Decision,
    Duration,
    InMemoryBucket,
    InstantBucket,
    Limiter,
    LimiterClosed,
    LimiterDelayException,
    Listener,
    LocalShare,
    MultiprocessBucket,
    Rate,
    SQLiteBucket,
    StoreDown,
    StoreError,
    Wait,
    WeightTooLarge,
    WouldBlock,
    blocking,
)
from pyrate_limiter.blocking import SyncLimiter
from pyrate_limiter.buckets.outage import Outage
from pyrate_limiter.testing import LoopClock, ManualClock, ScriptedStore

from .programs import run_program
from .virtual import virtual_backends

anyio_backend = virtual_backends
RATE = Rate(2, 1000)


class Ears(Listener):
    """Notes what it hears, as (event, name, weight)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, int]] = []
        self.decisions: list[Decision] = []
        self.waits: list[Wait] = []

    def note(self, event: str, what: Decision | Wait) -> None:
        self.heard.append((event, what.name, what.weight))

    def on_admit(self, decision: Decision) -> None:
        self.note("admit", decision)
        self.decisions.append(decision)

    def on_refuse(self, decision: Decision) -> None:
        self.note("refuse", decision)
        self.decisions.append(decision)

    def on_degraded(self, decision: Decision) -> None:
        self.note("degraded", decision)

    def on_wait(self, wait: Wait) -> None:
        self.note("wait", wait)
        self.waits.append(wait)

    def on_leave(self, wait: Wait) -> None:
        self.note("leave", wait)

    def words(self) -> list[str]:
        """What was heard since the last time, without the weights."""
        heard, self.heard = self.heard, []
        return [f"{event} {name}" for event, name, _ in heard]


@pytest.fixture
def ears() -> Ears:
    return Ears()


def in_memory(rate: Rate = RATE) -> AbstractBucket:
    return InMemoryBucket(rate, clock=LoopClock())


def in_a_store(rate: Rate = RATE) -> AbstractBucket:
    return ScriptedStore(rate, clock=LoopClock())


def limiter_of(bucket: AbstractBucket | None = None, **options: Any) -> Limiter[Any]:
    return Limiter(in_memory() if bucket is None else bucket, **{"buffer_ms": 0, **options})


either_bucket = pytest.mark.parametrize("make", [in_memory, in_a_store])


# What is heard.


@either_bucket
async def test_every_call_is_heard_once_with_what_it_got(make: Callable[[], AbstractBucket], ears: Ears) -> None:
    limiter = limiter_of(make())
    limiter.listen(ears)
    decisions = [await limiter.acquire("a"), await limiter.take("b"), await limiter.take("c")]
    assert ears.decisions == decisions
    assert ears.words() == ["admit a", "admit b", "refuse c"]
    assert not await limiter.try_acquire_async("d", blocking=False)
    with pytest.raises(LimiterDelayException) as raised:
        await limiter.acquire("e", timeout=0.1)
    assert ears.decisions[-1] == raised.value.decision
    assert ears.words() == ["refuse d", "refuse e"]
    await anyio.sleep(1)
    assert await limiter.try_acquire_async("f")
    async with limiter.slot("g", weight=1):
        assert ears.words() == ["admit f", "admit g"]
    async with limiter:
        assert ears.words() == ["wait pyrate", "leave pyrate", "admit pyrate"]


async def test_decorated_calls_are_heard_by_their_names(ears: Ears) -> None:
    limiter = limiter_of(keyed=True, max_delay=0)
    limiter.listen(ears)

    @limiter.as_decorator(name=lambda user: user)
    async def greet(user: str) -> str:
        return user

    @limiter.as_decorator(name=lambda user: user)
    def greet_sync(user: str) -> str:
        return user

    assert [await greet("ann"), await greet("bob"), greet_sync("bob")] == ["ann", "bob", "bob"]
    with pytest.raises(LimiterDelayException):
        await greet("bob")
    assert ears.words() == ["admit ann", "admit bob", "admit bob", "refuse bob"]


async def test_what_takes_nothing_is_not_heard(ears: Ears) -> None:
    limiter = limiter_of()
    limiter.listen(ears)
    await limiter.refund(await limiter.take("a", 2))
    ears.words()
    await limiter.peek()
    await limiter.reset()
    with pytest.raises(WeightTooLarge):
        await limiter.take("a", 3)
    assert not await limiter.try_acquire_async("a", 3)
    assert ears.words() == []
    assert (await limiter.acquire("nothing", 0)).allowed
    assert ears.heard == [("admit", "nothing", 0)]


async def test_an_awaitable_is_heard_when_it_is_awaited(ears: Ears) -> None:
    limiter = limiter_of(async_wrapper=True)
    limiter.listen(ears)
    pending = limiter.try_acquire("a", 2)
    assert ears.words() == []
    assert await pending
    assert not await limiter.try_acquire("b", blocking=False)
    assert ears.words() == ["admit a", "refuse b"]


@either_bucket
async def test_a_bucket_is_heard_through_every_limiter_and_its_own_calls(
    make: Callable[[], AbstractBucket], ears: Ears
) -> None:
    bucket, at_the_limiter = make(), Ears()
    one, other = limiter_of(bucket), limiter_of(bucket)
    one.listen(at_the_limiter)
    bucket.listen(ears)
    await one.acquire("a")
    await other.take("b")
    await bucket.take(key="")
    await one.acquire("c")
    await bucket.acquire(key="apart", weight=2)
    assert ears.words() == ["admit a", "admit b", "refuse ", "wait c", "leave c", "admit c", "admit apart"]
    assert at_the_limiter.words() == ["admit a", "wait c", "leave c", "admit c"]


@either_bucket
async def test_odd_weights_are_heard_once_too(make: Callable[[], AbstractBucket], ears: Ears) -> None:
    class Size(IntEnum):
        BIG = 2

    bucket = make()
    limiter = limiter_of(bucket)
    bucket.listen(ears)
    assert await limiter.try_acquire_async("a", Size.BIG)
    assert not await limiter.try_acquire_async("b", Size.BIG, blocking=False)
    assert await limiter.try_acquire_async("c", 0)
    assert await limiter.try_acquire_async("d", Size.BIG)
    assert ears.heard == [
        ("admit", "a", 2),
        ("refuse", "b", 2),
        ("admit", "c", 0),
        ("wait", "d", 2),
        ("leave", "d", 2),
        ("admit", "d", 2),
    ]


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_factory_s_buckets_are_heard_at_the_limiter(awaited: bool, ears: Ears) -> None:
    class Tiers(BucketFactory):
        def __init__(self) -> None:
            self.buckets = {"free": in_memory(Rate(1, 1000)), "paid": in_a_store(Rate(5, 1000))}

        def get(self, name: str, weight: int) -> AbstractBucket | Awaitable[AbstractBucket]:
            bucket = self.buckets[name]

            async def later() -> AbstractBucket:
                return bucket

            return later() if awaited else bucket

    limiter = Limiter(Tiers(), buffer_ms=0)
    limiter.listen(ears)
    for name in ("free", "paid", "free", "paid"):
        await limiter.take(name)
    await limiter.acquire("free")
    assert ears.words() == [
        "admit free",
        "admit paid",
        "refuse free",
        "admit paid",
        "wait free",
        "leave free",
        "admit free",
    ]


class Breaking(AbstractBucket):
    """A bucket whose store is down, and which counts a share meanwhile."""

    def __init__(self) -> None:
        super().__init__(Rate(4, Duration.HOUR))
        self.outage = Outage(LocalShare(0.25), self.rates, self.algorithm, "Store at x")

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await self.outage.call(self._ask_store, asks)

    async def _ask_store(self, asks: Sequence[Ask], budget: float) -> list[Answer]:
        raise StoreDown("Store at x does not answer")


async def test_what_a_stand_in_decides_is_heard_as_that_too(ears: Ears) -> None:
    limiter = limiter_of(Breaking())
    limiter.listen(ears)
    await limiter.take("a")
    await limiter.take("b")
    assert ears.words() == ["degraded a", "admit a", "degraded b", "refuse b"]
    assert all(decision.degraded for decision in ears.decisions)


# Waits.


@either_bucket
async def test_a_wait_is_heard_at_both_ends_with_how_long_it_will_be(
    make: Callable[[], AbstractBucket], ears: Ears
) -> None:
    limiter = limiter_of(make(), buffer_ms=100)
    limiter.listen(ears)
    await limiter.acquire("first", 2)
    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(limiter.acquire, name, 1 if name == "b" else 2)
            await anyio.sleep(0.01)
        assert ears.words() == ["admit first", "wait a", "wait b", "wait c"]
        assert [wait.waited for wait in ears.waits] == [0, 0, 0]
        assert [wait.decision for wait in ears.waits] == [None, None, None]
    assert ears.words() == ["leave a", "admit a", "leave b", "admit b", "leave c", "admit c"]
    assert [wait.decision for wait in ears.waits] == ears.decisions[1:]
    assert [wait.waited for wait in ears.waits] == [decision.waited for decision in ears.decisions[1:]]
    first, *behind = ears.waits
    assert first.seconds == pytest.approx(first.waited, abs=0.02)
    assert all(wait.waited - 0.25 < wait.seconds < wait.waited + 2 for wait in behind)


async def test_of_several_rates_the_first_in_line_knows_exactly_how_long(ears: Ears) -> None:
    limiter = limiter_of(InMemoryBucket([Rate(2, 1000), Rate(100, Duration.HOUR)], clock=LoopClock()))
    limiter.listen(ears)
    await limiter.acquire("first", 2)
    await limiter.acquire("second", 1)
    assert ears.waits[0].seconds == pytest.approx(1, abs=0.01)


@either_bucket
async def test_one_who_is_cancelled_leaves_and_is_neither_admitted_nor_refused(
    make: Callable[[], AbstractBucket], ears: Ears
) -> None:
    limiter = limiter_of(make())
    limiter.listen(ears)
    await limiter.acquire("first", 2)
    with anyio.move_on_after(0.5):
        await limiter.acquire("gone")
    assert ears.words() == ["admit first", "wait gone", "leave gone"]
    (wait,) = ears.waits
    assert wait.decision is None
    assert wait.waited == pytest.approx(0.5, abs=0.02)


async def test_asyncio_s_own_cancellation_too(ears: Ears, anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        return
    limiter = limiter_of()
    limiter.listen(ears)
    await limiter.acquire("first", 2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(limiter.acquire("gone"), 0.5)
    assert ears.words() == ["admit first", "wait gone", "leave gone"]


@either_bucket
async def test_one_who_waited_in_vain_is_refused_in_the_end(make: Callable[[], AbstractBucket], ears: Ears) -> None:
    bucket = make()
    limiter = limiter_of(bucket, retry_until_max_delay=False, buffer_ms=500)
    limiter.listen(ears)
    await limiter.acquire("first", 2)
    async with anyio.create_task_group() as group:
        group.start_soon(refused, limiter, "a")
        await anyio.sleep(1.2)
        await bucket._apply([Ask("", 2)])  # as another process would
    assert ears.words() == ["admit first", "wait a", "leave a", "refuse a"]
    assert ears.decisions[-1].waited == ears.waits[0].waited > 1.4


async def refused(limiter: Limiter[Any], name: str) -> None:
    with pytest.raises((BucketFullException, LimiterDelayException)):
        await limiter.acquire(name)


async def test_one_too_many_is_refused_and_never_waits(ears: Ears) -> None:
    limiter = limiter_of(max_waiters=0)
    limiter.listen(ears)
    await limiter.acquire("a", 2)
    await refused(limiter, "b")
    assert ears.words() == ["admit a", "refuse b"]


@pytest.mark.parametrize("end", ["the limiter", "the bucket", "the store"])
async def test_a_wait_that_an_error_ends_is_heard_to_end(end: str, ears: Ears) -> None:
    bucket = ScriptedStore(RATE, clock=LoopClock())
    limiter = limiter_of(bucket)
    limiter.listen(ears)
    await limiter.acquire("a", 2)

    def fail(_: int) -> None:
        raise StoreError("gone")

    async def one() -> None:
        with pytest.raises((LimiterClosed, StoreError)):
            await limiter.acquire("b")

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await anyio.sleep(0.5)
        if end == "the store":
            bucket.fail = fail
        else:
            await {"the limiter": limiter, "the bucket": bucket}[end].aclose()
    assert ears.words() == ["admit a", "wait b", "leave b"]
    assert ears.waits[0].decision is None


async def test_who_begins_to_listen_during_a_wait_does_not_hear_its_end_alone(ears: Ears) -> None:
    limiter, late = limiter_of(), Ears()
    limiter.listen(ears)
    await limiter.acquire("a", 2)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.acquire, "b")
        await anyio.sleep(0.5)
        limiter.listen(late)
    assert ears.words() == ["admit a", "wait b", "leave b", "admit b"]
    assert late.words() == ["admit b"]


async def test_who_ceases_to_listen_during_a_wait_still_hears_its_end(ears: Ears) -> None:
    limiter = limiter_of()
    with limiter.listen(ears):
        await limiter.acquire("a", 2)
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(limiter.acquire, "b")
        await anyio.sleep(0.5)
    await group.__aexit__(None, None, None)
    assert ears.words() == ["admit a", "wait b", "leave b"]


async def test_many_waits_are_paired_whatever_becomes_of_them(ears: Ears) -> None:
    limiter = limiter_of(in_a_store(Rate(3, 1000)), max_waiters=20)
    limiter.listen(ears)

    async def one(number: int) -> None:
        with anyio.move_on_after(0.3 * number):
            with suppress(LimiterDelayException, BucketFullException):
                await limiter.acquire(f"{number}", 1 + number % 3, timeout=8)

    async with anyio.create_task_group() as group:
        for number in range(1, 31):  # trio begins with any of them, and none leaves before there is an answer
            group.start_soon(one, number)
    await one(0)  # who leaves at once
    began = [name for event, name, _ in ears.heard if event == "wait"]
    assert sorted(began) == sorted(name for event, name, _ in ears.heard if event == "leave")
    assert len(began) == 20
    assert bool(ears.waits[0] == ears.waits[0]) is True
    assert len({*ears.waits}) == 20


# Without an event loop, and on one.


def test_sync_calls_are_heard_in_their_thread_and_need_no_loop_to_be_refused(
    ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "run", None)  # what would go to the loop that serves threads
    for raises in (False, True):
        limiter = Limiter(InMemoryBucket(RATE, clock=ManualClock()), raise_when_fail=raises)
        limiter.listen(ears)
        limiter.sync.acquire("a")
        assert limiter.try_acquire("b")
        assert not limiter.sync.take("c")
        assert ears.words() == ["admit a", "admit b", "refuse c"]
    assert not Limiter(limiter._bucket).try_acquire("d", blocking=False)
    with pytest.raises(BucketFullException):
        limiter.try_acquire("e", blocking=False)
    assert ears.words() == ["refuse e"]


def test_sync_calls_that_wait_are_heard_on_the_loop_that_serves_them(ears: Ears) -> None:
    threads = set()

    class Where(Listener):
        def on_wait(self, wait: Wait) -> None:
            threads.add(threading.current_thread())

    limiter = Limiter(Rate(1, 50), buffer_ms=0)
    limiter.listen(ears)
    limiter.listen(Where())
    with limiter:
        limiter.sync.acquire("a")
        assert limiter.try_acquire("b")
    assert ears.words() == ["admit pyrate", "wait a", "leave a", "admit a", "wait b", "leave b", "admit b"]
    assert len(threads) == 1
    assert threads != {threading.current_thread()}


async def test_a_sync_call_that_would_block_a_loop_is_heard_to_come_and_go(ears: Ears) -> None:
    limiter = limiter_of()
    limiter.listen(ears)
    limiter.sync.acquire("a", 2)
    with pytest.raises(WouldBlock):
        limiter.sync.acquire("b")
    assert not limiter.sync.take("c")
    assert ears.words() == ["admit a", "wait b", "leave b", "refuse c"]


@pytest.mark.skipif(os.name == "nt", reason="MultiprocessBucket needs flock, which Windows has not")
async def test_shared_memory_is_heard_in_place(ears: Ears) -> None:
    limiter = Limiter(MultiprocessBucket(Rate(2, Duration.HOUR)), keyed=True)
    limiter.listen(ears)
    assert await limiter.acquire("a", 2)
    assert not await limiter.take("a")
    assert not limiter.sync.take("a")
    assert not limiter.try_acquire("a", blocking=False)
    assert ears.words() == ["admit a", "refuse a", "refuse a", "refuse a"]
    await limiter.aclose()


# Listeners that fail.


class Broken(Listener):
    def on_admit(self, decision: Decision) -> None:
        raise ZeroDivisionError

    on_refuse = on_wait = on_leave = on_degraded = on_admit  # type: ignore[assignment]


@either_bucket
async def test_a_listener_that_fails_is_logged_once_and_harms_nobody(
    make: Callable[[], AbstractBucket], ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_of(make())
    limiter.listen(Broken())
    limiter.listen(ears)
    await limiter.acquire("a", 2)
    assert not await limiter.take("b")
    assert (await limiter.acquire("c")).waited
    assert ears.words() == ["admit a", "refuse b", "wait c", "leave c", "admit c"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pyrate_limiter", logging.ERROR)
    assert "on_admit of <tests.test_listeners.Broken" in record.getMessage()
    assert "ZeroDivisionError" in (record.exc_text or "")
    assert (await limiter.peek()).remaining == 1
    limiter.listen(Broken())
    await limiter.take("d")
    assert len(caplog.records) == 2


async def test_a_listener_may_close_what_it_listens_to(ears: Ears) -> None:
    class Closes(Listener):
        def on_wait(self, wait: Wait) -> None:
            limiter._shut()

    limiter = limiter_of(in_a_store())
    limiter.listen(Closes())
    limiter.listen(ears)
    await limiter.acquire("a", 2)

    async def one(name: str) -> None:
        with pytest.raises(LimiterClosed):
            await limiter.acquire(name)

    async with anyio.create_task_group() as group:
        for name in ("b", "c", "d"):
            group.start_soon(one, name)
            await anyio.sleep(0.001)  # the others come while the store is asked for the first
    assert limiter.statistics().waiting == 0
    heard = ears.words()
    assert [word for word in heard if word.startswith("wait")] == [
        word.replace("leave", "wait") for word in heard if word.startswith("leave")
    ]


def test_what_cannot_listen_is_told_at_once() -> None:
    class Awaited(Listener):
        async def on_wait(self, wait: Wait) -> None:  # type: ignore[override]
            pass

    limiter = Limiter(RATE)
    with pytest.raises(TypeError, match=r"needs an object whose class derives from Listener, not <class 'tests\."):
        limiter.listen(Ears)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Awaited\.on_wait is never awaited"):
        limiter.listen(Awaited())
    assert limiter._audience is None


# When nobody listens.

HOT: list[FunctionType] = [
    Limiter.acquire,
    Limiter.take,
    Limiter.try_acquire,
    Limiter.try_acquire_async,
    Limiter._request,
    Limiter._try,
    SyncLimiter.acquire,
    SyncLimiter.take,
    SyncLimiter._try_acquire,
    AbstractBucket.acquire,
    AbstractBucket.take,
    AbstractBucket._request,
    AbstractBucket._ask,
    InstantBucket._ask,
    InstantBucket._at_once,
    InMemoryBucket._take,
    InMemoryBucket._decide,
    InMemoryBucket._admit,
    MultiprocessBucket._take,
    MultiprocessBucket._decide,
]  # type: ignore[list-item]


@pytest.mark.parametrize("function", HOT, ids=lambda function: function.__qualname__)
def test_no_call_asks_whether_somebody_listens(function: FunctionType) -> None:
    code: CodeType = function.__code__
    assert not {"_audience", "listen", "listening", "began", "Heard", "Audience", "getattr"} & {*code.co_names}


def test_what_decides_is_the_same_as_if_there_were_no_listeners(ears: Ears) -> None:
    bucket = InMemoryBucket(RATE)
    limiter, own = Limiter(bucket), {*vars(bucket)}
    attributes = {*vars(limiter)}
    assert InMemoryBucket._grant is InMemoryBucket._decide
    assert MultiprocessBucket._grant is MultiprocessBucket._decide
    for _ in range(2):
        assert limiter._at_hand is bucket
        assert limiter._request.__func__ is Limiter._request  # type: ignore[attr-defined]
        assert limiter._patience.began is None
        assert bucket._ask.__func__ is InstantBucket._ask  # type: ignore[attr-defined]
        with limiter.listen(ears), bucket.listen(ears), limiter.listen(Ears()):
            assert limiter._at_hand is not bucket
            assert Limiter(bucket)._at_hand is not bucket
            # An attribute that has the name of a method slows the calls of that method down for all of the class.
            assert not {*vars(bucket)} & {"_take", "_decide", "_grant", "_at_once", "_step"}
        assert {*vars(bucket)} - {"_audience"} == own
        assert {*vars(limiter)} - {"_audience"} == attributes


def test_a_bucket_does_not_remember_limiters_that_are_gone() -> None:
    bucket = InMemoryBucket(RATE)
    limiters = [Limiter(bucket) for _ in range(3)]
    assert len(bucket._users) == 3
    del limiters[1:]
    gc.collect()
    assert len(bucket._users) == 1


async def test_closing_twice_or_out_of_order_is_as_good_as_once(ears: Ears) -> None:
    limiter, other = limiter_of(), Ears()
    first, second = limiter.listen(ears), limiter.listen(other)
    first.close()
    first.close()
    await limiter.take("a")
    third = limiter.listen(ears)
    second.close()
    await limiter.take("b")
    third.close()
    assert limiter._at_hand is limiter._bucket
    assert (ears.words(), other.words()) == (["admit b"], ["admit a"])


async def test_what_is_disabled_is_not_heard(ears: Ears) -> None:
    limiter, late = limiter_of(), Ears()
    limiter.listen(ears)
    with limiter.disabled():
        listens = limiter.listen(late)
        for _ in range(3):
            await limiter.acquire("a")
            assert limiter.try_acquire("b")
        listens.close()
    assert (await limiter.peek()).remaining == 2
    await limiter.take("c")
    assert (ears.words(), late.words()) == (["admit c"], [])


def test_overlapping_disabled_blocks_leave_it_as_it_was() -> None:
    limiter = Limiter(RATE)
    one, other = limiter.disabled(), limiter.disabled()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert all(limiter.try_acquire() for _ in range(5))
    other.__exit__(None, None, None)
    assert limiter._at_hand is limiter._bucket
    assert [limiter.try_acquire(blocking=False) for _ in range(3)] == [True, True, False]


# Other processes.


def test_a_pickled_limiter_has_no_listeners(tmp_path: Path, ears: Ears) -> None:
    limiter = Limiter(SQLiteBucket(RATE, tmp_path / "limits.db"))
    limiter.listen(ears)
    assert limiter._bucket is not None
    limiter._bucket.listen(ears)
    copy = pickle.loads(pickle.dumps(limiter))
    assert copy._audience is None
    assert copy._request.__func__ is Limiter._request
    assert copy._bucket._ask.__func__ is AbstractBucket._ask


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_goes_on_with_them_and_can_get_others() -> None:
    output = run_program("""
        import os, signal
        from pyrate_limiter import Limiter, Listener, Rate, listening
        class Ears(Listener):
            heard = 0
            def on_admit(self, decision):
                self.heard += 1
        limiter, ears = Limiter(Rate(2, 1000)), Ears()
        limiter.listen(ears)
        with listening._changes.lock:  # as if another thread just began to listen
            pid = os.fork()
            if not pid:
                signal.alarm(10)
                with limiter.listen(ears):
                    limiter.try_acquire()
                os._exit(ears.heard)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ears.heard)
    """)
    assert output.split() == ["2", "0"]


async def test_the_global_limiter_keeps_its_listeners_through_every_initialisation(ears: Ears) -> None:
    limiter: Limiter[bool] = Limiter.__new__(Limiter)
    limiter.listen(ears)
    for _ in range(2):
        Limiter.__init__(limiter, RATE)
        assert await limiter.acquire("a")
        assert limiter.try_acquire("b")
        assert ears.words() == ["admit a", "admit b"]
