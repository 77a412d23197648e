"""What a client may do with one request, whatever library sends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from ... import BucketFullException, Limiter, LimiterDelayException
from .gates import Gate, SyncGate, TooLate
from .pace import News, Pace
from .reading import RETRY_AFTER, read, wanted

AnyGate = TypeVar("AnyGate", Gate, SyncGate)
Key: TypeAlias = Callable[[Any], str]
Refusal: TypeAlias = Callable[[Any, dict[str, str], str], Any]
Weight: TypeAlias = int | Callable[[Any], int]
TooBusy: TypeAlias = TooLate | BucketFullException | LimiterDelayException

TOO_MANY = 429
UNAVAILABLE = 503
HOSTS = 1024
"""So many servers are remembered; beyond, those at which nobody waits are forgotten."""
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class Names(Protocol):
    """How a library calls what its requests and responses have."""

    def host(self, request: Any) -> str:
        """Return the host and the port that a request goes to."""
        ...

    def status(self, response: Any) -> int:
        """Return the status code."""
        ...

    def fields(self, response: Any) -> Iterable[tuple[bytes, bytes]]:
        """Return the header fields, as they came."""
        ...

    def replayable(self, request: Any) -> bool:
        """Return whether the body can be sent a second time."""
        ...


class Library(Names, Protocol):
    """A library for tasks."""

    async def discard(self, response: Any) -> None:
        """Release the connection of a response that nobody will read."""


class SyncLibrary(Names, Protocol):
    """A library for threads."""

    def discard(self, response: Any) -> None:
        """Release the connection of a response that nobody will read."""


class Options(NamedTuple):
    """What users may choose.

    Attributes:
        key: a function of the request that returns whose budget it is of, in the limiter and with the server; None:
            the host.
        weight: the units of a request in the limiter, or a function of the request that returns them.
        max_wait: seconds after which a request is not sent any more; None: no maximum.
        obey_server: whether to hold back as the server says, and to learn from its answers.
        max_hold: the most seconds to wait for a moment that the server states.
        retries: how often a request is sent again that the server refused.
        is_limited: a function of the response that says whether it refuses for the rate; None: 429 does, and 503 with
            Retry-After.
        refusal: makes a 429 of our own, of the request, the fields and the text, to be returned where otherwise an
            exception is raised; None: it is raised.
    """

    key: Key | None = None
    weight: Weight = 1
    max_wait: float | None = None
    obey_server: bool = True
    max_hold: float = 600.0
    retries: int = 0
    is_limited: Callable[[Any], bool] | None = None
    refusal: Refusal | None = None

    def check(self, limiter: Limiter[Any] | None) -> None:
        """Raise ValueError if they contradict each other."""
        if not self.obey_server and self.retries:
            raise ValueError("a retry waits for the moment that the server states: say obey_server=True as well")
        if not self.obey_server and limiter is None:
            raise ValueError("nothing would be limited: give a limiter, or say obey_server=True")
        if self.max_hold <= 0 or self.retries < 0 or (self.max_wait or 0) < 0:
            raise ValueError("max_hold must be above 0 seconds; max_wait and retries 0 or more")


class Conduct(Generic[AnyGate]):
    """How the requests of one client are sent.

    Args:
        gate: the kind of gate.
        library: how things are called.
        limiter: what is asked before each request that goes on the wire; None: nothing is.
        options: what users may choose.

    Raises:
        ValueError: the options contradict each other.
    """

    def __init__(
        self, gate: Callable[[Pace], AnyGate], library: Names, limiter: Limiter[Any] | None, options: Options
    ) -> None:
        options.check(limiter)
        self.options = options
        self._gate: Callable[[Pace], AnyGate] = gate
        self._gates: dict[str, AnyGate] = {}
        self._library = library
        self._key = options.key or library.host

    def wanted(self, request: Any) -> tuple[str, int]:
        """Return the name and the weight of a request."""
        weight = self.options.weight
        return self._key(request), weight(request) if callable(weight) else weight

    def gate(self, name: str) -> AnyGate:
        """Return the gate in front of one server."""
        found = self._gates.get(name)
        if found is None:
            if len(self._gates) >= HOSTS:
                self._gates = {name: gate for name, gate in self._gates.items() if not gate.line.idle}
            found = self._gates[name] = self._gate(Pace(self.options.max_hold))
        return found

    def judge(self, response: Any) -> News:
        """Return what a response says."""
        fields = wanted(self._library.fields(response))
        is_limited = self.options.is_limited
        if is_limited is not None:
            refused = is_limited(response)
        else:
            status = self._library.status(response)
            refused = status == TOO_MANY or (status == UNAVAILABLE and RETRY_AFTER in fields)
        if not fields:
            return News(refused)
        return read(fields, refused=refused, wall=time.time())

    def may_repeat(self, request: Any, response: Any, refusals: int) -> bool:
        """Return whether a refused request can be sent again.

        A server that is overloaded may have begun to do what was asked, so then only what may be done twice is.
        """
        if refusals >= self.options.retries or not self._library.replayable(request):
            return False
        return self._library.status(response) != UNAVAILABLE or request.method in _REPEATABLE

    def refuse(self, request: Any, name: str, weight: int, error: TooBusy) -> Any:
        """Return a response that says that a request could not be sent, or raise an error that says so."""
        if self.options.refusal is not None:
            return self.options.refusal(request, *_said(error))
        if isinstance(error, TooLate):
            raise LimiterDelayException(
                f"{name!r} holds requests back for {error.seconds:.6g} s more, longer than the"
                f" {self.options.max_wait:.6g} s allowed; raise max_wait, or come back then",
                name=name,
                weight=weight,
            ) from None
        raise error


def _said(error: TooBusy) -> tuple[dict[str, str], str]:
    """Return the fields and the text of a response for an error."""
    if isinstance(error, TooLate):
        return {RETRY_AFTER: str(math.ceil(error.seconds))}, "not sent: the server would refuse it"
    decision = error.decision
    fields = {RETRY_AFTER: str(math.ceil(decision.retry_after))} if decision is not None else {}
    return fields, f"not sent: {error}"
