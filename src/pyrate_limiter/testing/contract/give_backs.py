"""Give-backs: a refund gives back what was taken and no more, a look spends nothing, a reset forgets."""

from __future__ import annotations

from ...algorithms import Algorithm
from ...rates import Duration, Rate
from .basis import Contract, same


class GivesBack(Contract):
    """What was taken can be given back, once, by its stamp."""

    async def test_a_look_spends_nothing_and_a_reset_forgets(self) -> None:
        bucket = self.make_bucket([Rate(2, Duration.HOUR)])
        for _ in range(5):
            same((await bucket.peek()).remaining, 2, "remaining before anything was taken")
        await bucket.take(2)
        looked = await bucket.peek()
        same((looked.allowed, looked.remaining, looked.retry_after > 0), (False, 0, True), "a look at a full key")
        await bucket.reset()
        same((await bucket.peek()).remaining, 2, "remaining after a reset")
        await bucket.aclose()

    async def test_a_refund_gives_back_what_was_taken(self, algorithm: type[Algorithm]) -> None:
        bucket = self.make_bucket([Rate(5, Duration.HOUR)], algorithm=algorithm)
        before = await bucket.peek()
        decision = await bucket.take(4)
        await bucket.refund(await bucket.take(5))
        same((await bucket.peek()).remaining <= 1, True, "a refused decision gives nothing back")
        await bucket.refund(decision)
        same((await bucket.peek()).remaining, before.remaining, "remaining after the refund")
        await bucket.aclose()

    async def test_a_refund_is_for_its_key_and_its_stamp(self) -> None:
        bucket = self.make_bucket([Rate(5, Duration.MINUTE)])
        decision = await bucket.take(3, key="a")
        await bucket.take(3, key="b")
        await bucket.refund(key="a", weight=3, at=max(0, decision.at - 60_000_000))
        same((await bucket.peek(key="a")).remaining, 2, "remaining after a refund of what was never granted")
        await bucket.refund(decision, key="a")
        same((await bucket.peek(key="a")).remaining, 5, "remaining after the refund")
        same((await bucket.peek(key="b")).remaining, 2, "remaining of another key")
        await bucket.aclose()
