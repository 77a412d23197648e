"""What happens while a store is down, whichever store it is."""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pyrate_limiter.algorithms import GCRA, SlidingWindowLog
from pyrate_limiter.buckets import outage
from pyrate_limiter.buckets.outage import Admit, Fail, LocalShare, Outage, Refuse, StoreDown, WhenDown
from pyrate_limiter.decisions import BEHIND, FOREVER, Answer, Ask
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Rate

RATE = Rate(4, 60_000)


class Time:
    """Stands in for the module: a monotonic clock that stands still until it is told to move."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Store:
    """A store that does what it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[list[Ask]] = []
        self.budgets: list[float] = []
        self.hold: anyio.Event | None = None

    async def ask(self, asks: Sequence[Ask], budget: float) -> list[Answer]:
        self.calls.append(list(asks))
        self.budgets.append(budget)
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return [Answer(0, 7) for _ in asks]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(outage, "time", time)
    return time


@pytest.fixture
def store() -> Store:
    return Store()


def down() -> StoreDown:
    return StoreDown("Store at x did not answer within 0.25 s")


def breaker(policy: WhenDown, rates: Sequence[Rate] = (RATE,)) -> Outage:
    return Outage(policy, rates, SlidingWindowLog, "Store at x", clock=lambda: 42)


async def test_a_store_that_answers_is_left_alone(store: Store) -> None:
    out = breaker(Refuse(budget=0.5))
    assert await out.call(store.ask, [Ask("a", 1)]) == [Answer(0, 7)]
    assert store.budgets == [0.5]
    assert (out.down, out.outages, out.degraded) == (False, 0, 0)


async def test_failing_is_the_default_of_words_and_names_the_store(store: Store, time: Time) -> None:
    out, store.error = breaker(Fail()), down()
    with pytest.raises(StoreError, match=r"Store at x did not answer within 0\.25 s; it is asked again in 1 s"):
        await out.call(store.ask, [Ask("a", 1)])
    time.now += 0.5
    with pytest.raises(StoreError, match=r"it is asked again in 0\.5 s"):
        await out.call(store.ask, [Ask("a", 1)])
    assert len(store.calls) == 1


async def test_refusing_says_when_to_come_back_and_keeps_the_order(store: Store, time: Time) -> None:
    out, store.error = breaker(Refuse(probe=2)), down()
    asks = [Ask("a", 1), Ask("a", 1, 2_000_000), Ask("a", 1, FOREVER), Ask("b", 1, 10), Ask("b", 2), Ask("a", 0)]
    answers = await out.call(store.ask, [*asks, Ask("a", -1, at=3)])
    wait = 2_000_000
    assert [answer.wait for answer in answers] == [wait, wait, BEHIND, wait, wait, wait, 0]
    assert all(answer.degraded and answer.at == 42 for answer in answers)
    assert out.degraded == 6


async def test_admitting_admits_all(store: Store, time: Time) -> None:
    out, store.error = breaker(Admit()), down()
    answers = await out.call(store.ask, [Ask("a", 4)] * 3)
    assert answers == [Answer(0, 42, 4, degraded=True)] * 3


async def test_a_local_share_counts_its_part_and_goes_on_counting_in_the_next_outage(store: Store, time: Time) -> None:
    out = Outage(LocalShare(0.5), (RATE,), SlidingWindowLog, "Store at x")
    for expected in ([0, 0], [1, 1]):
        store.error = down()
        answers = await out.call(store.ask, [Ask("a", 1)] * 2)
        assert [min(answer.wait, 1) for answer in answers] == expected
        assert all(answer.degraded for answer in answers)
        store.error = None
        time.now += 1
        assert not (await out.call(store.ask, [Ask("a", 1)]))[0].degraded


