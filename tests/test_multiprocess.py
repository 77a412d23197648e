"""The bucket in shared memory, within one process: two buckets with one name stand for two processes."""

from __future__ import annotations

import random
import signal
from contextlib import suppress
from functools import partialmethod
from itertools import count

import anyio
import pytest

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    bind,
    decide,
)
from pyrate_limiter.buckets.multiprocess import MultiprocessBucket, TableFull, lifetime, slots
from pyrate_limiter.buckets.multiprocess.folder import Folder
from pyrate_limiter.buckets.multiprocess.header import HEADER
from pyrate_limiter.decisions import FOREVER, RESET, Answer, Ask
from pyrate_limiter.errors import LimiterClosed, StoreError
from pyrate_limiter.rates import Rate
from pyrate_limiter.testing import ManualClock

ALGORITHMS = [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter]
RATES = {
    "one": [Rate(1, 10)],
    "few": [Rate(7, 20)],
    "many": [Rate(5000, 100)],
    "slow": [Rate(30, 8000), Rate(90, 60_000)],
    "three": [Rate(5, 10), Rate(12, 50), Rate(3000, 1000)],
}
_numbers = count()


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """A place for the folder that is this test's own: elsewhere a sweep of somebody's may hold a lock for a moment."""
    monkeypatch.setattr("pyrate_limiter.buckets.multiprocess.folder.PLACES", (str(tmp_path),))


@pytest.fixture
def name(place):
    """A name of this test's own, whose file goes with it."""
    name = f"test {next(_numbers)}"
    yield name
    with Folder() as folder:
        folder.remove(lifetime.named(name), lambda header: True)


