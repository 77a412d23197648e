"""Each algorithm on a small example that can be worked out by hand. Times are milliseconds, from a window's start."""

from __future__ import annotations

import pytest

from pyrate_limiter.algorithms import (
    GCRA,
    Algorithm,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
    bind,
)
from pyrate_limiter.rates import Rate

from .keys import Key, LiveKey, parts

START = 1_700_000_000_000_000
"""A multiple of every interval below."""

TABLES = {
    "log: a unit leaves an interval after it came": (
        SlidingWindowLog,
        [Rate(3, 1000)],
        # at, cost, allowed, retry_after
        [
            (0, 1, True, 0),
            (200, 1, True, 0),
            (500, 1, True, 0),
            (500, 1, False, 500),
            (600, 2, False, 600),
            (600, 3, False, 900),
            (999.999, 1, False, 0.001),
            (1000, 1, True, 0),
            (1000, 1, False, 200),
            (1200, 1, True, 0),
            (1200, 3, False, 1000),
            (2200, 3, True, 0),
        ],
    ),
    "log: to the microsecond": (
        SlidingWindowLog,
        [Rate(2, 1000)],
        [
            (0, 1, True, 0),
            (0.001, 1, True, 0),
            (1000, 1, True, 0),
            (1000, 1, False, 0.001),
            (1000.001, 1, True, 0),
            (1000.001, 1, False, 999.999),
        ],
    ),
    "log of 1000: every moment for itself": (
        SlidingWindowLog,
        [Rate(1000, 1000)],
        [
            (0.1, 500, True, 0),
            (0.9, 500, True, 0),
            (1, 1, False, 999.1),
            (1000.1, 500, True, 0),
            (1000.1, 1, False, 0.8),
        ],
    ),
    "log above 1000: a cell leaves with its last unit": (
        SlidingWindowLog,
        [Rate(1002, 1000)],
        [
            (0.1, 500, True, 0),
            (0.9, 500, True, 0),
            (1, 1, True, 0),
            (1, 2, False, 999.9),
            (1000.1, 2, False, 0.8),
            (1000.9, 1001, True, 0),
            (1000.9, 1, False, 0.1),
        ],
    ),
    "gcra: a burst, then a unit every 250 ms": (
        GCRA,
        [Rate(4, 1000)],
        [
            (0, 3, True, 0),
            (0, 2, False, 250),
            (0, 1, True, 0),
            (0, 1, False, 250),
            (0, 4, False, 1000),
            (249.999, 1, False, 0.001),
            (250, 1, True, 0),
            (400, 2, False, 350),
            (2000, 4, True, 0),
            (2000, 1, False, 250),
        ],
    ),
    "gcra: thirds of a second are kept exactly": (
        GCRA,
        [Rate(3, 1000)],
        [
            (0, 3, True, 0),
            (0, 1, False, 333.334),
            (333.333, 1, False, 0.001),
            (333.334, 1, True, 0),
            (333.334, 1, False, 333.333),
            (666.667, 1, True, 0),
            (666.667, 1, False, 333.333),
            (1000, 1, True, 0),
            (1000, 1, False, 333.334),
        ],
    ),
    "token bucket: a burst of its own": (
        TokenBucket,
        [Rate(2, 1000, burst=5)],
        [
            (0, 5, True, 0),
            (0, 1, False, 500),
            (1000, 3, False, 500),
            (1000, 2, True, 0),
            (9000, 5, True, 0),
            (9000, 1, False, 500),
        ],
    ),
    "gcra: a burst of one begins on a whole microsecond": (
        GCRA,
        [Rate(3, 1000, burst=1)],
        [
            (0, 1, True, 0),
            (0, 1, False, 333.334),
            (333.334, 1, True, 0),
            (333.334, 1, False, 333.334),
        ],
    ),
    "leaky: what was granted drains first": (
        LeakyBucket,
        [Rate(4, 1000)],
        [
            (0, 2, True, 0),
            (0, 1, False, 500),
            (499.999, 4, False, 0.001),
            (500, 4, True, 0),
            (500, 1, False, 1000),
            (1500, 1, True, 0),
            (1500, 4, False, 250),
        ],
    ),
    "fixed: a boundary forgets everything": (
        FixedWindow,
        [Rate(3, 1000)],
        [
            (900, 2, True, 0),
            (950, 2, False, 50),
            (999.999, 1, True, 0),
            (999.999, 1, False, 0.001),
            (1000, 3, True, 0),
            (1000, 1, False, 1000),
            (2500, 3, True, 0),
        ],
    ),
    "counter: the window before counts by its part": (
        SlidingWindowCounter,
        [Rate(4, 1000)],
        [
            (0, 4, True, 0),
            (0, 1, False, 1250),
            (999.999, 4, False, 1000.001),
            (1249.999, 1, False, 0.001),
            (1250, 1, True, 0),
            (1250, 1, False, 250),
            (1500, 1, True, 0),
            (1500, 3, False, 1000),
            (2500, 3, True, 0),
            (5000, 4, True, 0),
        ],
    ),
    "several: all admit or none counts": (
        SlidingWindowLog,
        [Rate(3, 1000), Rate(4, 5000)],
        [
            (0, 3, True, 0),
            (0, 1, False, 1000),
            (1000, 2, False, 4000),
            (1000, 1, True, 0),
            (1000, 1, False, 4000),
            (5000, 3, True, 0),
            (5000, 1, False, 1000),
            (6000, 1, True, 0),
            (6000, 1, False, 4000),
        ],
    ),
}


