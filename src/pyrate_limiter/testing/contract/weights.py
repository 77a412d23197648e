"""Weights: 0 spends nothing, what never fits is an error at once, and what is no weight at all too."""

from __future__ import annotations

import pytest

from ...errors import WeightTooLarge
from ...rates import Duration, Rate
from .basis import Contract, same


class Weighs(Contract):
    """A weight is an int from 0 to the least limit."""

    async def test_weights(self) -> None:
        bucket = self.make_bucket([Rate(5, Duration.HOUR), Rate(3, Duration.DAY)])
        same((await bucket.take(0)).allowed, True, "nothing is always admitted")
        with pytest.raises(WeightTooLarge, match="at most 3"):
            await bucket.acquire(4)
        with pytest.raises(ValueError, match="0 or more"):
            await bucket.take(-1)
        with pytest.raises(TypeError, match="int"):
            await bucket.take(1.5)  # type: ignore[arg-type]
        same((await bucket.peek()).remaining, 3, "remaining after all that")
        same((await bucket.take(3)).remaining, 0, "remaining after the heaviest that fits")
        same((await bucket.take(0)).allowed, True, "nothing, when nothing is left")
        await bucket.aclose()

    async def test_a_million_units_are_one_request(self) -> None:
        bucket = self.make_bucket([Rate(1_000_000, Duration.HOUR)])
        decision = await bucket.take(999_999)
        same((await bucket.peek()).remaining, 1, "remaining")
        await bucket.refund(decision)
        same((await bucket.peek()).remaining, 1_000_000, "remaining after the refund")
        await bucket.aclose()
