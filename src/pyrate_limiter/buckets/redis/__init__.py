"""The bucket in Redis or Valkey."""

from .bucket import RedisBucket

__all__ = ["RedisBucket"]
