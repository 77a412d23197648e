"""An exact, fair, async-first rate limiter for asyncio and trio."""

from typing import TYPE_CHECKING

from .algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from .bucket import AbstractBucket, BucketStatistics, InstantBucket
from .buckets import (
    Admit,
    Fail,
    InMemoryBucket,
    LocalShare,
    MultiprocessBucket,
    Refuse,
    StoreDown,
    TableFull,
    WhenDown,
)
from .decisions import BEHIND, BUSY, FOREVER, RESET, Answer, Ask, Decision
from .errors import (
    BucketFullException,
    LimiterClosed,
    LimiterDelayException,
    RateLimitError,
    StoreError,
    WeightTooLarge,
    WouldBlock,
)
from .factories import (
    LIMITER,
    create_inmemory_limiter,
    create_sqlite_bucket,
    create_sqlite_limiter,
    init_global_limiter,
)
from .limiter import Limiter
from .listening import Listener, Listening, Wait
from .rates import Duration, Rate, validate_rate_list
from .routing import BucketAsyncWrapper, BucketFactory

if TYPE_CHECKING:
    from .buckets import PostgresBucket, RedisBucket, SQLiteBucket

__all__ = [
    "BEHIND",
    "BUSY",
    "FOREVER",
    "GCRA",
    "LIMITER",
    "RESET",
    "AbstractBucket",
    "Admit",
    "Algorithm",
    "Answer",
    "Ask",
    "BucketAsyncWrapper",
    "BucketFactory",
    "BucketFullException",
    "BucketStatistics",
    "Decision",
    "Duration",
    "Fail",
    "FixedWindow",
    "InMemoryBucket",
    "InstantBucket",
    "LeakyBucket",
    "Limiter",
    "LimiterClosed",
    "LimiterDelayException",
    "Listener",
    "Listening",
    "LocalShare",
    "MultiprocessBucket",
    "PostgresBucket",
    "Rate",
    "RateLimitError",
    "RedisBucket",
    "Refuse",
    "SQLiteBucket",
    "SlidingWindowCounter",
    "SlidingWindowLog",
    "StoreDown",
    "StoreError",
    "TableFull",
    "TokenBucket",
    "Wait",
    "WeightTooLarge",
    "WhenDown",
    "WouldBlock",
    "create_inmemory_limiter",
    "create_sqlite_bucket",
    "create_sqlite_limiter",
    "init_global_limiter",
    "validate_rate_list",
]


def __getattr__(name: str) -> object:
    """Import a bucket with a driver when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import buckets  # noqa: PLC0415

    return getattr(buckets, name)
