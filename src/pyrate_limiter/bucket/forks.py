"""What buckets do around a fork.

A child has the memory of its parent and one of its threads: locks that others held stay held for ever, connections
have no thread, and the waiters belong to loops that do not run there.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .abstract import AbstractBucket


class Forks:
    """All live buckets, each of which is told of a fork: before it, and after it in the parent and in the child."""

    def __init__(self) -> None:
        self.buckets: weakref.WeakSet[AbstractBucket] = weakref.WeakSet()
        self._held: list[AbstractBucket] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def _before(self) -> None:
        self._held = list(self.buckets)
        for bucket in self._held:
            bucket._before_fork()

    def _parent(self) -> None:
        for bucket in self._held:
            bucket._after_fork()
        self._held = []

    def _child(self) -> None:
        for bucket in self._held:
            bucket._forked()
        self._held = []


forks = Forks()
