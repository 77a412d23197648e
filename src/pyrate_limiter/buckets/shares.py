"""How much one call takes at the limit, where others ask the same store."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..rates import Rate


class Share:
    """The most units that one call takes for a key which is refused.

    A 64th of the limit, so that whoever comes first leaves something to the others. But far from the store more goes
    into each call: a process on its own must reach the limit in half the time.

    Args:
        rates: the bucket's.

    Attributes:
        least: units, however near the store is.
    """

    def __init__(self, rates: Sequence[Rate]) -> None:
        self.least = max(1, min(rate.limit for rate in rates) // 64)
        self._pace = min(rate.limit / rate.interval for rate in rates) * 1000

    def after(self, trip: float) -> int:
        """Return it for a store that answered within so many seconds."""
        return max(self.least, math.ceil(2 * self._pace * trip))
