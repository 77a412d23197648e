"""Structured fields (RFC 9651), as far as servers state their limits in them: Lists of Strings with parameters.

A parser of all their types is slow, and a server writes the same field again and again, with other numbers in it. So
it is asked about each form of a field once: about one whose numbers are their places, 1, 2, 3. Where it finds them is
where the numbers of all fields of this form belong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
_INTEGER = re.compile(r"=([0-9]{1,15})(?![0-9.])")
"""What looks like a parameter that is an Integer; what stands in a String may look so, too."""


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


def taken_apart(text: str) -> list[str]:
    """Return what stands between the numbers of a field, which is its form, and the numbers, by turns."""
    return _INTEGER.split(text)


def numbered(form: Sequence[str]) -> tuple[Member, ...] | None:
    """Return the members of all fields of a form, with places where they have numbers.

    None if such fields are malformed, or if what looks like numbers is not all numbers.
    """
    first, *others = form
    parsed = members(first + "".join(f"={place}{piece}" for place, piece in enumerate(others, 1)))
    found = [value for _, parameters in parsed or () for value in parameters.values() if type(value) is int]
    return parsed if [value for value in found if value > 0] == [*range(1, len(form))] else None
