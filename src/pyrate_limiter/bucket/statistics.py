"""What a bucket says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BucketStatistics:
    """What a bucket holds right now, as far as this process knows without asking anybody.

    Attributes:
        keys: how many keys it knows: of all processes in shared memory; None where only the store could tell.
        waiting: how many callers wait, on all event loops of this process.
        owed: how many give-backs are still on their way to the store.
        down: whether a stand-in decides, or errors are raised, because the store was down at the last call.
        outages: how often the store was found down.
        degraded: how many decisions were not the store's.
    """

    keys: int | None
    waiting: int
    owed: int
    down: bool = False
    outages: int = 0
    degraded: int = 0


def total(parts: Iterable[BucketStatistics]) -> BucketStatistics:
    """Return what several buckets hold together."""
    parts = list(parts)
    keys = [part.keys for part in parts if part.keys is not None]
    return BucketStatistics(
        sum(keys) if len(keys) == len(parts) else None,
        sum(part.waiting for part in parts),
        sum(part.owed for part in parts),
        any(part.down for part in parts),
        sum(part.outages for part in parts),
        sum(part.degraded for part in parts),
    )
