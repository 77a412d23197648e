"""Routing: which bucket a request goes to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

from .bucket import AbstractBucket


class BucketFactory(ABC):
    """Chooses a bucket for each request: tiers, tenants, regions.

    The limiter asks at every call, so keep the buckets that you make (in a dict, say): a bucket made anew at every
    call forgets at every call. The factory owns them; closing the limiter does not close them.
    """

    @abstractmethod
    def get(self, name: str, weight: int) -> AbstractBucket | Awaitable[AbstractBucket]:
        """Return the bucket for a request, or an awaitable of it."""


class BucketAsyncWrapper:
    """Says that a limiter made of this bucket is used by `await`, as the reference implementation has it.

    Every bucket can be awaited here; the wrapper is what `async_wrapper=True` is.
    """

    def __init__(self, bucket: AbstractBucket) -> None:
        self.bucket = bucket
