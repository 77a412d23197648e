"""The bucket in an SQLite database."""

from .bucket import SQLiteBucket

__all__ = ["SQLiteBucket"]
