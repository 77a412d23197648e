"""Rates: what they take, what they say, and what they refuse."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrate_limiter.rates import Duration, Rate, as_rates, require_positive, validate_rate_list

from .strategies import limits


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (1, "1ms"),
        (999, "999ms"),
        (Duration.SECOND, "1s"),
        (1500, "1.5s"),
        (Duration.MINUTE, "1m"),
        (90_000, "1.5m"),
        (Duration.HOUR * 2, "2h"),
        (Duration.DAY, "1d"),
        (Duration.WEEK * 3, "3w"),
    ],
)
def test_durations_read_well(milliseconds: int, text: str) -> None:
    assert Duration.readable(milliseconds) == text


def test_durations_are_milliseconds() -> None:
    assert [int(unit) for unit in Duration] == [1000, 60_000, 3_600_000, 86_400_000, 604_800_000]
    assert Duration.SECOND * 5 == 5000


def test_a_rate_is_a_value() -> None:
    rate = Rate(5, Duration.SECOND)
    assert rate == Rate(5, 1000)
    assert hash(rate) == hash(Rate(5, 1000))
    assert rate != Rate(5, 1000, burst=5)
    assert type(rate.interval) is int
    assert pickle.loads(pickle.dumps(rate)) == rate
    with pytest.raises(FrozenInstanceError):
        rate.limit = 6  # type: ignore[misc]


def test_a_rate_reads_well() -> None:
    assert str(Rate(5, Duration.MINUTE)) == "5/1m"
    assert str(Rate(5, 20, burst=9)) == "5/20ms (burst 9)"


@pytest.mark.parametrize("field", ["limit", "interval", "burst"])
@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_a_value_that_is_not_positive_is_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be a positive int.*, not {value}$"):
        Rate(**{"limit": 1, "interval": 1000, field: value})


@pytest.mark.parametrize("field", ["limit", "interval", "burst"])
@pytest.mark.parametrize("value", [True, False, 1.0, 0.5, "5", [1], b"1"])
def test_a_value_that_is_no_int_is_named(field: str, value: object) -> None:
    with pytest.raises(TypeError) as caught:
        Rate(**{"limit": 1, "interval": 1000, field: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{field} must be a positive int")
    assert str(caught.value).endswith(f"not {value!r}")


def test_a_missing_value_is_wrong_where_one_is_needed() -> None:
    with pytest.raises(TypeError, match="limit must be a positive int, not None"):
        Rate(None, 1000)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"interval must be a positive int \(milliseconds, such as Duration.SECOND\)"):
        Rate(1, None)  # type: ignore[arg-type]


def test_require_positive_takes_every_positive_int() -> None:
    require_positive("weight", 1)
    require_positive("weight", 10**30)
    require_positive("interval", Duration.SECOND)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, Duration.MINUTE)),
        ("1/s", Rate(1, 1000)),
        ("1/sec", Rate(1, 1000)),
        ("20/500ms", Rate(20, 500)),
        ("20/500 milliseconds", Rate(20, 500)),
        ("5 per 2 seconds", Rate(5, 2000)),
        ("5per2seconds", Rate(5, 2000)),
        ("  7 / 3 HOURS  ", Rate(7, 3 * Duration.HOUR)),
        ("7/m", Rate(7, Duration.MINUTE)),
        ("7/15min", Rate(7, 15 * Duration.MINUTE)),
        ("7/15mins", Rate(7, 15 * Duration.MINUTE)),
        ("7/h", Rate(7, Duration.HOUR)),
        ("7/d", Rate(7, Duration.DAY)),
        ("7/days", Rate(7, Duration.DAY)),
        ("7/2w", Rate(7, 2 * Duration.WEEK)),
        ("7/Week", Rate(7, Duration.WEEK)),
    ],
)
def test_a_rate_is_read_from_text(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "5", "/s", "5/", "5/s/s", "x/s", "-5/s", "1.5/s", "5/1.5s", "5/fortnight", "5 s", "5//s", "5/s s", "\u0665/s"],
)
def test_a_text_that_is_no_rate_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read the rate .*write LIMIT/UNIT") as caught:
        Rate.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [5, None, b"5/s", Rate(5, 1000)])
def test_what_is_no_text_is_named(value: object) -> None:
    with pytest.raises(TypeError, match=r"a rate is read from a text such as '100/minute'") as caught:
        Rate.parse(value)  # type: ignore[arg-type]
    assert str(caught.value).endswith(f"not from {value!r}")


@pytest.mark.parametrize("text", ["0/s", "5/0s"])
def test_a_text_with_a_zero_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a positive int|cannot read the rate"):
        Rate.parse(text)


@given(limits, st.integers(1, 10**6), st.sampled_from(list(Duration)))
def test_every_rate_can_be_written(limit: int, count: int, unit: Duration) -> None:
    assert Rate.parse(f"{limit}/{count}{unit.name.lower()}") == Rate(limit, count * unit)


def test_one_rate_or_several_become_a_tuple() -> None:
    one, two = Rate(1, 1000), Rate(5, 60_000)
    assert as_rates(one) == (one,)
    assert as_rates([two, one]) == (two, one)
    assert as_rates((one,)) == (one,)


@pytest.mark.parametrize("rates", [[], ()])
def test_no_rates_at_all_are_refused(rates: list[Rate]) -> None:
    with pytest.raises(ValueError, match="rates is empty: give at least one Rate"):
        as_rates(rates)


@pytest.mark.parametrize(
    ("rates", "named"),
    [([5], "5"), ([Rate(1, 1000), (5, 1000)], "(5, 1000)"), (5, "5"), (None, "None"), ("5/s", "'5/s'")],
)
def test_what_is_no_rate_is_named(rates: list[Rate], named: str) -> None:
    with pytest.raises(TypeError, match=r"rates must hold Rate objects, not .*: write Rate") as caught:
        as_rates(rates)
    assert f"not {named}:" in str(caught.value)


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ([], False),
        ([Rate(3, 1000)], True),
        ([Rate(3, 1000), Rate(10, 60_000)], True),
        ([Rate(10, 60_000), Rate(3, 1000)], False),
        ([Rate(3, 1000), Rate(3, 60_000)], False),
        ([Rate(3, 1000), Rate(4, 1000)], False),
        ([Rate(3, 1000), Rate(6, 2000)], False),
        ([Rate(3, 1000), Rate(7, 2000)], False),
        ([Rate(3, 1000), Rate(5, 2000), Rate(6, 3000)], True),
        ([Rate(3, 1000), Rate(5, 2000), Rate(8, 3000)], False),
    ],
)
def test_the_references_verdict_on_lists_of_rates(rates: list[Rate], verdict: bool) -> None:
    assert validate_rate_list(rates) is verdict
