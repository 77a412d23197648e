"""Forks: what a process has open must neither be caught in the middle of something, nor be used by its children."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Guarded(Protocol):
    """Something that is used under a gate.

    Attributes:
        gate: whoever uses it holds this.
    """

    gate: threading.Lock

    def shut(self) -> None:
        """Close it, by somebody who holds the gate."""


class Forks:
    """Holds all gates during a fork, and closes in the child what it inherits.

    SQLite's own locks within a process would stay locked in the child for ever if a thread held one that the child does
    not have. And a child that opens a file while it still has its parent's connection to it gets no lock on the file in
    the kernel's eyes: it would be as if it were not there.
    """

    def __init__(self) -> None:
        self._open: weakref.WeakSet[Guarded] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._held: list[Guarded] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._release, after_in_child=self._child)

    def add(self, one: Guarded) -> None:
        """Count one in, for as long as somebody has it."""
        with self._lock:
            self._open.add(one)

    def _before(self) -> None:
        self._lock.acquire()
        self._held = list(self._open)
        for one in self._held:
            one.gate.acquire()

    def _release(self) -> None:
        for one in self._held:
            one.gate.release()
        self._held = []
        self._lock.release()

    def _child(self) -> None:
        for one in self._held:
            one.shut()
        self._open.clear()
        self._release()


forks = Forks()