async def test_a_share_is_never_less_than_a_unit_and_scales_the_burst(store: Store, time: Time) -> None:
    out, store.error = Outage(LocalShare(0.3), (Rate(10, 60_000, burst=7), Rate(2, 1000)), GCRA, "x"), down()
    waits = [answer.wait for answer in await out.call(store.ask, [Ask("a", 1), Ask("a", 1), Ask("a", 2, 5)])]
    assert waits[0] == 0
    assert 0 < waits[1] <= 1_000_000  # the second rate's only unit
    assert waits[2] == 1_000_000  # never fits the share: the store is asked again then


@pytest.mark.parametrize(
    ("limit", "share", "part"),
    [
        (1, 0.3, 1),
        (10, 0.3, 3),
        (100, 0.29, 29),  # as floats, 28.999999999999996
        (98, 1 / 49, 2),  # 1.9999999999999998
        (3, 1 / 2, 1),
        (100, 1, 100),
        (10**17 + 1, 1 / 3, 33333333333333333),  # ...28
        (10, 1e-9, 1),
    ],
)
def test_a_share_is_the_part_that_was_meant_rounded_down(limit: int, share: float, part: int) -> None:
    stand_in: Any = LocalShare(share).stand_in([Rate(limit, 60_000, burst=limit)], GCRA)
    assert stand_in._bucket.rates == (Rate(part, 60_000, burst=part),)


async def test_what_the_share_granted_goes_back_to_it_and_nothing_of_the_stores(store: Store, time: Time) -> None:
    out, store.error = Outage(LocalShare(0.5), (RATE,), SlidingWindowLog, "x"), down()
    granted = (await out.call(store.ask, [Ask("a", 2)]))[0]
    assert (await out.call(store.ask, [Ask("a", -2, at=granted.at), Ask("a", 1)]))[1].wait  # as if the store's
    store.error = None
    time.now += 1
    asks = [Ask("a", 1), Ask("a", -2, at=granted.at, degraded=True), Ask("b", 1)]
    answers = await out.call(store.ask, asks)
    assert [answer.degraded for answer in answers] == [False, True, False]
    assert store.calls[-1] == [asks[0], asks[2]]
    store.error = down()
    assert not (await out.call(store.ask, [Ask("a", 2)]))[0].wait


async def test_one_call_at_a_time_asks_whether_the_store_is_back(store: Store, time: Time) -> None:
    out, store.error = breaker(Refuse(probe=1)), down()
    await out.call(store.ask, [Ask("a", 1)])
    time.now += 0.99
    await out.call(store.ask, [Ask("a", 1)])
    assert len(store.calls) == 1
    time.now += 0.01
    store.error, store.hold = None, anyio.Event()
    answers: list[Answer] = []

    async def probe() -> None:
        answers.extend(await out.call(store.ask, [Ask("a", 1)]))

    async with anyio.create_task_group() as group:
        group.start_soon(probe)
        await anyio.wait_all_tasks_blocked()
        assert (await out.call(store.ask, [Ask("b", 1)]))[0].degraded
        assert len(store.calls) == 2
        store.hold.set()
    assert answers == [Answer(0, 7)]
    assert not out.down
    store.hold = None
    assert not (await out.call(store.ask, [Ask("b", 1)]))[0].degraded


@pytest.mark.parametrize("error", [down(), StoreError("Store at x: no such right")], ids=["down", "wrong"])
async def test_calls_that_come_back_late_do_not_end_the_probe(store: Store, time: Time, error: StoreError) -> None:
    out, late, store.error = breaker(Refuse(probe=1)), Store(), down()
    late.error, late.hold, store_held = error, anyio.Event(), anyio.Event()

    async def call_late() -> None:
        with contextlib.suppress(StoreError):
            await out.call(late.ask, [Ask("a", 1)])

    async with anyio.create_task_group() as group:
        group.start_soon(call_late)
        await anyio.wait_all_tasks_blocked()
        await out.call(store.ask, [Ask("a", 1)])
        time.now += 1
        store.hold = store_held
        group.start_soon(out.call, store.ask, [Ask("a", 1)])
        await anyio.wait_all_tasks_blocked()
        late.hold.set()
        await anyio.wait_all_tasks_blocked()
        time.now += 1
        with anyio.fail_after(5):
            assert (await out.call(store.ask, [Ask("a", 1)]))[0].degraded
        assert len(store.calls) == 2
        store_held.set()


