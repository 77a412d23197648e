"""When connections end, besides being closed: with their event loop, with their bucket, with the interpreter.

An event loop that ends closes the async generators that have begun in it, be it asyncio.run, a portal or trio. So one
generator for each loop waits for that. Other endings come without a word: a loop that is closed as it stands, a bucket
that nobody has any more. What they leave is closed when the next connection is opened, in its thread.

And aiosqlite's threads are no daemons, unless they were begun in one: one that nobody stops keeps the interpreter from
exiting, and `atexit` comes too late. So a watch stops them when the main thread has ended and nobody else is waited
for. It leaves daemons alone, since nobody would wait for it either: the loop of sync callers is one, and is ended by
`atexit`, which waits until all of its connections are closed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Protocol

_LOOK = 0.02
"""Seconds between two looks whether the interpreter waits for nobody but us."""


class Open(Protocol):
    """Something open that belongs to an event loop."""

    @property
    def token(self) -> Any:
        """What tells its event loop from others."""

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that keeps the interpreter from exiting, if there is one."""

    async def aclose(self) -> None:
        """Close it, in its loop; nothing if it was closed before."""

    def stop(self) -> None:
        """Close it without its loop, in a thread that has none."""


class Keeper:
    """Knows what is open in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Open] = set()
        self._dropped: deque[Open] = deque()
        self._loops: dict[Any, AsyncGenerator[None, None]] = {}
        self._watched = False
        self._inherited: list[object] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    async def keep(self, one: Open) -> None:
        """Close it when its loop ends, which is the running one."""
        with self._lock:
            self._open.add(one)
        if one.token not in self._loops:
            life = self._loops[one.token] = self._until_the_end(one.token)
            await anext(life)

    def watch(self) -> None:
        """See to it that threads which are there for us alone do not keep the interpreter from exiting."""
        with self._lock:
            if not self._watched:
                threading.Thread(target=self._until_exit, name="pyrate_limiter exit watch", daemon=True).start()
                self._watched = True

    def release(self, one: Open) -> bool:
        """Say that it is being closed; return False if that has been said before."""
        with self._lock:
            known = one in self._open
            self._open.discard(one)
        return known

    def drop(self, several: Iterable[Open]) -> None:
        """Say that nobody has them any more. The garbage collector may say so at any time: no lock is taken."""
        self._dropped.extend(several)

    def tidy(self) -> None:
        """Close what was left open. In a thread without a loop."""
        for token in [token for token in list(self._loops) if _closed(token)]:
            self._loops.pop(token, None)
        left = [one for one in list(self._open) if _closed(one.token)]
        while self._dropped:
            left.append(self._dropped.popleft())
        for one in left:
            if self.release(one):
                one.stop()

    async def _until_the_end(self, token: Any) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._loops.pop(token, None)
            for one in [one for one in list(self._open) if one.token is token]:
                await one.aclose()

    def _until_exit(self) -> None:
        threading.main_thread().join()
        while True:
            ours = {one.thread: one for one in list(self._open)}
            awaited = [thread for thread in threading.enumerate() if thread.is_alive() and not thread.daemon]
            if all(thread in ours for thread in awaited):
                for thread in awaited:
                    if self.release(ours[thread]):
                        ours[thread].stop()
            time.sleep(_LOOK)

    def _forked(self) -> None:
        # Kept, since they would complain about their threads, or wake the parent's loop, if they went.
        self._inherited += [self._open, self._loops, self._dropped]
        self._lock, self._open, self._loops, self._dropped = threading.Lock(), set(), {}, deque()
        self._watched = False


def _closed(token: Any) -> bool:
    """Return whether this is an asyncio loop that was closed; one of trio's always ends in order."""
    return bool(getattr(token, "is_closed", bool)())


keeper = Keeper()
