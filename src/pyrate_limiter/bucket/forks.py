"""What buckets do around a fork.

A child has the memory of its parent and one of its threads: locks that others held stay held for ever, connections
have no thread, and the waiters belong to loops that do not run there.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .abstract import AbstractBucket


class Forks:
    """All live buckets, each of which is told of a fork: before it, and after it in the parent and in the child.

    Other threads may be making buckets at that moment. One that is not whole yet lacks what it would use, says so by an
    AttributeError, and is passed over: nobody has it yet.
    """

    def __init__(self) -> None:
        self._buckets: weakref.WeakValueDictionary[int, AbstractBucket] = weakref.WeakValueDictionary()
        self._held: list[AbstractBucket] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def add(self, bucket: AbstractBucket) -> None:
        """Tell a bucket of forks from now on, as long as it lives."""
        self._buckets[id(bucket)] = bucket

    def _before(self) -> None:
        self._held = []
        for known in self._buckets.valuerefs():  # copied in one piece, whatever other threads do
            if (bucket := known()) is not None:
                with suppress(AttributeError):
                    bucket._before_fork()
                    self._held.append(bucket)

    def _parent(self) -> None:
        for bucket in self._held:
            with suppress(AttributeError):
                bucket._after_fork()
        self._held = []

    def _child(self) -> None:
        for bucket in self._held:
            with suppress(AttributeError):
                bucket._forked()
        self._held = []


forks = Forks()
