"""Keys: each has a budget of its own, whatever characters it is made of."""

from __future__ import annotations

from functools import partial

import pytest

from ...decisions import Decision
from ...rates import Duration, Rate
from .basis import Contract, at_once, same

ODD_KEYS = (
    *("", "None", "null", "NULL"),
    *("a", "A", "a ", " a", "a\n", "a\0", "a\0b", "a\\", "a\\0"),
    *("ä", "a\u0308", "ae", "日本", "東京", "🦔", "🦊"),  # \u0308 makes an ä of an a
    *("1", "01", "1.0", "+1"),
    *("'; drop table x; --", "%s", "%", "_", "*", "?", "{x}", "{x}y", "}", "a:b", "a/b", "../a"),
    *("k" * 5000, "k" * 4999, "k" * 4999 + "l"),
)
NEIGHBOURS = ("user:1", "user:10", "user:1:", "user:*", "user:_", "user:%", "USER:1", "user", "")


class KeepsKeysApart(Contract):
    """What is done to a key is done to no other."""

    async def test_keys_of_any_characters_stay_apart(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        taken: dict[str, Decision] = {}

        async def take(key: str) -> None:
            taken[key] = await bucket.take(key=key)

        for wanted in (True, False):
            await at_once([partial(take, key) for key in ODD_KEYS], "one unit of each key")
            for key in ODD_KEYS:
                same(taken[key].allowed, wanted, f"a {'first' if wanted else 'second'} unit of {key[:20]!r}")
                same(taken[key].name, key, "the name in its decision")
        await bucket.aclose()

    async def test_what_is_no_text_is_no_key(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        with pytest.raises(ValueError, match="UTF-8"):
            await bucket.take(key="\ud800")
        with pytest.raises(TypeError, match="str"):
            await bucket.take(key=1)  # type: ignore[arg-type]
        await bucket.aclose()

    async def test_a_reset_forgets_one_key(self) -> None:
        bucket = self.make_bucket([Rate(1, Duration.HOUR)])
        allowed: dict[str, bool] = {}

        async def take(key: str) -> None:
            allowed[key] = (await bucket.take(key=key)).allowed

        everywhere = [partial(take, key) for key in NEIGHBOURS]
        await at_once(everywhere, "one unit of each key")
        for key in ("user:1", "user:*", "user:_", "user:%", ""):
            await bucket.reset(key=key)
            await at_once(everywhere, "one unit more of each key")
            same([key for key in NEIGHBOURS if allowed[key]], [key], "what was forgotten")
        await bucket.aclose()
