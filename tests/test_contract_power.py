"""The contract catches buckets and rooms that break it: each of these is wrong in one way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import anyio
import pytest

from pyrate_limiter import BEHIND, GCRA, AbstractBucket, Answer, Ask, InMemoryBucket, Rate, SlidingWindowLog
from pyrate_limiter.algorithms import State, decide
from pyrate_limiter.testing import ScriptedStore
from pyrate_limiter.testing.contract import BucketContract
from pyrate_limiter.waiting.courier import Courier
from pyrate_limiter.waiting.lines import Lines
from pyrate_limiter.waiting.room import Room

MANY_TAKE_BACK = "test_what_is_granted_to_the_cancelled_goes_back"


class Racy(ScriptedStore):
    """Reads, goes away, and writes what it has read: between two loops a grant is lost."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        states = {ask.key: _copy(self._states.get(ask.key)) for ask in asks if ask.key in self._states}
        answers = decide(self.rule, states, asks, self._clock())
        await anyio.sleep(0.002)
        self._states.update(states)
        return answers


def _copy(state: State) -> State:
    return list(state) if isinstance(state, list) else state


class PlannedStamps(InMemoryBucket):
    """Stamps a grant with the moment for which it was planned, not with that at which it is made."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = super()._step(asks)
        for i, answer in enumerate(answers):
            if answer.wait > 0:
                self._planned = answer.at + answer.wait
            elif asks[i].cost > 0 and hasattr(self, "_planned"):
                answers[i] = answer._replace(at=self._planned)
        return answers


class StampsAhead(ScriptedStore):
    """Grants at once what fits later, and says so in the stamp."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return [
            answer._replace(wait=0, at=answer.at + answer.wait) if 0 < answer.wait <= ask.patience else answer
            for ask, answer in zip(asks, await super()._apply(asks), strict=True)
        ]


class LosesRefunds(ScriptedStore):
    """Drops what is given back."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await super()._apply([ask if ask.cost >= 0 else ask._replace(cost=-1, at=0) for ask in asks])


class NeverCloses(InMemoryBucket):
    """Lets a light ask pass a heavy one that waits."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        return [super(NeverCloses, self)._step([ask])[0] for ask in asks]


