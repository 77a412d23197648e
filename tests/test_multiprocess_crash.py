"""kill -9 inside the critical section: the old state or the new one, and nothing to repair."""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyrate_limiter.algorithms import GCRA, Algorithm, FixedWindow, SlidingWindowLog, State, bind, decide
from pyrate_limiter.buckets import multiprocess
from pyrate_limiter.buckets.multiprocess import MultiprocessBucket, TableFull
from pyrate_limiter.decisions import RESET, Ask
from pyrate_limiter.rates import Rate
from pyrate_limiter.testing import ManualClock

PACKAGE = str(Path(multiprocess.__file__).parent)
SECOND = 1_000_000
START = 1_000_000_000
KEYS = ["", "a", "b", "c"]
STORES: dict[str, tuple[type[Algorithm], list[Rate]]] = {
    "log": (SlidingWindowLog, [Rate(4, 1000)]),
    "logs": (SlidingWindowLog, [Rate(3, 1000), Rate(6, 5000)]),
    "gcra": (GCRA, [Rate(3, 1000)]),
    "windows": (FixedWindow, [Rate(5, 1000), Rate(6, 5000)]),
}
FILLING = [[Ask("", 1), Ask("c", 1)], [Ask("", 1), Ask("a", 1)], [Ask("", 1)]]
"""What was decided before, a tenth of a second apart."""
CUTS: dict[str, list[Ask]] = {
    "a take": [Ask("a", 1)],
    "two takes": [Ask("a", 1), Ask("a", 1)],
    "a give-back in the middle": [Ask("", -1, at=START + SECOND // 10)],
    "a give-back and a take": [Ask("", -1, at=START), Ask("", 1)],
    "a reset": [Ask("", RESET)],
    "a new key": [Ask("b", 2)],
    "three keys": [Ask("", -1, at=START), Ask("a", 2), Ask("b", 1)],
}


class Case:
    """A bucket with something in it, a batch to be cut short, and all that may have become of it."""

    def __init__(self, store: str, cut: str, max_keys: int = 4, pause: float = 0.1) -> None:
        algorithm, rates = STORES[store]
        self.rule, self.asks = bind(algorithm, rates), CUTS[cut]
        self.clock = ManualClock(START)
        self.bucket = MultiprocessBucket(rates, algorithm=algorithm, max_keys=max_keys, clock=self.clock)
        before: dict[str, State] = {}
        for asks in FILLING:
            assert self.bucket._step(asks) == decide(self.rule, before, asks, self.clock.now)
            self.clock.advance(0.1)
        self.clock.advance(pause - 0.1)
        self.possible = self._outcomes(before)

    def _outcomes(self, before: dict[str, State]) -> list[dict[str, State]]:
        """A batch saves its keys one after the other, those that take first: some may be there and the others not."""
        keys = list(dict.fromkeys(ask.key for ask in sorted(self.asks, key=lambda ask: ask.cost <= 0)))
        found = []
        for saved in range(len(keys) + 1):
            states = copy.deepcopy(before)
            decide(self.rule, states, [ask for ask in self.asks if ask.key in keys[:saved]], self.clock.now)
            found.append(states)
        return found

    def check(self, buckets: list[MultiprocessBucket], possible: list[dict[str, State]]) -> bool:
        """Return whether the buckets, by turns, go on as one of the possible states would."""
        possible = copy.deepcopy(possible)
        for turn, (now, asks) in enumerate(self._follow_up()):
            self.clock.now = now
            answers = buckets[turn % len(buckets)]._step(asks)
            possible = [states for states in possible if decide(self.rule, states, asks, now) == answers]
        return bool(possible)

    def _follow_up(self) -> Iterator[tuple[int, list[Ask]]]:
        now = self.clock.now
        yield now, [Ask(key, 0) for key in KEYS]
        yield now, [Ask(key, 0) for key in KEYS]
        for step in range(8):
            now += SECOND // 4
            yield now, [Ask(KEYS[step % 3], 1), Ask("", 1)]
        yield now, [Ask("", -1, at=now), Ask("a", 0), Ask("b", 1)]
        yield now, [Ask(key, 0) for key in KEYS]


def tracer(step: Callable[[], None], *, opcodes: bool) -> Callable[..., Any]:
    """Return a trace function that calls `step` before each line, or each instruction, of the package."""

    def trace(frame: Any, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = opcodes
        step()
        return trace

    return trace


def images_of(case: Case) -> list[bytes]:
    """Run the batch and return each different content that the memory has on the way: what a kill there would leave."""
    memory = case.bucket._storage.slots.file.memory
    images = [memory[:]]

    def look() -> None:
        if memory[:] != images[-1]:
            images.append(memory[:])

    before, tracing = sys.gettrace(), tracer(look, opcodes=True)
    sys.settrace(tracing)
    try:
        case.bucket._step(case.asks)
    finally:
        sys.settrace(before)
    look()
    return images


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("store", STORES)
def test_a_kill_at_any_instruction_leaves_the_old_state_or_the_new_one(store: str, cut: str) -> None:
    case = Case(store, cut)
    now, images = case.clock.now, images_of(case)
    assert len(images) > 3
    for image in images:
        case.clock.now = now
        case.bucket._storage.slots.file.memory[:] = images[0]
        knows_the_old = copy.copy(case.bucket)
        knows_the_old._step([Ask(key, 0) for key in KEYS])
        case.bucket._storage.slots.file.memory[:] = image
        assert case.check([knows_the_old, copy.copy(case.bucket)], case.possible)
    case.clock.now = now
    case.bucket._storage.slots.file.memory[:] = images[-1]
    assert case.check([copy.copy(case.bucket)], case.possible[-1:]), "what was answered is what counts"


@pytest.mark.parametrize("cut", [[Ask("", -1, at=START + 2)], [Ask("", -1, at=START), Ask("", 1)], [Ask("", RESET)]])
def test_a_full_log_is_written_anew_where_nobody_reads(cut: list[Ask]) -> None:
    case = Case("log", "a take")
    case.bucket = MultiprocessBucket(Rate(9, 1000), clock=case.clock)
    case.rule, case.asks, before = case.bucket.rule, cut, {}
    for case.clock.now in range(START, START + 9):
        assert case.bucket._step([Ask("", 1)]) == decide(case.rule, before, [Ask("", 1)], case.clock.now)
    case.possible = case._outcomes(before)
    now, images = case.clock.now, images_of(case)
    for image in images:
        case.clock.now = now
        case.bucket._storage.slots.file.memory[:] = image
        assert case.check([copy.copy(case.bucket)], case.possible)


@pytest.mark.parametrize("store", STORES)
def test_a_kill_while_an_idle_key_makes_room_harms_no_other(store: str) -> None:
    case = Case(store, "a new key", max_keys=3)
    case.clock.advance(20)
    assert case.bucket._step([Ask("", 1), Ask("a", 1)])
    before: dict[str, State] = {}
    decide(case.rule, before, [Ask("", 1), Ask("a", 1)], case.clock.now)
    case.possible = case._outcomes(before)
    now, images = case.clock.now, images_of(case)
    assert len(images) > 6
    for image in images:
        case.clock.now = now
        case.bucket._storage.slots.file.memory[:] = images[0]
        knows_the_old, others = (copy.copy(case.bucket) for _ in range(2))
        knows_the_old._step([Ask(key, 0) for key in KEYS])
        case.bucket._storage.slots.file.memory[:] = image
        assert case.check([knows_the_old, others], case.possible)

        case.clock.now = now
        case.bucket._storage.slots.file.memory[:] = images[0]
        knows_the_old = copy.copy(case.bucket)
        knows_the_old._step([Ask(key, 0) for key in KEYS])
        case.bucket._storage.slots.file.memory[:] = image
        with suppress(TableFull):
            taken = knows_the_old._step([Ask("c", 1)])[0]
            assert others._step([Ask("c", 0)])[0].remaining == taken.remaining, "the key that had to go has come back"


@pytest.mark.parametrize(("store", "cut"), [("log", "a new key"), ("logs", "a give-back and a take")])
def test_processes_that_are_killed_at_each_line_leave_the_lock_free_and_the_state_whole(store: str, cut: str) -> None:
    line, ended = 0, False
    while not ended:
        line += 1
        case = Case(store, cut)
        ended = die_at(case.bucket, case.asks, line)
        assert case.check([case.bucket, copy.copy(case.bucket)], case.possible[-1:] if ended else case.possible)
    assert line > 50


def die_at(bucket: MultiprocessBucket, asks: list[Ask], line: int) -> bool:
    """Run a batch in a child that kills itself before such a line, and return whether it came to the end."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in {0, -signal.SIGKILL}
        return code == 0
    try:
        left = [None] * line

        def step() -> None:
            left.pop()
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        bucket._step([Ask(key, 0) for key in KEYS])
        sys.settrace(tracer(step, opcodes=False))
        bucket._step(asks)
        os._exit(0)
    finally:
        os._exit(1)
