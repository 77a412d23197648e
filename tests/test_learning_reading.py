"""What servers say is read in all the ways in which they say it, and what is malformed is ignored whole."""

import itertools
import math
import re
from datetime import UTC, datetime
from email.utils import format_datetime

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyrate_limiter.integrations.learning import News, Pace, read, wanted
from pyrate_limiter.integrations.learning.fields import LONGEST, members
from pyrate_limiter.integrations.learning.reading import FAMILIES, WANTED, _places, _stated_by_draft, seconds

NOW = 1_700_000_000.25


def news(*fields, refused=False):
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    return read(wanted(raw), refused=refused, wall=NOW)


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("5", 5),
        ("0", 0),
        ("2.5", 2.5),
        (".5", 0.5),
        (" 7 ", 7),
        ("1700000010", 9.75),
        ("1700000010.5", 10.25),
        ("1700000010500", 10.25),
        ("1600000000", 0),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("1.5µs", 1.5e-6),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 9.75),
        ("Tuesday, 14-Nov-23 22:13:30 GMT", 9.75),
        ("Tue Nov 14 22:13:30 2023", 9.75),
        ("2023-11-14T22:13:30Z", 9.75),
        ("2023-11-14T22:13:30.5+00:00", 10.25),
        ("2023-11-14T23:13:30+01:00", 9.75),
        ("-5", None),
        ("+5", None),
        ("", None),
        ("soon", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("5 s", None),
        ("5, 5", None),
        ("٣", None),
        ("9" * 65, None),
        ("Tue, 99 Nov 2023 22:13:30 GMT", None),
    ],
)
def test_a_moment_is_read_in_every_form(text, away):
    found = seconds(text, NOW)
    assert found == (None if away is None else pytest.approx(away))


@given(st.text(max_size=80) | st.text(alphabet="0123456789.hmsµun-+:TZ ,GMT", max_size=80))
@example("9" * 64)
@example("9" * 60 + "h")
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
def test_whatever_stands_there_is_a_finite_time_to_come_or_nothing(text):
    found = seconds(text, NOW)
    assert found is None or (found >= 0 and math.isfinite(found))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("Retry-After", "3")], News(True, 3.0)),
        ([("retry-after", "3"), ("Retry-After-Ms", "1500")], News(True, 1.5)),
        ([("Retry-After", "0")], News(True)),
        ([("Retry-After", "-1")], News(True)),
        ([("Retry-After", "3"), ("RateLimit", '"a";r=0;t=9')], News(True, 3.0, 0, 9.0)),
        ([("RateLimit", '"a";r=0;t=9')], News(True, None, 0, 9.0)),
        ([("X-RateLimit-Remaining", "4321"), ("X-RateLimit-Reset", "1700003600")], News(True, None, 4321, None)),
        ([], News(True)),
    ],
)
def test_a_refusal_says_when_to_come_back(fields, expected):
    assert news(*fields, refused=True) == expected