def random_asks(rng: random.Random, granted: list[tuple[str, int, int]], capacity: int) -> list[Ask]:
    """Return a batch: takes of all sizes, looks, resets, and give-backs of what was granted before."""
    asks = []
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        key, kind = rng.choice(["", "a", "b\0"]), rng.random()
        if kind < 0.15 and granted:
            key, cost, at = granted.pop(rng.randrange(len(granted)))
            asks.append(Ask(key, -rng.randint(1, cost), at=at))
        elif kind < 0.2:
            asks.append(Ask(key, 0))
        elif kind < 0.21:
            asks.append(Ask(key, RESET))
        else:
            cost = min(capacity, rng.choice([1, 1, 1, 2, 3, capacity // 3 or 1, capacity]))
            asks.append(Ask(key, cost, rng.choice([0, 0, FOREVER])))
    return asks


def remember(granted: list[tuple[str, int, int]], asks: list[Ask], answers: list[Answer]) -> None:
    granted += [
        (ask.key, ask.cost, answer.at) for ask, answer in zip(asks, answers, strict=True) if ask.cost > 0 == answer.wait
    ]
    del granted[:-40]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)
def test_three_processes_answer_as_one_in_memory(algorithm: type[Algorithm], rates: list[Rate], seed: int, name: str):
    rng, clock = random.Random(seed), ManualClock()
    buckets = [MultiprocessBucket(rates, name, algorithm=algorithm, clock=clock) for _ in range(3)]
    rule, states, granted = bind(algorithm, rates), {}, []
    pace = rng.choice([50, 1000, 4000]) if rates[0].interval < 1000 else 200_000
    for _ in range(500):
        clock.now += rng.choice([0, 1, pace, rng.randrange(2 * pace)])
        if rng.random() < 0.03:
            clock.now -= rng.choice([500, 1_500_000])
        elif rng.random() < 0.01:
            clock.now += 3_000_000
        asks = random_asks(rng, granted, rule.capacity)
        expected = decide(rule, states, asks, clock.now)
        bucket = rng.choice(buckets)
        if len(asks) == 1 and asks[0].cost > 0 and rng.random() < 0.7:
            decision = bucket._decide(asks[0].key, asks[0].cost, True)
            assert decision == bucket._decision(asks[0].key, asks[0].cost, expected[0])
            answers = expected
        else:
            answers = bucket._step(asks)
        assert answers == expected
        remember(granted, asks, answers)


@pytest.mark.parametrize(("limit", "takes"), [(300, 1000), (1500, 4000)])
def test_processes_follow_a_log_through_the_ends_of_its_ring(limit: int, takes: int, name: str):
    clock, rng = ManualClock(), random.Random(limit)
    buckets = [MultiprocessBucket(Rate(limit, 1000), name, max_keys=2, clock=clock) for _ in range(3)]
    rule, states = buckets[0].rule, {}
    for _ in range(takes):
        clock.now += rng.choice([100, 900, 1100])
        bucket = rng.choices(buckets, (90, 9, 1))[0]
        assert bucket._step([Ask("", 1)]) == decide(rule, states, [Ask("", 1)], clock.now)


@pytest.mark.parametrize("rates", [Rate(9, 1000), [Rate(9, 1000), Rate(19, 2000)]], ids=["one", "two"])
def test_a_key_that_comes_back_to_its_slot_is_not_joined_to_what_a_process_knows_of_it(rates, name: str):
    clock = ManualClock()
    one, two = (MultiprocessBucket(rates, name, max_keys=1, clock=clock) for _ in range(2))
    for _ in range(3):
        clock.advance(0.001)
        assert one._take("x", 1, True) == 0
    clock.advance(2)
    assert two._take("y", 1, True) == 0
    clock.advance(2)
    for _ in range(5):
        clock.advance(0.001)
        assert two._take("x", 1, True) == 0
    assert one._decide("x", 1, True).remaining == 3


@pytest.mark.parametrize("rates", [Rate(50, 1000), [Rate(50, 1000), Rate(90, 1100)]], ids=["one", "two"])
def test_a_process_that_let_go_of_old_runs_meets_one_that_did_not(rates, name: str):
    clock = ManualClock()
    one, two = (MultiprocessBucket(rates, name, clock=clock) for _ in range(2))
    rule, states = one.rule, {}

    def take(bucket: MultiprocessBucket, cost: int = 1) -> None:
        clock.advance(0.001)
        expected = decide(rule, states, [Ask("", cost)], clock.now)[0]
        assert bucket._decide("", cost, True) == bucket._decision("", cost, expected)

    for _ in range(20):
        take(one)
    clock.advance(1.5)
    take(one)
    take(two)
    take(one)
    for cost in (48, 49, 50):
        take(one, cost)


def test_idle_keys_make_room_and_when_there_are_none_the_error_says_so(name: str):
    clock = ManualClock()
    bucket = MultiprocessBucket(Rate(2, 1000), name, max_keys=2, clock=clock)
    assert [bucket._take(key, 1, True) for key in ("a", "b", "a", "b", "a")] == [0, 0, 0, 0, 1_000_000]
    for _ in range(2):
        with pytest.raises(TableFull, match=r"all 2 keys .* 1 s more: raise max_keys"):
            bucket._take("c", 1, True)
    clock.advance(0.5)
    with pytest.raises(TableFull, match=r"0\.5 s more"):
        bucket._step([Ask("a", 0), Ask("c", 1)])
    clock.advance(0.5)
    assert bucket._take("c", 1, True) == 0
    assert bucket._step([Ask("d", 2)])[0].wait == 0
    with pytest.raises(TableFull):
        bucket._take("e", 1, True)
    bucket._step([Ask("d", RESET)])
    assert bucket._take("e", 1, True) == 0
    assert bucket.statistics().keys == 2


@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA])
def test_a_full_table_is_looked_through_once_until_a_key_may_be_idle(algorithm, name: str, monkeypatch):
    clock = ManualClock()
    bucket = MultiprocessBucket(Rate(2, 1000), name, algorithm=algorithm, max_keys=3, clock=clock)
    for key in "abc":
        assert bucket._take(key, 2, True) == 0
        clock.advance(0.01)
    looks, idle_at = [], bucket._storage.slots._banks.idle_at
    monkeypatch.setattr(bucket._storage.slots._banks, "idle_at", lambda at: looks.append(at) or idle_at(at))

    def full() -> int:
        """Return how many slots were looked at, to find that there is no room."""
        looks.clear()
        with pytest.raises(TableFull):
            bucket._take("d", 1, True)
        return len(looks)

    assert [full(), full()] == [3, 0]
    taken = bucket._step([Ask("c", 0)])[0].at - 10_000
    bucket._step([Ask("c", -1, at=taken)])
    assert full() == 0, "it is idle sooner perhaps, but not now"
    bucket._step([Ask("c", -1, at=taken)])
    assert bucket._take("d", 1, True) == 0


def test_who_makes_room_goes_on_where_the_last_one_found_some(name: str, monkeypatch):
    clock = ManualClock()
    bucket = MultiprocessBucket(Rate(2, 1000), name, max_keys=3, clock=clock)
    bucket._step([Ask("a", 1), Ask("b", 1), Ask("c", 1)])
    clock.advance(1)
    looks, idle_at = [], bucket._storage.slots._banks.idle_at
    monkeypatch.setattr(bucket._storage.slots._banks, "idle_at", lambda at: looks.append(at) or idle_at(at))
    for times, key in enumerate("def", 1):
        assert bucket._take(key, 1, True) == 0
        assert len(looks) == times


