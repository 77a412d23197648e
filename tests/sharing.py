"""What each process does in a test of several that share a limit: in a module of its own, which is quick to import."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pyrate_limiter import Algorithm, Rate
from pyrate_limiter.buckets.outage import Fail
from pyrate_limiter.buckets.redis import RedisBucket

SHARED = Rate(20, 100)
"""Many short windows: who wakes up first in one of them is a matter of the machine, over all of them it is not."""


def work(url: str, prefix: str, algorithm: type[Algorithm], ready: Any, results: Any) -> None:
    """Acquire with 25 tasks for three seconds, and put the stamps that each got."""

    async def main() -> list[list[int]]:
        bucket = RedisBucket(SHARED, url, prefix=prefix, algorithm=algorithm, when_down=Fail(budget=5))
        await bucket.peek()
        await asyncio.to_thread(ready.wait, 60)
        end = time.monotonic() + 3
        stamps: list[list[int]] = [[] for _ in range(25)]

        async def one(own: list[int]) -> None:
            while time.monotonic() < end:
                own.append((await bucket.acquire()).at)

        await asyncio.gather(*map(one, stamps))
        await bucket.aclose()
        return stamps

    results.put(asyncio.run(main()))