@pytest.mark.parametrize(
    ("fields", "remaining", "reset"),
    [
        ([("RateLimit", '"default";r=50;t=30')], 50, 30),
        ([("RateLimit", '"burst";r=5;t=1, "daily";r=900;t=3600')], 5, 1),
        ([("RateLimit", '"burst";r=0;t=1, "daily";r=0;t=3600')], 0, 3600),
        ([("RateLimit", '"burst";r=5;t=1'), ("RateLimit", '"daily";r=2;t=3600')], 2, 3600),
        ([("RateLimit", '"a";r=5;t=1;pk=:dXNlcg==:;x=?1;y=tok;z=1.5;w="q"')], 5, 1),
        ([("RateLimit", '"a";r=5')], 5, None),
        ([("RateLimit", '"a";r=5;t=0')], 5, None),
        ([("RateLimit-Remaining", "12"), ("RateLimit-Reset", "8")], 12, 8),
        ([("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "1700000060")], 7, 59.75),
        ([("X-Rate-Limit-Remaining", "7"), ("X-Rate-Limit-Reset", "1700000060")], 7, 59.75),
        (
            [
                ("X-RateLimit-Remaining", "1"),
                ("X-RateLimit-Reset", "1700000060.5"),
                ("X-RateLimit-Reset-After", "1.25"),
            ],
            1,
            1.25,
        ),
        (
            [
                ("x-ratelimit-remaining-requests", "59"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", "3"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
            59,
            1,
        ),
        (
            [
                ("x-ratelimit-remaining-requests", "59"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
            0,
            360,
        ),
        (
            [
                ("anthropic-ratelimit-requests-remaining", "49"),
                ("anthropic-ratelimit-requests-reset", "2023-11-14T22:13:30Z"),
                ("anthropic-ratelimit-output-tokens-remaining", "0"),
                ("anthropic-ratelimit-output-tokens-reset", "2023-11-14T22:14:20Z"),
            ],
            0,
            59.75,
        ),
        (
            [
                ("RateLimit", '"bytes";r=1;t=9, "at once";r=0;t=9, "calls";r=20;t=60'),
                (
                    "RateLimit-Policy",
                    '"bytes";q=9;qu="content-bytes", "at once";q=2;qu="concurrent-requests", "calls";q=99',
                ),
            ],
            20,
            60,
        ),
    ],
)
def test_what_is_left_is_read_of_every_family(fields, remaining, reset):
    assert news(*fields) == News(False, None, remaining, reset if reset is None else pytest.approx(reset))


@pytest.mark.parametrize(
    "field",
    [
        '"a";r=5;t=3,',
        '"a";r=5;t=3, "b";r=-1;t=3',
        '"a";r=5;t=3, "b";r=1.5;t=3',
        '"a";r=5;t=3, "b";t=3',
        '"a";r=5;t=3, b;r=1;t=3',
        '"a";r=5;t=3 "b";r=1;t=3',
        '"a";r="5";t=3',
        '"a";r=5;t=-3',
        '"a";r=5;t=?1',
        '"a";r=1234567890123456;t=3',
        '("a" "b");r=5;t=3',
        "limit=5, remaining=3, reset=9",
        '"a;r=5;t=3',
        '"ä";r=5;t=3',
        "5",
    ],
)
def test_a_malformed_field_is_ignored_whole(field):
    assert news(("RateLimit", field)) == News()


@pytest.mark.parametrize(
    ("parameters", "policy"),
    [
        ("q=80;w=4", (80, 4.0)),
        ('q=80;w=4;qu="requests"', (80, 4.0)),
        ('q=80;w=4;qu="content-bytes"', None),
        ("q=80", None),
        ("w=4", None),
        ("q=0;w=4", None),
        ("q=80;w=0", None),
        ("q=80;w=4.0", None),
        ("q=-80;w=4", None),
        ("q=80;w=4,", None),
    ],
)
def test_a_policy_of_requests_is_a_pace(parameters, policy):
    found = news(("RateLimit", '"a";r=0;t=3'), ("RateLimit-Policy", f'"b";q=9;w=9, "a";{parameters}'))
    assert (found.remaining, found.reset, found.policy) == (0, 3, policy)


def test_the_policy_is_that_of_the_limit_that_matters():
    policies = ("RateLimit-Policy", '"burst";q=9;w=2, "daily";q=500;w=86400')
    assert news(("RateLimit", '"burst";r=5;t=1, "daily";r=400;t=99'), policies).policy == (9, 2.0)
    assert news(("RateLimit", '"burst";r=5;t=1, "daily";r=0;t=99'), policies).policy == (500, 86400.0)


def test_nothing_takes_longer_to_come_back_than_the_window():
    assert news(("RateLimit", '"a";r=0;t=31536000'), ("RateLimit-Policy", '"a";q=9;w=60')).reset == 60


def test_a_malformed_field_leaves_the_others_alone():
    assert news(("RateLimit", '"a";r=?'), ("RateLimit-Remaining", "3"), ("RateLimit-Reset", "2")).remaining == 3


def test_a_clock_that_differs_from_the_servers_does_not_matter():
    server = NOW + 4000
    date = format_datetime(datetime.fromtimestamp(int(server), UTC), usegmt=True)
    found = news(("Date", date), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", str(int(server) + 30)))
    assert 29 <= found.reset <= 31


field_text = st.text(alphabet='abrt"";;;===,,  0123456789.-?:*%\\()@\t', max_size=40)
names = st.sampled_from(sorted(WANTED)).map(str.encode)


def by_http_sf(text):
    """Return what the reference parser makes of a list of strings; None if it is not one."""
    try:
        found = http_sf.parse(text.encode("latin-1"), tltype="list")
    except (http_sf.StructuredFieldError, ValueError):
        return None
    if any(isinstance(item, http_sf.Token | http_sf.DisplayString) or not isinstance(item, str) for item, _ in found):
        return None
    return [
        (str(name), {key: value for key, value in parameters.items() if type(value) is int}, set(parameters))
        for name, parameters in found
    ]


value = st.one_of(
    st.integers(-(10**16), 10**16).map(str),
    st.decimals(-100, 100, places=2).map(str),
    st.sampled_from(
        ['"x"', '"\\"\\\\"', "tok", "*t/", ":aGk=:", ":aGk:", "?1", "?2", "@5", "@1.5", '%"f%c3%bc"', "1.", "--1"]
    ),
)
parameter = st.builds(
    lambda key, blank, equals, value: f";{blank}{key}{equals}{value if equals else ''}",
    st.sampled_from(["r", "t", "q", "pk", "a-b", "*x", "R", "1"]),
    st.sampled_from(["", " ", "  ", "\t"]),
    st.sampled_from(["=", "=", "", "= "]),
    value,
)
member = st.builds(
    lambda name, parameters: name + "".join(parameters),
    st.sampled_from(['"a"', '"burst"', '""', '"\\""', '"a', "tok", '("a" "b")', "5", '"ä"', '"r=5"', '"a;t=7";r=1']),
    st.lists(parameter, max_size=3),
)
listed = st.builds(
    lambda parts, comma, around: around + comma.join(parts) + around,
    st.lists(member, max_size=3),
    st.sampled_from([",", ", ", " ,\t", ",,", " "]),
    st.sampled_from(["", " ", "\t"]),
)


@given(listed | field_text)
@example('"a";r=1;r=2')
@example('"a";r=1 ;t=2')
@example('"a";t=1.0')
@example('"a";t=1.2345')
def test_fields_are_parsed_as_the_reference_parser_does(text):
    ours = members(text)
    mine = (
        None
        if ours is None
        else [
            (name, {key: each for key, each in parameters.items() if type(each) is int}, set(parameters))
            for name, parameters in ours
        ]
    )
    assert mine == by_http_sf(text)


unit = st.sampled_from([None, '"requests"', '"content-bytes"', '"concurrent-requests"', "5", '"'])


def stated(state, policy):
    """Return what a list of strings says about limits, by the reference parser."""
    policies = dict(parsed(policy) or ())
    found = []
    for name, parameters in parsed(state) or ():
        remaining, reset = parameters.get("r"), parameters.get("t", 0)
        if not all(type(each) is int and each >= 0 for each in (remaining, reset)):
            return []
        unit, quota, window = (policies.get(name, {}).get(*each) for each in (("qu", "requests"), ("q",), ("w",)))
        requests = unit == "requests"
        if unit != "concurrent-requests":
            reset = min(reset, window or math.inf)
            found.append((remaining, reset, requests, (quota, window) if requests and quota and window else None))
    return found


def parsed(text):
    try:
        found = http_sf.parse(text.encode("latin-1"), tltype="list")
    except (http_sf.StructuredFieldError, ValueError):
        return None
    return found if all(type(name) is str for name, _ in found) else None


@given(listed, unit, st.lists(st.integers(0, 10**16), min_size=1, max_size=6))
@example('"a=1";r=2;t=3', None, [5, 6, 7])
@example('"a";r=2;r=3;t=3', None, [5, 6, 7])
@example('"a";r=-2', None, [0, 1])
@example('"a";r=2;t=1.5', None, [7, 0])
@example('"a";r=2;x=:aGk=:;t=1', None, [7, 0])
@example('"a";r=2;t=3, "b";r=0', None, [0, 100, 9])
def test_fields_of_one_form_with_other_numbers_are_each_read_as_the_reference_parser_does(state, unit, others):
    policy = "" if unit is None else f'"a";q=9;w=20;qu={unit}, "burst";q=10;w=60'
    for text in (state, with_numbers(state, others), with_numbers(state, others[::-1]), state):
        assert [*_stated_by_draft(text, policy)] == stated(text, policy)


def with_numbers(text, numbers):
    """Return a text with other numbers in it."""
    another = itertools.cycle(numbers)
    return re.sub("[0-9]+", lambda _: str(next(another)), text)


def test_the_parser_is_asked_about_a_form_once(monkeypatch):
    asked = []
    parse = http_sf.parse
    monkeypatch.setattr(http_sf, "parse", lambda text, **options: asked.append(text) or parse(text, **options))
    for left in range(50):
        assert (
            news(("RateLimit", f'"only here";r={left};t=3'), ("RateLimit-Policy", '"only here";q=50;w=60')).remaining
            == left
        )
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["RateLimit", "RateLimit-Policy"])
def test_a_field_without_end_is_not_read_and_not_kept(name):
    _places.cache_clear()
    endless = {"RateLimit": '"a";r=1', "RateLimit-Policy": '"a";q=5'} | {name: '"a";r=1;x="' + "y" * LONGEST + '"'}
    assert news(*endless.items()) == News()
    assert _places.cache_info().currsize == 0


@given(
    st.lists(st.tuples(names, listed.map(lambda text: text.encode("latin-1")) | st.binary(max_size=40)), max_size=8),
    st.booleans(),
)
def test_whatever_a_server_says_raises_nothing_and_holds_no_longer_than_allowed(raw, refused):
    found = read(wanted(raw), refused=refused, wall=NOW)
    assert found.refused is refused
    assert found.remaining is None or found.remaining >= 0
    for away in (found.hold, found.reset):
        assert away is None or (away > 0 and math.isfinite(away))
    pace = Pace(10.0)
    pace.answered(pace.send(100.0), 100.0, found)
    assert pace.due(100.0) <= 100.0 + 10.0 + 1.0


def test_every_family_is_read():
    for family in FAMILIES:
        found = news((family.remaining, "0"), (family.reset, "5"))
        assert (found.remaining, found.reset) == (0, 5.0)
