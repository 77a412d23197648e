"""Uses that are wrong, for the type checker: each line that ends in a mark must be an error of that kind."""

from __future__ import annotations

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, create_inmemory_limiter

rate = Rate(10, Duration.SECOND)
plain = Limiter(rate)
awaited = Limiter(rate, async_wrapper=True)


async def calls() -> bool:
    if await plain.try_acquire():  # wrong: misc
        pass
    if awaited.try_acquire():  # wrong: truthy-bool
        pass
    if await create_inmemory_limiter().try_acquire():  # wrong: misc
        pass
    granted: bool = awaited.try_acquire()  # wrong: assignment
    await plain.take(weight="2")  # wrong: arg-type
    plain.sync.acquire("name", timeout="soon")  # wrong: arg-type
    await plain.refund(7)  # wrong: arg-type
    (await plain.take()).allowed = False  # wrong: misc
    return granted


def made() -> None:
    Limiter(10)  # wrong: call-overload
    Limiter(rate, keyed="yes")  # wrong: call-overload
    Rate("10", Duration.SECOND)  # wrong: arg-type
    InMemoryBucket(rate, algorithm=rate)  # wrong: arg-type
    rate.limit = 3  # wrong: misc
    create_inmemory_limiter(asynchronous=True)  # wrong: call-overload


@plain.as_decorator()
def decorated(number: int) -> str:
    return str(number)


decorated("seven")  # wrong: arg-type
length: int = decorated(7)  # wrong: assignment
