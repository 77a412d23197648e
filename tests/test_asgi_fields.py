"""What a server says of its limits: read by a parser of structured fields, and never too early."""

from __future__ import annotations

import math

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrate_limiter import Decision, Rate
from pyrate_limiter.integrations.fields import Policies, exceeded, fields, quoted, unavailable

from .asgi import items

LARGEST = 999_999_999_999_999
"""The largest Integer of RFC 9651."""
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
rates = st.builds(Rate, st.integers(1, 10**9), st.integers(1, 10**12), st.none() | st.integers(1, 10**9))
seconds = st.integers(0, 10**14).map(lambda micros: micros / 1e6)


@st.composite
def decisions(draw, rate):
    wait = draw(st.just(0.0) | seconds | st.just(math.inf))
    return Decision(
        not wait, "key", draw(st.integers(1, 9)), 1, wait, draw(seconds), draw(st.integers(0, 10**9)), rate.limit, rate
    )


@st.composite
def rulings(draw):
    found = []
    names = draw(st.lists(printable, min_size=1, max_size=4, unique=True))
    for name in names:
        rate = draw(rates)
        found.append((Policies(name, [rate]), draw(decisions(rate))))
    return names, found


@given(rulings())
def test_the_fields_are_lists_that_a_parser_reads_as_they_were_meant(drawn):
    names, found = drawn
    (policy_name, policy), (state_name, state) = fields(found)
    assert (policy_name, state_name) == (b"ratelimit-policy", b"ratelimit")
    policies, states = http_sf.parse(policy, tltype="list"), http_sf.parse(state, tltype="list")
    assert [text for text, _ in policies] == [text for text, _ in states] == names
    for (_, decision), (_, declared), (_, left) in zip(found, policies, states, strict=True):
        assert declared["q"] == decision.rate.limit
        assert declared["w"] == -(-decision.rate.interval // 1000) > 0
        assert left["r"] == decision.remaining
        assert 0 <= left["t"] <= LARGEST
        if 0 < decision.retry_after < math.inf:
            assert 0 <= left["t"] - decision.retry_after < 1


@given(printable)
def test_a_string_is_quoted_as_the_parser_wants_it(text):
    assert http_sf.parse(quoted(text), tltype="item") == (text, {})


@pytest.mark.parametrize("name", ["é", "a\nb", "\x7f", "\0"])
def test_a_name_that_no_field_can_hold_is_refused_at_once(name):
    with pytest.raises(ValueError, match="printable ASCII"):
        Policies(name, [Rate(1, 1000)])


@given(st.lists(seconds.filter(bool), min_size=1))
def test_retry_after_is_the_longest_wait_rounded_up(waits):
    rate = Rate(1, 1000)
    policies = Policies("p", [rate])
    refused = [(policies, Decision(False, "key", 1, 1, wait, wait, 0, 1, rate)) for wait in waits]
    after = int(dict(exceeded(refused).fields)[b"retry-after"])
    assert after >= 1
    assert 0 <= after - max(waits) < 1


def test_each_rate_has_a_name_of_its_own():
    several = [Rate(10, 1000), Rate(100, 60000, burst=5)]
    assert Policies(None, several).names == ["10/1s", "100/1m (burst 5)"]
    assert Policies("api", several).names == ["api-10/1s", "api-100/1m (burst 5)"]
    assert Policies("api", several[:1]).names == ["api"]
    assert Policies(["a", "b"], several).names == ["a", "b"]


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"], []])
def test_names_that_do_not_fit_the_rates_are_refused(names):
    with pytest.raises(ValueError, match="each of the 2 rates a name of its own"):
        Policies(names, [Rate(10, 1000), Rate(100, 60000)])


def test_what_is_left_of_one_rate_is_not_told_with_the_time_of_another():
    several = [Rate(3, 1000), Rate(1000, 3_600_000)]
    decision = Decision(True, "key", 1, 1, 0.0, 3600.0, 2, 3, several[0])
    assert items(dict(fields([(Policies(("burst", "hourly"), several), decision)]))[b"ratelimit"].decode()) == {
        "burst": {"r": 2, "t": 1}
    }


def test_a_rate_that_was_not_known_before_names_itself():
    decision = Decision(True, "key", 1, 1, 0.0, 30.0, 50, 100, Rate(100, 60000))
    for name, told in ((None, "100/1m"), ("tier", "tier")):
        policy, state = fields([(Policies(name, []), decision)])
        assert items(policy[1].decode()) == {told: {"q": 100, "w": 60}}
        assert items(state[1].decode()) == {told: {"r": 50, "t": 30}}


def test_no_problem_may_be_cached():
    rate = Rate(1, 1000)
    refused = [(Policies("p", [rate]), Decision(False, "key", 1, 1, 1.0, 1.0, 0, 1, rate))]
    for problem in (exceeded(refused), unavailable()):
        assert dict(problem.headers)[b"cache-control"] == b"no-store"
        assert dict(problem.headers)[b"content-length"] == b"%d" % len(problem.body)


def test_legacy_headers_tell_of_the_limit_that_refused(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    narrow, wide = Rate(2, 1000), Rate(9, 60000)
    found = [
        (Policies("narrow", [narrow]), Decision(True, "key", 1, 1, 0.0, 1.0, 1, 2, narrow)),
        (Policies("wide", [wide]), Decision(False, "key", 5, 1, 7.5, 30.0, 3, 9, wide)),
    ]
    assert fields(found, legacy=True)[2:] == [
        (b"x-ratelimit-limit", b"9"),
        (b"x-ratelimit-remaining", b"3"),
        (b"x-ratelimit-reset", b"1700000008"),
    ]
