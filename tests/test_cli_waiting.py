"""`simulate` says of those who wait what really becomes of them."""

from __future__ import annotations

import anyio
import pytest

from pyrate_limiter import InMemoryBucket, LimiterDelayException, Rate
from pyrate_limiter.algorithms import bind
from pyrate_limiter.cli.arguments import ALGORITHMS, Arrivals
from pyrate_limiter.cli.simulation import Course
from pyrate_limiter.testing import LoopClock

from .virtual import virtual_backends

anyio_backend = virtual_backends
SECOND = 1_000_000


@pytest.mark.parametrize("rates", [(Rate(10, 1000),), (Rate(10, 1000), Rate(15, 4000))], ids=str)
@pytest.mark.parametrize("name", ALGORITHMS)
async def test_it_is_as_in_a_real_line(name: str, rates: tuple[Rate, ...]):
    moments = list(Arrivals("poisson:15").moments(20, seed=1))
    course = Course(name, bind(ALGORITHMS[name], rates), SECOND, 20 * SECOND)
    for now in moments:
        course.meet(now)

    bucket = InMemoryBucket(rates, algorithm=ALGORITHMS[name], clock=LoopClock())
    outcomes = [0, 0, 0]

    async def request(now: int) -> None:
        await anyio.sleep_until(now / SECOND)
        try:
            decision = await bucket.acquire(timeout=1)
        except LimiterDelayException:
            outcomes[2] += 1
        else:
            outcomes[decision.waited > 0] += 1

    async with anyio.create_task_group() as group:
        for now in moments:
            group.start_soon(request, now)
    # Timers end up to a tick late, so that the last of a busy time may find their turn just beyond their patience.
    assert tuple(outcomes) == course.outcomes
    assert all(outcomes)
