"""Listeners: who is told of what a limiter or a bucket decides.

Nobody asks whether somebody listens. Whoever is listened to has, as long as that is so, attributes of its own in place
of the methods of its class that decide; without listeners there is nothing to check, let alone to pay for.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from inspect import iscoroutinefunction
from threading import Lock
from typing import Literal, Protocol, Self, TypeAlias

from .decisions import BUSY, Decision
from .waiting import Patience, loop_of, running

logger = logging.getLogger("pyrate_limiter")

Event: TypeAlias = Literal["on_admit", "on_refuse", "on_degraded", "on_wait", "on_leave"]
_EVENTS: tuple[Event, ...] = ("on_admit", "on_refuse", "on_degraded", "on_wait", "on_leave")


class Wait:
    """One call that waits. The same object is told of at its begin and at its end, and equals no other.

    Attributes:
        name: the name it asks for.
        weight: its units.
        seconds: how long it will wait if nobody in front leaves: exact for the first in line, at most for those
            behind; 0 if that is not known yet.
        waited: how long it has waited, in seconds, once it is over.
        decision: what became of it, once it is over; None if it was cancelled, or ended by an error.
    """

    __slots__ = ("_began", "_time", "decision", "name", "seconds", "waited", "weight")

    def __init__(self, name: str, weight: int, seconds: float) -> None:
        self.name = name
        self.weight = weight
        self.seconds = seconds
        self.waited = 0.0
        self.decision: Decision | None = None
        self._time = loop_of(running()).time
        self._began = self._time()

    def __repr__(self) -> str:
        return f"<Wait of {self.seconds:.3g} s for {self.weight} of {self.name!r}>"

    def _end(self, decision: Decision | None) -> None:
        self.decision = decision
        self.waited = self._time() - self._began if decision is None else decision.waited


class Listener:
    """Is told what happens at a limiter or a bucket; a subclass has those of these methods that it needs.

    They are called, not awaited, where the decision is made: on the event loop of the caller, or in its thread; by
    several threads at once, if several call the limiter. So they should be quick, and should not call what they listen
    to. An exception that leaves one is logged once for each `listen`, and changes nothing for the caller.
    """

    def on_admit(self, decision: Decision) -> None:
        """Hear of a request that was admitted, at once or after `decision.waited` seconds."""

    def on_refuse(self, decision: Decision) -> None:
        """Hear of a request that was refused, at once or in the end; what can never fit is an error instead."""

    def on_degraded(self, decision: Decision) -> None:
        """Hear of a decision that a stand-in made because the store is down, before it is admitted or refused."""

    def on_wait(self, wait: Wait) -> None:
        """Hear of a call that begins to wait."""

    def on_leave(self, wait: Wait) -> None:
        """Hear of a call that waits no longer, whatever the reason, before its request is admitted or refused."""


class Listening:
    """A listener that listens, until `close` or the end of a `with` block."""

    def __init__(self, listener: Listener, place: Audible) -> None:
        self._listener = listener
        self._place = place
        self._failed = False

    def close(self) -> None:
        """Stop listening; a second time does nothing. Of the waits that it has heard begin, it still hears the end."""
        self._place._forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _hear(self, event: Event, what: Decision | Wait) -> None:
        try:
            getattr(self._listener, event)(what)
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception(
                    "%s of %r failed; limits go on, and further failures of it are not logged", event, self._listener
                )


Begun: TypeAlias = tuple[Wait, tuple[Listening, ...]]
"""A wait, and those who heard its begin."""


class Audience:
    """All who listen to one limiter or bucket."""

    def __init__(self) -> None:
        self.all: list[Listening] = []

    def decided(self, decision: Decision) -> None:
        """Tell all what was decided."""
        told = tuple(self.all)
        if decision.degraded:
            _tell(told, "on_degraded", decision)
        _tell(told, "on_admit" if decision else "on_refuse", decision)

    async def follow(
        self, name: str, weight: int, patience: Patience, request: Callable[[Patience], Awaitable[Decision]]
    ) -> Decision:
        """Make a request that may have to wait, and tell all what becomes of it.

        Args:
            name: what the decision will be for.
            weight: its units.
            patience: how the caller waits.
            request: makes the request with the patience that it is given.
        """
        begun: list[Begun] = []

        def begin(seconds: float) -> None:
            wait, told = Wait(name, weight, seconds), tuple(self.all)
            begun.append((wait, told))
            _tell(told, "on_wait", wait)
            if patience.began is not None:
                patience.began(seconds)

        try:
            decision = await request(patience._replace(began=begin) if patience.limit else patience)
        except BaseException:
            _end(begun, None)
            raise
        _end(begun, decision)
        self.decided(decision)
        return decision


class Deciding(Protocol):
    """What decides in place: see `InPlace`."""

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None: ...
    def _grant(self, name: str, weight: int, keyed: bool) -> Decision | None: ...


class Heard:
    """What decides in place, and tells of it."""

    def __init__(self, place: Deciding, audience: Audience) -> None:
        self._place = place
        self._audience = audience

    def _take(self, name: str, weight: int, keyed: bool) -> int:
        return BUSY if self._grant(name, weight, keyed) is None else 0

    def _grant(self, name: str, weight: int, keyed: bool) -> Decision | None:
        """Decide for one who goes the long way if it is refused: only then is it known what becomes of it."""
        decision = self._place._grant(name, weight, keyed)
        if not decision:
            return None
        self._audience.decided(decision)
        return decision

    def _decide(self, name: str, weight: int, keyed: bool) -> Decision | None:
        decision = self._place._decide(name, weight, keyed)
        if decision is not None:
            self._audience.decided(decision)
        return decision


class Audible:
    """What can be listened to: a limiter, or a bucket."""

    _audience: Audience | None = None

    def listen(self, listener: Listener) -> Listening:
        """Tell a listener from now on of what is decided here.

        Listeners belong to this object in this process: a pickled copy has none, a forked child goes on with them.

        Returns:
            What ends it: by `close`, or as a context manager; to listen for good, drop it.

        Raises:
            TypeError: it is not a `Listener`, or its methods would have to be awaited.
        """
        listening = Listening(_valid(listener), self)
        with _changes.lock:
            audience = self._audience or Audience()
            audience.all.append(listening)
            if self._audience is None:
                self._heard_by(audience)
        return listening

    def _forget(self, listening: Listening) -> None:
        with _changes.lock:
            if self._audience is not None and listening in self._audience.all:
                self._audience.all.remove(listening)
                if not self._audience.all:
                    self._heard_by(None)

    @abstractmethod
    def _heard_by(self, audience: Audience | None) -> None:
        """Put in place what tells an audience of what is decided here, or take it away again."""


class Changes:
    """The lock for those who begin and cease to listen; a forked child gets a new one."""

    def __init__(self) -> None:
        self.lock = Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.lock = Lock()


def _tell(told: Iterable[Listening], event: Event, what: Decision | Wait) -> None:
    for listening in told:
        listening._hear(event, what)


def _end(begun: Iterable[Begun], decision: Decision | None) -> None:
    for wait, told in begun:
        wait._end(decision)
        _tell(told, "on_leave", wait)


def _valid(listener: Listener) -> Listener:
    if not isinstance(listener, Listener):
        raise TypeError(f"listen() needs an object whose class derives from Listener, not {listener!r}")
    if awaited := [event for event in _EVENTS if iscoroutinefunction(getattr(listener, event))]:
        raise TypeError(
            f"{type(listener).__name__}.{awaited[0]} is never awaited: make it a plain function that hands over what"
            " it hears, such as to a queue"
        )
    return listener


_changes = Changes()