kept = pytest.mark.parametrize("kept", [LiveKey, Key], ids=["as it is", "packed"])


@kept
@pytest.mark.parametrize("name", TABLES)
def test_table(name: str, kept: type[Key]) -> None:
    algorithm, rates, table = TABLES[name]
    key = kept(bind(algorithm, rates), START)
    for at, cost, allowed, retry_after in table:
        key.now = START + micro(at)
        assert (at, cost, *outcome(key.ask(cost).wait)) == (at, cost, allowed, micro(retry_after))


def outcome(wait: int) -> tuple[bool, int]:
    return wait == 0, wait


def micro(milliseconds: float) -> int:
    return round(milliseconds * 1000)


PEAKS = [
    # algorithm, rate, grants (at, cost), span: together the grants lie in the span and are the most that it can hold
    (SlidingWindowLog, Rate(3, 1000), [(0, 3)], 1000),
    (SlidingWindowLog, Rate(3, 1000), [(0, 3), (1000, 3)], 1000.001),
    (SlidingWindowLog, Rate(3, 1000), [(0, 3), (1000, 3), (2000, 3)], 2000.001),
    (GCRA, Rate(4, 1000), [(0, 4), (250, 1), (500, 1), (750, 1)], 1000),
    (GCRA, Rate(4, 1000), [(0, 4), (250, 1), (500, 1), (750, 1), (1000, 1)], 1000.001),
    (TokenBucket, Rate(2, 1000, burst=5), [(0, 5), (500, 1)], 1000),
    (LeakyBucket, Rate(4, 1000), [(0, 1), (250, 1), (500, 1), (750, 4)], 1000),
    (LeakyBucket, Rate(4, 1000, burst=2), [(0, 2), (500, 2)], 500.001),
    (FixedWindow, Rate(3, 1000), [(999.999, 3)], 0.001),
    (FixedWindow, Rate(3, 1000), [(999.999, 3), (1000, 3)], 0.002),
    (FixedWindow, Rate(3, 1000), [(999.999, 3), (1000, 3)], 1000),
    (FixedWindow, Rate(3, 1000), [(999.999, 3), (1000, 3), (2000, 3)], 1000.002),
    (SlidingWindowCounter, Rate(4, 1000), [(999.999, 4), (1750, 3)], 1000),
    (SlidingWindowCounter, Rate(1, 1000), [(999.999, 1), (2000, 1)], 1000.002),
]


@pytest.mark.parametrize(("algorithm", "rate", "grants", "span"), PEAKS)
def test_at_most_is_reached(
    algorithm: type[Algorithm], rate: Rate, grants: list[tuple[float, int]], span: float
) -> None:
    key = LiveKey(algorithm(rate), START)
    for at, cost in grants:
        key.now = START + micro(at)
        assert key.ask(cost).wait == 0
    assert grants[-1][0] - grants[0][0] < span
    assert key.rule.at_most(micro(span)) == sum(cost for _, cost in grants)


