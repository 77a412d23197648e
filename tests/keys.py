"""Keys without a bucket: a state, a clock set by hand, and the ways in which tests drive them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    Rule,
    Several,
    SlidingWindowCounter,
    SlidingWindowLog,
    decide,
)
from pyrate_limiter.decisions import Answer, Ask

from .models import Grant
from .strategies import DUE, EARLY, Step

ALGORITHMS = [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter]
SECOND = 1_000_000

each = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)


class Key:
    """One key in a store that keeps, packed, what `decide` sets and nothing else; its clock is set by hand."""

    def __init__(self, rule: Rule, now: int) -> None:
        self.rule, self.now = rule, now
        self.saved: dict[str, bytes] = {}

    def get(self, key: str) -> object | None:
        return self.rule.unpack(self.saved[key]) if key in self.saved else None

    def __setitem__(self, key: str, state: object) -> None:
        self.saved[key] = self.rule.pack(state)

    def copy(self) -> Key:
        other = Key(self.rule, self.now)
        other.saved = dict(self.saved)
        return other

    @property
    def state(self) -> object:
        return self.get("key") if self.saved else self.rule.fresh()

    def ask(self, cost: int, at: int = -1) -> Answer:
        [answer] = decide(self.rule, self, [Ask("key", cost, at=at)], self.now)
        return answer


class LiveKey(Key):
    """The same with the state kept as it is, as memory does."""

    def __init__(self, rule: Rule, now: int) -> None:
        super().__init__(rule, now)
        self.live: dict[str, object] = {}

    def get(self, key: str) -> object | None:
        return self.live.get(key)

    def __setitem__(self, key: str, state: object) -> None:
        self.live[key] = state

    def copy(self) -> Key:
        other = LiveKey(self.rule, self.now)
        other.live = {key: self.rule.unpack(self.rule.pack(state)) for key, state in self.live.items()}
        return other

    @property
    def state(self) -> object:
        return self.live.get("key", self.rule.fresh())


def pass_time(lapse: int, due: int, *keys: Key) -> None:
    for key in keys:
        key.now += {DUE: due, EARLY: max(0, due - 1)}.get(lapse, lapse)


def play(key: Key, script: list[Step]) -> Iterator[tuple[Step, Answer]]:
    """Run a script on a key, step by step."""
    due = 0
    for step in script:
        pass_time(step.lapse, due, key)
        answer = key.ask(step.weight)
        due = answer.wait
        yield step, answer


def grants_of(key: Key, script: list[Step]) -> list[Grant]:
    return [Grant(answer.at, step.weight) for step, answer in play(key, script) if not answer.wait]


def answers_of(key: Key, script: list[Step]) -> list[Answer]:
    return [answer for _, answer in play(key, script)]


def give_back_some(key: Key, grants: list[Grant], data: st.DataObject) -> None:
    """Give back one of the grants, or a part of it, to the key and to the model."""
    at, cost = grants.pop(data.draw(st.integers(0, len(grants) - 1)))
    back = data.draw(st.just(cost) | st.integers(1, cost))
    key.ask(-back, at=at)
    if back < cost:
        grants.append(Grant(at, cost - back))
        grants.sort()


def parts(rule: Rule) -> tuple[Algorithm, ...]:
    if isinstance(rule, Several):
        return rule.rules
    assert isinstance(rule, Algorithm)
    return (rule,)
