"""The bucket in shared memory."""

from .bucket import MultiprocessBucket
from .slots import TableFull

__all__ = ["MultiprocessBucket", "TableFull"]