@pytest.mark.parametrize("rates", [Rate(1, 1000), [Rate(1, 1000), Rate(2, 2000)]], ids=["one", "two"])
def test_a_refusal_writes_nothing_and_makes_nobody_read_again(rates, name: str, monkeypatch):
    bucket = MultiprocessBucket(rates, name, clock=ManualClock())
    assert bucket._take("", 1, True) == 0
    monkeypatch.setattr(bucket._storage.slots._banks, "load", lambda entry: pytest.fail("it is known"))
    memory = bucket._storage.slots.file.memory
    before = memory[HEADER:]
    assert bucket._take("", 1, True) > 0
    assert bucket._take("", 1, True) > 0
    assert memory[HEADER:] == before


def test_without_room_nothing_of_a_batch_is_spent(name: str):
    bucket = MultiprocessBucket(Rate(2, 1000), name, max_keys=2, clock=ManualClock())
    for asks in ([Ask("a", 1), Ask("b", 1), Ask("c", 1)], [Ask("c", 1), Ask("b", 1), Ask("a", 1)]):
        with pytest.raises(TableFull):
            bucket._step(asks)
    assert [answer.remaining for answer in bucket._step([Ask("a", 0), Ask("b", 0)])] == [2, 2]


def test_what_a_batch_without_room_had_begun_is_idle_again(name: str):
    bucket = MultiprocessBucket(Rate(2, 60_000), name, max_keys=1, clock=ManualClock())
    with pytest.raises(TableFull):
        bucket._step([Ask("a", 1), Ask("b", 1)])
    assert bucket._take("b", 1, True) == 0


def test_looks_and_give_backs_of_unknown_keys_take_no_room(name: str):
    bucket = MultiprocessBucket(Rate(2, 1000), name, max_keys=1, clock=ManualClock())
    asks = [Ask("a", 0), Ask("b", -1, at=5), Ask("c", RESET), Ask("d", 1)]
    assert [answer.wait for answer in bucket._step(asks)] == [0, 0, 0, 0]
    assert bucket.statistics().keys == 1


def test_keys_of_any_characters_and_lengths_stay_apart(name: str):
    keys = ["", "\0", "\0\0", "a", "a\0", "é", "e\u0301", "x" * 100_000, "x" * 100_001, "\n", "'", "😀"]
    bucket = MultiprocessBucket(Rate(1, 60_000), name, algorithm=GCRA)
    assert [bucket._take(key, 1, True) for key in keys] == [0] * len(keys)
    assert all(bucket._take(key, 1, True) > 0 for key in keys)
    with pytest.raises(ValueError, match="UTF-8"):
        bucket._take("\ud800", 1, True)
    with pytest.raises(ValueError, match="UTF-8"):
        bucket._step([Ask("\ud800", 0)])


def test_many_keys_are_found_again_by_another_process(name: str):
    one, two = (MultiprocessBucket(Rate(1, 60_000), name, algorithm=GCRA, max_keys=700) for _ in range(2))
    keys = [f"user {i}" for i in range(700)]
    assert {one._take(key, 1, True) for key in keys} == {0}
    assert all(two._take(key, 1, True) > 0 for key in reversed(keys))


class Interrupted(Exception):
    """What a signal handler raises."""


@pytest.fixture
def interrupts():
    """A function that lets a signal handler raise, once, after so many seconds."""

    def interrupt(*arguments: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "rates", [Rate(10**6, 3_600_000), [Rate(10**6, 3_600_000), Rate(10**7, 7_200_000)]], ids=["one", "two"]
)
def test_an_interrupt_at_any_moment_leaves_the_locks_free_and_the_count_right(rates, name: str, interrupts):
    one, two = (MultiprocessBucket(rates, name, max_keys=1) for _ in range(2))
    one._take("", 1, True), two._take("", 1, True)
    counted, rng = 2, random.Random(5)
    for _ in range(300):
        with suppress(Interrupted):
            interrupts(rng.uniform(20e-6, 200e-6))
            while True:
                done = one._step([Ask("", 1)])
                counted += done[0].wait == 0
        assert not one._storage.mutex.locked()
        used = 10**6 - two._decide("", 1, True).remaining
        assert used - counted in {1, 2}, "the interrupted one is whole or not there"
        counted = used


