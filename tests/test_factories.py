"""The factory functions on one host: every example of their documentation, as it stands."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from pathlib import Path

import pytest

from pyrate_limiter import (
    GCRA,
    AbstractBucket,
    BucketFullException,
    Duration,
    Limiter,
    Rate,
    StoreError,
    create_sqlite_bucket,
    create_sqlite_limiter,
)

from .programs import run_program

START_METHODS = ["spawn", "forkserver", *(["fork"] if hasattr(os, "fork") else [])]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_temporary_database() -> None:
    limiter = create_sqlite_limiter(5, Duration.SECOND)
    assert [limiter.try_acquire("x", blocking=False) for _ in range(6)] == [True] * 5 + [False]
    assert limiter.try_acquire("x")  # waits
    limiter.close()


def test_a_named_database_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "myapp" / "rate_limits.db"
    limiter = create_sqlite_limiter(db_path=str(path), table_name="api_limits", use_file_lock=True)
    assert limiter.try_acquire("x")
    assert path.exists()
    limiter.close()


def test_a_database_that_cannot_be_written_is_named() -> None:
    limiter = create_sqlite_limiter(db_path="/proc/nowhere/limits.db")
    with pytest.raises(StoreError, match="/proc/nowhere/limits.db"):
        limiter.try_acquire("x")


def test_an_awaited_one_made_outside_a_loop() -> None:
    limiter = create_sqlite_limiter(db_path="rate_limits.db", max_delay=Duration.SECOND * 5, async_wrapper=True)

    async def main() -> list[bool]:
        return [await limiter.try_acquire("x") for _ in range(3)]

    assert asyncio.run(main()) == [True] * 3


def test_several_rates_in_one_bucket() -> None:
    bucket = create_sqlite_bucket(
        rates=[Rate(10, Duration.SECOND), Rate(100, Duration.MINUTE), Rate(1000, Duration.HOUR)],
        db_path="complex_limits.db",
        table_name="user_limits",
        use_file_lock=True,
    )
    limiter = Limiter(bucket, max_delay=Duration.SECOND * 10, buffer_ms=100)
    start = time.monotonic()
    assert all(limiter.try_acquire("x") for _ in range(12))
    assert time.monotonic() - start >= 1
    assert limiter.sync.peek().remaining == 8
    limiter.close()


def test_a_bucket_without_a_path_is_in_memory() -> None:
    limiter = Limiter(create_sqlite_bucket([Rate(2, Duration.HOUR)], None))
    assert [bool(limiter.sync.take()) for _ in range(3)] == [True, True, False]
    assert not list(Path().iterdir())


def test_keyed_algorithm_and_max_waiters() -> None:
    limiter = create_sqlite_limiter(1, Duration.HOUR, keyed=True, algorithm=GCRA, max_waiters=0)
    limiter.sync.acquire("a")
    with pytest.raises(BucketFullException):
        limiter.sync.acquire("a")
    assert limiter.sync.take("b")
    limiter.close()


class Named(Limiter[bool]):
    """A limiter of a user's own kind, made in its own way."""

    def __init__(self, team: str, bucket: AbstractBucket) -> None:
        super().__init__(bucket, keyed=True)
        self.team = team


def test_a_limiter_of_another_class_is_of_that_class_when_it_is_unpickled() -> None:
    bucket = create_sqlite_bucket([Rate(1, Duration.HOUR)], "shared.db")
    limiter = pickle.loads(pickle.dumps(Named("red", bucket)))
    assert type(limiter) is Named
    assert limiter.team == "red"
    assert limiter.sync.take("a")
    limiter.close()


def test_a_limiter_on_a_file_can_be_pickled() -> None:
    limiter = create_sqlite_limiter(2, Duration.HOUR, db_path="shared.db", max_delay=1000, keyed=True)
    copy = pickle.loads(pickle.dumps(limiter))
    assert limiter.sync.take("a")
    assert copy.sync.take("a")
    assert not copy.sync.take("a")
    with pytest.raises(ValueError, match="needs a name"):
        copy.sync.take()
    limiter.close()
    copy.close()


@pytest.mark.parametrize("method", START_METHODS)
def test_the_global_limiter_shares_a_file_among_processes(method: str, tmp_path: Path) -> None:
    output = run_program(
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from pyrate_limiter import LIMITER, Duration, Rate, create_sqlite_bucket, init_global_limiter

        def worker_init():
            rates = [Rate(10, Duration.SECOND)]
            bucket = create_sqlite_bucket(rates=rates, db_path="mp_rate_limits.db", use_file_lock=True)
            init_global_limiter(bucket)

        def worker_task(user_id):
            if LIMITER and LIMITER.try_acquire(f"user_{{user_id}}"):
                return f"Processed task for user {{user_id}}"
            return f"Rate limited for user {{user_id}}"

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            with ProcessPoolExecutor(max_workers=4, initializer=worker_init) as executor:
                print([f.result() for f in [executor.submit(worker_task, i) for i in range(20)]])
        """,
        folder=tmp_path,
    )
    assert output.count("Processed") == 20
