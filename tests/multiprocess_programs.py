"""Programs of several processes that share a bucket in memory; each prints one line of JSON.

Run one as ``python -m tests.multiprocess_programs NAME ARGUMENTS``. They import nothing that is large, for they fork.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from struct import unpack
from typing import Any

from pyrate_limiter import Duration, FixedWindow, Limiter, MultiprocessBucket, Rate, SlidingWindowLog
from pyrate_limiter.buckets.multiprocess import lifetime
from pyrate_limiter.buckets.multiprocess.folder import Folder
from pyrate_limiter.decisions import BUSY

forking = multiprocessing.get_context("fork") if sys.platform != "win32" else multiprocessing


def take(bucket: MultiprocessBucket, key: str = "") -> bool:
    """Take one unit as a thread does: poll while it is busy."""
    while (wait := bucket._take(key, 1, True)) == BUSY:
        time.sleep(0.0001)
    return not wait


def together(processes: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in so many forked processes that begin at one moment, and return what they return."""
    gate, pipes, workers = forking.Barrier(processes), [], []

    def run(index: int, pipe: Any) -> None:
        gate.wait()
        pipe.send(work(index))

    for index in range(processes):
        here, there = forking.Pipe(duplex=False)
        pipes.append(here)
        workers.append(forking.Process(target=run, args=(index, there)))
        workers[-1].start()
    results = [pipe.recv() for pipe in pipes]
    for worker in workers:
        worker.join()
    return results


def wait(processes: int, each: int) -> dict[str, Any]:
    """Some processes wait for more than fits: the stamps of each."""
    bucket = MultiprocessBucket(Rate(20, 500))

    async def work() -> list[int]:
        return [decision.at for decision in await asyncio.gather(*[bucket.acquire() for _ in range(each)])]

    began = time.monotonic()
    stamps = together(processes, lambda _: asyncio.run(work()))
    return {"stamps": stamps, "seconds": time.monotonic() - began}


def race(rounds: int) -> list[int]:
    """Eight processes call 20 times without waiting: how many are admitted in each round."""
    buckets = [MultiprocessBucket(Rate(20, Duration.MINUTE)) for _ in range(rounds)]

    def work(_: int) -> list[int]:
        counts = []
        for bucket in buckets:
            limiter = Limiter(bucket)
            counts.append(sum(limiter.try_acquire("x", blocking=False) for _ in range(20)))
        return counts

    return [sum(counts) for counts in zip(*together(8, work), strict=True)]


def never_full(each: int) -> dict[str, Any]:
    """Four processes take what is there for all: how many are admitted, and how many are left."""
    rates = [Rate(10**6, Duration.HOUR), Rate(10**7, Duration.DAY)]
    bucket = MultiprocessBucket(rates)
    admitted = together(4, lambda _: sum(take(bucket) for _ in range(each)))
    return {"admitted": sum(admitted), "used": 10**6 - asyncio.run(bucket.peek()).remaining}


KILLED = {
    "log": (SlidingWindowLog, [Rate(10**6, Duration.HOUR)], 1),
    "logs": (SlidingWindowLog, [Rate(10**6, Duration.HOUR), Rate(10**7, Duration.MINUTE)], 1),
    "keys": (FixedWindow, [Rate(10**6, Duration.DAY)], 5),
    "full": (SlidingWindowLog, [Rate(50, 100)], 1),
}


class Crowd:
    """Four processes that take in a loop, and count or stamp what they got."""

    def __init__(self, kind: str) -> None:
        algorithm, rates, self.keys = KILLED[kind]
        self.bucket = MultiprocessBucket(rates, algorithm=algorithm, max_keys=self.keys)
        self.counts = forking.RawArray("q", 4 * 8)
        self.read, self.write = os.pipe()
        self._work = self._stamp if kind == "full" else self._count
        self.workers = [self._start(slot) for slot in range(4)]

    def replace(self, slot: int) -> float:
        """Kill one and start another; return how many seconds it took until somebody had the lock after the kill."""
        self.workers[slot].kill()
        began = time.monotonic()
        while self.bucket._step([]) is None:
            time.sleep(0.0001)
        taken = time.monotonic() - began
        self.workers[slot].join()
        self.workers[slot] = self._start(slot)
        return taken

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.join()
        os.close(self.write)

    def _start(self, slot: int) -> Any:
        worker = forking.Process(target=self._work, args=(slot,), daemon=True)
        worker.start()
        return worker

    def _count(self, slot: int) -> None:
        for turn in count():
            if take(self.bucket, str(turn % self.keys)):
                self.counts[8 * slot] += 1

    def _stamp(self, slot: int) -> None:
        while True:
            if decision := self.bucket._decide("", 1, True):
                os.write(self.write, decision.at.to_bytes(8, "little"))


def kills(kind: str, times: int) -> dict[str, Any]:
    """Processes take in a loop, and one after the other is killed and replaced.

    Returns what they counted, what the bucket counted, and for how many seconds at most a kill kept others off.
    """
    crowd, rng = Crowd(kind), random.Random(times)
    slowest = 0.0
    for _ in range(times):
        time.sleep(rng.uniform(0.005, 0.03))
        slowest = max(slowest, crowd.replace(rng.randrange(4)))
    crowd.end()
    used = sum(10**6 - asyncio.run(crowd.bucket.peek(key=str(key))).remaining for key in range(crowd.keys))
    return {"counted": sum(crowd.counts), "used": used, "slowest": slowest}


