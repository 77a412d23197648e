"""What buckets are told of a fork, whatever the other threads of the process do meanwhile."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from pyrate_limiter import InMemoryBucket, MultiprocessBucket, Rate
from pyrate_limiter.bucket.forks import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
RATE = Rate(10**6, 3_600_000)


@pytest.fixture(autouse=True)
def threads_may_fork(hasty_threads: None) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
        yield


def in_child(work: Callable[[], bool]) -> bool:
    """Return whether something is true in a forked child."""
    child = os.fork()
    if not child:
        try:
            os._exit(not work())
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_threads_that_fork_at_the_same_time_leave_all_locks_free() -> None:
    buckets = [InMemoryBucket(RATE) for _ in range(20)]
    children = []

    def fork() -> None:
        children.extend([in_child(lambda: not any(bucket._take("", 1, True) for bucket in buckets)) for _ in range(10)])

    threads = [threading.Thread(target=fork, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert children == [True] * 30
    assert not any(bucket._lock.locked() for bucket in buckets)


def test_a_child_is_told_though_a_thread_of_its_parent_was_making_buckets() -> None:
    bucket, stop = MultiprocessBucket(RATE), threading.Event()
    assert bucket._take("", 1, True) == 0
    kept = [InMemoryBucket(RATE) for _ in range(100)]

    def make() -> None:
        while not stop.is_set():
            InMemoryBucket(RATE)

    thread = threading.Thread(target=make)
    thread.start()
    told = [in_child(lambda: bucket._storage.slots is None) for _ in range(20)]
    stop.set()
    thread.join()
    assert told == [True] * 20
    assert len(kept) == 100


def test_a_bucket_that_is_being_made_is_not_told_yet() -> None:
    class Slow(InMemoryBucket):
        def __init__(self) -> None:
            assert in_child(lambda: True)  # where nothing of it is there
            super().__init__(RATE)
            del self._lock
            assert in_child(lambda: True)
            self._lock = threading.Lock()

    with_its_lock = Slow()
    assert in_child(lambda: not with_its_lock._lock.locked())
    assert not with_its_lock._lock.locked()


def test_a_child_of_a_host_that_forks_without_a_word_before_lets_go_of_its_parents_file() -> None:
    bucket = MultiprocessBucket(RATE)
    assert bucket._take("", 1, True) == 0
    forks._child()  # as a server written in C does
    assert bucket._storage.slots is None
