"""The limiter's calls, its policy, and what it says to wrong input. On virtual time."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import Awaitable, Coroutine
from enum import StrEnum
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pyrate_limiter import (
    GCRA,
    LIMITER,
    AbstractBucket,
    BucketAsyncWrapper,
    BucketFactory,
    BucketFullException,
    Decision,
    Duration,
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
    WeightTooLarge,
    WouldBlock,
    create_inmemory_limiter,
    validate_rate_list,
)
from pyrate_limiter.testing import LoopClock, ManualClock, ScriptedStore

from .virtual import virtual_backends

anyio_backend = virtual_backends


def limiter_of(limit: int, interval: int = 1000, **options: Any) -> Limiter[Any]:
    return Limiter(Rate(limit, interval), clock=LoopClock(), buffer_ms=0, **options)


# What a user meets first.


async def test_acquire_waits_and_returns_what_was_decided() -> None:
    limiter = limiter_of(2)
    first = await limiter.acquire("api")
    assert (first.allowed, first.name, first.weight, first.remaining, first.limit) == (True, "api", 1, 1, 2)
    assert first.waited == 0
    assert not first.degraded
    await limiter.acquire("api")
    third = await limiter.acquire("api")
    assert third.waited == pytest.approx(1, abs=0.01)
    assert third.at - first.at == 1_000_000


async def test_take_never_waits_and_never_raises_for_being_full() -> None:
    limiter = limiter_of(1)
    assert await limiter.take("api")
    refused = await limiter.take("api")
    assert not refused
    assert refused.retry_after == pytest.approx(1)
    assert refused.rate == Rate(1, 1000)


async def test_try_acquire_async_says_true_or_false() -> None:
    limiter = limiter_of(1, max_delay=500)
    assert await limiter.try_acquire_async("api") is True
    assert await limiter.try_acquire_async("api") is False
    assert await limiter.try_acquire_async("api", blocking=False) is False
    assert await limiter.try_acquire_async("api", 2) is False
    await anyio.sleep(0.6)
    assert await limiter.try_acquire_async("api") is True


async def test_raise_when_fail_turns_false_into_its_error() -> None:
    limiter = limiter_of(1, max_delay=500, raise_when_fail=True)
    assert await limiter.try_acquire_async("api")
    with pytest.raises(LimiterDelayException, match=r"longer than the 0.5 s allowed"):
        await limiter.try_acquire_async("api")
    with pytest.raises(BucketFullException, match="1/1s is reached for 'api'"):
        await limiter.try_acquire_async("api", blocking=False)
    with pytest.raises(WeightTooLarge, match="never fits"):
        await limiter.try_acquire_async("api", 2)


async def test_the_smaller_of_timeout_and_max_delay_wins() -> None:
    limiter = limiter_of(1, max_delay=2000)
    await limiter.acquire()
    with pytest.raises(LimiterDelayException, match="longer than the 0.3 s"):
        await limiter.acquire(timeout=0.3)
    assert (await limiter.acquire(timeout=60)).waited == pytest.approx(1, abs=0.01)
    shorter = limiter_of(1, max_delay=200)
    await shorter.acquire()
    with pytest.raises(LimiterDelayException, match="longer than the 0.2 s"):
        await shorter.acquire(timeout=60)


async def test_who_waited_in_vain_until_the_time_was_up_came_too_late() -> None:
    frozen = InMemoryBucket(Rate(1, 300), clock=ManualClock())  # as if others took whatever comes free
    limiter = Limiter(frozen, max_delay=500, buffer_ms=0)
    await limiter.acquire()
    with pytest.raises(LimiterDelayException, match=r"would wait 0\.6 s under 1/300ms, longer than the 0\.5 s allowed"):
        await limiter.acquire()


async def test_context_managers_take_a_permit_on_the_way_in() -> None:
    limiter = limiter_of(3)
    async with limiter as decision:
        assert decision.weight == 1
    async with limiter.slot("api", weight=2) as decision:
        assert (decision.name, decision.weight, decision.remaining) == ("api", 2, 0)
    with pytest.raises(LimiterDelayException):
        async with limiter.slot(timeout=0.1):
            pytest.fail("the body of a refused slot ran")


async def test_a_decorated_call_waits_its_turn() -> None:
    limiter = limiter_of(1, keyed=True, max_delay=1500)

    @limiter.as_decorator(name=lambda user, **_: user, weight=1)
    async def call(user: str, *, value: int) -> int:
        """Say it."""
        return value

    assert call.__name__ == "call"
    assert call.__doc__ == "Say it."
    start = anyio.current_time()
    assert [await call("a", value=1), await call("b", value=2), await call("a", value=3)] == [1, 2, 3]
    assert anyio.current_time() - start == pytest.approx(1, abs=0.01)


async def test_a_refused_decorated_call_does_not_run() -> None:
    limiter = limiter_of(1, max_delay=100)
    ran = []

    @limiter.as_decorator(name="api")
    async def call() -> None:
        ran.append(1)

    @limiter.as_decorator()
    def sync_call() -> None:
        ran.append(2)

    await call()
    with pytest.raises(LimiterDelayException):
        await call()
    with pytest.raises(LimiterDelayException):
        sync_call()
    assert ran == [1]


async def rows() -> Any:
    yield 1


def plain_rows() -> Any:
    yield 1


@pytest.mark.parametrize("function", [rows, plain_rows, partial(rows), partial(plain_rows)])
def test_a_generator_cannot_be_decorated(function: Any) -> None:
    with pytest.raises(TypeError, match="rows.* is a generator: .*acquire inside it"):
        limiter_of(1).as_decorator()(function)


async def test_what_is_awaited_waits_whatever_it_is() -> None:
    limiter = limiter_of(1)

    class Service:
        async def __call__(self, number: int) -> int:
            return number

    start = anyio.current_time()
    for function in (Service().__call__, partial(Service().__call__), Service()):
        assert await limiter.as_decorator()(function)(7) == 7
    assert anyio.current_time() - start == pytest.approx(2, abs=0.01)


async def test_statistics_while_a_factory_gives_new_buckets() -> None:
    class Looks(InMemoryBucket):
        def statistics(self) -> Any:
            if len(made) < 3:
                limiter._used[0] = factory.get("as another thread does", 1)
            return super().statistics()

    class Tiers(BucketFactory):
        def get(self, name: str, weight: int) -> AbstractBucket:
            made.append(Looks(Rate(1, 1000), clock=LoopClock()))
            return made[-1]

    made: list[AbstractBucket] = []
    factory = Tiers()
    limiter = Limiter(factory)
    await limiter.take("a")
    await limiter.take("b")
    assert limiter.statistics().keys == 2


async def test_a_class_whose_objects_are_awaited_is_not_awaited_itself() -> None:
    class Service:
        async def __call__(self, number: int) -> int:
            return number

    limiter = limiter_of(2)
    service = limiter.as_decorator()(Service)()
    assert await service(7) == 7
    assert (await limiter.peek()).remaining == 1


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_a_method_without_self_is_decorated_from_inside(kind: Any) -> None:
    limiter = Limiter(Rate(2, 1000))
    with pytest.raises(TypeError, match=f"put as_decorator\\(\\) below @{kind.__name__}"):
        limiter.as_decorator()(kind(lambda *_: 7))

    class Client:
        get = kind(limiter.as_decorator()(lambda *_: 7))

    assert Client().get() == Client.get() == 7


async def test_a_decorated_method() -> None:
    limiter = limiter_of(5)

    class Client:
        @limiter.as_decorator(name="client")
        async def get(self, number: int) -> int:
            return number

    assert await Client().get(7) == 7


# Names and budgets.


async def test_names_are_labels_unless_the_limiter_is_keyed() -> None:
    shared = limiter_of(1)
    assert await shared.take("a")
    assert not await shared.take("b")
    keyed = limiter_of(1, keyed=True)
    assert await keyed.take("a")
    assert await keyed.take("b")
    assert not await keyed.take("a")
    assert await keyed.take("pyrate")  # a name like any other, if it is given


@pytest.mark.parametrize("call", ["acquire", "take", "peek", "reset", "try_acquire_async"])
async def test_a_keyed_call_needs_a_name(call: str) -> None:
    with pytest.raises(ValueError, match="each call needs a name"):
        await getattr(limiter_of(1, keyed=True), call)()


async def test_peek_refund_and_reset() -> None:
    limiter = limiter_of(5, 60_000, keyed=True)
    decision = await limiter.acquire("a", 3)
    assert (await limiter.peek("a")).remaining == 2
    assert (await limiter.peek("a")).name == "a"
    await limiter.refund(decision)
    assert (await limiter.peek("a")).remaining == 5
    decision = await limiter.acquire("a", 4)
    await limiter.refund("a", 1, at=decision.at)
    assert (await limiter.peek("a")).remaining == 2
    await limiter.refund(await limiter.take("a", 5))  # refused: nothing goes back
    assert (await limiter.peek("a")).remaining == 2
    await limiter.reset("a")
    assert (await limiter.peek("a")).remaining == 5
    with pytest.raises(ValueError, match="the stamp"):
        await limiter.refund("a", 1)


class Tiers(BucketFactory):
    def __init__(self, buckets: dict[str, AbstractBucket], awaited: bool) -> None:
        self.buckets, self.awaited, self.asked = buckets, awaited, []

    def get(self, name: str, weight: int) -> AbstractBucket | Awaitable[AbstractBucket]:
        self.asked.append((name, weight))
        bucket = self.buckets["paying" if name.startswith("p-") else "free"]

        async def later() -> AbstractBucket:
            await anyio.lowlevel.checkpoint()
            return bucket

        return later() if self.awaited else bucket


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_factory_chooses_the_bucket(awaited: bool) -> None:
    clock = LoopClock()
    buckets = {"free": InMemoryBucket(Rate(1, 1000), clock=clock), "paying": InMemoryBucket(Rate(3, 1000), clock=clock)}
    factory = Tiers(buckets, awaited)
    limiter = Limiter(factory, keyed=True)
    allowed = [bool(await limiter.take(name)) for name in ["x", "x", "p-y", "p-y", "p-y", "p-y", "z"]]
    assert allowed == [True, False, True, True, True, False, True]
    assert factory.asked[0] == ("x", 1)
    await limiter.aclose()
    assert (await buckets["free"].take(key="new")).allowed  # a factory's buckets are its own


# Awaitable results.


async def test_async_wrapper_gives_a_coroutine_that_works_everywhere() -> None:
    limiter = limiter_of(10, async_wrapper=True)
    pending = limiter.try_acquire("a")
    assert isinstance(pending, Coroutine)
    pending.close()
    assert await limiter.try_acquire("a") is True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.try_acquire, "a")
    assert (await limiter.peek()).remaining == 8


async def test_async_wrapper_in_asyncio_tasks(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        return  # the subject is asyncio's own
    limiter = limiter_of(10, async_wrapper=True)
    assert await asyncio.create_task(limiter.try_acquire("a"))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(limiter.try_acquire("a"))
    assert task.result() is True
    assert await asyncio.wait_for(limiter.try_acquire("a"), 1) is True
    assert await asyncio.gather(limiter.try_acquire("a"), limiter.try_acquire("b")) == [True, True]


async def test_an_awaitable_is_no_bool_and_spends_nothing_unawaited() -> None:
    limiter = limiter_of(10, async_wrapper=True)
    with pytest.raises(TypeError, match="with the await"):
        if limiter.try_acquire("a"):
            pytest.fail("a coroutine was taken for a bool")
    with pytest.warns(RuntimeWarning, match="never awaited"):
        limiter.try_acquire("a")
        gc.collect()
    assert (await limiter.peek()).remaining == 10


async def test_wrong_arguments_of_an_awaitable_are_told_at_the_call() -> None:
    limiter = limiter_of(10, async_wrapper=True)
    with pytest.raises(ValueError, match="0 or more"):
        limiter.try_acquire("a", -1)


async def test_the_reference_wrapper_of_buckets() -> None:
    limiter = Limiter(BucketAsyncWrapper(InMemoryBucket([Rate(2, 1000)], clock=LoopClock())), buffer_ms=20)
    assert await limiter.try_acquire_async("a", blocking=False) is True
    assert await limiter.try_acquire("a") is True
    assert await limiter.try_acquire_async("a", blocking=False) is False


# Wrong input.


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Limiter([]), ValueError, "rates is empty"),
        (lambda: Limiter([3]), TypeError, "must hold Rate objects, not 3"),  # type: ignore[list-item]
        (lambda: Limiter(Rate(1, 1), max_delay=-1), ValueError, "max_delay must be 0 or more, not -1"),
        (lambda: Limiter(Rate(1, 1), max_delay=1.5), TypeError, "max_delay must be an int"),  # type: ignore[call-overload]
        (lambda: Limiter(Rate(1, 1), buffer_ms=-5), ValueError, "buffer_ms must be 0 or more, not -5"),
        (lambda: Limiter(Rate(1, 1), max_waiters=True), TypeError, "max_waiters must be an int"),
        (lambda: Limiter(InMemoryBucket(Rate(1, 1)), clock=ManualClock()), ValueError, "clock= is for the bucket"),
        (lambda: InMemoryBucket(Rate(1, 1), max_keys=0), ValueError, "max_keys must be a positive int"),
        (lambda: InMemoryBucket(Rate(1, 1, burst=2)), ValueError, "SlidingWindowLog has no burst"),
        (lambda: InMemoryBucket(Rate(1, 1), algorithm="gcra"), TypeError, "a class such as GCRA, not 'gcra'"),  # type: ignore[arg-type]
        (lambda: InMemoryBucket(Rate(1, 1), algorithm=GCRA(Rate(1, 1))), TypeError, "a class such as GCRA"),  # type: ignore[arg-type]
        (lambda: create_inmemory_limiter(0), ValueError, "limit must be a positive int, not 0"),
        (lambda: create_inmemory_limiter(1, 1.5), TypeError, "interval must be a positive int"),  # type: ignore[call-overload]
    ],
)
def test_wrong_settings_are_named(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        (("a", -1), {}, ValueError, "weight must be 0 or more, not -1"),
        (("a", 1.5), {}, TypeError, "weight must be an int, 0 or more, not 1.5"),
        (("a", True), {}, TypeError, "weight must be an int, 0 or more, not True"),
        (("a", "2"), {}, TypeError, "weight must be an int"),
        (("a",), {"timeout": -0.5}, ValueError, "0 or more seconds, not -0.5"),
        (("a",), {"timeout": float("nan")}, ValueError, "0 or more seconds, not nan"),
        (("a",), {"timeout": "1"}, TypeError, "a number of seconds, not '1'"),
        ((7,), {}, TypeError, "a name must be a str, not 7"),
        (("\ud800",), {}, ValueError, "does not encode to UTF-8"),
    ],
)
async def test_wrong_calls_are_named_and_spend_nothing(
    arguments: Any, options: Any, error: type[Exception], says: str
) -> None:
    limiter = limiter_of(1, keyed=True)
    with pytest.raises(error, match=says):
        await limiter.acquire(*arguments, **options)
    with pytest.raises(error, match=says):
        limiter.sync.acquire(*arguments, **options)
    assert (await limiter.peek("a")).remaining == 1


@pytest.mark.parametrize("bucket", [InMemoryBucket, ScriptedStore])
async def test_a_label_that_is_no_text_is_named_and_spends_nothing(bucket: Any) -> None:
    """`acquire(5)` is what one writes elsewhere for five units."""
    limiter = Limiter(bucket(Rate(1, 60_000), clock=LoopClock()))
    for call in (limiter.acquire, limiter.take, limiter.try_acquire_async, limiter.peek, limiter.reset):
        with pytest.raises(TypeError, match="a name must be a str, not 5; for so many units, write weight=5"):
            await call(5)  # type: ignore[arg-type]
    for sync_call in (limiter.sync.acquire, limiter.sync.take, limiter.try_acquire):
        with pytest.raises(TypeError, match="a name must be a str, not None"):
            sync_call(None)  # type: ignore[arg-type]
    assert (await limiter.peek()).remaining == 1


class Region(StrEnum):
    EAST = "east"
    WEST = "west"


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_name_may_be_of_an_enumeration(keyed: bool) -> None:
    limiter = limiter_of(1, keyed=keyed)
    assert limiter.sync.take(Region.EAST)
    assert bool(await limiter.take(Region.WEST)) is keyed
    assert not await limiter.take("east")


async def test_a_clock_that_counts_seconds_is_named() -> None:
    limiter = Limiter(Rate(1, 1000), clock=lambda: 12.5)  # type: ignore[arg-type, return-value]
    for call in (limiter.acquire, limiter.take, limiter.peek):
        with pytest.raises(TypeError, match=r"microseconds as an int, not 12\.5"):
            await call()


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_factory_that_has_no_bucket_for_a_name_is_named(awaited: bool) -> None:
    factory = Tiers({"free": None, "paying": InMemoryBucket(Rate(1, 1000))}, awaited)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"Tiers\.get\('x', 2\) must return a bucket, not None"):
        await Limiter(factory).acquire("x", 2)


async def test_a_call_that_does_not_block_has_no_timeout() -> None:
    with pytest.raises(ValueError, match="blocking=False does not wait"):
        await limiter_of(1).try_acquire_async("a", blocking=False, timeout=2)


async def test_nothing_weighs_nothing() -> None:
    limiter = limiter_of(1)
    await limiter.acquire()
    decision = await limiter.acquire(weight=0)
    assert (decision.allowed, decision.weight) == (True, 0)
    assert await limiter.try_acquire_async(weight=0)


# The end.


@pytest.mark.parametrize("own", [True, False])
async def test_a_closed_limiter_says_so(own: bool) -> None:
    bucket = InMemoryBucket(Rate(1, 60_000), clock=LoopClock())
    limiter = limiter_of(1, 60_000) if own else Limiter(bucket)
    await limiter.acquire()
    ends: list[Exception] = []

    async def waits() -> None:
        try:
            await limiter.acquire()
        except LimiterClosed as error:
            ends.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await anyio.sleep(0.1)
        await limiter.aclose()
    assert len(ends) == 1
    for call in (limiter.acquire, limiter.take, limiter.try_acquire_async, limiter.peek, limiter.reset):
        with pytest.raises(LimiterClosed, match="make a new one"):
            await call()
    with pytest.raises(LimiterClosed):
        limiter.sync.take()
    assert limiter
    if not own:
        assert (await bucket.peek()).remaining == 0  # what was handed in stays open


async def test_a_closed_bucket_says_so_in_place() -> None:
    bucket = InMemoryBucket(Rate(5, 60_000))
    limiter = Limiter(bucket)
    await limiter.acquire()
    await bucket.aclose()
    for call in (limiter.acquire, limiter.take, limiter.try_acquire_async):
        with pytest.raises(LimiterClosed):
            await call()


async def test_disabled_admits_everything_and_counts_nothing() -> None:
    limiter = limiter_of(1, 60_000)
    with limiter.disabled():
        for _ in range(5):
            decision = await limiter.acquire("a", 7)
            assert decision
        assert limiter.try_acquire("a")
        await limiter.refund(decision)
    assert (await limiter.peek()).remaining == 1


async def test_disabled_twice_is_disabled_until_both_have_ended() -> None:
    limiter = limiter_of(1, 60_000)
    first, second = limiter.disabled(), limiter.disabled()
    with second:
        with first:
            pass
        assert [bool(limiter.sync.take()) for _ in range(3)] == [True, True, True]
    first, second = limiter.disabled(), limiter.disabled()
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert [bool(limiter.sync.take()) for _ in range(3)] == [True, True, True]
    assert (await limiter.peek()).remaining == 1
    assert [bool(limiter.sync.take()) for _ in range(2)] == [True, False]


async def test_closed_while_it_is_disabled_it_stays_closed() -> None:
    limiter = Limiter(InMemoryBucket(Rate(1, 60_000)))
    with limiter.disabled():
        await limiter.aclose()
    with pytest.raises(LimiterClosed):
        limiter.sync.take()


@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter])
async def test_what_was_admitted_while_disabled_cannot_be_given_back(algorithm: Any) -> None:
    limiter = Limiter(InMemoryBucket(Rate(5, 60_000), algorithm=algorithm, clock=ManualClock(7)))
    with limiter.disabled():
        free = await limiter.acquire("a", 3)
    taken = await limiter.acquire("a", 5)
    await limiter.refund(free)
    assert (await limiter.peek()).remaining == 0
    await limiter.refund(taken)
    assert (await limiter.peek()).remaining == 5


# In sync code on a loop's thread.


async def test_sync_calls_on_a_loop_decide_in_place_or_say_what_to_await() -> None:
    limiter = limiter_of(1, 60_000)
    assert limiter.try_acquire("a") is True
    assert not limiter.sync.take("a")
    assert limiter.try_acquire("a", blocking=False) is False
    with pytest.raises(WouldBlock, match="await limiter.try_acquire_async"):
        limiter.try_acquire("a")
    with pytest.raises(WouldBlock, match="await limiter.acquire"):
        limiter.sync.acquire("a")
    assert limiter.sync.peek().remaining == 0
    limiter.sync.reset()
    decision = limiter.sync.acquire("a")
    limiter.sync.refund(decision)
    with limiter, pytest.raises(LimiterDelayException), limiter.slot("a", timeout=0.01):
        pytest.fail("the body of a refused slot ran")
    await anyio.sleep(0.1)
    assert not limiter._bucket._rooms


async def test_sync_calls_behind_those_who_wait_on_the_same_loop() -> None:
    limiter = limiter_of(4, 60_000)
    await limiter.acquire(weight=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "a", 2)
        await anyio.sleep(0.1)
        assert not limiter.sync.take()
        with pytest.raises(WouldBlock):
            limiter.sync.acquire()
        tasks.cancel_scope.cancel()
    assert limiter.sync.take()


async def test_sync_calls_to_a_store_on_a_loop_say_what_to_await() -> None:
    limiter = Limiter(ScriptedStore(Rate(1, 1000), clock=LoopClock()))
    with pytest.raises(WouldBlock, match="await limiter.take"):
        limiter.sync.take()
    await anyio.sleep(1)
    assert (await limiter.peek()).remaining == 1


async def test_errors_of_a_store_reach_every_kind_of_call() -> None:
    store = ScriptedStore(Rate(1, 1000), clock=LoopClock())

    def fail(_: int) -> None:
        raise StoreError("the store at example is down")

    store.fail = fail
    limiter = Limiter(store)
    for call in (limiter.acquire, limiter.take, limiter.try_acquire_async, limiter.peek):
        with pytest.raises(StoreError, match="example is down"):
            await call()


# Pickles, and the names of the reference.


def test_a_limiter_in_memory_does_not_pretend_to_be_shared() -> None:
    with pytest.raises(TypeError, match="MultiprocessBucket or SQLiteBucket"):
        pickle.dumps(limiter_of(1))


def test_the_global_limiter_is_false_and_says_what_to_call_until_it_is_filled() -> None:
    assert isinstance(LIMITER, Limiter)
    assert not LIMITER
    assert pickle.loads(pickle.dumps(LIMITER)) is LIMITER
    with pytest.raises(RuntimeError, match="init_global_limiter"):
        LIMITER.try_acquire("a")
    for call in (LIMITER.acquire, LIMITER.take, LIMITER.peek, LIMITER.reset, LIMITER.aclose, LIMITER.__aenter__):
        with pytest.raises(RuntimeError, match="init_global_limiter"):
            asyncio.run(call())
    for sync_call in (LIMITER.close, LIMITER.sync.take, LIMITER.__enter__, LIMITER.as_decorator()(len)):
        with pytest.raises(RuntimeError, match="init_global_limiter"):
            sync_call()
    assert not LIMITER


def test_the_memory_examples() -> None:
    limiter = create_inmemory_limiter()
    assert [limiter.try_acquire("x", blocking=False) for _ in range(4)] == [True, True, True, False]
    limiter = create_inmemory_limiter(rate_per_duration=20, duration=Duration.MINUTE, max_delay=Duration.SECOND * 10)
    assert [limiter.try_acquire("x") for _ in range(21)] == [True] * 20 + [False]
    awaited = create_inmemory_limiter(rate_per_duration=50, duration=Duration.SECOND, async_wrapper=True)

    async def main() -> bool:
        return await awaited.try_acquire("x")

    assert asyncio.run(main()) is True


async def test_factories_take_keyed_algorithm_and_max_waiters() -> None:
    limiter = create_inmemory_limiter(1, 60_000, keyed=True, algorithm=GCRA, max_waiters=0)
    await limiter.acquire("a")
    with pytest.raises(BucketFullException, match="max_waiters=0 wait already"):
        await limiter.acquire("a")
    await limiter.acquire("b")


def test_the_verdict_of_the_reference_on_rates() -> None:
    assert validate_rate_list([Rate(10, 1000), Rate(100, 60_000)])
    assert not validate_rate_list([Rate(100, 60_000), Rate(10, 1000)])
    assert not validate_rate_list([Rate(10, 1000), Rate(600, 60_000)])
    assert not validate_rate_list([])


def test_a_decision_is_light_and_unchangeable() -> None:
    decision = Decision(True, "a", 1, 5, 0.0, 1.0, 3, 4, Rate(4, 1000))
    with pytest.raises(AttributeError):
        decision.allowed = False  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(decision)) == decision


async def test_closing_in_place_ends_the_waits_too() -> None:
    limiter = limiter_of(1, 60_000)
    await limiter.acquire()
    async with anyio.create_task_group() as tasks:

        async def waits() -> None:
            with pytest.raises(LimiterClosed):
                await limiter.acquire()

        tasks.start_soon(waits)
        await anyio.sleep(0.1)
        limiter.close()