@pytest.mark.parametrize("rates", [Rate(5, 1000), [Rate(5, 1000), Rate(9, 2000)]], ids=["one", "two"])
def test_what_was_changed_in_place_when_an_interrupt_came_is_read_again(rates, name: str, monkeypatch):
    clock = ManualClock()
    one, two = (MultiprocessBucket(rates, name, clock=clock) for _ in range(2))
    assert (one._take("", 1, True), two._take("", 1, True)) == (0, 0)

    def interrupted(self, *arguments, method):
        method(self, *arguments)
        raise Interrupted

    for method, step in (
        ("admit", lambda: one._take("", 1, True)),
        ("admit", lambda: one._step([Ask("", 1)])),
        ("follow", lambda: one._take("", 1, True)),
    ):
        clock.advance(0.01)
        with monkeypatch.context() as patch:
            real = getattr(SlidingWindowLog, method)
            patch.setattr(SlidingWindowLog, method, partialmethod(interrupted, method=real))
            with pytest.raises(Interrupted):
                step()
        left = two._step([Ask("", 0)])[0].remaining
        refused = [Ask("", 0), *[Ask("", cost) for cost in range(left + 1, 6)]]
        assert one._step(refused) == two._step(refused)
        assert two._take("", 1, True) == 0


def test_a_key_whose_making_was_interrupted_is_made_again(name: str, monkeypatch):
    one, two = (MultiprocessBucket(Rate(2, 1000), name, clock=ManualClock()) for _ in range(2))
    one._step([])

    with monkeypatch.context() as patch:
        tags = iter([1])  # for the search; where the new key gets its tag, there is no second one
        patch.setattr(slots, "tag_of", lambda digest: next(tags))
        with pytest.raises(StopIteration):
            one._take("a", 1, True)
    assert one._take("a", 1, True) == 0
    assert two._decide("a", 1, True).remaining == 0


def test_init_is_the_class_itself(name: str):
    one, two = MultiprocessBucket.init([Rate(2, 60_000)], name), MultiprocessBucket(Rate(2, 60_000), name)
    assert [one._take("", 1, True), two._take("", 1, True)] == [0, 0]
    assert one._take("", 1, True) > 0


async def test_a_closed_bucket_says_so_and_lets_go_of_its_file(name: str):
    bucket = MultiprocessBucket(Rate(2, 60_000), name)
    assert await bucket.take()
    await bucket.aclose()
    assert bucket._storage.slots is None
    for take in (lambda: bucket._take("", 1, True), lambda: bucket._decide("", 1, True)):
        with pytest.raises(LimiterClosed):
            take()
    bucket._owe(Ask("", -1, at=0))
    assert await MultiprocessBucket(Rate(2, 60_000), name).take()


async def test_what_a_caller_leaves_behind_while_the_store_fails_goes_back_with_the_next_call(name: str, monkeypatch):
    bucket = MultiprocessBucket(Rate(1, 60_000), name)
    decision = await bucket.acquire()

    def failing() -> int:
        raise StoreError("on purpose")

    monkeypatch.setattr(bucket._storage, "enter", failing)
    bucket._owe(Ask("", -1, at=decision.at))
    assert bucket.statistics().owed == 1
    monkeypatch.undo()
    with anyio.fail_after(5):
        await bucket.acquire()
    assert bucket.statistics().owed == 0


def test_its_share_is_a_few_permits_at_the_limit():
    assert [MultiprocessBucket(Rate(limit, 1000)).share for limit in (1, 64, 6400)] == [1, 1, 100]
    assert MultiprocessBucket([Rate(6400, 1000), Rate(640, 100)]).share == 10


@pytest.mark.parametrize("max_keys", [0, -1, True, 1.5])
def test_max_keys_is_a_positive_int(max_keys: object):
    with pytest.raises((TypeError, ValueError), match="max_keys must be a positive int"):
        MultiprocessBucket(Rate(1, 1000), max_keys=max_keys)


def test_without_max_keys_it_takes_four_megabytes_at_most_if_sixteen_keys_fit():
    counts = [MultiprocessBucket(Rate(limit, 1000)).max_keys for limit in (10, 1000, 10**9)]
    assert counts == [8065, 130, 130]
    assert MultiprocessBucket(Rate(10, 1000), algorithm=GCRA).max_keys == 10_000
    assert MultiprocessBucket([Rate(1000, 1000 * n) for n in range(1, 30)]).max_keys == 16


@pytest.mark.parametrize(
    ("rates", "pause"),
    [(Rate(20, 500), 0.001), (Rate(100, 100), 0.00025), ([Rate(640, 10_000), Rate(64, 64)], 0.00025)],
)
def test_taking_all_by_shares_takes_a_quarter_of_an_interval_at_most(rates, pause: float):
    bucket = MultiprocessBucket(rates)
    assert bucket.pause == pytest.approx(pause)
    assert all(rate.limit / bucket.share * bucket.pause <= rate.interval / 4000 + 1e-9 for rate in bucket.rates)
