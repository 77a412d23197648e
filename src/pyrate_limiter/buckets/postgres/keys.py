"""The keys of a bucket as bytes: in one order everywhere, of any characters, and apart from those of other buckets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...algorithms import Algorithm
from ...rates import Rate

_FORMAT = 2
"""Changes when a state is laid out in another way."""
_LONGEST = 400
"""Bytes of a name that stands in the table as it is. An index has room for 2,700, but short rows are fast ones."""


class Keys:
    """Makes keys. They begin with a digest of the algorithm and the rates: no two buckets read each other's states."""

    def __init__(self, algorithm: type[Algorithm], rates: Sequence[Rate]) -> None:
        described = repr((_FORMAT, algorithm.__module__, algorithm.__qualname__, tuple(rates)))
        digest = hashlib.blake2b(described.encode(), digest_size=8).digest()
        self._plain, self._hashed = digest + b"=", digest + b"#"

    def __call__(self, name: str) -> bytes:
        """Return the key of a name; that of a long one is a hash."""
        data = name.encode()
        if len(data) <= _LONGEST:
            return self._plain + data
        return self._hashed + hashlib.blake2b(data, digest_size=32).digest()
