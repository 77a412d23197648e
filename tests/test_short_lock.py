"""The lock of a bucket in memory: one holder at a time, whatever leaves the block, and no wait that cannot end."""

from __future__ import annotations

import signal
import threading

import pytest

from pyrate_limiter.buckets.short_lock import ShortLock

TURNS = 2000


def test_one_thread_at_a_time_holds_it(hasty_threads: None) -> None:
    lock = ShortLock()
    inside, most, entered = 0, 0, 0

    def enter() -> None:
        nonlocal inside, most, entered
        for _ in range(TURNS):
            with lock:
                inside += 1
                most = max(most, inside)
                entered += 1
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered) == (1, 4 * TURNS)
    assert not lock.locked()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_block_and_the_lock(error: type[BaseException]) -> None:
    lock = ShortLock()
    with pytest.raises(error), lock:
        assert lock.locked()
        raise error
    assert not lock.locked()
    with lock:
        assert lock.locked()


def test_it_can_be_held_across_calls() -> None:
    lock = ShortLock()
    lock.acquire()
    waiter = threading.Thread(target=lock.acquire)
    waiter.start()
    assert lock.locked()
    lock.release()
    waiter.join(10)
    assert not waiter.is_alive()
    assert lock.locked()


def test_whoever_waits_for_it_can_be_interrupted_and_holds_nothing() -> None:
    lock = ShortLock()
    lock.acquire()
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt), lock:
            pytest.fail("it was held elsewhere")
    finally:
        timer.cancel()
    lock.release()
    assert not lock.locked()
    with lock:
        assert lock.locked()
