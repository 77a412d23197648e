"""Waits: one that is in vain is known at once."""

from __future__ import annotations

import pytest

from ...errors import LimiterDelayException
from ...rates import Duration, Rate
from .basis import Contract, in_time, same


class KnowsWaits(Contract):
    """Nobody waits for what cannot come in time."""

    async def test_a_wait_in_vain_is_known_at_once_and_spends_nothing(self) -> None:
        bucket = self.make_bucket([Rate(4, Duration.HOUR)])
        await bucket.take(3)
        with in_time("two refusals"):
            known = (await bucket.take(2)).retry_after
            with pytest.raises(LimiterDelayException) as refusal:
                await bucket.acquire(2, timeout=60)
        refused = refusal.value.decision
        retry_after = 0 if refused is None else refused.retry_after
        same(known - 60 < retry_after <= known, True, f"{retry_after} s, where one who does not wait is told {known} s")
        same((await bucket.peek()).remaining, 1, "remaining")
        await bucket.aclose()
