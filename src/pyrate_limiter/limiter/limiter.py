"""The limiter: policy on top of a bucket, and the calls that users make."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast, overload
from weakref import WeakSet

from ..blocking import SyncLimiter, run
from ..bucket import (
    NOT_AT_ALL,
    NOWHERE,
    AbstractBucket,
    BucketStatistics,
    InPlace,
    InstantBucket,
    as_patience,
    total,
    valid_weight,
)
from ..buckets.memory import InMemoryBucket
from ..clocks import Clock
from ..decisions import FOREVER, UNNAMED, Answer, Decision
from ..errors import BucketFullException, LimiterClosed, LimiterDelayException, RateLimitError, WeightTooLarge
from ..listening import Audible, Audience, Heard
from ..rates import MICROSECONDS, Rate
from ..routing import BucketAsyncWrapper, BucketFactory
from ..waiting import Patience
from .decorating import F, decorate
from .pending import PendingBool
from .slot import Slot

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    Result_co = DefaultingTypeVar("Result_co", default=bool, covariant=True)
else:
    Result_co = TypeVar("Result_co", covariant=True)

Pending: TypeAlias = Coroutine[Any, Any, bool]
Budget: TypeAlias = Rate | Sequence[Rate] | AbstractBucket | BucketFactory


class Limiter(Audible, Generic[Result_co]):
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

    # What a limiter is that was not initialised yet: see `factories.LIMITER`.
    _bucket: AbstractBucket | None = None
    _factory: BucketFactory | None = None
    _at_hand: InPlace = NOWHERE
    _patience = Patience()
    _keyed = _owned = _raises = _awaited = _closed = False
    _disabled = 0
    _global_name: str | None = None
    _used: WeakSet[AbstractBucket] = WeakSet()  # noqa: RUF012 - without a bucket nothing comes into it

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
        self._used: WeakSet[AbstractBucket] = WeakSet()
        self._factory = argument if isinstance(argument, BucketFactory) else None
        self._owned = not isinstance(argument, AbstractBucket | BucketFactory)
        if self._owned:
            self._bucket = InMemoryBucket(cast("Rate | Sequence[Rate]", argument), clock=clock)
        else:
            self._bucket = argument if isinstance(argument, AbstractBucket) else None
        if isinstance(self._bucket, InstantBucket):
            self._bucket._serve(self)
        self._choose_at_hand()

    # The calls, in the order in which a user meets them.

    def try_acquire(
        self, name: str = UNNAMED, weight: int = 1, blocking: bool = True, timeout: float = -1
    ) -> Result_co:
        """Take `weight` units, waiting for them up to `max_delay`.

        Args:
            name: whose budget if the limiter is keyed, else a label.
            weight: units.
            blocking: whether to wait at all.
            timeout: the longest wait in seconds if that is shorter than `max_delay`; -1: none.

        Returns:
            Whether they were granted; with `async_wrapper=True` a coroutine of that, which decides once awaited.

        Raises:
            WouldBlock: without `async_wrapper`: it would have to wait, and an event loop runs on this thread.
            LimiterClosed: the limiter is closed.
            StoreError: the store could not decide.
            RateLimitError: with `raise_when_fail`, instead of False.
        """
        if self._awaited:
            patience = self._check(name, weight, blocking, timeout)
            if self._at_hand is NOWHERE:
                return PendingBool(self._try(name, weight, patience))  # type: ignore[return-value]
            return PendingBool(self.try_acquire_async(name, weight, blocking, timeout))  # type: ignore[return-value]
        if timeout == -1:
            wait = self._at_hand._take(name, weight, self._keyed)
            if not wait:
                return True  # type: ignore[return-value]
            if wait > 0 and not blocking and not self._raises:
                return False  # type: ignore[return-value]
        return cast("Result_co", self.sync._try_acquire(name, weight, blocking, timeout))

    async def try_acquire_async(
        self, name: str = UNNAMED, weight: int = 1, blocking: bool = True, timeout: float = -1
    ) -> bool:
        """Do as `try_acquire` does, always to be awaited."""
        if timeout == -1:
            wait = self._at_hand._take(name, weight, self._keyed)
            if not wait:
                return True
            if wait > 0 and not blocking and not self._raises:
                return False
        return await self._try(name, weight, self._check(name, weight, blocking, timeout))

    async def acquire(self, name: str = UNNAMED, weight: int = 1, timeout: float = -1) -> Decision:
        """Take `weight` units, waiting for them in order of arrival.

        Args:
            name: whose budget if the limiter is keyed, else a label.
            weight: units; 0 is admitted and spends nothing.
            timeout: the longest wait in seconds if that is shorter than `max_delay`; -1: none.

        Returns:
            The admitted decision.

        Raises:
            WeightTooLarge: so many never fit.
            LimiterDelayException: it would take longer than allowed; known at once, and nothing is spent.
            BucketFullException: `max_waiters` wait already.
            LimiterClosed: the limiter is closed, perhaps while this call was waiting.
            StoreError: the store could not decide.
        """
        if timeout == -1:
            at_once = self._at_hand._grant(name, weight, self._keyed)
            if at_once is not None and at_once.allowed:
                return at_once
        patience = self._check(name, weight, True, timeout)
        decision = await self._request(name, weight, patience)
        if not decision:
            raise self._refusal(decision, patience)
        return decision

    async def take(self, name: str = UNNAMED, weight: int = 1) -> Decision:
        """Take `weight` units if they fit now and nobody waits for them; never wait.

        Returns:
            The decision, which is false if it was refused.

        Raises:
            WeightTooLarge: so many never fit.
            LimiterClosed: the limiter is closed.
            StoreError: the store could not decide.
        """
        at_once = self._at_hand._decide(name, weight, self._keyed)
        if at_once is not None:
            return at_once
        return await self._request(name, weight, NOT_AT_ALL)

    def slot(self, name: str = UNNAMED, weight: int = 1, *, timeout: float = -1) -> Slot:
        """Return a context manager, for `with` and `async with`, that does as `acquire` does on the way in."""
        self._check(name, weight, True, timeout)
        return Slot(self, name, weight, timeout)

    def as_decorator(
        self, *, name: str | Callable[..., str] = UNNAMED, weight: int | Callable[..., int] = 1
    ) -> Callable[[F], F]:
        """Return a decorator, for functions and coroutine functions, that does as `acquire` does before each call.

        Args:
            name: the name, or a function of the call's arguments that returns it.
            weight: the units, or a function of the call's arguments that returns them.

        A refused call raises and does not run the function.
        """
        return lambda function: decorate(self, function, name, weight)

    async def peek(self, name: str = UNNAMED) -> Decision:
        """Return what `take` would say to one unit, without taking it."""
        bucket = await self._route(name, 1)
        return (await bucket.peek(key=self._key(name)))._replace(name=name)

    async def refund(self, decision: Decision | str, weight: int = 0, *, at: int = -1) -> None:
        """Give back what a decision took, at most what is still counted of it.

        Args:
            decision: an admitted decision of this limiter; or the name, and then `weight` and `at` are required.
                A refused one gives nothing back. Refund each once: the second time would give back what somebody
                else took at the same moment.
            weight: with a name: how many units.
            at: with a name: their stamp (`Decision.at`).
        """
        if self._disabled:
            return
        if isinstance(decision, Decision):
            bucket = await self._route(decision.name, decision.weight)
            await bucket.refund(decision, key=self._key(decision.name))
        else:
            bucket = await self._route(decision, weight)
            await bucket.refund(key=self._key(decision), weight=weight, at=at)

    async def reset(self, name: str = UNNAMED) -> None:
        """Forget what is counted for the name; if the limiter is not keyed, for all names."""
        await (await self._route(name, 1)).reset(key=self._key(name))

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates of the bucket; none where a factory chooses a bucket for each call."""
        return self._bucket.rates if self._bucket is not None else ()

    @property
    def keyed(self) -> bool:
        """Whether each name has a budget of its own."""
        return self._keyed

    def statistics(self) -> BucketStatistics:
        """Return what its bucket holds right now; with a `BucketFactory`, all that it gave together."""
        return total(bucket.statistics() for bucket in ([self._bucket] if self._bucket else self._used))

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Admit everything and count nothing inside the `with` block: for tests of what is limited."""
        self._disabled += 1
        self._choose_at_hand()
        try:
            yield
        finally:
            self._disabled -= 1
            self._choose_at_hand()

    @cached_property
    def sync(self) -> SyncLimiter:
        """The same calls for code without an event loop."""
        return SyncLimiter(self)

    async def aclose(self) -> None:
        """Close: whoever waits here gets `LimiterClosed`; a bucket that was made here is closed too.

        A bucket that was handed in stays open.
        """
        for bucket in self._shut():
            await bucket.aclose()

    def close(self) -> None:
        """Do as `aclose` does, from code without an event loop.

        Raises:
            WouldBlock: an event loop runs on this thread, and the bucket has connections to close.
        """
        for bucket in self._shut():
            run(bucket.aclose, instead="aclose")

    async def __aenter__(self) -> Decision:
        return await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    def __enter__(self) -> Decision:
        return self.sync.acquire()

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __bool__(self) -> bool:
        return self._bucket is not None or self._factory is not None

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._global_name is not None:
            return self._global_name
        return (_rebuild, (self._bucket or self._factory, self._settings()))

    # The long way.

    async def _try(self, name: str, weight: int, patience: Patience) -> bool:
        """Do as `try_acquire` does, with arguments that were checked, where nothing can be decided in place."""
        bucket = self._bucket
        try:
            if bucket is None or self._raises or self._closed or self._disabled:
                return self._as_bool(await self._request(name, weight, patience), patience)
            return await bucket._ask(name if self._keyed else "", name, weight, patience, _admitted)
        except WeightTooLarge:
            if self._raises:
                raise
            return False

    def _request(self, name: str, weight: int, patience: Patience) -> Coroutine[Any, Any, Decision]:
        bucket = self._bucket
        if bucket is None or self._closed or self._disabled:
            return self._request_routed(name, weight, patience)
        return bucket._request(self._key(name), name, weight, patience)

    async def _request_routed(self, name: str, weight: int, patience: Patience) -> Decision:
        bucket = await self._route(name, weight)
        if self._disabled:
            rate = bucket.rates[0]
            return Decision(True, name, valid_weight(weight), 0, 0.0, 0.0, rate.limit, rate.limit, rate)
        return await bucket._request(self._key(name), name, weight, patience)

    async def _request_aloud(self, audience: Audience, name: str, weight: int, patience: Patience) -> Decision:
        if self._disabled:
            return await type(self)._request(self, name, weight, patience)
        return await audience.follow(name, weight, patience, partial(type(self)._request, self, name, weight))

    async def _try_aloud(self, name: str, weight: int, patience: Patience) -> bool:
        try:
            return self._as_bool(await self._request(name, weight, patience), patience)
        except WeightTooLarge:
            if self._raises:
                raise
            return False

    def _heard_by(self, audience: Audience | None) -> None:
        self._audience = audience
        if audience is None:
            del self._request, self._try
        else:
            self._request = partial(self._request_aloud, audience)  # type: ignore[method-assign]
            self._try = self._try_aloud  # type: ignore[method-assign]
        self._choose_at_hand()

    def _choose_at_hand(self) -> None:
        """Choose what decides in place."""
        bucket = self._bucket
        if self._disabled or self._closed or not isinstance(bucket, InstantBucket):
            self._at_hand = NOWHERE
        else:
            place = bucket._in_place()
            self._at_hand = place if self._audience is None else Heard(place, self._audience)

    async def _route(self, name: str, weight: int) -> AbstractBucket:
        self._require_open()
        if self._bucket is not None:
            return self._bucket
        if self._factory is None:
            raise RuntimeError("the global LIMITER has no bucket yet: call init_global_limiter(bucket) first")
        found = self._factory.get(name, weight)
        bucket = await found if isawaitable(found) else found
        self._used.add(bucket)
        return bucket

    def _key(self, name: str) -> str:
        if not self._keyed:
            return ""
        if name is UNNAMED:
            raise ValueError('this limiter is keyed, so each call needs a name: acquire("whose")')
        return name

    def _check(self, name: str, weight: int, blocking: bool, timeout: float) -> Patience:
        """Refuse what makes no sense, and return how the call waits."""
        self._key(name)
        valid_weight(weight)
        if timeout == -1:
            return self._patience if blocking else NOT_AT_ALL
        if not blocking:
            raise ValueError(
                f"blocking=False does not wait, so timeout={timeout!r} says nothing: leave one of them out"
            )
        return self._patience._replace(limit=min(as_patience(timeout), self._patience.limit))

    def _as_bool(self, decision: Decision, patience: Patience) -> bool:
        if self._raises and not decision.allowed:
            raise self._refusal(decision, patience)
        return decision.allowed

    def _refusal(self, decision: Decision, patience: Patience) -> RateLimitError:
        if patience is not NOT_AT_ALL and decision.retry_after * 1e6 > patience.limit:
            return LimiterDelayException.of(decision, patience.limit / 1e6)
        return BucketFullException.of(decision)

    # The end.

    def _shut(self) -> list[AbstractBucket]:
        """Refuse what comes and dismiss who waits; return the buckets that are to be closed too."""
        self._closed = True
        self._choose_at_hand()
        for bucket in [self._bucket] if self._bucket else list(self._used):
            bucket._dismiss(self._closed_error(), self)
        return [self._bucket] if self._bucket and self._owned else []

    def _closed_error(self) -> LimiterClosed:
        return LimiterClosed("this limiter is closed; make a new one")

    def _require_open(self) -> None:
        if self._closed:
            raise self._closed_error()

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


def _admitted(name: str, weight: int, answer: Answer, waited: float) -> bool:
    return not answer.wait


def _rebuild(argument: AbstractBucket | BucketFactory, settings: dict[str, Any]) -> Limiter[Any]:
    limiter: Limiter[Any] = Limiter(argument, **settings)
    limiter._owned = isinstance(argument, AbstractBucket)  # the copy of the bucket has no other owner
    return limiter


def _not_negative(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, 0 or more, not {value!r}")
    if value < 0:
        raise ValueError(f"{what} must be 0 or more, not {value}")
    return int(value)
