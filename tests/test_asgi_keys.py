"""Whom a request is counted for, whatever strangers write into it."""

from __future__ import annotations

import gc
import sys
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from pyrate_limiter.integrations.asgi import RateLimitMiddleware
from pyrate_limiter.integrations.keys import (
    LONGEST,
    NOBODY,
    api_key,
    bounded,
    client_address,
    first_of,
    forwarded,
    header,
    user,
)
from pyrate_limiter.testing import ManualClock

from .asgi import ADDRESS, App, call, scope, statuses

PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (None, None),
        ("", None),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("testclient", "testclient"),
        ("no:address", "no:address"),
    ],
)
def test_an_address_is_told_by_what_one_customer_has(peer, key):
    assert client_address(scope(client=peer)) == key


@pytest.mark.parametrize(
    ("peer", "fields", "key"),
    [
        (ADDRESS, [b"198.51.100.1"], ADDRESS),  # a stranger's field counts for nothing
        (PROXY, [], PROXY),
        (PROXY, [b"198.51.100.1"], "198.51.100.1"),
        (PROXY, [b"1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the first was written by the stranger
        (PROXY, [b"198.51.100.1, 10.9.9.9"], "198.51.100.1"),  # two proxies of ours
        (PROXY, [b"1.1.1.1", b"198.51.100.1"], "198.51.100.1"),  # in several lines
        (PROXY, [b"198.51.100.1:4711"], "198.51.100.1"),
        (PROXY, [b"[2001:db8::1]:80"], "2001:db8::/64"),
        (PROXY, [b"2001:db8::1"], "2001:db8::/64"),
        (PROXY, [b"10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        (PROXY, [b"198.51.100.1, unknown"], PROXY),
        (PROXY, [b"\xff\xfe\x00"], PROXY),
        (PROXY, [b",,,"], PROXY),
        (PROXY, [b"1" * 100_000], PROXY),
        ("2001:db8:ffff::5", [b"198.51.100.1"], "198.51.100.1"),
        (None, [b"198.51.100.1"], None),
    ],
)
def test_a_forwarded_address_counts_when_a_trusted_proxy_says_it(peer, fields, key):
    trusting = forwarded(["10.0.0.0/8", "2001:db8:ffff::/48"])
    request = scope(client=peer, headers=[(b"x-forwarded-for", value) for value in fields])
    assert trusting(request) == key


def test_a_proxy_on_a_unix_socket_may_be_trusted():
    request = scope(client=None, headers=[(b"cf-connecting-ip", b"198.51.100.1")])
    assert forwarded(["unix"], header="CF-Connecting-IP")(request) == "198.51.100.1"


def test_a_proxy_that_is_no_address_is_refused():
    with pytest.raises(ValueError, match=r"proxy\.example"):
        forwarded(["proxy.example"])


def test_a_header_is_told_by_its_value():
    tenant = header("X-Tenant")
    assert tenant(scope(headers=[(b"x-tenant", b"caf\xe9")])) == "café"
    assert tenant(scope(headers=[(b"x-tenant", b"")])) is None
    assert tenant(scope()) is None


def test_a_secret_is_never_told():
    key = api_key("X-API-Key")(scope(headers=[(b"x-api-key", b"secret")]))
    assert key is not None
    assert "secret" not in key
    assert api_key("X-API-Key")(scope()) is None


def test_a_user_is_told_by_an_attribute():
    known = SimpleNamespace(is_authenticated=True, display_name="ada", id=7)
    assert user()(scope() | {"user": known}) == "ada"
    assert user("id")(scope() | {"user": known}) == "7"
    assert user()(scope() | {"user": SimpleNamespace(is_authenticated=False)}) is None
    with pytest.raises(LookupError, match="put the authentication outside"):
        user()(scope())


async def test_the_first_key_that_is_known_counts_and_is_never_taken_for_another():
    limited = RateLimitMiddleware(App(), "1/minute", key=first_of(header("x-tenant"), client_address))
    assert await statuses(limited, 1) == [200]
    assert await statuses(limited, 2, headers=[(b"x-tenant", ADDRESS.encode())]) == [200, 429]
    assert await statuses(limited, 1) == [429]
    assert await statuses(limited, 1, client=None) == [200]


@given(st.text(st.characters()) | st.text(st.characters(categories=["Cs", "Ll"])))
def test_a_stored_key_is_short_proper_text(key):
    stored = bounded(key)
    stored.encode()
    assert len(stored) <= LONGEST
    assert stored != NOBODY
    assert stored == bounded(key)


@settings(max_examples=30)
@given(st.lists(st.text(max_size=100), unique=True, max_size=20))
def test_keys_stay_apart(keys):
    stored = {bounded(key) for key in [*keys, *(bounded(key) for key in keys if len(key) > LONGEST)]}
    assert len(stored) >= len(keys)


def test_nobody_can_pretend_to_be_the_digest_of_another():
    victim = "x" * 1000
    assert bounded(bounded(victim)) != bounded(victim)
    assert bounded(NOBODY) != bounded(None)


garbage = st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=200)), max_size=5)
NAMES = [b"x-forwarded-for", b"authorization", b"x-tenant"]


@given(garbage, st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=300)), max_size=5))
def test_no_header_of_any_bytes_breaks_a_key(others, ours):
    request = scope(client=PROXY, headers=[*others, *ours])
    for key in (header("x-tenant"), api_key(), forwarded([PROXY]), client_address):
        found = key(request)
        assert found is None or len(bounded(found)) <= LONGEST


class TestStrangers:
    """Who invents keys makes no state grow beyond its bound, and frees nobody else."""

    COUNT = 100_000

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"  # it is the bucket that is measured, which knows no loop

    async def test_their_keys_cost_little_and_go(self):
        clock = ManualClock()
        bucket = InMemoryBucket(Rate(2, Duration.MINUTE), clock=clock)
        limited = RateLimitMiddleware(silent, Limiter(bucket, keyed=True), key=header("x-key"))

        async def ask(key: bytes) -> int:
            return (await call(limited, scope(headers=[(b"x-key", key)]))).status

        assert [await ask(b"victim") for _ in range(3)] == [200, 200, 429]
        empty = reachable(bucket)
        for number in range(self.COUNT):
            await ask(b"%d" % number * 20)
        assert (reachable(bucket) - empty) / self.COUNT <= 600
        assert await ask(b"victim") == 429
        clock.advance(61)
        for _ in range(self.COUNT // 2 + 2):  # each call looks after two idle keys
            await ask(b"victim")
        assert (reachable(bucket) - empty) / self.COUNT <= 100

    async def test_a_long_key_costs_no_more_than_a_short_one(self):
        bucket = InMemoryBucket(Rate(2, Duration.MINUTE), clock=ManualClock())
        limited = RateLimitMiddleware(silent, Limiter(bucket, keyed=True), key=header("x-key"))
        empty = reachable(bucket)
        for number in range(100):
            await call(limited, scope(headers=[(b"x-key", b"%d" % number + b"x" * 100_000)]))
        assert (reachable(bucket) - empty) / 100 <= 600


async def silent(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def reachable(root: Any) -> int:
    """Return the bytes of all objects that one holds, save for code."""
    seen: set[int] = set()
    found = [root]
    size = 0
    while found:
        one = found.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen.add(id(one))
            size += sys.getsizeof(one)
            found += gc.get_referents(one)
    return size