@pytest.mark.parametrize(
    ("algorithm", "burst", "most"),
    [
        (SlidingWindowLog, None, 10),
        (GCRA, None, 19),
        (GCRA, 30, 39),
        (TokenBucket, 5, 14),
        (LeakyBucket, None, 19),
        (LeakyBucket, 5, 14),
        (FixedWindow, None, 20),
        (SlidingWindowCounter, None, 19),
    ],
)
def test_at_most_of_one_interval_is_what_the_docs_say(algorithm: type[Algorithm], burst: int | None, most: int) -> None:
    assert algorithm(Rate(10, 1000, burst)).at_most(1_000_000) == most


@pytest.mark.parametrize(
    ("algorithm", "ahead", "own", "head", "soonest"),
    [
        (SlidingWindowLog, 1, 1, 1, 0),
        (SlidingWindowLog, 3, 1, 1, 0),
        (SlidingWindowLog, 4, 1, 1, 1000),
        (SlidingWindowLog, 8, 1, 1, 2000),
        (GCRA, 1, 1, 1, 250),
        (GCRA, 3, 2, 2, 750),
        (LeakyBucket, 1, 4, 1, 250),
        (LeakyBucket, 4, 1, 2, 1000),
        (FixedWindow, 3, 1, 1, 0),
        (FixedWindow, 4, 1, 1, 1000),
        (SlidingWindowCounter, 3, 1, 1, 0),
        (SlidingWindowCounter, 4, 1, 1, 0.001),
        (SlidingWindowCounter, 7, 1, 1, 1000.001),
    ],
)
def test_the_soonest_of_one_in_line(
    algorithm: type[Algorithm], ahead: int, own: int, head: int, soonest: float
) -> None:
    assert algorithm(Rate(4, 1000)).soonest(ahead, own, head) == micro(soonest)


def test_the_soonest_behind_several_rates_counts_the_one_that_refused() -> None:
    rule = bind(GCRA, [Rate(4, 1000), Rate(40, 20_000)])
    assert rule.soonest(2, 1, 1, rate=0) == micro(500)
    assert rule.soonest(2, 1, 1, rate=1) == micro(1000)
    assert rule.soonest(9, 1, 1, rate=0) == micro(2250)


VIEWS = [
    # algorithm, grants (at, cost), at: remaining, reset
    (SlidingWindowLog, [], 0, 4, 0),
    (SlidingWindowLog, [(0, 1), (300, 2)], 400, 1, 900),
    (SlidingWindowLog, [(0, 1), (300, 2)], 1000, 2, 300),
    (SlidingWindowLog, [(0, 1), (300, 2)], 1300, 4, 0),
    (GCRA, [(0, 2)], 0, 2, 500),
    (GCRA, [(0, 2)], 249, 2, 251),
    (GCRA, [(0, 2)], 250, 3, 250),
    (LeakyBucket, [(0, 2)], 499, 0, 1),
    (LeakyBucket, [(0, 2)], 500, 4, 0),
    (FixedWindow, [(700, 3)], 999, 1, 1),
    (FixedWindow, [(700, 3)], 1000, 4, 0),
    (SlidingWindowCounter, [(700, 4)], 1000, 0, 1000),
    (SlidingWindowCounter, [(700, 4)], 1499, 1, 501),
    (SlidingWindowCounter, [(700, 4)], 1500, 2, 500),
    (SlidingWindowCounter, [(700, 4)], 2000, 4, 0),
]


@pytest.mark.parametrize(("algorithm", "grants", "at", "remaining", "reset"), VIEWS)
def test_what_is_left_and_until_when(
    algorithm: type[Algorithm], grants: list[tuple[int, int]], at: int, remaining: int, reset: int
) -> None:
    key = LiveKey(algorithm(Rate(4, 1000)), START)
    for when, cost in grants:
        key.now = START + micro(when)
        assert key.ask(cost).wait == 0
    key.now = START + micro(at)
    answer = key.ask(0)
    assert (answer.remaining, answer.reset) == (remaining, micro(reset))


