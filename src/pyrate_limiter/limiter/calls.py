"""The calls of a limiter, in the order in which a user meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ..blocking import SyncLimiter, run
from ..bucket import NOT_AT_ALL, NOWHERE, BucketStatistics, total
from ..decisions import UNNAMED, Decision
from ..rates import Rate
from .decorating import F, decorate
from .pending import PendingBool
from .policy import UNCOUNTED, Policy
from .slot import Slot

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    Result_co = DefaultingTypeVar("Result_co", default=bool, covariant=True)
else:
    Result_co = TypeVar("Result_co", covariant=True)


class Calls(Policy, Generic[Result_co]):
    """What every limiter can do. It is generic in what `try_acquire` returns."""

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
        if self._disabled or (isinstance(decision, Decision) and decision.at == UNCOUNTED):
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
        return total(bucket.statistics() for bucket in self._buckets())

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
