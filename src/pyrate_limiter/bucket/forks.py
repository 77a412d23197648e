"""What buckets do around a fork.

A child has the memory of its parent and one of its threads: locks that others held stay held for ever, connections
have no thread, and the waiters belong to loops that do not run there.
"""

from __future__ import annotations

import os
from abc import ABCMeta
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from .abstract import AbstractBucket

T = TypeVar("T", bound="AbstractBucket")


class Forks:
    """All live buckets, each of which is told of a fork: before it, and after it in the parent and in the child.

    Threads may fork at the same time, and make buckets meanwhile: forks go one by one, and who looks at the buckets
    takes a list of them in one piece.
    """

    def __init__(self) -> None:
        self._buckets: WeakValueDictionary[int, AbstractBucket] = WeakValueDictionary()
        self._turn = Lock()
        self._held: list[AbstractBucket] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def add(self, bucket: AbstractBucket) -> None:
        """Tell a bucket of forks, as long as it lives."""
        self._buckets[id(bucket)] = bucket

    def _before(self) -> None:
        self._turn.acquire()
        for bucket in self._live():
            bucket._before_fork()
            self._held.append(bucket)

    def _parent(self) -> None:
        held, self._held = self._held, []
        for bucket in held:
            bucket._after_fork()
        self._turn.release()

    def _child(self) -> None:
        self._turn, self._held = Lock(), []
        for bucket in self._live():  # also those that nobody held: some hosts fork without a word before
            bucket._forked()

    def _live(self) -> list[AbstractBucket]:
        return [bucket for known in self._buckets.valuerefs() if (bucket := known()) is not None]


forks = Forks()


class Forkable(ABCMeta):
    """Tells each bucket of forks from the moment at which it is whole: earlier it may have no locks yet."""

    def __call__(cls: type[T], *args: Any, **kwargs: Any) -> T:  # type: ignore[misc]  # mypy expects it to be a bucket
        bucket: T = type.__call__(cls, *args, **kwargs)
        forks.add(bucket)
        return bucket
