"""The contract catches buckets and rooms that break it: each of these is wrong in one way."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import anyio
import pytest

from pyrate_limiter import AbstractBucket, InMemoryBucket, Rate
from pyrate_limiter.testing import ScriptedStore
from pyrate_limiter.testing.contract import BucketContract, InstantBucketContract
from pyrate_limiter.waiting.courier import Courier
from pyrate_limiter.waiting.lines import Lines
from pyrate_limiter.waiting.room import Room

from . import wrong_buckets as wrong

AS_THE_RULE = "test_decides_as_the_rule_does"
IN_PLACE = "test_in_place_it_decides_as_the_rule_does"
LATE = "test_a_grant_is_stamped_when_it_is_made_however_late"
MANY_TAKE_BACK = "test_what_is_granted_to_the_cancelled_goes_back"

WRONG_BUCKETS: list[tuple[wrong.Make, str]] = [
    (wrong.OutOfOrder, AS_THE_RULE),
    (wrong.OneTooMany, AS_THE_RULE),
    (wrong.Milliseconds, AS_THE_RULE),
    (wrong.OwnIdeaOfAlgorithms, AS_THE_RULE),
    (wrong.LooksCost, AS_THE_RULE),
    (wrong.ResetsTheUnnamed, AS_THE_RULE),
    (wrong.LosesTheStamp, AS_THE_RULE),
    (wrong.FourteenDigits, AS_THE_RULE),
    (wrong.NeverCloses, "test_a_batch_closes_at_its_first_patient_refusal"),
    (wrong.ClosesForTheImpatient, "test_who_cannot_wait_closes_nothing"),
    (wrong.ClosesTooLate, "test_who_can_just_wait_closes_and_who_just_cannot_does_not"),
    (wrong.LooksFromBehind, "test_looks_and_give_backs_are_behind_nobody"),
    (wrong.FewAtOnce, "test_a_full_call_is_decided_whole"),
    (partial(wrong.LosesRefunds, delay=0.001), "test_a_refund_gives_back_what_was_taken"),
    (partial(wrong.LosesRefunds, delay=0.004), MANY_TAKE_BACK),
    (wrong.RefundsByWeight, "test_a_refund_is_for_its_key_and_its_stamp"),
    (wrong.IgnoresReset, "test_a_look_spends_nothing_and_a_reset_forgets"),
    (wrong.ResetsByPrefix, "test_a_reset_forgets_one_key"),
    (wrong.SixteenBits, "test_a_million_units_are_one_request"),
    (wrong.LetsGoTooSoon, "test_what_counts_for_a_longer_rate_outlives_the_shorter"),
    (wrong.PlannedStamps, LATE),
    (wrong.StampsAhead, LATE),
    (wrong.ReadsTheClockFirst, "test_the_clock_is_read_while_nobody_else_decides"),
    (partial(wrong.Racy, delay=0.001), "test_loops_in_threads_share_the_budget"),
    (wrong.RefusesWhenBusy, "test_a_burst_that_does_not_wait_gets_exactly_the_limit"),
    (wrong.TakesALockForARefusal, "test_who_finds_the_store_busy_is_not_refused"),
    (wrong.ForEachLoop, "test_a_second_loop_takes_over_after_the_first"),
    (wrong.LeavesItsLock, "test_a_loop_that_ends_in_the_middle_of_a_call_stops_nobody"),
    (wrong.Overtakes, "test_in_place_nobody_overtakes_who_waits"),
    (wrong.TakesLabelsForKeys, IN_PLACE),
    (wrong.TakesAnything, "test_what_is_not_simply_a_take_goes_the_long_way"),
    (wrong.StaysOpen, "test_in_place_what_is_closed_says_so"),
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def hanging_fails_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrate_limiter.testing.contract.basis.LONGEST", 0.5)


def name_of(value: object) -> str:
    return str(getattr(value, "__name__", None) or getattr(getattr(value, "func", value), "__name__", value))


@pytest.mark.parametrize(("make", "test"), WRONG_BUCKETS, ids=name_of)
async def test_a_wrong_bucket_is_caught(make: wrong.Make, test: str) -> None:
    await fails(make, test)


@pytest.mark.parametrize("kept_as", wrong.KEPT_AS)
async def test_keys_that_are_mixed_are_caught(kept_as: str) -> None:
    await fails(partial(wrong.Renames, wrong.KEPT_AS[kept_as]), "test_keys_of_any_characters_stay_apart")


@pytest.mark.parametrize("clock", wrong.WRONG_CLOCKS)
async def test_a_clock_that_counts_something_else_is_caught(clock: str) -> None:
    await fails(partial(ScriptedStore, clock=wrong.WRONG_CLOCKS[clock]), "test_a_stamp_counts_microseconds")


@pytest.mark.parametrize("algorithm", [wrong.FloorLog, wrong.FloorGCRA])
async def test_a_wait_that_is_too_short_is_caught(algorithm: Any) -> None:
    with pytest.raises(AssertionError):
        await contract(InMemoryBucket).test_a_wait_is_exact(algorithm)


def _deliver_to_the_living(courier: Courier, callers: Any, answers: Any, now: float) -> None:
    """Forget what the store granted to one who left during the call."""
    kept = [(c, a) for c, a in zip(callers, answers, strict=True) if c is None or not c.settled]
    _deliver(courier, [caller for caller, _ in kept], [answer for _, answer in kept], now)


def _last_first(line: Any, units: float, most: int) -> list[Any]:
    """Serve the newest first."""
    return list(reversed(line._waiters))[:1]


def _stand_in_vain(lines: Lines, waiter: Any, answer: Any, now: float) -> None:
    """Let everybody stand in line, whatever patience it has."""
    lines._sleep(lines._stand(waiter), answer, waiter, now)


_deliver = Courier._deliver
WRONG_ROOMS = [
    (Lines, "refused", _stand_in_vain, "test_a_wait_in_vain_is_known_at_once_and_spends_nothing"),
    (Courier, "_deliver", _deliver_to_the_living, MANY_TAKE_BACK),
    (Lines, "rouse", lambda lines, key: None, "test_the_next_moves_up_at_once"),
    (Room, "close", lambda room, error, owner=None: room._courier.work(), "test_closing_ends_the_waits"),
]


@pytest.mark.parametrize(
    ("part", "method", "broken", "test"), WRONG_ROOMS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_a_wrong_room_is_caught(
    part: type, method: str, broken: Any, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, method, broken)
    await fails(partial(ScriptedStore, delay=0.004), test)


async def test_a_line_that_is_not_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrate_limiter.waiting.line.Line.prefix", _last_first)
    await fails(ScriptedStore, "test_order_of_arrival_whatever_the_weights")


def test_the_contract_is_for_a_bucket() -> None:
    with pytest.raises(NotImplementedError, match="override make_bucket"):
        BucketContract().make_bucket([Rate(1, 1)])


async def test_in_place_is_for_a_bucket_that_decides_there() -> None:
    with pytest.raises(TypeError, match="use BucketContract"):
        await contract(ScriptedStore).test_in_place_what_is_closed_says_so()


def contract(make: wrong.Make) -> InstantBucketContract:
    class Contract(InstantBucketContract):
        def make_bucket(self, rates: Sequence[Rate], **options: Any) -> AbstractBucket:
            return make(rates, **options)

    return Contract()


def runs(test: Any) -> Iterator[dict[str, Any]]:
    """Yield arguments for a test of the contract, as pytest would give them."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    given = {mark.args[0]: mark.args[1] for mark in marks}
    if "algorithm" in inspect.signature(test).parameters:
        given["algorithm"] = BucketContract.algorithms
    for values in product(*given.values()):
        yield dict(zip(given, values, strict=True))


async def fails(make: wrong.Make, name: str) -> None:
    """Want a test of the contract to fail on a bucket, by what it says or by an error that the bucket raises."""
    test = getattr(contract(make), name)
    with pytest.raises((AssertionError, pytest.fail.Exception, BaseExceptionGroup, wrong.StoreError)):
        for arguments in runs(test):
            if inspect.iscoroutinefunction(test):
                with anyio.fail_after(10):
                    await test(**arguments)
            else:
                await anyio.to_thread.run_sync(partial(test, **arguments))
