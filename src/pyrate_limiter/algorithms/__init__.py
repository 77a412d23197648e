"""The algorithms: rules over integers that know no clock, no store and no event loop."""

from .decide import decide
from .gcra import GCRA, LeakyBucket, TokenBucket
from .rule import Algorithm, Rule, Several, State, bind
from .sliding_log import SlidingWindowLog
from .windows import FixedWindow, SlidingWindowCounter

__all__ = [
    "GCRA",
    "Algorithm",
    "FixedWindow",
    "LeakyBucket",
    "Rule",
    "Several",
    "SlidingWindowCounter",
    "SlidingWindowLog",
    "State",
    "TokenBucket",
    "bind",
    "decide",
]