async def test_what_the_share_granted_goes_back_though_the_store_refuses_the_rest(store: Store, time: Time) -> None:
    out, store.error = Outage(LocalShare(0.5), (RATE,), SlidingWindowLog, "x"), down()
    granted = (await out.call(store.ask, [Ask("a", 2)]))[0]
    time.now += 1
    store.error = StoreError("Store at x: no such right")
    with pytest.raises(StoreError, match="no such right"):
        await out.call(store.ask, [Ask("a", 1), Ask("a", -2, at=granted.at, degraded=True)])
    store.error = down()
    assert not (await out.call(store.ask, [Ask("a", 2)]))[0].wait


async def test_a_forked_child_asks_for_itself_whether_the_store_is_back(store: Store, time: Time) -> None:
    out, store.error = breaker(Refuse(probe=1)), down()
    await out.call(store.ask, [Ask("a", 1)])
    time.now += 1
    store.hold = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(out.call, store.ask, [Ask("a", 1)])  # by the parent, at the moment of the fork
        await anyio.wait_all_tasks_blocked()
        time.now += 1
        out.forked()
        store.error = store.hold = None
        assert not (await out.call(store.ask, [Ask("a", 1)]))[0].degraded
        group.cancel_scope.cancel()


async def test_a_probe_that_is_cancelled_lets_another_one_go(store: Store, time: Time) -> None:
    out, store.error = breaker(Refuse(probe=1)), down()
    await out.call(store.ask, [Ask("a", 1)])
    time.now += 1
    store.hold = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(out.call, store.ask, [Ask("a", 1)])
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    store.error = store.hold = None
    assert not (await out.call(store.ask, [Ask("a", 1)]))[0].degraded


@pytest.mark.parametrize(
    "policy", [Fail(), Refuse(), Admit(), LocalShare(0.5)], ids=lambda policy: type(policy).__name__
)
async def test_a_store_that_is_not_what_it_should_be_is_said_and_trips_nothing(policy: WhenDown, store: Store) -> None:
    out, store.error = breaker(policy), StoreError("Store at x: no such right")
    for _ in range(3):
        with pytest.raises(StoreError, match="no such right"):
            await out.call(store.ask, [Ask("a", 1)])
    assert len(store.calls) == 3
    assert not out.outages


async def test_each_outage_is_logged_once(store: Store, time: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyrate_limiter")
    out, store.error = breaker(Refuse(probe=1)), down()
    for _ in range(5):
        await out.call(store.ask, [Ask("a", 1)])
        time.now += 1.25
    store.error = None
    await out.call(store.ask, [Ask("a", 1)])
    await out.call(store.ask, [Ask("a", 1)])
    assert [record.getMessage() for record in caplog.records] == [
        "Store at x did not answer within 0.25 s; policy Refuse until it is back, asked every 1 s",
        "Store at x is back after 6.2 s; 5 decisions were not its own",
    ]
    assert (out.outages, out.degraded) == (1, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fail(budget=0), "budget must be a positive number"),
        (lambda: Refuse(probe=-1), "probe must be a positive number"),
        (lambda: Fail(budget=float("inf")), "budget must be a positive number"),
        (lambda: Admit(probe=float("nan")), "probe must be a positive number"),
        (lambda: LocalShare(0), "share must be above 0"),
        (lambda: LocalShare(1.5), r"1 / \(number of processes\) is safe"),
    ],
)
def test_a_policy_checks_its_numbers(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_policies_are_values() -> None:
    assert pickle.loads(pickle.dumps(LocalShare(0.5, budget=1))) == LocalShare(0.5, budget=1)
