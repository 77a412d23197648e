"""The errors: their kinds, their fields, their sentences."""

from __future__ import annotations

import copy
import pickle

import pytest

from pyrate_limiter import errors
from pyrate_limiter.decisions import Decision
from pyrate_limiter.errors import (
    BucketFullException,
    LimiterClosed,
    LimiterDelayException,
    RateLimitError,
    StoreError,
    WeightTooLarge,
    WouldBlock,
)
from pyrate_limiter.rates import Rate

RATE = Rate(10, 60_000)
REFUSED = Decision(False, "api", 3, 1_700_000_000_000_000, 1.5, 60.0, 2, 10, RATE, waited=0.25)

FULL = BucketFullException.of(REFUSED)
HEAVY = WeightTooLarge.over(10, "api", 11, RATE)
LATE = LimiterDelayException.of(REFUSED, 0.5)
BLOCKED = WouldBlock("this thread runs an event loop: await acquire() instead", name="api", weight=3)
CLOSED = LimiterClosed("closed")
DOWN = StoreError("the store is down")
ALL = [RateLimitError("plain"), FULL, HEAVY, LATE, BLOCKED, CLOSED, DOWN]

every = pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)


def test_every_error_of_the_module_is_tested_here() -> None:
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds == {type(error) for error in ALL}


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (FULL, [RateLimitError]),
        (HEAVY, [BucketFullException, ValueError]),
        (LATE, [RateLimitError, TimeoutError]),
        (BLOCKED, [RateLimitError, RuntimeError]),
        (CLOSED, [RateLimitError, RuntimeError]),
        (DOWN, [RateLimitError]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_caught_as(error: RateLimitError, kinds: list[type[Exception]]) -> None:
    for kind in kinds:
        with pytest.raises(kind):
            raise error


def test_a_late_error_is_not_a_full_bucket_and_the_other_way_round() -> None:
    assert not isinstance(LATE, BucketFullException)
    assert not isinstance(FULL, TimeoutError)


@every
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(error: RateLimitError, protocol: int) -> None:
    assert_equal(pickle.loads(pickle.dumps(error, protocol)), error)


@every
def test_an_error_survives_copying_with_its_notes(error: RateLimitError) -> None:
    noted = copy.copy(error)
    noted.add_note("seen in the test")
    assert_equal(noted, error)
    assert copy.deepcopy(noted).__notes__ == pickle.loads(pickle.dumps(noted)).__notes__ == ["seen in the test"]


def assert_equal(one: RateLimitError, other: RateLimitError) -> None:
    assert type(one) is type(other)
    assert str(one) == str(other) == one.message
    fields = ("args", "message", "name", "weight", "rate", "decision", "meta_info")
    for field in fields:
        assert getattr(one, field) == getattr(other, field)


def test_a_full_bucket_says_what_the_decision_says() -> None:
    assert (FULL.name, FULL.weight, FULL.rate, FULL.decision) == ("api", 3, RATE, REFUSED)
    assert str(FULL) == "10/1m is reached for 'api': 3 more fit in 1.5 s; wait with acquire(), or come back then"


def test_what_never_fits_says_how_much_would() -> None:
    assert (HEAVY.name, HEAVY.weight, HEAVY.rate, HEAVY.decision) == ("api", 11, RATE, None)
    assert str(HEAVY) == (
        "weight 11 for 'api' never fits: at most 10 at once under 10/1m; ask for less, or raise the limit or the burst"
    )


def test_what_comes_too_late_says_how_late() -> None:
    assert (LATE.name, LATE.weight, LATE.rate, LATE.decision) == ("api", 3, RATE, REFUSED)
    assert str(LATE) == (
        "3 for 'api' would wait 1.75 s under 10/1m, longer than the 0.5 s allowed;"
        " raise timeout or max_delay, or come back then"
    )


def test_meta_info_has_the_fields_and_the_sentence() -> None:
    assert FULL.meta_info == {"error": str(FULL), "name": "api", "weight": 3, "rate": "10/1m"}
    assert DOWN.meta_info == {"error": "the store is down", "name": None, "weight": None, "rate": None}
