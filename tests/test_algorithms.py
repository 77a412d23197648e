"""What every algorithm must hold, for random rates, weights and times, against its model."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pyrate_limiter.algorithms import GCRA, Algorithm, Rule, Several, SlidingWindowLog
from pyrate_limiter.rates import Rate

from .keys import SECOND, Key, LiveKey, answers_of, each, give_back_some, grants_of, parts, play
from .models import Grant, admits, at_most_holds
from .strategies import Step, plans, rules, steps, weights


@each
@given(data=st.data())
def test_admits_exactly_when_the_model_does_and_says_exactly_when_it_will(
    algorithm: type[Algorithm], data: st.DataObject
) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key, grants = LiveKey(rule, start), []
    for step, answer in play(key, script):
        assert answer.at == key.now
        assert (answer.wait == 0) == admits(algorithm, rule, grants, key.now, step.weight)
        if answer.wait:
            assert admits(algorithm, rule, grants, key.now + answer.wait, step.weight)
            assert not admits(algorithm, rule, grants, key.now + answer.wait - 1, step.weight)
        else:
            grants.append(Grant(key.now, step.weight))


@each
@given(data=st.data())
def test_a_refusal_is_true_to_the_microsecond(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key = LiveKey(rule, start)
    for step, answer in play(key, script):
        if answer.wait:
            early, due = key.copy(), key.copy()
            early.now += answer.wait - 1
            due.now += answer.wait
            assert early.ask(step.weight).wait == 1
            assert due.ask(step.weight).wait == 0


@each
@given(data=st.data())
def test_refusals_and_looks_change_no_later_answer(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    quiet, pestered = LiveKey(rule, start), LiveKey(rule, start)
    for step, answer in play(quiet, script):
        pestered.now = quiet.now
        pestered.ask(0)
        if rule.probe(pestered.state, pestered.now, rule.capacity):
            pestered.ask(rule.capacity)
        assert pestered.ask(step.weight) == answer


@each
@given(data=st.data())
def test_no_span_holds_more_than_at_most(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm, longest=40))
    assert at_most_holds(rule, grants_of(LiveKey(rule, start), script))


@each
@given(data=st.data())
def test_at_most_of_several_is_the_least_and_of_no_time_nothing(
    algorithm: type[Algorithm], data: st.DataObject
) -> None:
    rule = data.draw(rules(algorithm))
    spans = [data.draw(st.integers(1, 10 * rate.interval * 1000)) for rate in rule.rates]
    for span in spans:
        assert rule.at_most(span) == min(algorithm(rate).at_most(span) for rate in rule.rates)
        assert rule.at_most(span) <= rule.at_most(span + 1)
    assert rule.at_most(0) == 0


@each
@given(data=st.data())
def test_a_grant_refunded_at_once_leaves_no_trace(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    plain, regretful = LiveKey(rule, start), LiveKey(rule, start)
    regrets = data.draw(st.lists(weights(rule.capacity), min_size=len(script), max_size=len(script)))
    for regret, (step, answer) in zip(regrets, play(plain, script), strict=True):
        regretful.now = plain.now
        regretted = regretful.ask(regret)
        if not regretted.wait:
            regretful.ask(-regret, at=regretted.at)
        assert regretful.ask(step.weight) == answer


@each
@given(data=st.data())
def test_a_late_refund_never_gives_too_much(algorithm: type[Algorithm], data: st.DataObject) -> None:
    """And loses nothing for the log and the windows: at most, what is left of a log's cell counts as late as before."""
    rule, start, script = data.draw(plans(algorithm))
    key, grants = LiveKey(rule, start), []
    for step, answer in play(key, script):
        assert answer.wait or admits(algorithm, rule, grants, key.now, step.weight)
        if answer.wait and not issubclass(algorithm, GCRA):
            assert admits(algorithm, rule, grants, key.now + answer.wait, step.weight)
            lost = late_by(rule) if algorithm is SlidingWindowLog else 1
            assert answer.wait < lost or not admits(algorithm, rule, grants, key.now + answer.wait - lost, step.weight)
        if not answer.wait:
            grants.append(Grant(key.now, step.weight))
        if grants and data.draw(st.integers(0, 2)) == 0:
            give_back_some(key, grants, data)


def late_by(rule: Rule) -> int:
    """Return the width of a log's widest cell, in microseconds."""
    return max([rate.interval for rate in rule.rates if rate.limit > 1000], default=1)


