"""The factory functions, and the global limiter.

Buckets with a driver are imported by the function that makes them: the driver takes longer than all the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from .algorithms import Algorithm, SlidingWindowLog
from .bucket import AbstractBucket
from .buckets.memory import InMemoryBucket
from .limiter import Limiter
from .limiter.limiter import Pending
from .rates import Duration, Rate

if TYPE_CHECKING:
    from .buckets.sqlite import SQLiteBucket


@overload
def create_sqlite_limiter(
    rate_per_duration: int = ...,
    duration: int | Duration = ...,
    db_path: str | None = ...,
    table_name: str = ...,
    max_delay: int | Duration = ...,
    buffer_ms: int = ...,
    use_file_lock: bool = ...,
    async_wrapper: Literal[False] = ...,
    *,
    keyed: bool = ...,
    algorithm: type[Algorithm] = ...,
    max_waiters: int | None = ...,
) -> Limiter[bool]: ...
@overload
def create_sqlite_limiter(
    rate_per_duration: int = ...,
    duration: int | Duration = ...,
    db_path: str | None = ...,
    table_name: str = ...,
    max_delay: int | Duration = ...,
    buffer_ms: int = ...,
    use_file_lock: bool = ...,
    *,
    async_wrapper: Literal[True],
    keyed: bool = ...,
    algorithm: type[Algorithm] = ...,
    max_waiters: int | None = ...,
) -> Limiter[Pending]: ...
def create_sqlite_limiter(
    rate_per_duration: int = 3,
    duration: int | Duration = Duration.SECOND,
    db_path: str | None = None,
    table_name: str = "rate_bucket",
    max_delay: int | Duration = Duration.DAY,
    buffer_ms: int = 50,
    use_file_lock: bool = False,
    async_wrapper: bool = False,
    *,
    keyed: bool = False,
    algorithm: type[Algorithm] = SlidingWindowLog,
    max_waiters: int | None = None,
) -> Limiter[Any]:
    """Return a limiter of `rate_per_duration` units per `duration` in an SQLite database, which processes share.

    Nothing is opened before the first call.

    Args:
        rate_per_duration: units.
        duration: milliseconds.
        db_path: the file, made with its folders if it is missing; None: a temporary one, removed at close or exit.
        table_name: the table in it.
        max_delay: milliseconds; the longest wait before a call fails.
        buffer_ms: milliseconds that are added to each wait.
        use_file_lock: processes take turns by a lock file beside the database.
        async_wrapper: `try_acquire` returns a coroutine.
        keyed: each name has a budget of its own.
        algorithm: how units are counted.
        max_waiters: how many calls may wait at once on each event loop.
    """
    from .buckets.sqlite import SQLiteBucket  # noqa: PLC0415

    rates = [Rate(rate_per_duration, duration)]
    if db_path is None:
        bucket = SQLiteBucket.temporary(rates, table_name, algorithm=algorithm, use_file_lock=use_file_lock)
    else:
        bucket = SQLiteBucket(rates, db_path, table_name, algorithm=algorithm, use_file_lock=use_file_lock)
    return _owning(bucket, max_delay, buffer_ms, async_wrapper=async_wrapper, keyed=keyed, max_waiters=max_waiters)


@overload
def create_inmemory_limiter(
    rate_per_duration: int = ...,
    duration: int | Duration = ...,
    max_delay: int | Duration = ...,
    buffer_ms: int = ...,
    async_wrapper: Literal[False] = ...,
    *,
    keyed: bool = ...,
    algorithm: type[Algorithm] = ...,
    max_waiters: int | None = ...,
) -> Limiter[bool]: ...
@overload
def create_inmemory_limiter(
    rate_per_duration: int = ...,
    duration: int | Duration = ...,
    max_delay: int | Duration = ...,
    buffer_ms: int = ...,
    *,
    async_wrapper: Literal[True],
    keyed: bool = ...,
    algorithm: type[Algorithm] = ...,
    max_waiters: int | None = ...,
) -> Limiter[Pending]: ...
def create_inmemory_limiter(
    rate_per_duration: int = 3,
    duration: int | Duration = Duration.SECOND,
    max_delay: int | Duration = Duration.DAY,
    buffer_ms: int = 50,
    async_wrapper: bool = False,
    *,
    keyed: bool = False,
    algorithm: type[Algorithm] = SlidingWindowLog,
    max_waiters: int | None = None,
) -> Limiter[Any]:
    """Return a limiter of `rate_per_duration` units per `duration` in this process's memory.

    Args:
        rate_per_duration: units.
        duration: milliseconds.
        max_delay: milliseconds; the longest wait before a call fails.
        buffer_ms: milliseconds that are added to each wait.
        async_wrapper: `try_acquire` returns a coroutine.
        keyed: each name has a budget of its own.
        algorithm: how units are counted.
        max_waiters: how many calls may wait at once on each event loop.
    """
    bucket = InMemoryBucket(Rate(rate_per_duration, duration), algorithm=algorithm)
    return _owning(bucket, max_delay, buffer_ms, async_wrapper=async_wrapper, keyed=keyed, max_waiters=max_waiters)


def create_sqlite_bucket(
    rates: list[Rate],
    db_path: str | None,
    table_name: str = "pyrate_limiter",
    use_file_lock: bool = False,
    *,
    algorithm: type[Algorithm] = SlidingWindowLog,
) -> SQLiteBucket:
    """Return a bucket in an SQLite database, to put into a `Limiter` or into `init_global_limiter`.

    Args:
        rates: one or several, in any order.
        db_path: the file, made with its folders if it is missing; None: a database in this process's memory.
        table_name: the table in it.
        use_file_lock: processes take turns by a lock file beside the database.
        algorithm: how units are counted.
    """
    from .buckets.sqlite import SQLiteBucket  # noqa: PLC0415

    return SQLiteBucket(rates, db_path, table_name, algorithm=algorithm, use_file_lock=use_file_lock)


LIMITER: Limiter[bool] = Limiter.__new__(Limiter)
"""The limiter of this process: false, and raising RuntimeError at every call, until `init_global_limiter` fills it."""
LIMITER._global_name = "LIMITER"
LIMITER.__module__ = __name__  # it is pickled by reference, to the limiter of the process that unpickles it


def init_global_limiter(
    bucket: AbstractBucket,
    max_delay: int | Duration = Duration.HOUR,
    raise_when_fail: bool = False,
    retry_until_max_delay: bool = True,
    buffer_ms: int = 50,
    *,
    keyed: bool = False,
    max_waiters: int | None = None,
) -> None:
    """Fill `LIMITER` in place, so that whoever has imported it by name sees it; a second call replaces the first.

    It is meant as an initializer of a process pool. The arguments are those of `Limiter`. Who listens to `LIMITER`
    goes on to, also from before the first call.
    """
    Limiter.__init__(
        LIMITER,
        bucket,
        None,
        raise_when_fail,
        max_delay,
        retry_until_max_delay,
        buffer_ms,
        keyed=keyed,
        max_waiters=max_waiters,
    )


def _owning(bucket: AbstractBucket, max_delay: int, buffer_ms: int, **options: Any) -> Limiter[Any]:
    """Return a limiter that closes the bucket which was made for it."""
    limiter: Limiter[Any] = Limiter(bucket, max_delay=max_delay, buffer_ms=buffer_ms, **options)
    limiter._owned = True
    return limiter
