"""The stores."""

from .memory import InMemoryBucket

__all__ = ["InMemoryBucket"]