@each
@given(data=st.data())
def test_a_packed_state_is_the_same_state(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    kept, packed, grants = LiveKey(rule, start), Key(rule, start), []
    for step, answer in play(kept, script):
        packed.now = kept.now
        assert packed.ask(step.weight) == answer
        if not answer.wait:
            grants.append(Grant(answer.at, step.weight))
        if grants and data.draw(st.integers(0, 4)) == 0:
            at, cost = grants.pop(data.draw(st.integers(0, len(grants) - 1)))
            assert packed.ask(-cost, at=at) == kept.ask(-cost, at=at)
        if rule.last(kept.state) > 2 * SECOND and data.draw(st.integers(0, 9)) == 0:
            kept.now = rule.last(kept.state) - data.draw(st.integers(SECOND, 2 * SECOND))
        data_of = rule.pack(kept.state)
        assert rule.pack(rule.unpack(data_of)) == data_of
        assert rule.idle_at(rule.unpack(data_of)) == rule.idle_at(kept.state)
        assert rule.last(rule.unpack(data_of)) == rule.last(kept.state)


@each
@given(data=st.data())
def test_an_idle_key_is_as_new_and_no_other_is(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key = LiveKey(rule, start)
    grants_of(key, script)
    idle_at = rule.idle_at(key.state)
    if idle_at > key.now:
        assert max(rule_left(one, key, idle_at - 1) for one in range(len(parts(rule)))) > 0
    key.now = max(key.now, idle_at)
    new = LiveKey(rule, key.now)
    assert answers_of(key, [Step(0, 0)]) == answers_of(new, [Step(0, 0)])
    again = data.draw(steps(rule))
    assert answers_of(key, again) == answers_of(new, again)


def rule_left(index: int, key: Key, now: int) -> int:
    """Return the units that one of the rates still counts."""
    rule = key.rule
    one = parts(rule)[index]
    state = key.state[index] if isinstance(rule, Several) else key.state  # type: ignore[index]
    return one.capacity - one.view(state, now)[0]


@each
@given(data=st.data())
def test_what_is_left_fits_and_no_unit_more(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key = LiveKey(rule, start)
    for _ in play(key, script):
        left = key.ask(0).remaining
        assert left == 0 or rule.probe(key.state, key.now, left) == 0
        assert left == rule.capacity or rule.probe(key.state, key.now, left + 1) > 0


@each
@given(data=st.data())
def test_a_refusal_names_the_rate_that_refused(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    key = LiveKey(rule, start)
    for step, answer in play(key, script):
        if answer.wait:
            states = key.state if isinstance(rule, Several) else [key.state]
            waits = [one.probe(state, key.now, step.weight) for one, state in zip(parts(rule), states, strict=True)]  # type: ignore[arg-type]
            assert waits[answer.rate] == max(waits) == answer.wait
            assert answer.remaining == parts(rule)[answer.rate].view(states[answer.rate], key.now)[0]  # type: ignore[index]
            assert answer.remaining < step.weight


@each
@given(data=st.data())
def test_the_reset_is_the_moment_from_which_a_key_is_as_new(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm, most=1))
    key = LiveKey(rule, start)
    for _, answer in play(key, script):
        assert rule.view(key.state, key.now + answer.reset) == (rule.capacity, 0, 0)
        assert answer.reset == 0 or rule.view(key.state, key.now + answer.reset - 1)[0] < rule.capacity


def serve(key: Key, weight: int) -> None:
    """Wait as long as told, and take."""
    wait = key.ask(weight).wait
    if wait:
        key.now += wait
        assert not key.ask(weight).wait


@each
@given(data=st.data())
def test_a_line_is_served_between_its_soonest_and_its_latest(algorithm: type[Algorithm], data: st.DataObject) -> None:
    rule, start, script = data.draw(plans(algorithm))
    line = data.draw(st.lists(weights(rule.capacity), min_size=2, max_size=25))
    key = LiveKey(rule, start)
    grants_of(key, script)
    head = key.ask(line[0])
    while not head.wait:  # somebody waits only once the rule refuses
        head = key.ask(line[0])
    due, heaviest = key.now + head.wait, max(line)
    for weight, ahead in zip(line, accumulate(line, initial=0), strict=False):
        serve(key, weight)
        soonest = rule.soonest(ahead, weight, line[0], head.rate)
        latest = rule.latest(ahead, weight, line[0], heaviest)
        assert due + soonest <= key.now <= due + latest


def test_a_burst_that_drains_within_a_microsecond_has_a_latest_too() -> None:
    rule = GCRA(Rate(100_000, 1, burst=3))
    key = LiveKey(rule, 0)
    while not (head := key.ask(2).wait):
        pass
    for _ in range(21):
        serve(key, 2)
    assert key.now <= head + rule.latest(40, 2, 2, 2)
