"""What holds when a clock is set back: by less than a second, and by more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrate_limiter.algorithms import Algorithm, FixedWindow, Rule, SlidingWindowCounter, SlidingWindowLog, bind
from pyrate_limiter.rates import Rate

from .keys import SECOND, Key, LiveKey, each, give_back_some, parts, play
from .models import Grant, at_most_holds
from .strategies import plans, weights


@each
@given(data=st.data())
def test_a_clock_that_goes_back_a_little_is_held(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key, grants, last = LiveKey(rule, start + SECOND), [], 0
    for step, answer in play(key, script):
        assert answer.at == max(key.now, last)
        if not answer.wait:
            grants.append(Grant(answer.at, step.weight))
        last = rule.last(key.state)
        assert last <= answer.at
        if data.draw(st.integers(0, 2)) == 0:
            if data.draw(st.booleans()) and grants:
                give_back_some(key, grants, data)
            last = rule.last(key.state)
            back = data.draw(st.integers(0, 2000) | st.integers(0, SECOND - 1))
            key.now = max(key.now - back, last - SECOND + 1, 0)
    assert at_most_holds(rule, sorted(grants))


@each
@given(data=st.data())
def test_a_clock_set_back_locks_nobody_out_and_gives_one_window_more(
    algorithm: type[Algorithm], data: st.DataObject
) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key, since = Key(rule, start + 3600 * SECOND), []
    for step, answer in play(key, script):
        if not answer.wait:
            since.append(Grant(answer.at, step.weight))
        if rule.last(key.state) > 2 * SECOND and data.draw(st.integers(0, 4)) == 0:
            assert at_most_holds(rule, since)
            since = []
            set_back(key, data.draw(steps_back(key)), data.draw(weights(rule.capacity)))
        elif data.draw(st.integers(0, 9)) == 0:
            key.now += 400 * 86_400 * SECOND
    assert at_most_holds(rule, since)


def steps_back(key: Key) -> st.SearchStrategy[int]:
    """Draw how far the clock goes back behind the last stamp: a second, a few intervals, all the way."""
    last, interval = key.rule.last(key.state), max(one.interval for one in parts(key.rule))
    few = st.integers(SECOND, min(last, SECOND + 3 * interval))
    return st.just(SECOND) | few | st.integers(SECOND, last)


def set_back(key: Key, step: int, weight: int) -> None:
    """Set the clock back from the last stamp, and look how long that locks the key, if all that is asked is refused."""
    rule = key.rule
    key.now = rule.last(key.state) - step
    key.ask(rule.capacity if rule.probe(rule.rebase(key.state, key.now), key.now, rule.capacity) else 0)
    assert rule.last(key.state) <= key.now
    told = key.copy().ask(weight)
    assert told.at == key.now
    assert told.wait <= longest_lock(rule)
    later = key.copy()
    later.now += told.wait
    assert later.ask(weight).wait == 0


def longest_lock(rule: Rule) -> int:
    """Return the longest wait that is no lock-out: an interval or a burst; two for the counter, as on any other day."""
    intervals = 2 if any(isinstance(one, SlidingWindowCounter) for one in parts(rule)) else 1
    bursts = [-(-one.capacity * one.interval // one.limit) for one in parts(rule)]
    return max(intervals * max(one.interval for one in parts(rule)), *bursts)


def test_a_log_of_cells_joins_what_a_clock_set_back_brings_into_one_cell() -> None:
    """An hour's cell is 3.6 s wide: the clock may go back within it, between two of its grants."""
    key = LiveKey(SlidingWindowLog(Rate(2000, 3_600_000)), 3_600 * SECOND)
    start = key.now
    for tenth in (0, 5, 25):
        key.now = start + tenth * SECOND // 10
        assert not key.ask(500).wait
    key.now = start
    assert key.ask(501).wait == 3_600 * SECOND
    key.ask(-500, at=start)
    assert key.ask(1000).at == start


def test_a_log_joins_what_lies_before_the_moment_that_a_clock_is_set_back_to() -> None:
    key = LiveKey(SlidingWindowLog(Rate(2000, 3_600_000)), 3_600 * SECOND - 1)
    for lapse in (0, 1, 3_600_000):
        key.now += lapse
        assert not key.ask(500).wait
    key.now -= 3 * SECOND
    assert key.ask(1001).wait == 3_600 * SECOND


def test_a_counter_set_back_keeps_what_is_newest() -> None:
    """Four units in one window, two in the next; then the clock goes back by one window, and by another half."""
    for back, wait, left in ((0, 750_000, 0), (SECOND // 2, 0, 2)):
        key = LiveKey(SlidingWindowCounter(Rate(4, 1000)), 9_900_000)
        assert not key.ask(4).wait
        key.now = 10_500_000
        assert not key.ask(2).wait
        key.now = 9_000_000 - back
        answer = key.ask(0)
        assert (answer.wait, answer.remaining) == (wait, left)


def test_a_counter_set_back_keeps_the_older_window_when_the_newer_is_empty() -> None:
    key = LiveKey(SlidingWindowCounter(Rate(4, 1000)), 9_900_000)
    assert not key.ask(4).wait
    key.now = 10_500_000
    assert not key.ask(1).wait
    refunded = key.ask(-1, at=key.now)
    assert (refunded.remaining, refunded.reset) == (2, 500_000)
    key.now = 9_000_000
    assert key.ask(0).remaining == 0


def test_several_windows_are_held_at_the_start_of_the_latest() -> None:
    key = LiveKey(bind(FixedWindow, [Rate(4, 1000), Rate(2, 10)]), 5_025_000)
    assert not key.ask(2).wait
    key.now = 5_015_000
    answer = key.ask(1)
    assert (answer.at, answer.wait) == (5_020_000, 10_000)


def test_what_had_left_the_log_does_not_come_back_with_the_clock() -> None:
    key = LiveKey(SlidingWindowLog(Rate(4, 1000)), SECOND)
    assert not key.ask(1).wait
    key.now += 1_500_000
    assert not key.ask(1).wait
    key.now -= 1_100_000
    assert key.ask(0).remaining == 3


def test_a_refund_forgets_nothing_that_a_clock_a_little_behind_still_counts() -> None:
    key = LiveKey(bind(SlidingWindowLog, [Rate(2, 1000)]), 0)
    assert not key.ask(1).wait
    key.now = 900_000
    refunded = key.ask(1)
    key.now = 1_000_000
    key.ask(-1, at=refunded.at)
    key.now = 950_000
    assert key.ask(2).wait == 50_000
