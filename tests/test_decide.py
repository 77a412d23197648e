"""The rule by which a batch of asks is decided."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrate_limiter import clocks
from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    Rule,
    SlidingWindowCounter,
    SlidingWindowLog,
    State,
    bind,
    decide,
)
from pyrate_limiter.decisions import BEHIND, FOREVER, RESET, Answer, Ask
from pyrate_limiter.rates import Rate

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


class Recorder(dict[str, State]):
    """States that remember which keys were written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def __setitem__(self, key: str, state: State) -> None:
        self.written.append(key)
        super().__setitem__(key, state)


@pytest.fixture
def rule() -> Rule:
    return bind(SlidingWindowLog, [Rate(10, 1000)])


@pytest.fixture
def states() -> Recorder:
    return Recorder()


def waits(answers: list[Answer]) -> list[int]:
    return [answer.wait for answer in answers]


def test_no_asks_no_answers(rule: Rule, states: Recorder) -> None:
    assert decide(rule, states, [], NOW) == []


def test_asks_are_decided_in_order_each_on_what_the_ones_before_left(rule: Rule, states: Recorder) -> None:
    answers = decide(rule, states, [Ask("a", 6), Ask("a", 4), Ask("a", 1)], NOW)
    assert answers == [Answer(0, NOW, 4, SECOND), Answer(0, NOW, 0, SECOND), Answer(SECOND, NOW, 0, SECOND)]


def test_the_first_patient_refusal_closes_its_key_for_the_batch(rule: Rule, states: Recorder) -> None:
    asks = [Ask("a", 8), Ask("a", 5, FOREVER), Ask("a", 1), Ask("a", 2, FOREVER), Ask("b", 10), Ask("a", 1)]
    assert waits(decide(rule, states, asks, NOW)) == [0, SECOND, BEHIND, BEHIND, 0, BEHIND]
    assert decide(rule, states, [Ask("a", 2)], NOW)[0].wait == 0, "the next call begins anew"


@pytest.mark.parametrize("patience", [0, 1, SECOND - 1])
def test_a_refusal_without_the_patience_for_it_leaves_and_closes_nothing(
    rule: Rule, states: Recorder, patience: int
) -> None:
    asks = [Ask("a", 8), Ask("a", 5, patience), Ask("a", 2)]
    assert waits(decide(rule, states, asks, NOW)) == [0, SECOND, 0]


def test_patience_for_exactly_the_wait_is_enough(rule: Rule, states: Recorder) -> None:
    asks = [Ask("a", 8), Ask("a", 5, SECOND), Ask("a", 2)]
    assert waits(decide(rule, states, asks, NOW)) == [0, SECOND, BEHIND]


def test_looks_and_give_backs_and_resets_are_never_behind(rule: Rule, states: Recorder) -> None:
    asks = [
        Ask("a", 8),
        Ask("a", 5, FOREVER),
        Ask("a", 0, FOREVER),
        Ask("a", -3, FOREVER, NOW),
        Ask("a", 0),
        Ask("a", RESET),
        Ask("a", 0),
        Ask("a", 1),
    ]
    answers = decide(rule, states, asks, NOW)
    assert waits(answers) == [0, SECOND, 0, 0, 0, 0, 0, BEHIND]
    assert [answer.remaining for answer in answers] == [2, 2, 2, 5, 5, 10, 10, 0]


def test_a_look_that_sees_no_room_closes_nothing(rule: Rule, states: Recorder) -> None:
    asks = [Ask("a", 10), Ask("a", 0, FOREVER), Ask("a", -10, at=NOW), Ask("a", 10)]
    assert waits(decide(rule, states, asks, NOW)) == [0, SECOND, 0, 0]


def test_what_is_given_back_first_is_there_for_the_takes(rule: Rule, states: Recorder) -> None:
    [granted] = decide(rule, states, [Ask("a", 10)], NOW)
    asks = [Ask("a", -10, at=granted.at), Ask("a", 10, FOREVER)]
    assert waits(decide(rule, states, asks, NOW + 1)) == [0, 0]


def test_a_reset_forgets_everything_and_a_look_costs_nothing(rule: Rule, states: Recorder) -> None:
    decide(rule, states, [Ask("a", 10)], NOW)
    assert waits(decide(rule, states, [Ask("a", 0), Ask("a", RESET), Ask("a", 0)], NOW)) == [SECOND, 0, 0]
    assert waits(decide(rule, states, [Ask("a", 10), Ask("a", 1)], NOW)) == [0, SECOND]


@pytest.mark.parametrize(
    ("ask", "written"),
    [
        (Ask("a", 3), ["a"]),
        (Ask("a", 0), []),
        (Ask("a", 9, FOREVER), []),
        (Ask("a", 9), []),
        (Ask("a", -1, at=NOW), ["a"]),
        (Ask("a", RESET), ["a"]),
        (Ask("new", 0), []),
    ],
)
def test_only_what_changed_is_written(rule: Rule, states: Recorder, ask: Ask, written: list[str]) -> None:
    decide(rule, states, [Ask("a", 5)], NOW)
    states.written.clear()
    decide(rule, states, [ask], NOW)
    assert states.written == written


