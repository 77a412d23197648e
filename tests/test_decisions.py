"""Decisions, asks, answers and the clocks they are stamped by."""

from __future__ import annotations

import pickle
import time

import pytest

from pyrate_limiter import clocks
from pyrate_limiter.decisions import BEHIND, BUSY, FOREVER, RESET, Answer, Ask, Decision
from pyrate_limiter.rates import Rate

ADMITTED = Decision(True, "api", 3, 1_700_000_000_000_000, 0.0, 60.0, 2, 10, Rate(10, 60_000))
REFUSED = ADMITTED._replace(allowed=False, retry_after=1.5)


def test_a_decision_is_true_when_it_admitted() -> None:
    assert ADMITTED
    assert not REFUSED
    assert bool(ADMITTED) is True
    assert bool(REFUSED) is False


def test_a_refusal_is_false_whatever_else_it_holds() -> None:
    assert len(REFUSED) == len(Decision._fields)
    assert not REFUSED._replace(waited=5.0, degraded=True)
    assert ADMITTED._replace(weight=0, at=0, remaining=0, reset_after=0.0)


def test_a_decision_waited_for_nothing_and_comes_from_the_store_unless_it_says_so() -> None:
    assert (ADMITTED.waited, ADMITTED.degraded) == (0.0, False)


@pytest.mark.parametrize("value", [ADMITTED, Ask("a", 1), Answer(0, 5)], ids=lambda value: type(value).__name__)
def test_values_cannot_be_changed(value: Decision | Ask | Answer) -> None:
    for field in (*value._fields, "surplus"):
        with pytest.raises(AttributeError):
            setattr(value, field, 1)
    assert hash(value) == hash(value._replace())
    assert pickle.loads(pickle.dumps(value)) == value


def test_an_ask_answers_now_and_an_answer_leaves_nothing_unless_they_say_so() -> None:
    assert Ask("a", 1) == Ask(key="a", cost=1, patience=0, at=-1)
    assert Answer(0, 5) == Answer(wait=0, at=5, remaining=0, reset=0, rate=0, degraded=False)


def test_the_marks_are_apart_from_every_wait_and_every_cost() -> None:
    assert FOREVER == 2**53 - 1 == int(float(FOREVER))
    assert len({BEHIND, BUSY, 0}) == 3
    assert BEHIND < 0
    assert BUSY < 0
    assert RESET == -FOREVER


def test_clocks_count_microseconds() -> None:
    assert clocks.SECOND == 1_000_000
    before, now, after = time.monotonic_ns(), clocks.monotonic(), time.monotonic_ns()
    assert before // 1000 <= now <= after // 1000
    before, now, after = time.time_ns(), clocks.wall(), time.time_ns()
    assert before // 1000 <= now <= after // 1000
    assert type(clocks.monotonic()) is type(clocks.wall()) is int
