"""Batches: one call decides many asks, in their order, at one moment, and all or none of each."""

from __future__ import annotations

from ...decisions import BEHIND, FOREVER, Answer, Ask
from ...rates import Duration, Rate
from ..clocks import ManualClock
from .basis import NOW, Contract, same


class DecidesBatches(Contract):
    """A key closes in a call behind its first ask that is refused and can wait that long, and behind no other."""

    async def test_a_batch_closes_at_its_first_patient_refusal(self) -> None:
        bucket = self.make_bucket([Rate(10, 1000)], clock=ManualClock(NOW))
        asks = [Ask("a", 8), Ask("a", 5, FOREVER), Ask("a", 1, FOREVER), Ask("a", 1), Ask("b", 1)]
        waits = _waits(await bucket._apply(asks))
        same(waits[0], 0, "what fits is admitted")
        same(waits[1] > 0, True, "what does not fit is refused")
        same(waits[2:], [BEHIND, BEHIND, 0], "those behind it, and another key")
        await bucket.aclose()

    async def test_who_cannot_wait_closes_nothing(self) -> None:
        bucket = self.make_bucket([Rate(10, 1000)], clock=ManualClock(NOW))
        waits = _waits(await bucket._apply([Ask("a", 8), Ask("a", 5), Ask("a", 5, 10), Ask("a", 2)]))
        same([wait == 0 for wait in waits], [True, False, False, True], "admitted")
        await bucket.aclose()

    async def test_who_can_just_wait_closes_and_who_just_cannot_does_not(self) -> None:
        bucket = self.make_bucket([Rate(10, 1000)], clock=ManualClock(NOW))
        _, refused = await bucket._apply([Ask("a", 10), Ask("a", 3)])
        wait = refused.wait
        same(_waits(await bucket._apply([Ask("a", 3, wait - 1), Ask("a", 3)])), [wait, wait], "a microsecond too few")
        same(_waits(await bucket._apply([Ask("a", 3, wait), Ask("a", 3)])), [wait, BEHIND], "just as long")
        await bucket.aclose()

    async def test_looks_and_give_backs_are_behind_nobody(self) -> None:
        bucket = self.make_bucket([Rate(10, Duration.HOUR)], clock=ManualClock(NOW))
        taken, *_ = await bucket._apply([Ask("a", 10)])
        asks = [Ask("a", 5, FOREVER), Ask("a", 0), Ask("a", -10, at=taken.at), Ask("a", 0), Ask("a", 1)]
        closer, full, back, empty, newcomer = await bucket._apply(asks)
        same((closer.wait > 0, full.wait > 0), (True, True), "refused, and a look that sees why")
        same((back.wait, empty.wait, empty.remaining), (0, 0, 10), "given back, and a look that sees it")
        same(newcomer.wait, BEHIND, "a take behind the one who waits, although it would fit by now")
        await bucket.aclose()

    async def test_a_full_call_is_decided_whole(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        asks = [Ask(f"key {i}", 1) for i in range(min(bucket.batch, 1000))]
        same(_waits(await bucket._apply(asks)), [0] * len(asks), f"{len(asks)} different keys")
        waits = _waits(await bucket._apply(asks))
        same([wait > 0 for wait in waits], [True] * len(asks), "refused, each of the same again")
        await bucket.aclose()


def _waits(answers: list[Answer]) -> list[int]:
    return [answer.wait for answer in answers]