def test_keys_know_nothing_of_each_other(rule: Rule, states: Recorder) -> None:
    asks = [Ask("a", 10), Ask("b", 9), Ask("a", 1, FOREVER), Ask("b", 1), Ask("c", 10), Ask("a", 1), Ask("b", 1)]
    assert waits(decide(rule, states, asks, NOW)) == [0, 0, SECOND, 0, 0, BEHIND, SECOND]
    decide(rule, states, [Ask("b", RESET)], NOW)
    assert waits(decide(rule, states, [Ask("a", 1), Ask("b", 10)], NOW)) == [SECOND, 0]


def test_a_clock_less_than_a_second_behind_is_held_at_the_keys_last_stamp(
    rule: Rule, states: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    decide(rule, states, [Ask("a", 9)], NOW)
    answers = decide(rule, states, [Ask("a", 1), Ask("b", 1)], NOW - SECOND + 1)
    assert answers == [Answer(0, NOW, 0, SECOND), Answer(0, NOW - SECOND + 1, 9, SECOND)]
    assert not caplog.records


@pytest.mark.parametrize("cost", [1, 0], ids=["refused", "looked at"])
@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA, FixedWindow])
def test_a_clock_set_back_by_a_second_pulls_the_stamps_back_and_keeps_that(
    algorithm: type[SlidingWindowLog],
    cost: int,
    states: Recorder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clocks, "_warned", float("-inf"))
    rule, back = algorithm(Rate(10, 1000)), 5 * SECOND
    decide(rule, states, [Ask("a", 10)], NOW)
    states.written.clear()
    refused, again = decide(rule, states, [Ask("a", cost), Ask("a", 0)], NOW - back)
    assert states.written == ["a"]
    assert refused.at == again.at == NOW - back
    assert 0 < refused.wait == again.wait <= SECOND
    assert decide(rule, states, [Ask("a", 10)], NOW - back + SECOND)[0].wait == 0
    decide(rule, states, [Ask("a", 0)], NOW - 2 * back)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("pyrate_limiter", logging.WARNING)
    assert record.getMessage().startswith("a store's clock was set back by 5.0 s")


def test_a_clock_set_back_by_exactly_a_second_is_not_held(rule: Rule, states: Recorder) -> None:
    decide(rule, states, [Ask("a", 10)], NOW)
    assert decide(rule, states, [Ask("a", 0)], NOW - SECOND)[0].at == NOW - SECOND


def test_a_refusal_by_several_rates_names_the_one_that_waits_longest(states: Recorder) -> None:
    rule = bind(SlidingWindowLog, [Rate(10, 1000), Rate(12, 60_000)])
    asks = [Ask("a", 10), Ask("a", 1), Ask("a", 3)]
    _, by_second, by_minute = decide(rule, states, asks, NOW)
    assert (by_second.wait, by_second.rate, by_second.remaining) == (SECOND, 0, 0)
    assert (by_minute.wait, by_minute.rate, by_minute.remaining) == (60 * SECOND, 1, 2)


# A batch is as good as its asks one by one.


def one_by_one(rule: Rule, states: dict[str, State], asks: list[Ask], now: int) -> list[Answer]:
    """Say again what `decide` does to a batch, the slow and obvious way."""
    closed: set[str] = set()
    answers: list[Answer] = []
    for ask in asks:
        if ask.cost > 0 and ask.key in closed:
            answers.append(Answer(BEHIND, now))
            continue
        answers += decide(rule, states, [ask], now)
        if ask.cost > 0 and 0 < answers[-1].wait <= ask.patience:
            closed.add(ask.key)
    return answers


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[int, list[Ask]]]:
    """Draw some batches, each with its moment; the clock may go back, by less than a second and by more."""
    moments, drawn = [NOW], []
    costs, patience = st.sampled_from([1, 1, 1, 2, 3, 0, -1, -3, RESET]), st.sampled_from([0, SECOND // 2, FOREVER])
    for _ in range(draw(st.integers(1, 6))):
        now = moments[-1] + draw(st.sampled_from([0, 1, 300_000, 2 * SECOND, -1, -300_000, -999_999, -3 * SECOND]))
        moments.append(now)
        asks = st.builds(Ask, st.sampled_from("aab"), costs, patience, st.sampled_from(moments))
        drawn.append((now, draw(st.lists(asks, min_size=1, max_size=12))))
    return drawn


@pytest.mark.parametrize("rates", [[Rate(5, 1000)], [Rate(3, 500), Rate(6, 2000)]], ids=["one rate", "two rates"])
@pytest.mark.parametrize("algorithm", [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter])
@settings(max_examples=30)
@given(drawn=batches())
def test_a_batch_is_decided_as_its_asks_one_by_one(
    algorithm: type[Algorithm], rates: list[Rate], drawn: list[tuple[int, list[Ask]]]
) -> None:
    rule, together, single = bind(algorithm, rates), dict[str, State](), dict[str, State]()
    for now, asks in drawn:
        assert decide(rule, together, asks, now) == one_by_one(rule, single, asks, now)
        assert together == single


def test_a_stamp_that_is_given_back_holds_the_clock_no_more(rule: Rule, states: Recorder) -> None:
    decide(rule, states, [Ask("a", 1)], NOW)
    decide(rule, states, [Ask("a", 2)], NOW + 500)
    back, look = decide(rule, states, [Ask("a", -2, at=NOW + 500), Ask("a", 0)], NOW + 100)
    assert (back.at, look.at) == (NOW + 500, NOW + 100)
    assert decide(rule, states, [Ask("a", 1), Ask("a", RESET)], NOW)[1].at == NOW