class ClosesForTheImpatient(InMemoryBucket):
    """Puts everybody behind one who does not wait."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = super()._step(asks)
        refused = [ask.key for ask, answer in zip(asks, answers, strict=True) if answer.wait]
        return [
            a if ask.key not in refused or a.wait else a._replace(wait=BEHIND)
            for ask, a in zip(asks, answers, strict=True)
        ]


class FloorLog(SlidingWindowLog):
    """Says a microsecond too little."""

    def admit(self, state: State, now: int, cost: int) -> tuple[int, State]:
        wait, state = super().admit(state, now, cost)
        return (wait - 1 if wait > 1 else wait), state


class FloorGCRA(GCRA):
    """Rounds a wait down."""

    def admit(self, state: int, now: int, cost: int) -> tuple[int, int]:
        wait, state = super().admit(state, now, cost)
        return (wait - 1 if wait > 1 else wait), state


class OneBudgetForAll(InMemoryBucket):
    """Folds the case of keys, and cuts them at NUL."""

    def _step(self, asks: Sequence[Ask]) -> list[Answer]:
        return super()._step([ask._replace(key=ask.key.lower().split("\0")[0]) for ask in asks])


class IgnoresReset(ScriptedStore):
    """Forgets nothing."""

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        return await super()._apply([ask if ask.cost > -(2**52) else ask._replace(cost=0) for ask in asks])


class RefusesWhenBusy(ScriptedStore):
    """Takes a lock that is held for a refusal."""

    _busy = False

    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = await super()._apply(asks)
        self._busy = not self._busy
        return [
            a._replace(wait=1000) if self._busy and ask.cost > 0 else a for ask, a in zip(asks, answers, strict=True)
        ]


WRONG_BUCKETS: list[tuple[Callable[..., AbstractBucket], str]] = [
    (partial(Racy, delay=0.001), "test_loops_in_threads_share_the_budget"),
    (PlannedStamps, "test_a_grant_is_stamped_when_it_is_made_however_late"),
    (StampsAhead, "test_a_grant_is_stamped_when_it_is_made_however_late"),
    (partial(LosesRefunds, delay=0.001), "test_a_refund_gives_back_what_was_taken"),
    (partial(LosesRefunds, delay=0.004), MANY_TAKE_BACK),
    (NeverCloses, "test_a_batch_closes_at_its_first_patient_refusal"),
    (ClosesForTheImpatient, "test_who_cannot_wait_closes_nothing"),
    (OneBudgetForAll, "test_keys_of_any_characters_stay_apart"),
    (IgnoresReset, "test_a_look_spends_nothing_and_a_reset_forgets"),
    (RefusesWhenBusy, "test_a_burst_that_does_not_wait_gets_exactly_the_limit"),
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(("make", "test"), WRONG_BUCKETS, ids=lambda value: getattr(value, "__name__", str(value)))
async def test_a_wrong_bucket_is_caught(make: Callable[..., AbstractBucket], test: str) -> None:
    await _fails(make, test)


@pytest.mark.parametrize("algorithm", [FloorLog, FloorGCRA])
async def test_a_wait_that_is_too_short_is_caught(algorithm: Any) -> None:
    with pytest.raises(AssertionError):
        await _contract(InMemoryBucket).test_a_wait_is_exact(algorithm)


def _deliver_to_the_living(courier: Courier, callers: Any, answers: Any, now: float) -> None:
    """Forget what the store granted to one who left during the call."""
    kept = [(c, a) for c, a in zip(callers, answers, strict=True) if c is None or not c.settled]
    _deliver(courier, [caller for caller, _ in kept], [answer for _, answer in kept], now)


def _last_first(line: Any, units: float, most: int) -> list[Any]:
    """Serve the newest first."""
    return list(reversed(line._waiters))[:1]


_deliver = Courier._deliver
WRONG_ROOMS = [
    (Courier, "_deliver", _deliver_to_the_living, MANY_TAKE_BACK),
    (Lines, "rouse", lambda lines, key: None, "test_the_next_moves_up_at_once"),
    (Room, "close", lambda room, error, owner=None: room._courier.work(), "test_closing_ends_the_waits"),
]


@pytest.mark.parametrize(
    ("part", "method", "wrong", "test"), WRONG_ROOMS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_a_wrong_room_is_caught(
    part: type, method: str, wrong: Any, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, method, wrong)
    await _fails(partial(ScriptedStore, delay=0.004), test)


async def test_a_line_that_is_not_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrate_limiter.waiting.line.Line.prefix", _last_first)
    await _fails(ScriptedStore, "test_order_of_arrival_whatever_the_weights")


def test_the_contract_is_for_a_bucket() -> None:
    with pytest.raises(NotImplementedError, match="override make_bucket"):
        BucketContract().make_bucket([Rate(1, 1)])


def _contract(make: Callable[..., AbstractBucket]) -> BucketContract:
    class Contract(BucketContract):
        def make_bucket(self, rates: Sequence[Rate], **options: Any) -> AbstractBucket:
            return make(rates, **options)

    return Contract()


def _runs(test: Any) -> Iterator[dict[str, Any]]:
    """Yield arguments for a test of the contract: all its seeds, with one algorithm."""
    wanted = inspect.signature(test).parameters
    for seed in range(3 if "seed" in wanted else 1):
        yield {name: value for name, value in (("seed", seed), ("algorithm", SlidingWindowLog)) if name in wanted}


async def _fails(make: Callable[..., AbstractBucket], name: str) -> None:
    """Want a test of the contract to fail on a bucket, by what it asserts or by hanging."""
    test = getattr(_contract(make), name)
    with pytest.raises((AssertionError, TimeoutError, BaseExceptionGroup)):
        for arguments in _runs(test):
            if inspect.iscoroutinefunction(test):
                with anyio.fail_after(1):
                    await test(**arguments)
            else:
                await anyio.to_thread.run_sync(partial(test, **arguments))