def kills_at_the_limit(times: int) -> dict[str, Any]:
    """Do the same where 50 fit in a tenth of a second: the stamps, and the longest time."""
    crowd, rng, data = Crowd("full"), random.Random(times), bytearray()
    reader = threading.Thread(target=read_all, args=(crowd.read, data))
    reader.start()
    slowest = 0.0
    for _ in range(times):
        time.sleep(rng.uniform(0.005, 0.03))
        slowest = max(slowest, crowd.replace(rng.randrange(4)))
    crowd.end()
    reader.join()
    return {"stamps": unpack(f"<{len(data) // 8}q", data), "slowest": slowest}


def read_all(read: int, into: bytearray) -> None:
    while data := os.read(read, 1 << 16):
        into += data


def forks(children: int) -> dict[str, int]:
    """A process forks while its threads take: how many were admitted, and how many the bucket counts."""
    bucket, stop, counts = MultiprocessBucket(Rate(10**6, Duration.HOUR)), threading.Event(), [0, 0]

    def loop(index: int) -> None:
        while not stop.is_set():
            counts[index] += take(bucket)

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    children_took = 0
    for _ in range(children):
        child = os.fork()
        if not child:
            os._exit(sum(take(bucket) for _ in range(10)))
        children_took += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    used = 10**6 - asyncio.run(bucket.peek()).remaining
    return {"children": children_took, "admitted": sum(counts) + children_took, "used": used}


def four_takes(bucket: MultiprocessBucket) -> int:
    return sum(take(bucket) for _ in range(4))


def pickled(method: str, name: str | None) -> list[int]:
    """Three children get a bucket of six by pickle and take four times each; then their parent takes once."""
    bucket = MultiprocessBucket(Rate(6, Duration.HOUR), name)
    with multiprocessing.get_context(method).Pool(3) as pool:
        return [sum(pool.map(four_takes, [bucket] * 3, chunksize=1)), take(bucket)]


def create_mp_limiter() -> Limiter[bool]:
    return Limiter(MultiprocessBucket.init(rates=[Rate(5, Duration.SECOND)]))


def worker_function(data: int) -> int:
    limiter = create_mp_limiter()
    limiter.try_acquire(f"worker_{data}")
    return time.monotonic_ns() // 1000


def example(method: str, tasks: int) -> dict[str, Any]:
    """The bucket is made anew in each call of a pool: when each of ten calls was over, at five a second."""
    context = multiprocessing.get_context(method)
    more = {"max_tasks_per_child": tasks} if tasks else {}
    with ProcessPoolExecutor(max_workers=3, mp_context=context, **more) as executor:
        stamps = sorted(executor.map(worker_function, range(10)))
    return {"stamps": stamps, "files": lifetime._tree()}


AT_IMPORT = MultiprocessBucket(Rate(3, Duration.HOUR))


def at_import(_: int) -> bool:
    return take(AT_IMPORT)


def module_level(method: str) -> list[int]:
    """A bucket is made where the module is imported, by the main process and by its children."""
    with multiprocessing.get_context(method).Pool(3) as pool:
        return [sum(pool.map(at_import, range(8), chunksize=1)), sum(take(AT_IMPORT) for _ in range(8))]


def leave(how: str) -> None:
    """A process ends without closing anything. It writes the name of the file that it used."""
    bucket = MultiprocessBucket(Rate(3, Duration.HOUR))
    take(bucket)
    sys.stdout.write(json.dumps(bucket._storage._place()))
    if how == "shared":  # so it does not go with the bucket
        pickle.dumps(bucket)
    if how == "exit":
        sys.exit(7)
    if how == "waiting":

        async def main() -> None:
            waiting = asyncio.create_task(bucket.acquire(3))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            sys.exit(7)

        asyncio.run(main())
    if how == "raise":
        raise ValueError("on purpose")


def outlived() -> None:
    """A process comes to its end while a child of its goes on."""
    bucket = MultiprocessBucket(Rate(3, Duration.HOUR))
    take(bucket)
    forking.Process(target=look_on, args=(bucket,)).start()


def look_on(bucket: MultiprocessBucket) -> None:
    """Write for how many looks the file was there, and its name."""
    where, seen = bucket._storage._place(), 0
    with Folder() as folder:
        for _ in range(30):
            seen += where in list(folder)
            time.sleep(0.01)
    sys.stdout.write(json.dumps([seen, where]))


def by_name(name: str) -> int:
    """Take four times from a bucket of six that others know by its name."""
    return sum(take(MultiprocessBucket(Rate(6, Duration.HOUR), name)) for _ in range(4))


PROGRAMS: dict[str, Callable[..., Any]] = {
    program.__name__: program
    for program in (
        wait,
        race,
        never_full,
        kills,
        kills_at_the_limit,
        forks,
        pickled,
        example,
        module_level,
        leave,
        outlived,
        by_name,
    )
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    result = PROGRAMS[name](*map(json.loads, arguments))
    if result is not None:
        sys.stdout.write(json.dumps(result))
