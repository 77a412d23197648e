"""The limiter: how one is made."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeAlias, cast, overload
from weakref import WeakValueDictionary

from ..bucket import AbstractBucket, InstantBucket
from ..buckets.memory import InMemoryBucket
from ..clocks import Clock
from ..decisions import FOREVER
from ..rates import MICROSECONDS, Rate
from ..routing import BucketAsyncWrapper, BucketFactory
from ..waiting import Patience
from .calls import Calls, Result_co

Pending: TypeAlias = Coroutine[Any, Any, bool]
Budget: TypeAlias = Rate | Sequence[Rate] | AbstractBucket | BucketFactory


class Limiter(Calls[Result_co]):
    """Admits requests at the rates of a bucket.

    A limiter can be made anywhere, used from several threads and event loops, and pickled when its bucket can be.

    Args:
        argument: a `Rate` or several (a bucket in memory is made for them), a bucket, or a `BucketFactory`.
        clock: for the bucket in memory that is made from rates: a function that returns microseconds.
        raise_when_fail: `try_acquire` raises where it would return False.
        max_delay: milliseconds; the longest wait of any call. None: no maximum.
        retry_until_max_delay: whether a call whose sleep was in vain, because another process was faster, sleeps
            again. If not, it fails.
        buffer_ms: milliseconds that are added to each sleep: a margin for a server whose clock is not ours. It does
            not count against the longest wait.
        keyed: each name has a budget of its own. Otherwise all names share one, and a name is a label.
        async_wrapper: `try_acquire` returns a coroutine instead of a bool.
        max_waiters: how many calls may wait at once for a bucket on one event loop; beyond, they are refused.

    Attributes:
        sync: the same calls for code without an event loop.
    """

    @overload
    def __init__(
        self: Limiter[bool],
        argument: Budget,
        clock: Clock | None = ...,
        raise_when_fail: bool = ...,
        max_delay: int | None = ...,
        retry_until_max_delay: bool = ...,
        buffer_ms: int = ...,
        *,
        keyed: bool = ...,
        async_wrapper: Literal[False] = ...,
        max_waiters: int | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Limiter[Pending],
        argument: Budget,
        clock: Clock | None = ...,
        raise_when_fail: bool = ...,
        max_delay: int | None = ...,
        retry_until_max_delay: bool = ...,
        buffer_ms: int = ...,
        *,
        keyed: bool = ...,
        async_wrapper: Literal[True],
        max_waiters: int | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Limiter[Pending],
        argument: BucketAsyncWrapper,
        clock: Clock | None = ...,
        raise_when_fail: bool = ...,
        max_delay: int | None = ...,
        retry_until_max_delay: bool = ...,
        buffer_ms: int = ...,
        *,
        keyed: bool = ...,
        async_wrapper: bool = ...,
        max_waiters: int | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Limiter[bool | Pending],
        argument: Budget,
        clock: Clock | None = ...,
        raise_when_fail: bool = ...,
        max_delay: int | None = ...,
        retry_until_max_delay: bool = ...,
        buffer_ms: int = ...,
        *,
        keyed: bool = ...,
        async_wrapper: bool,
        max_waiters: int | None = ...,
    ) -> None: ...

    def __init__(
        self,
        argument: Budget | BucketAsyncWrapper,
        clock: Clock | None = None,
        raise_when_fail: bool = False,
        max_delay: int | None = None,
        retry_until_max_delay: bool = True,
        buffer_ms: int = 50,
        *,
        keyed: bool = False,
        async_wrapper: bool = False,
        max_waiters: int | None = None,
    ) -> None:
        if isinstance(argument, BucketAsyncWrapper):
            argument, async_wrapper = argument.bucket, True
        if clock is not None and isinstance(argument, AbstractBucket | BucketFactory):
            raise ValueError(
                "clock= is for the bucket in memory that is made from rates: give it to the bucket instead"
            )
        limit = FOREVER if max_delay is None else _not_negative("max_delay", max_delay) * MICROSECONDS
        buffer = _not_negative("buffer_ms", buffer_ms) * MICROSECONDS
        most = None if max_waiters is None else _not_negative("max_waiters", max_waiters)
        self._patience = Patience(min(limit, FOREVER), buffer, not retry_until_max_delay, most, self)
        self._raises = raise_when_fail
        self._keyed = keyed
        self._awaited = async_wrapper
        self._closed = False
        self._used = WeakValueDictionary()
        self._factory = argument if isinstance(argument, BucketFactory) else None
        self._owned = not isinstance(argument, AbstractBucket | BucketFactory)
        if self._owned:
            self._bucket = InMemoryBucket(cast("Rate | Sequence[Rate]", argument), clock=clock)
        else:
            self._bucket = argument if isinstance(argument, AbstractBucket) else None
        if isinstance(self._bucket, InstantBucket):
            self._bucket._serve(self)
        self._choose_at_hand()

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._global_name is not None:
            return self._global_name
        # What a subclass has beside: nothing of ours, all of which is known to the class.
        own = {name: value for name, value in vars(self).items() if not hasattr(Limiter, name)}
        return (_rebuild, (type(self), self._bucket or self._factory, self._settings()), own or None)

    def _settings(self) -> dict[str, Any]:
        limit, buffer, once, most, *_ = self._patience
        return {
            "raise_when_fail": self._raises,
            "max_delay": None if limit == FOREVER else limit // MICROSECONDS,
            "retry_until_max_delay": not once,
            "buffer_ms": buffer // MICROSECONDS,
            "keyed": self._keyed,
            "async_wrapper": self._awaited,
            "max_waiters": most,
        }


def _rebuild(
    kind: type[Limiter[Any]], argument: AbstractBucket | BucketFactory, settings: dict[str, Any]
) -> Limiter[Any]:
    limiter = kind.__new__(kind)
    Limiter.__init__(limiter, argument, **settings)
    limiter._owned = isinstance(argument, AbstractBucket)  # the copy of the bucket has no other owner
    return limiter


def _not_negative(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, 0 or more, not {value!r}")
    if value < 0:
        raise ValueError(f"{what} must be 0 or more, not {value}")
    return int(value)
