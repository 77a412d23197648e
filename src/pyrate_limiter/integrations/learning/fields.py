"""Structured fields (RFC 9651), as far as servers state their limits in them: Lists of Strings with parameters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

try:
    import http_sf
except ModuleNotFoundError as error:
    raise ImportError(
        "reading what servers say needs http-sf: install the extra of your client, as in"
        " pip install 'pyrate-limiter-anyio[httpx]'"
    ) from error

LONGEST = 2048
"""Characters of a field that is read at all."""


class Member(NamedTuple):
    """One member of a list.

    Attributes:
        name: the string.
        parameters: by name, as the parser has them: an Integer is an int, a String or a Token a str.
    """

    name: str
    parameters: Mapping[str, Any]


def members(text: str) -> tuple[Member, ...] | None:
    """Return the members of a list of strings, or None if the field is malformed: it is ignored whole then."""
    if len(text) > LONGEST:
        return None
    try:
        parsed: Any = http_sf.parse(text.encode("ascii"), tltype="list")
    except (http_sf.StructuredFieldError, UnicodeEncodeError):
        return None
    if not all(type(name) is str for name, _ in parsed):
        return None
    return tuple(Member(name, parameters) for name, parameters in parsed)


repeated_members = lru_cache(maxsize=256)(members)
"""The same, for fields that say the same again and again."""
