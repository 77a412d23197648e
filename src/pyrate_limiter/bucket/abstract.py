"""What every bucket is and can do."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from ..algorithms import Algorithm, Rule, SlidingWindowLog, bind
from ..decisions import RESET, Answer, Ask, Decision
from ..errors import LimiterClosed, LimiterDelayException, WeightTooLarge
from ..listening import Audible, Audience
from ..rates import Rate, as_rates
from ..waiting import Heard, Make, Patience, Room, loop_of, running
from .checks import as_patience, valid_algorithm, valid_key, valid_weight
from .forks import Forkable
from .statistics import BucketStatistics

T = TypeVar("T")
NOT_AT_ALL = Patience(0)
_tuple = tuple.__new__


class AbstractBucket(Audible, metaclass=Forkable):
    """One budget for each key, under one or several rates.

    A subclass is a store. It implements `_apply`: decide a batch atomically, by `decide` or by something that is
    proven to give equal answers, with one clock that is read while nobody else can decide. The base does the rest:
    waiting, batching, cancellation.

    Args:
        rates: one rate or several, in any order; a request must fit all of them.
        algorithm: how they are counted.

    Attributes:
        rates: the rates, as a tuple.
        rule: the algorithm bound to the rates.
        capacity: the heaviest request that can ever fit.
        batch: the most asks in one call.
        least: so many waiters for a key are asked for at once even if fewer were granted the last time; beyond, it is
            twice as many as were: whoever is asked for in vain costs something too.
        share: the most units for one key in one call while that key is refused; stores that processes share set it
            low, or whoever comes first would take all.
        pause: seconds between two calls that take for a key while it is refused. Where one call follows another more
            quickly than another process wakes up, whoever wakes first would take all the same.
        calls_back: whether `_begin` is implemented.
    """

    instant: ClassVar[bool] = False
    batch: int = 100
    least: int = 100
    pause: float = 0.0
    calls_back: bool = False

    def __init__(self, rates: Rate | Sequence[Rate], *, algorithm: type[Algorithm] = SlidingWindowLog) -> None:
        self.rates = as_rates(rates)
        self.rule: Rule = bind(valid_algorithm(algorithm), self.rates)
        self.algorithm = algorithm
        self.capacity = self.rule.capacity
        self.share = self.capacity
        self.closed = False
        self._rooms: dict[Any, Room] = {}
        self._owed: deque[Ask] = deque()

    @abstractmethod
    async def _apply(self, asks: Sequence[Ask]) -> list[Answer]:
        """Decide a batch, in order and atomically, at one moment of the store's own clock.

        Only the courier of a room calls this or `_begin`, once at a time for each event loop. It may be cancelled when
        its loop ends; what it grants then stays spent.

        Raises:
            StoreError: the store could not decide. What it may have granted stays spent.
        """

    def _begin(self, ask: Ask, heard: Heard) -> bool:
        """Begin to decide one take, if the store can be asked at once; `heard` is called with its answer, later.

        For stores whose answers come by a callback in the event loop, which saves the way through a task; the others
        need not implement it, and set no `calls_back`. Where there is no answer, `heard` is called with None, and then
        `_apply`, unless nobody waits for it any more. It never raises.

        Returns:
            Whether it has begun; if not, `_apply` is called.
        """
        return False

    async def acquire(self, weight: int = 1, *, key: str = "", timeout: float | None = None) -> Decision:
        """Take `weight` units and wait for them if need be, in order of arrival.

        Args:
            weight: units; 0 is admitted and spends nothing.
            key: whose budget.
            timeout: the longest wait in seconds; None waits as long as it takes.

        Raises:
            WeightTooLarge: so many never fit.
            LimiterDelayException: it would take longer than `timeout`; nothing is spent.
            LimiterClosed: the bucket is closed.
            StoreError: the store could not decide.
        """
        patience = Patience() if timeout is None else Patience(as_patience(timeout))
        decision = await self._request(key, key, weight, patience)
        if not decision:
            raise LimiterDelayException.of(decision, patience.limit / 1e6)
        return decision

    async def take(self, weight: int = 1, *, key: str = "") -> Decision:
        """Take `weight` units if they fit now and nobody waits for the key; never wait.

        Raises:
            WeightTooLarge: so many never fit.
            LimiterClosed: the bucket is closed.
            StoreError: the store could not decide.
        """
        return await self._request(key, key, weight, NOT_AT_ALL)

    async def peek(self, *, key: str = "") -> Decision:
        """Return what `take` would say to one unit, without taking it."""
        return self._decision(key, 1, await self._run(Ask(valid_key(key), 0)))

    async def refund(self, decision: Decision | None = None, *, key: str = "", weight: int = 0, at: int = -1) -> None:
        """Give back what a decision took, at most what is still counted of it.

        Args:
            decision: an admitted one of this bucket. A refused one gives nothing back. Refund it once: the second
                time would give back what somebody else took at the same moment.
            key: whose budget, as it was given when this was taken.
            weight: without a decision: how many units.
            at: without a decision: the stamp of them (`Decision.at`).
        """
        degraded = False
        if decision is not None:
            weight, at, degraded = decision.weight if decision.allowed else 0, decision.at, decision.degraded
        elif at < 0:
            raise ValueError(
                "refund needs the stamp of what goes back: pass the decision, or weight= and at=decision.at"
            )
        if valid_weight(weight):
            await self._run(Ask(valid_key(key), -weight, at=at, degraded=degraded))

    async def reset(self, *, key: str = "") -> None:
        """Forget what is counted for the key."""
        await self._run(Ask(valid_key(key), RESET))

    def statistics(self) -> BucketStatistics:
        """Return what the bucket holds right now."""
        return BucketStatistics(None, sum(room.waiting for room in list(self._rooms.values())), len(self._owed))

    async def aclose(self) -> None:
        """Close: whoever waits gets `LimiterClosed`, give-backs are delivered, connections of this loop are closed."""
        self._shut()
        self._dismiss(self._closed_error())
        room = self._rooms.get(running())
        if room is not None and not self.instant:
            await room.drained()
        await self._disconnect()

    def _shut(self) -> None:
        """Refuse what comes from now on."""
        self.closed = True

    def _dismiss(self, error: LimiterClosed, owner: object = None) -> None:
        """Tell all who wait, in any loop, that it is over; or all who wait through one owner."""
        here = running()
        for token, room in list(self._rooms.items()):
            if token is here:
                room.close(error, owner)
            else:
                loop_of(token).call_soon_threadsafe(partial(room.close, error, owner))

    async def _disconnect(self) -> None:
        """Close what belongs to the running loop."""

    def _before_fork(self) -> None:
        """Take the short locks, so that no thread leaves a torn state to the child."""

    def _after_fork(self) -> None:
        """Let go of them in the parent."""

    def _forked(self) -> None:
        """Forget, in a forked child, what belongs to the parent's threads and loops."""
        self._rooms = {}
        self._owed = deque()

    def _request(self, key: str, name: str, weight: int, patience: Patience) -> Coroutine[Any, Any, Decision]:
        """Take, waiting as `patience` says, and return the decision whatever it is."""
        return self._ask(key, name, weight, patience, self._decision)

    def _ask(self, key: str, name: str, weight: int, patience: Patience, make: Make[T]) -> Coroutine[Any, Any, T]:
        """Take, waiting as `patience` says, and return what is made of the answer."""
        if type(weight) is not int or not 0 < weight <= self.capacity:
            return self._ask_oddly(key, name, weight, patience, make)
        if self.closed:
            raise self._closed_error()
        valid_key(key)
        room = self._rooms.get(running()) or self._room()
        return room.ask(key, name, weight, patience, None, make)

    async def _ask_oddly(self, key: str, name: str, weight: int, patience: Patience, make: Make[T]) -> T:
        """Do so with a weight that is not simply an int from 1 to the capacity."""
        units = int(valid_weight(weight))
        if units > self.capacity:
            raise WeightTooLarge.over(self.capacity, name, units, self._narrowest())
        if units:
            # Of its class: if somebody listens, that was told to them already.
            return await type(self)._ask(self, key, name, units, patience, make)
        answer = await self._run(Ask(valid_key(key), 0))
        return make(name, 0, answer._replace(wait=0), 0.0)

    async def _ask_aloud(
        self, audience: Audience, key: str, name: str, weight: int, patience: Patience, make: Make[T]
    ) -> T:
        made: list[T] = []

        def decided(name: str, weight: int, answer: Answer, waited: float) -> Decision:
            made.append(make(name, weight, answer, waited))
            return self._decision(name, weight, answer, waited)

        def ask(patience: Patience) -> Coroutine[Any, Any, Decision]:
            return type(self)._ask(self, key, name, weight, patience, decided)

        await audience.follow(name, weight, patience, ask)
        return made[0]

    def _heard_by(self, audience: Audience | None) -> None:
        self._audience = audience
        if audience is None:
            del self._ask
        else:
            self._ask = partial(self._ask_aloud, audience)  # type: ignore[method-assign]

    async def _run(self, ask: Ask) -> Answer:
        """Look, give back or reset."""
        self._require_open()
        return await self._room().run(ask)

    def _rouse(self, ask: Ask) -> None:
        """Let the next in line move up, on the other event loops, after a give-back: the room sees to its own."""
        if ask.cost < 0:
            here = running()
            for token, room in list(self._rooms.items()):
                if token is not here:
                    loop_of(token).call_soon_threadsafe(partial(room.rouse, ask.key))

    def _owe(self, ask: Ask) -> None:
        """Give back as soon as may be, without waiting for it."""
        self._owed.append(ask)

    def _room(self) -> Room:
        """Return the room of the running loop, made on first use."""
        token = running()
        room = self._rooms.get(token)
        if room is None:
            if token is None:
                raise RuntimeError(
                    "no event loop is running: await this in asyncio or trio, or use the limiter's .sync"
                )
            for stale in [t for t in list(self._rooms) if getattr(t, "is_closed", bool)()]:
                self._rooms.pop(stale, None)
            room = self._rooms[token] = Room(self, loop_of(token), lambda: self._leave_room(token))
        return room

    def _leave_room(self, token: Any) -> None:
        room = self._rooms.get(token)
        if room is not None and room.empty:
            del self._rooms[token]

    def _decision(self, name: str, weight: int, answer: Answer, waited: float = 0.0) -> Decision:
        wait, at, remaining, reset, index, degraded = answer
        rate = self.rates[index]
        return _tuple(
            Decision,
            (not wait, name, weight, at, wait / 1e6, reset / 1e6, remaining, rate.limit, rate, waited, degraded),
        )

    def _narrowest(self) -> Rate:
        return min(self.rates, key=lambda rate: bind(self.algorithm, (rate,)).capacity)

    def _require_open(self) -> None:
        if self.closed:
            raise self._closed_error()

    def _closed_error(self) -> LimiterClosed:
        return LimiterClosed(f"this {type(self).__name__} is closed; make a new one")
