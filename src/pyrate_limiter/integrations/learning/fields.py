"""Structured fields (RFC 9651), as far as servers state their limits in them: Lists of Strings with parameters."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LONGEST = 2048
"""Characters of a field that is read at all."""

_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_TOKEN = r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"  # noqa: S105  # of a structured field
_BYTES = r":[A-Za-z0-9+/]*={0,2}:"
_DISPLAY = r'%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"'
_DECIMAL = r"-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])"
_INTEGER = r"-?[0-9]{1,15}(?![0-9.])"
_VALUE = rf"{_DECIMAL}|{_INTEGER}|{_STRING}|{_TOKEN}|{_BYTES}|\?[01]|@{_INTEGER}|{_DISPLAY}"
_PARAMETER = re.compile(rf";[ ]*([a-z*][a-z0-9_\-.*]*)(?:=(?:({_INTEGER})|({_VALUE})))?")
_MEMBER = re.compile(rf"({_STRING})((?:;[ ]*[a-z*][a-z0-9_\-.*]*(?:=(?:{_VALUE}))?)*)")
_COMMA = re.compile(r"[ \t]*,[ \t]*(?=[^ \t])")
_ESCAPED = re.compile(r"\\(.)")


class Member(NamedTuple):
    """One member of a list.

    Attributes:
        name: the string.
        parameters: integers as int; whatever else as the text that it is.
    """

    name: str
    parameters: dict[str, int | str]


def members(text: str) -> tuple[Member, ...] | None:
    """Return the members of a list of strings, or None if the field is malformed: it is ignored whole then."""
    text = text.strip(" ")
    if len(text) > LONGEST:
        return None
    if not text:
        return ()
    found, end = [], 0
    while (member := _MEMBER.match(text, end)) is not None:
        name = member[1][1:-1]
        found.append(Member(_ESCAPED.sub(r"\1", name) if "\\" in name else name, _parameters(member[2])))
        end = member.end()
        if end == len(text):
            return tuple(found)
        comma = _COMMA.match(text, end)
        if comma is None:
            return None
        end = comma.end()
    return None


def _parameters(text: str) -> dict[str, int | str]:
    """Return the parameters; of those with the same name, the last."""
    found = _PARAMETER.findall(text)
    return {name: int(integer) if integer else other for name, integer, other in found}


repeated_members = lru_cache(maxsize=256)(members)
"""The same, for fields that say the same again and again."""