def test_a_view_of_several_rates_is_of_the_tightest_and_resets_with_the_last() -> None:
    key = LiveKey(bind(SlidingWindowLog, [Rate(10, 5000), Rate(3, 1000)]), START)
    answer = key.ask(2)
    assert (answer.remaining, answer.reset, answer.rate) == (1, micro(5000), 1)


GIVE_BACKS = [
    # algorithm, grants (at, cost), given back (units, at) at the last grant's moment, what then fits at once
    (SlidingWindowLog, [(0, 2), (100, 2)], (2, 0), 2),
    (SlidingWindowLog, [(0, 2), (100, 2)], (9, 0), 2),
    (SlidingWindowLog, [(0, 2), (100, 2)], (1, 50), 0),
    (SlidingWindowLog, [(0, 2), (1000, 4)], (2, 0), 0),
    (GCRA, [(0, 4)], (3, 0), 3),
    (GCRA, [(0, 3), (250, 2)], (2, 250), 2),
    (GCRA, [(0, 3), (250, 2)], (3, 0), 2),
    (GCRA, [(0, 1), (250, 4)], (1, 0), 0),
    (GCRA, [(0, 4)], (4, 1), 0),
    (LeakyBucket, [(0, 4)], (4, 0), 4),
    (LeakyBucket, [(0, 4)], (3, 0), 0),
    (FixedWindow, [(0, 2), (900, 2)], (2, 0), 2),
    (FixedWindow, [(900, 2), (1000, 4)], (2, 900), 0),
    (FixedWindow, [(900, 2)], (9, 900), 4),
    (SlidingWindowCounter, [(0, 2), (900, 2)], (2, 0), 2),
    (SlidingWindowCounter, [(900, 4), (1500, 2)], (2, 900), 1),
    (SlidingWindowCounter, [(900, 4), (1500, 2)], (2, 1500), 2),
    (SlidingWindowCounter, [(900, 4), (2000, 4)], (4, 900), 0),
    (SlidingWindowCounter, [(900, 2), (1500, 2)], (9, 900), 2),
    (SlidingWindowCounter, [(900, 2), (1900, 2), (2000, 1)], (2, 900), 1),
]


@pytest.mark.parametrize(("algorithm", "grants", "back", "fits"), GIVE_BACKS)
def test_what_is_given_back_fits_again(
    algorithm: type[Algorithm], grants: list[tuple[int, int]], back: tuple[int, int], fits: int
) -> None:
    key = LiveKey(algorithm(Rate(4, 1000)), START)
    for at, cost in grants:
        key.now = START + micro(at)
        assert key.ask(cost).wait == 0
    assert key.ask(-back[0], at=START + micro(back[1])).remaining == fits


CELLS = [
    # takes (at, cost) and what is given back (units, at, as a negative cost), then: left, and until all of it is
    ([(0.1, 1), (0.7, 1)], 1998, 1000),
    ([(0.1, 1), (0.7, 1), (0.7, -1)], 1999, 999.4),
    ([(0.1, 1), (0.7, 2), (0.7, -1)], 1998, 1000),
    ([(0.1, 1), (0.7, 1), (0.1, -1)], 1999, 1000),
    ([(0.1, 1999), (0.7, 1), (0.1, -1999)], 1999, 1000),
    ([(0.1, 1), (0.7, 1), (5, 2), (5, -1)], 1997, 1000),
    ([(0.1, 1), (0.7, 1), (0.1, -1), (0.7, -1), (0.8, 2), (0.8, -1)], 1999, 1000),
]


@kept
@pytest.mark.parametrize(("asks", "left", "reset"), CELLS)
def test_a_cell_of_the_log_counts_as_late_as_the_latest_that_was_not_taken_back_at_once(
    asks: list[tuple[float, int]], left: int, reset: float, kept: type[Key]
) -> None:
    key = kept(SlidingWindowLog(Rate(2000, 1000)), START)
    for at, cost in asks:
        key.now = max(key.now, START + micro(at))
        assert not key.ask(cost, at=START + micro(at)).wait
    answer = key.ask(2000)
    assert (answer.wait, answer.remaining, answer.reset) == (micro(reset), left, micro(reset))


