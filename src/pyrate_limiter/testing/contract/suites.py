"""All promises together."""

from __future__ import annotations

from .batches import DecidesBatches
from .cancellation import LetsGo
from .clock import ReadsItsClock
from .closing import Closes
from .exactness import IsExact
from .give_backs import GivesBack
from .in_place import DecidesInPlace
from .keys import KeepsKeysApart
from .loops import SharesWithLoops
from .order import KeepsOrder
from .waits import KnowsWaits
from .weights import Weighs


# Of several bases, pytest begins with the last: a clock that counts something else breaks everything behind it.
class OneLoopContract(
    Closes, LetsGo, KnowsWaits, KeepsOrder, GivesBack, Weighs, KeepsKeysApart, DecidesBatches, IsExact, ReadsItsClock
):
    """What every bucket must do, for one whose client belongs to one event loop."""


class BucketContract(SharesWithLoops, OneLoopContract):
    """What every bucket must do. Subclass it and say how to make one."""


class InstantBucketContract(DecidesInPlace, BucketContract):
    """What an `InstantBucket` must do: all of that, and the same where it decides in place."""
