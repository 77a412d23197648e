"""The connection: its `commit` decides what is pending, as one transaction."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from ...algorithms import Rule, decide
from ...clocks import Clock
from ...decisions import Answer, Ask
from .forks import forks
from .places import Place, primary_code, store_error
from .rows import Rows, States, Sweep
from .schema import Schema, UnusableError
from .turns import NAP, Turns

T = TypeVar("T")
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_HARMLESS = _BUSY | {sqlite3.SQLITE_FULL}
_SOON, _LATER = 0.05, 0.001
"""A lock that has been held for so long is looked at so much less often, in seconds."""
_LONGEST = 60.0
"""Seconds after which somebody else's lock is an error: a transaction of ours takes a thousandth of one."""
_LOOK = 1.0
"""Seconds between two looks whether the files beside the database are still there: who removes those breaks SQLite."""
_LOG_SIZE = 4 << 20
"""Bytes that the write-ahead log is cut to, after somebody's long read has made it grow."""
_FAULTS = (sqlite3.Error, OSError, UnusableError)


class Plan(NamedTuple):
    """What a connection has to know of its bucket."""

    place: Place
    schema: Schema
    rows: Rows
    rule: Rule
    use_file_lock: bool
    clock: Clock | None


class Call:
    """A batch on its way: its asks, and once it is decided the answers, or else the error.

    Attributes:
        left: nobody waits for it any more; it is not decided unless the database's lock is held already.
    """

    __slots__ = ("answers", "asks", "error", "left")

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = asks
        self.answers: list[Answer] = []
        self.error: Exception | None = None
        self.left = False

    def outcome(self) -> list[Answer]:
        """Return the answers, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.answers


class Database(sqlite3.Connection):
    """A connection to a bucket's database, used by one thread at a time.

    Opening waits for nobody. The first batch looks the database over, and only then changes it.

    All that is asked of SQLite is asked under the gate, and forks wait for that. Waiting for what somebody else holds
    is done outside of it.

    Attributes:
        gate: whoever asks SQLite for something holds this.
        sound: whether it may be used again. After any error but a lack of room or of time, it is better to open anew.
        closing: set to end all waiting for locks.
    """

    def __init__(self, plan: Plan) -> None:
        self.sound = True
        self.closing = False
        self.gate = threading.Lock()
        self._plan = plan
        self._calls: deque[Call] = deque()
        self._states = States(plan.rows)
        self._sweep = Sweep(plan.rows)
        self._turns = Turns(None)
        self._clock: Clock | None = None
        self._look = 0.0

    def __del__(self) -> None:
        # It is open only if nobody heard of its opening: who wanted it was cancelled in the meantime.
        self.shut()

    def open(self) -> None:
        """Open the database.

        Raises:
            StoreError: it cannot be opened.
        """
        place = self._plan.place
        forks.add(self)
        try:
            with self.gate:
                name, before = place.prepare(), place.identity()
                super().__init__(name, timeout=0, isolation_level=None, check_same_thread=False, uri=place.uri)
                # The one before, if there was one: if another one took its name just now, the first batch says so.
                self._identity = before or place.identity()
        except _FAULTS as error:
            raise store_error(place, error) from error

    def submit(self, asks: Sequence[Ask]) -> Call:
        """Make a batch pending."""
        call = Call(asks)
        self._calls.append(call)
        return call

    def commit(self) -> None:
        """Decide the first batch that is pending. Its `Call` gets the outcome, so nothing is lost on the way."""
        call = self._next()
        if call is None:
            return
        try:
            clock = self._clock or self._set_up()
            with self._turns:
                call.answers = self._insist(lambda: self._transact(lambda: self._decide(call, clock)))
        except _FAULTS as error:
            self.sound = primary_code(error) in _HARMLESS
            call.error = store_error(self._plan.place, error)
        except Exception as error:
            call.error = error

    def close(self) -> None:
        """Close the database and the lock file; end what waits for a lock."""
        self.closing = True
        with self.gate:
            self.shut()

    def shut(self) -> None:
        """Close, by somebody who holds the gate; a database that was never open is as good as closed."""
        with contextlib.suppress(sqlite3.Error):
            super().close()
        self._turns.close()

    def _next(self) -> Call | None:
        while self._calls:
            call = self._calls.popleft()
            if not call.left:
                return call
        return None

    def _set_up(self) -> Clock:
        plan = self._plan
        self._insist(lambda: plan.schema.check(self))
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"journal_size_limit = {_LOG_SIZE}"):
            self._insist(partial(self._run, f"PRAGMA {pragma}"))
        clock = self._insist(lambda: self._transact(self._create))
        if plan.use_file_lock:
            with self.gate:  # a child forked between its opening and here would keep it open
                self._turns = Turns(plan.place.lock_file)
        self._companions = plan.place.companions()
        self._clock = clock
        return clock

    def _insist(self, attempt: Callable[[], T]) -> T:
        """Try until nobody else holds the database. SQLite's own patience naps for long, and cannot be ended."""
        began = time.monotonic()
        while True:
            try:
                with self.gate:
                    return attempt()
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                if primary_code(error) not in _BUSY or self.closing or waited > _LONGEST:
                    raise
            time.sleep(NAP if waited < _SOON else _LATER)

    def _transact(self, work: Callable[[], T]) -> T:
        """Do some work all or not at all. The lock comes first: a transaction that reads first may never get it."""
        self._run("BEGIN IMMEDIATE")
        try:
            result = work()
            self._run("COMMIT")
        except BaseException:
            self._states.forget()
            with contextlib.suppress(sqlite3.Error):
                self._run("ROLLBACK")
            raise
        return result

    def _create(self) -> Clock:
        self._plan.schema.create(self)
        return self._plan.clock or self._plan.schema.clock(self)

    def _decide(self, call: Call, clock: Clock) -> list[Answer]:
        if call.left:
            return []
        self._require_in_place()
        states = self._states
        states.open(self, [ask.key for ask in call.asks])
        now = clock()
        answers = decide(self._plan.rule, states, call.asks, now)
        states.save(self)
        self._sweep.step(self, states.new, now)
        return answers

    def _require_in_place(self) -> None:
        """Raise unless the path still names the file that is open here: other processes would count in another one."""
        place = self._plan.place
        identity = place.identity()
        if identity is None and self._identity is not None:
            raise UnusableError("it was removed while in use; the next call makes a new one")
        if identity != self._identity:
            raise UnusableError("it was replaced while in use; the next call opens the new one")
        now = time.monotonic()
        if now >= self._look:
            self._look = now + _LOOK
            if place.companions() != self._companions:
                raise UnusableError("its file -wal or -shm was removed while in use; the next call opens it anew")

    def _run(self, statement: str) -> None:
        # A cursor must not outlive the gate: it asks SQLite for something even when it goes.
        self.execute(statement).fetchall()