@pytest.mark.parametrize(
    "algorithm", [SlidingWindowLog, GCRA, LeakyBucket, FixedWindow, SlidingWindowCounter], ids=lambda one: one.__name__
)
def test_a_key_is_idle_once_all_is_given_back(algorithm: type[Algorithm]) -> None:
    key = LiveKey(algorithm(Rate(4, 1000)), START)
    assert key.rule.idle_at(key.state) <= START
    key.ask(4)
    assert key.rule.idle_at(key.state) > START
    answer = key.ask(-4, at=START)
    assert (answer.remaining, answer.reset) == (4, 0)
    assert key.rule.idle_at(key.state) <= START


def test_gcra_gives_its_last_grant_back_whole_also_after_an_older_one() -> None:
    key = LiveKey(GCRA(Rate(4, 1000)), START)
    assert not key.ask(3).wait
    key.now += micro(250)
    assert not key.ask(2).wait
    assert key.ask(-3, at=START).remaining == 2
    assert key.ask(-2, at=START + micro(250)).remaining == 4


@pytest.mark.parametrize(
    ("algorithm", "size"), [(GCRA, 16), (LeakyBucket, 16), (FixedWindow, 16), (SlidingWindowCounter, 24)]
)
def test_a_packed_state_is_small_whatever_the_limit(algorithm: type[Algorithm], size: int) -> None:
    key = LiveKey(algorithm(Rate(4999, 1009)), START)
    assert not key.ask(4999).wait
    assert len(key.rule.pack(key.state)) == size


def test_a_packed_gcra_state_may_be_of_any_length() -> None:
    rule = GCRA(Rate(10**12 + 39, 1009))
    state = rule.commit(rule.fresh(), START, 10**12)
    assert len(rule.pack(state)) > 16
    assert rule.unpack(rule.pack(state)) == state


@pytest.mark.parametrize("limit", [1000, 1_000_000])
def test_a_log_stays_short_whatever_its_limit(limit: int) -> None:
    """About a thousand runs of two numbers, packed; twice as many before they are let go."""
    key = LiveKey(SlidingWindowLog(Rate(limit, 1000)), START)
    for _ in range(3500):
        key.now += 1000
        assert not key.ask(1).wait
        assert len(key.rule.pack(key.state)) <= 16 * 1004
        assert len(key.live["key"]) <= 2 * 2 * 1004  # type: ignore[arg-type]


def test_a_burst_belongs_to_algorithms_that_have_one() -> None:
    for algorithm in (GCRA, TokenBucket, LeakyBucket):
        assert algorithm(Rate(2, 1000, burst=5)).capacity == 5
        assert algorithm(Rate(2, 1000)).capacity == 2
    for algorithm in (SlidingWindowLog, FixedWindow, SlidingWindowCounter):
        with pytest.raises(ValueError, match=rf"{algorithm.__name__} has no burst: .*2/1s \(burst 5\).*GCRA"):
            bind(algorithm, [Rate(2, 1000, burst=5)])


def test_a_single_rate_is_not_wrapped_and_several_fit_only_together() -> None:
    assert type(bind(GCRA, [Rate(2, 1000)])) is GCRA
    several = bind(GCRA, [Rate(9, 1000), Rate(20, 5000, burst=4)])
    assert several.capacity == 4
    assert several.rates == (Rate(9, 1000), Rate(20, 5000, burst=4))
    assert [type(part) for part in parts(several)] == [GCRA, GCRA]


@pytest.mark.parametrize(
    ("algorithm", "data"),
    [
        (SlidingWindowLog, b""),
        (SlidingWindowLog, bytes(7)),
        (SlidingWindowLog, bytes(16)),
        (SlidingWindowLog, bytes(40)),
        (FixedWindow, b""),
        (FixedWindow, bytes(24)),
        (SlidingWindowCounter, bytes(16)),
    ],
)
def test_bytes_that_are_no_state_are_refused(algorithm: type[Algorithm], data: bytes) -> None:
    with pytest.raises(ValueError, match=r"bytes are no|a log has|a window.s state has"):
        algorithm(Rate(2, 1000)).unpack(data)
    several = bind(algorithm, [Rate(2, 1000), Rate(3, 5000)])
    packed = several.pack(several.fresh())
    for wrong in (packed + b"\0", packed[:-1], packed[:3], b""):
        with pytest.raises(ValueError, match=r"bytes are no|a log has|a window.s state has"):
            several.unpack(wrong)
